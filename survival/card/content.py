"""What stands on the card, as plain values. Nothing secret is in it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import F

from backups.models import Archive
from backups.querysets import BEST_FIRST
from catalog.models import DatabaseTarget, Host
from core.version import version
from survival import recovery
from survival.card import people, postgresql, sqlite  # noqa: F401  people: importing registers its sections
from survival.card.sections import Entry, built, section
from survival.models import PortalBackup, SecondPlace

# How an archive of an engine is checked and restored with stock tools, by the engine's name.
COMMANDS = {"postgresql": postgresql.commands, "sqlite": sqlite.commands}
FORMAT = 1


def gather() -> dict[str, Any]:
    """The card without the moment at which it is written, so that equal contents are equal."""
    found: dict[str, Any] = {
        "format": FORMAT,
        "portal": settings.PORTAL_URL,
        "portal_version": version(),
        "sections": built(),
    }
    # To plain JSON and back: what is written is what is compared.
    return dict(json.loads(json.dumps(found, cls=DjangoJSONEncoder)))


def fingerprint(found: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


@section(
    "databases",
    title="Databases",
    order=10,
    empty="No database is in the catalog. Add one, give it a plan, and its newest archive stands here.",
)
def databases() -> list[Entry]:
    targets = list(
        DatabaseTarget.objects.select_related("via", "component__environment__service").order_by(
            "component__environment__service__name", "component__environment__name", "database", "pk"
        )
    )
    newest = {
        archive.target_id: archive
        for archive in Archive.objects.restore_points()
        .select_related("storage__host", "target")
        .annotate(owner=F("manifest__properties__owner"))
        .defer("manifest")
        .order_by("target_id", *BEST_FIRST)
        .distinct("target_id")
    }
    return [_database(target, newest.get(target.pk)) for target in targets]


def _database(target: DatabaseTarget, archive: Archive | None) -> Entry:
    title = f"{target.database} · {target.component.environment}"
    lives = ("Lives at", f"{target.address}, account {target.user}" if target.user else target.address)
    if archive is None:
        return Entry(title, (lives,), warning="There is no verified archive of this database.")
    commands = COMMANDS.get(target.engine)
    folder = f"{archive.storage.root.rstrip('/')}/{archive.folder}/{archive.name}"
    facts = (
        lives,
        ("Newest verified archive", folder),
        ("On host", _host(archive.storage.host)),
        ("Data of", f"{archive.snapshot_at:%Y-%m-%d %H:%M:%S} UTC" if archive.snapshot_at else "–"),
        ("SHA-256 of manifest.json", archive.sha256),
        ("Key", "None: archives are not encrypted."),
    )
    return Entry(title, facts, tuple(commands(archive, folder)) if commands else ())


def _host(host: Host) -> str:
    return f"{host.name} ({host.address})" if host.address and host.address != host.name else host.name


@section("portal", title="The portal itself", order=90, empty="There is no backup of the portal yet.")
def portal() -> list[Entry]:
    newest = PortalBackup.objects.good().newest_first().first()
    place = SecondPlace.objects.filter(pk=1).first()
    if newest is None or place is None:
        return []
    where = place.key_kept_where or "Nobody has said yet where the key is kept."
    facts = (
        ("Newest backup", newest.path),
        ("Made", f"{newest.made_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("SHA-256", newest.sha256),
        ("Sealed to", newest.recipient),
        ("Key", where),
    )
    embedded, production = (
        text.replace("/second/place/portal-DATE.tar.age", newest.path)
        for text in (recovery.EMBEDDED, recovery.PRODUCTION)
    )
    commands = (
        ("With its own servers, in a checkout without a folder var", embedded),
        ("With your own PostgreSQL, in a checkout", production),
    )
    return [Entry("Back from nothing", facts, commands)]
