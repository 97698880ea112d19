"""What many tests start from: people of every role, a catalog, plans, archives, operations, a small real database.

Rows are made by factories that need no arguments; whatever a test is about it says itself. `sample_database` and
`target_on` are for tests that really connect.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import factory
import psycopg
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone
from factory.django import DjangoModelFactory
from psycopg import sql

from backups.models import Archive, Plan, Restore, Storage
from catalog.models import Component, DatabaseTarget, Environment, Host, Probe, Service
from core.actions import issue_token
from core.models import ApiToken, User
from core.roles import Role
from core.scopes import SCOPES
from operations import procedures
from operations.models import Event, LogLine, Operation, OperationStep, Schedule, WorkerNode
from survival.models import BreakGlass, CardCopy, PortalBackup, SecondPlace
from tests.conftest import TargetServer
from webhooks.models import Delivery, Webhook

PASSWORD = "correct-horse-9"
# Where the tests' targets keep the password of the managed server.
SECRET = "OPS_SECRET_TEST_TARGET"


# -- people -----------------------------------------------------------------------------------------------------------


class PersonFactory(DjangoModelFactory):
    """`PersonFactory(role=Role.OPERATOR)`; without a role somebody who may sign in and see nothing."""

    class Meta:
        model = User
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"person-{n}")
    password = factory.django.Password(PASSWORD)

    @factory.post_generation
    def role(self: User, create: bool, extracted: Role | None, **kwargs: Any) -> None:
        if extracted:
            self.groups.add(Group.objects.get(name=extracted.value))


class ApiTokenFactory(DjangoModelFactory):
    """A usable token that may everything its owner may."""

    class Meta:
        model = ApiToken

    owner = factory.SubFactory(PersonFactory)
    name = factory.Sequence(lambda n: f"token {n}")
    scopes = factory.LazyFunction(lambda: list(SCOPES))
    hint = "ops_test"
    sha256 = factory.Sequence(lambda n: f"{n:064x}")
    expires_at = factory.LazyFunction(lambda: timezone.now() + timedelta(days=1))


def bearer(owner: User, *scopes: str) -> dict[str, str]:
    """Headers that send a new token of this person; without scopes it has them all."""
    _, secret = issue_token(owner, name="test", scopes=scopes or list(SCOPES), days=1, by=None)
    return {"Authorization": f"Bearer {secret}"}


def browser(user: User) -> Client:
    """A browser in which this person is signed in."""
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


# -- catalog ----------------------------------------------------------------------------------------------------------


class ServiceFactory(DjangoModelFactory):
    class Meta:
        model = Service

    name = factory.Sequence(lambda n: f"Shop {n}")
    slug = factory.Sequence(lambda n: f"shop-{n}")
    owner_team = "Orders team"
    time_zone = "Europe/Berlin"


class EnvironmentFactory(DjangoModelFactory):
    class Meta:
        model = Environment

    service = factory.SubFactory(ServiceFactory)
    name = slug = kind = "production"


class ComponentFactory(DjangoModelFactory):
    class Meta:
        model = Component

    environment = factory.SubFactory(EnvironmentFactory)
    name = "database"
    kind = "database"
    rto = timedelta(minutes=5)
    rpo = timedelta(hours=24)


class TargetFactory(DjangoModelFactory):
    """A target at an address where nothing answers."""

    class Meta:
        model = DatabaseTarget

    component = factory.SubFactory(ComponentFactory)
    name = factory.Sequence(lambda n: f"shop-{n}")
    host = "/nonexistent"
    database = factory.Sequence(lambda n: f"shop_{n}")
    user = "ops"


class HostFactory(DjangoModelFactory):
    class Meta:
        model = Host
        django_get_or_create = ("name",)

    name = "localhost"
    address = "127.0.0.1"


# -- backups ----------------------------------------------------------------------------------------------------------


class StorageFactory(DjangoModelFactory):
    class Meta:
        model = Storage

    name = factory.Sequence(lambda n: f"local-{n}")
    host = factory.SubFactory(HostFactory)
    root = "/nonexistent/archives"


class PlanFactory(DjangoModelFactory):
    class Meta:
        model = Plan

    name = factory.Sequence(lambda n: f"Shop nightly {n}")
    target = factory.SubFactory(TargetFactory)
    storage = factory.SubFactory(StorageFactory)
    folder = "shop"


class OperationFactory(DjangoModelFactory):
    """An operation that has ended well, with the steps of its procedure; give `state` for another end or none."""

    class Meta:
        model = Operation
        skip_postgeneration_save = True

    procedure = "backups.backup"
    title = factory.Sequence(lambda n: f"Back up shop {n}")
    trigger = Operation.Trigger.CLICK
    state = Operation.State.SUCCEEDED
    requested_at = factory.LazyFunction(timezone.now)
    started_at = factory.LazyAttribute(
        lambda row: None if row.state == Operation.State.QUEUED else row.requested_at + timedelta(seconds=1)
    )
    ended_at = factory.LazyAttribute(
        lambda row: row.started_at + timedelta(seconds=20) if row.state in Operation.TERMINAL else None
    )
    attempt = factory.LazyAttribute(lambda row: 0 if row.state == Operation.State.QUEUED else 1)
    lease_until = factory.LazyAttribute(
        lambda row: timezone.now() + timedelta(minutes=1) if row.state == Operation.State.RUNNING else None
    )
    worker = factory.LazyAttribute(lambda row: "worker-1" if row.started_at else "")

    @factory.post_generation
    def steps(self: Operation, create: bool, extracted: Any, **kwargs: Any) -> None:
        done = OperationStep.State.DONE if self.state == Operation.State.SUCCEEDED else OperationStep.State.PENDING
        OperationStep.objects.bulk_create(
            OperationStep(
                operation=self,
                index=index,
                name=step.name,
                title=step.title,
                undo_name=step.undo,
                state=done,
                commands=["true"],
            )
            for index, step in enumerate(procedures.get(self.procedure).steps)
        )
        LogLine.objects.create(operation=self, at=timezone.now(), text="A line.")


class ArchiveFactory(DjangoModelFactory):
    """A verified archive of `age` (default a minute) whose files do not exist; `failed=True` for one that never was."""

    class Meta:
        model = Archive

    class Params:
        age = timedelta(minutes=1)
        failed = factory.Trait(
            name="",
            state=Archive.State.FAILED,
            snapshot_at=None,
            duration=None,
            size_bytes=None,
            database_bytes=None,
            row_count=None,
            manifest=None,
            verification=Archive.Verification.UNVERIFIED,
            operation=factory.SubFactory(OperationFactory, state=Operation.State.FAILED, message="The disk is full."),
        )
        unverified = factory.Trait(verification=Archive.Verification.UNVERIFIED)

    plan = factory.SubFactory(PlanFactory)
    target = factory.SelfAttribute("plan.target")
    storage = factory.SelfAttribute("plan.storage")
    folder = factory.SelfAttribute("plan.folder")
    operation = factory.SubFactory(OperationFactory)
    purpose = Archive.Purpose.SCHEDULED
    name = factory.Sequence(lambda n: f"backup_{n:05}")
    state = Archive.State.AVAILABLE
    verification = Archive.Verification.VERIFIED
    verified_at = factory.LazyAttribute(
        lambda row: None if row.verification == Archive.Verification.UNVERIFIED else timezone.now()
    )
    verification_message = "Everything was read."
    requested_at = factory.LazyAttribute(lambda row: timezone.now() - row.age)
    snapshot_at = factory.SelfAttribute("requested_at")
    duration = timedelta(seconds=20)
    size_bytes = 100_000
    database_bytes = 400_000
    row_count = 120
    server_version = "18.0"
    manifest = factory.LazyFunction(
        lambda: {
            "tables": [{"schema": "public", "name": "customer", "rows": 120, "bytes": 16384, "file": "1.dat.zst"}],
            "files": [{"path": "toc.dat", "size": 100, "sha256": "0" * 64}],
        }
    )


class RestoreFactory(DjangoModelFactory):
    """A restore in place that met its target and kept its safety copy."""

    class Meta:
        model = Restore

    archive = factory.SubFactory(ArchiveFactory)
    target = factory.SelfAttribute("archive.target")
    operation = factory.SubFactory(OperationFactory, procedure="backups.restore", title="Restore shop")
    into_database = factory.SelfAttribute("target.database")
    reason_kind = Restore.Reason.DELETION
    rto = timedelta(minutes=5)
    measured = timedelta(seconds=42)
    safety_copy = Restore.SafetyCopy.KEPT
    safety_database = factory.LazyAttribute(lambda row: f"{row.into_database}_before_{row.operation.pk}")


# -- operations -------------------------------------------------------------------------------------------------------


class CrontabFactory(DjangoModelFactory):
    class Meta:
        model = "django_celery_beat.CrontabSchedule"

    minute, hour, timezone = "0", "2", "Europe/Berlin"


class ScheduleFactory(DjangoModelFactory):
    class Meta:
        model = Schedule

    handler = "backups.plan"
    name = factory.Sequence(lambda n: f"Back up: Shop nightly {n}")
    crontab = factory.SubFactory(CrontabFactory)


class WorkerNodeFactory(DjangoModelFactory):
    class Meta:
        model = WorkerNode

    name = factory.Sequence(lambda n: f"worker-{n}")
    queues = factory.LazyFunction(lambda: ["operations"])
    pid = 1
    started_at = heartbeat_at = factory.LazyFunction(timezone.now)


# -- the portal itself ------------------------------------------------------------------------------------------------


class PortalBackupFactory(DjangoModelFactory):
    """A backup of the portal that was opened and read; its file does not exist."""

    class Meta:
        model = PortalBackup

    operation = factory.SubFactory(
        OperationFactory, procedure="portal.backup_self", title="Back up the portal", params={}
    )
    folder = "/nonexistent/portal-backup"
    name = factory.Sequence(lambda n: f"portal-20260101T00{n:04}Z.tar.age")
    verification = PortalBackup.Verification.READ
    made_at = verified_at = factory.LazyFunction(timezone.now)
    size_bytes = 200_000
    sha256 = "0" * 64
    recipient = "age1example"


class SecondPlaceFactory(DjangoModelFactory):
    """The one record, with a key that nobody has confirmed yet."""

    class Meta:
        model = SecondPlace
        django_get_or_create = ("id",)

    id = 1
    recipient = "age1example"
    key_since = factory.LazyFunction(timezone.now)


class CardCopyFactory(DjangoModelFactory):
    class Meta:
        model = CardCopy

    place = factory.Sequence(lambda n: f"/nonexistent/card-{n}")
    written_at = tried_at = factory.LazyFunction(timezone.now)


class EventFactory(DjangoModelFactory):
    """The news that some operation has ended. Made without `publish`, so nobody is told."""

    class Meta:
        model = Event

    name = "operation.ended"
    sentence = "Sample: succeeded."
    data = factory.LazyFunction(lambda: {"state": "succeeded"})


class WebhookFactory(DjangoModelFactory):
    """A webhook on this machine, at a port where nothing listens."""

    class Meta:
        model = Webhook

    name = factory.Sequence(lambda n: f"webhook {n}")
    url = "http://127.0.0.1:1/"
    secret_ref = "env:OPS_SECRET_TEST_WEBHOOK"
    allowed_networks = "127.0.0.0/8"


class DeliveryFactory(DjangoModelFactory):
    """One that was given up."""

    class Meta:
        model = Delivery

    webhook = factory.SubFactory(WebhookFactory)
    event = factory.SubFactory(EventFactory)
    state = "failed"
    due_at = None
    tries = 7
    tried_at = factory.LazyFunction(timezone.now)
    message = "Nothing answers."


class BreakGlassFactory(DjangoModelFactory):
    """A link that was issued and not used."""

    class Meta:
        model = BreakGlass

    name, account, reason, minutes = "Robin", "root", "Nobody can sign in", 60
    token_sha256 = factory.Sequence(lambda n: f"{n:064}")
    link_expires_at = factory.LazyFunction(lambda: timezone.now() + timedelta(minutes=15))


# -- a real database --------------------------------------------------------------------------------------------------

# With a serial number per process: test workers share the server.
_numbers = itertools.count(1)
PREFIX = f"shop{os.getpid()}_"

SAMPLE = (
    "CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL, city text)",
    "INSERT INTO customer SELECT i, 'Customer ' || i, 'City ' || i % 7 FROM generate_series(1, 120) i",
    "CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL REFERENCES customer, total numeric(10,2))",
    "INSERT INTO orders SELECT i, 1 + i % 120, i * 1.1 FROM generate_series(1, 600) i",
    "CREATE INDEX ON orders (customer)",
)
SAMPLE_ROWS = {"customer": 120, "orders": 600}


@dataclass(frozen=True)
class SampleDatabase:
    """A database on the managed server."""

    server: TargetServer
    name: str

    @contextmanager
    def session(self, **options: Any) -> Iterator[psycopg.Connection]:
        with session_on(self.server, self.name, **options) as session:
            yield session

    def execute(self, *statements: str) -> None:
        with self.session() as session:
            for statement in statements:
                session.execute(statement)

    def rows(self) -> dict[str, int]:
        """Rows per table."""
        with self.session() as session:
            return {table: session.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in SAMPLE_ROWS}

    def lose_orders(self) -> None:
        """The slip that everybody fears."""
        self.execute("DELETE FROM orders WHERE id > 100")


def session_on(server: TargetServer, database: str = "postgres", **options: Any) -> psycopg.Connection:
    values = {"host": server.host, "user": server.user, "password": server.password, "autocommit": True, **options}
    return psycopg.connect(dbname=database, **values)


def new_name(word: str = "live") -> str:
    """A database name nobody else uses at this server, and none that is the beginning of another."""
    return f"{PREFIX}{word}{next(_numbers):04}"


def sample_database(server: TargetServer, name: str = "", *, template: str = "template0") -> SampleDatabase:
    """A new database with the sample's rows, or a copy of `template`."""
    database = SampleDatabase(server, name or new_name())
    with session_on(server) as session:
        session.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(database.name), sql.Identifier(template))
        )
    if template == "template0":
        database.execute(*SAMPLE)
    return database


def databases_on(server: TargetServer, start: str) -> set[str]:
    """The databases whose names begin so."""
    with session_on(server) as session:
        found = session.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [start])
        return {name for (name,) in found}


def drop_databases(server: TargetServer, start: str) -> None:
    """Remove a test's database and what restores have made beside it."""
    with session_on(server) as session:
        for name in databases_on(server, start):
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def target_on(server: TargetServer, database: str, **fields: Any) -> DatabaseTarget:
    """A target that really answers."""
    os.environ[SECRET] = server.password
    values = {"host": server.host, "user": server.user, "password_ref": f"env:{SECRET}", "database": database}
    return TargetFactory(**{**values, **fields})


class ProbeFactory(DjangoModelFactory):
    """A probe of a port where nothing answers."""

    class Meta:
        model = Probe

    environment = factory.SubFactory(EnvironmentFactory, allowed_networks="127.0.0.0/8")
    name = factory.Sequence(lambda n: f"probe {n}")
    kind = "tcp"
    parameters = factory.LazyFunction(lambda: {"host": "127.0.0.1", "port": 1})
    timeout_s = 2
