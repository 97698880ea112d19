"""From nothing to the first verified backup: everything that one database needs, written in one go.

Part of the write path beside `backups.actions`: the first-service page calls it, and nothing else writes these rows.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from datetime import time, timedelta
from pathlib import Path
from typing import Any

from auditlog.context import set_actor
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils.text import slugify

from backups import actions
from backups.engines.base import Connection, ServerFacts
from backups.exceptions import BackupError
from backups.models import Plan, Storage
from backups.reach import engine_for
from catalog import actions as catalog
from catalog.inspection import TargetFacts
from catalog.models import Component, DatabaseTarget, Environment, Host, Service
from catalog.secrets import SecretReference, store
from core.models import User
from core.templatetags.portal import filesize_si
from core.words import counted
from operations.models import Operation


@dataclass(frozen=True)
class Wish:
    """What the page asks. `password` is a password or a reference to one; RTO and RPO may stay unset."""

    service: str
    kind: str
    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    folder: str
    at: time
    keep_days: int | None
    rto: timedelta | None = None
    rpo: timedelta | None = None

    @property
    def is_reference(self) -> bool:
        return self.password.startswith(("env:", "file:"))


class Invalid(BackupError):
    """Some value does not do. `errors` are sentences by the page's field, "" for the whole."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__(" ".join(sentence for sentences in errors.values() for sentence in sentences))
        self.errors = errors


# Field of a model -> field of the page.
FIELDS: dict[tuple[type[models.Model], str], str] = {
    (Service, "name"): "service",
    (Service, "slug"): "service",
    (Environment, "kind"): "kind",
    (Component, "rto"): "rto",
    (Component, "rpo"): "rpo",
    (DatabaseTarget, "host"): "host",
    (DatabaseTarget, "port"): "port",
    (DatabaseTarget, "database"): "database",
    (DatabaseTarget, "maintenance_database"): "database",
    (DatabaseTarget, "user"): "user",
    (DatabaseTarget, "password_ref"): "password",
    (Storage, "root"): "folder",
    (Plan, "keep_days"): "keep_days",
}


def look(wish: Wish) -> ServerFacts:
    """Connect as it would be connected later. Raises PortalError with a sentence; nothing is written."""
    password = SecretReference.parse(wish.password).resolve() if wish.is_reference else wish.password
    conn = Connection(wish.host, wish.port, wish.database, wish.user, password, application_name="opsportal/check")
    return engine_for(DatabaseTarget()).inspect(conn)


def tell(facts: ServerFacts) -> tuple[str, str]:
    """Status and sentence: what was found, and what a later restore would lack."""
    tables = counted(len(facts.tables), "table")
    found = f"Connected: PostgreSQL {facts.version}, {filesize_si(facts.database_bytes)}, {tables}."
    role = f"“{facts.role}”"
    rights = {
        f"ALTER ROLE {role} CREATEDB": facts.can_create_databases,
        f"GRANT pg_signal_backend TO {role}": facts.can_terminate,
        f"ALTER ROLE {role} BYPASSRLS, where row security is used": facts.bypasses_row_security,
    }
    lacks = [statement for statement, there in rights.items() if not there]
    if lacks:
        return "warn", f"{found} Backups work. A restore in place will also need: {'; '.join(lacks)}."
    return "ok", f"{found} The role {role} may do all that backups and restores need."


def create(wish: Wish, *, by: User, key: str) -> Operation:
    """Connect, write service, environment, component, host, storage, database and plan, and ask for the first backup.

    Raises Invalid for a value that does not do, PortalError when the server does not answer; then nothing is written.
    """
    if earlier := Operation.objects.filter(idempotency_key=key or None).first():
        return earlier  # a second click
    facts = look(wish)
    reference, written = wish.password, None
    if wish.password and not wish.is_reference:
        written = store(slugify(f"{wish.service}-{wish.database}") or "database", wish.password)
        reference = f"file:{written}"
    try:
        with transaction.atomic(), set_actor(by):
            plan = _write(wish, reference, by)
            catalog.pin_identity(plan.target, TargetFacts(facts.system_identifier, facts.version), by=by)
            return actions.request_backup(plan, by=by, reason="The first backup", key=key)
    except BaseException:
        if written is not None:
            written.unlink(missing_ok=True)
        raise


def _write(wish: Wish, reference: str, by: User) -> Plan:
    """A service and an environment that are there already are used."""
    place = {"via": None, "host__iexact": wish.host, "port": wish.port, "database": wish.database}
    if there := DatabaseTarget.objects.named().filter(**place).first():
        raise Invalid({"database": [f"The catalog has this database already: {there}. Add a plan for it instead."]})
    service = Service.objects.filter(name__iexact=wish.service).first() or _saved(
        Service(name=wish.service, slug=slugify(wish.service), time_zone=by.time_zone)
    )
    label = Environment.Kind(wish.kind).label if wish.kind in Environment.Kind.values else wish.kind
    environment = Environment.objects.filter(service=service, kind=wish.kind).first() or _saved(
        Environment(service=service, name=label, slug=wish.kind, kind=wish.kind)
    )
    names = set(Component.objects.filter(environment=environment).values_list("name", flat=True))
    name = "Database" if "Database" not in names else f"Database {wish.database}"
    component = Component(environment=environment, name=name, kind=Component.Kind.DATABASE)
    component.rto, component.rpo = wish.rto, wish.rpo
    _saved(component)
    # A database is renamed from another one during a restore; the one that every server has may be the very one.
    maintenance = "template1" if wish.database == "postgres" else "postgres"
    target = _saved(
        DatabaseTarget(
            component=component,
            name=wish.database,
            host=wish.host,
            port=wish.port,
            database=wish.database,
            maintenance_database=maintenance,
            user=wish.user,
            password_ref=reference,
        )
    )
    values: dict[str, Any] = {"keep_days": wish.keep_days, "folder": slugify(f"{service.slug}-{wish.database}")}
    title = f"{service.name} nightly"
    if Plan.objects.filter(name=title).exists():
        title = f"{service.name} {wish.database} nightly"
    plan = Plan(name=title, target=target, storage=_storage(wish.folder), **values)
    _checked(plan)
    return actions.save_plan(plan, cron=f"{wish.at.minute} {wish.at.hour} * * *", misfire="", enabled=True)


def _storage(folder: str) -> Storage:
    """The storage with that folder, made if there is none; likewise its host, which is this machine.

    A missing folder is often a disk that is not mounted, so only one among the portal's own data is made.
    """
    path = Path(folder)
    if not path.is_dir():
        if not path.is_relative_to(settings.DATA_DIR):
            raise Invalid({"folder": [f"There is no folder {path}. Create it, or mount the disk it is on."]})
        path.mkdir(mode=0o700, parents=True)
    root = str(path)
    found = Storage.objects.filter(root=root).first()
    if found is not None:
        return found
    name = socket.gethostname()
    host = Host.objects.filter(kind=Host.Kind.LOCAL).first() or _saved(Host(name=name, kind=Host.Kind.LOCAL))
    return _saved(Storage(name=f"Archives in {root}"[:80], host=host, root=root))


def _checked(row: Any) -> None:
    """Raises Invalid with the sentences by the page's field."""
    try:
        row.full_clean()
    except ValidationError as error:
        errors: dict[str, list[str]] = {}
        for name, sentences in error.message_dict.items():
            errors.setdefault(FIELDS.get((type(row), name), ""), []).extend(sentences)
        raise Invalid(errors) from None


def _saved(row: Any) -> Any:
    _checked(row)
    row.save()
    return row
