"""The ERP's releases: folders put together from `erp_web`, with their checksums, and their rows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings

from catalog.models import Service
from core.models import User
from deployments.artefacts import checksum
from deployments.drivers.base import Artefact
from deployments.models import Release, Scan

SOURCE = Path(__file__).with_name("erp_web")
PROGRAM = "erp_app"
VARIABLES = ["ERP_DATABASE", "ERP_DATABASE_PASSWORD", "ERP_COOKIE_KEY"]
CI = "https://ci.hansewerk.example/erp/runs"
SCANNERS: tuple[tuple[str, str, dict[str, int]], ...] = (
    (Scan.Kind.SECURITY, "bandit", {"low": 2}),
    (Scan.Kind.DEPENDENCIES, "pip-audit", {}),
    (Scan.Kind.SBOM, "cyclonedx-py", {}),
)


@dataclass(frozen=True)
class Version:
    """One release. `overlay` is the folder of `erp_web` with what it changed; empty: the program as it is."""

    name: str
    notes: str
    overlay: str = ""
    migrations_tested: str = ""

    @property
    def source(self) -> Path:
        return folder() / self.name

    @property
    def artefact(self) -> Artefact:
        return Artefact(self.name, "folder", str(self.source), checksum(self.source))


VERSIONS = {
    version.name: version
    for version in (
        Version("v1.2.0", "Orders by the shop, telephone and EDI in one list."),
        Version("v1.3.0", "Totals per order. Article names from the winter catalogue."),
        Version("v1.3.1", "Totals per order again, with discounts counted once."),
        Version("v1.3.2", "Orders of customers without a city can be opened again."),
        Version("v1.4.0", "Sign-in for whoever takes orders. Prices can be asked for by the API."),
        Version("v1.5.0", "The page of an order shows the customer's other orders.", "v1_5_0"),
        Version(
            "v1.6.0",
            "Customers may wish for a time of delivery: adds orders.delivery_wish. v1.4.0 works with the new column.",
            "v1_6_0",
            "Twice on staging, by Olga Operator; then v1.4.0 ran on it for an hour.",
        ),
    )
}


def folder() -> Path:
    """Where releases lie when CI has made them."""
    return Path(settings.DATA_DIR) / "demo" / "releases"


def build() -> None:
    """Put all of them together. One that an earlier, interrupted load left is made anew."""
    for version in VERSIONS.values():
        scratch = version.source.with_name(f".{version.name}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        _copy(SOURCE / PROGRAM, scratch / PROGRAM)
        if version.overlay:
            _copy(SOURCE / version.overlay, scratch / PROGRAM)
        (scratch / "VERSION").write_text(f"{version.name}\n")
        shutil.rmtree(version.source, ignore_errors=True)
        scratch.rename(version.source)


def _copy(source: Path, target: Path) -> None:
    """Sources only; an overlay's own `__init__.py` says nothing that the program needs."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*.py")):
        if not (target / path.name).exists() or path.name != "__init__.py":
            shutil.copyfile(path, target / path.name)


def create(service: Service, made: Mapping[str, datetime], by: User) -> dict[str, Release]:
    """The rows: version -> release. `made` says when CI was done with each. Call inside a transaction."""
    found = {}
    for number, (name, moment) in enumerate(made.items(), start=411):
        version = VERSIONS[name]
        artefact = version.artefact
        release = Release.objects.create(
            service=service,
            version=name,
            source_kind=Release.Source.FOLDER,
            source=artefact.source,
            checksum=artefact.checksum,
            notes=version.notes,
            changes_schema=bool(version.migrations_tested),
            migrations_tested=version.migrations_tested,
            variables=VARIABLES,
            ci=Release.Ci.PASSED,
            ci_url=f"{CI}/{number}",
            created_at=moment,
            created_by=by,
        )
        Scan.objects.bulk_create(
            Scan(
                release=release,
                kind=kind,
                tool=tool,
                at=moment + timedelta(minutes=2 + place),
                by=by,
                report_url=f"{CI}/{number}/{tool}",
                **counts,
            )
            for place, (kind, tool, counts) in enumerate(SCANNERS)
        )
        found[name] = release
    return found
