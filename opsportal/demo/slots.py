"""The ERP as it really runs: how its slots are reached, and what is live when the portal starts."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from psycopg.conninfo import make_conninfo

from catalog.reach import connector_for
from core.exceptions import PortalError
from deployments import reach
from deployments.drivers.base import Driver, Reality, Surroundings, Token
from deployments.drivers.blue_green import BlueGreenDriver
from deployments.models import DeploymentProfile
from operations.models import Operation
from opsportal.demo import catalog, releases
from opsportal.demo.exceptions import DemoError
from opsportal.demo.server import ERP, ERP_STAGING, Database, DemoServer
from opsportal.stack.erp import PLACES, Ports
from opsportal.stack.folders import write_private

T = TypeVar("T")
READY_WITHIN_S = 20
MIGRATION_LIMIT_S = 60
SCRIPTS = releases.SOURCE
DATABASES = {"production": ERP, "staging": ERP_STAGING}
LIVE = {"production": ("v1.3.2", "v1.4.0"), "staging": ("v1.5.0", "v1.6.0")}
"""What the history leaves there: the version before, and the live one."""
OWN_SECRETS = {"ERP_TEST_PASSWORD": "demo-erp-test-account", "ERP_COOKIE_KEY": "demo-erp-cookie-key"}


@dataclass(frozen=True)
class Place:
    """Where the ERP of one environment runs. `kind` is production or staging."""

    kind: str
    server: DemoServer
    ports: Ports

    @property
    def folder(self) -> Path:
        return demo_folder() / PLACES[self.kind]

    @property
    def database(self) -> Database:
        return DATABASES[self.kind]

    @property
    def proxy(self) -> str:
        """Host and port at which people reach it."""
        return f"127.0.0.1:{self.ports.proxy if self.kind == 'production' else self.ports.staging_proxy}"

    @property
    def settings(self) -> dict[str, Any]:
        """Of the driver."""
        prefix = "" if self.kind == "production" else "staging_"
        lock = str(Path(settings.DATA_DIR) / "lock")
        argv = [sys.executable, "-E", "-s", "-B", "-m", releases.PROGRAM, "--port", "{port}", "--ends-with", lock]
        return {
            "root": str(self.folder),
            "argv": argv,
            "ready_path": "/health/ready",
            "proxy": "port_file",
            "blue": getattr(self.ports, f"{prefix}blue"),
            "green": getattr(self.ports, f"{prefix}green"),
            "file": "",
            "access_log": str(demo_folder() / f"{PLACES[self.kind]}-access.log"),
            "proxy_address": self.proxy,
            "python": sys.executable,
        }

    @property
    def variables(self) -> dict[str, str]:
        """Settings of the application that are no secrets."""
        database = self.database
        where = make_conninfo(host=self.server.host, port=self.server.port, dbname=database.name, user=database.owner)
        return {"ERP_DATABASE": where}

    @property
    def secrets(self) -> dict[str, str]:
        """Its secrets, as references."""
        paths = {name: secret_path(file) for name, file in OWN_SECRETS.items()}
        paths["ERP_DATABASE_PASSWORD"] = catalog.secret_path(self.database)
        return {name: f"file:{path}" for name, path in paths.items()}

    @property
    def migrate(self) -> list[str]:
        script, password = str(SCRIPTS / "run_migration.py"), str(catalog.secret_path(self.database))
        return [sys.executable, "-I", "-B", script, "{source}", "--password-file", password]

    @property
    def smoke(self) -> list[str]:
        script, password = str(SCRIPTS / "smoke.py"), str(secret_path(OWN_SECRETS["ERP_TEST_PASSWORD"]))
        return [sys.executable, "-I", "-S", script, self.proxy, "{version}", "--password-file", password]


def demo_folder() -> Path:
    return Path(settings.DATA_DIR) / "demo"


def secret_path(name: str) -> Path:
    return Path(settings.DATA_DIR) / "target-secrets" / name


def places(server: DemoServer) -> dict[str, Place]:
    """Production and staging. The ports are those that the supervisor has chosen."""
    ports = Ports.of(Path(settings.DATA_DIR), int(os.environ.get("PORT") or 8800))
    return {kind: Place(kind, server, ports) for kind in PLACES}


# -- the first start ---------------------------------------------------------------------------------------------------


def bring_up(found: Mapping[str, Place]) -> dict[str, Reality]:
    """Build the releases and make live what the history ends with; what then runs. The databases must be there."""
    releases.build()
    for name in OWN_SECRETS.values():
        path = secret_path(name)
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, secrets.token_urlsafe(24))
    return _each({kind: partial(_make_live, place) for kind, place in found.items()})


def _make_live(place: Place) -> Reality:
    before, artefact = (releases.VERSIONS[name].artefact for name in LIVE[place.kind])
    _migrate(place, artefact.source)
    around = Surroundings(
        connector=connector_for(None),
        run=reach.run_unheard,
        token=Token(0, 0),
        environment=place.variables,
        secrets={name: Path(reference[5:]).read_text().strip() for name, reference in place.secrets.items()},
    )
    driver = BlueGreenDriver(place.settings, around)
    driver.prepare(before)  # it stays there, ready to be started
    driver.prepare(artefact)
    driver.wait_ready(artefact, READY_WITHIN_S)
    driver.switch(artefact)
    return driver.look()


def _migrate(place: Place, source: str) -> None:
    argv = [source if word == "{source}" else word for word in place.migrate]
    env = {"PATH": os.environ.get("PATH", os.defpath), **place.variables}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=MIGRATION_LIMIT_S, check=False)
    if done.returncode != 0:
        raise DemoError(done.stderr.strip())


# -- later starts ------------------------------------------------------------------------------------------------------


def start() -> list[str]:
    """Start what is live and does not run; it ended with the supervisor. What is amiss, in sentences."""
    found = {name: driver for name, driver in _drivers().items() if not _answers(Path(driver.settings["root"]))}
    return _told({name: driver.start for name, driver in found.items()})


def _answers(root: Path) -> bool:
    """Whether the ERP listens on its live port."""
    try:
        with socket.create_connection(("127.0.0.1", int((root / "active_port").read_text())), timeout=2):
            return True
    except (OSError, ValueError):
        return False


def stop() -> list[str]:
    """Stop what is live. What is amiss, in sentences."""
    return _told({name: driver.stop for name, driver in _drivers().items()})


def _drivers() -> dict[str, Driver]:
    """Of the demo's environments in which something is live. They act as the latest operation, which has ended."""
    latest = Operation.objects.order_by("-pk").first()
    token = Token(latest.pk, latest.attempt) if latest is not None else reach.NOBODY
    profiles = DeploymentProfile.objects.filter(environment__live__release__isnull=False).select_related(
        "environment__service"
    )
    return {
        str(each.environment): reach.driver_of(each.environment, reach.frozen(each), run=reach.run_unheard, token=token)
        for each in profiles
        if each.driver == BlueGreenDriver.kind and each.settings.get("root", "").startswith(str(demo_folder()))
    }


def _told(jobs: Mapping[str, Callable[[], None]]) -> list[str]:
    def one(name: str, job: Callable[[], None]) -> str:
        try:
            job()
        except PortalError as error:
            return f"{name}: {error.message}"
        return ""

    said = _each({name: partial(one, name, job) for name, job in jobs.items()})
    return [sentence for sentence in said.values() if sentence]


def _each(jobs: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """Side by side: each waits for processes and asks the portal's database nothing."""
    with ThreadPoolExecutor(max_workers=max(1, len(jobs))) as pool:
        begun = {name: pool.submit(job) for name, job in jobs.items()}
        return {name: job.result() for name, job in begun.items()}
