"""What the trading company operates: services, environments, components, databases, storage and plans."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings

from backups import actions as backups
from backups.models import Plan, Storage
from catalog.models import (
    Component,
    DatabaseTarget,
    Environment,
    Host,
    Probe,
    Service,
    Severity,
)
from operations.models import Schedule
from opsportal.demo import server as demo_server
from opsportal.demo.server import Database, DemoServer

ERP_SLUG, CRM_SLUG = "erp", "crm"
# A laptop that was closed for a day shall still run the night's backup when it is opened.
MAX_LATENESS = timedelta(hours=36)
SEVERITIES = (
    ("critical", "Critical", "The application is down, or its security is breached.", "Nobody can take an order."),
    ("high", "High", "A major feature is broken, or performance is degraded.", "Invoices cannot be printed."),
    ("medium", "Medium", "Minor issues of a feature, or warnings.", "The stock report shows yesterday's figures."),
    ("low", "Low", "For information, or maintenance is needed.", "A certificate runs out in 30 days."),
)


@dataclass(frozen=True)
class Catalog:
    """The records that the history is about."""

    erp: DatabaseTarget
    erp_staging: DatabaseTarget
    crm: DatabaseTarget
    plans: dict[str, Plan]  # nightly, staging, weekly


def secret_path(database: Database) -> Path:
    """Where the password of the database's owner is kept."""
    return Path(settings.DATA_DIR) / "target-secrets" / database.secret


def create(server: DemoServer, system_identifier: str, server_version: str, erp_address: str) -> Catalog:
    """Write the catalog; `erp_address` is host:port of the ERP's proxy.

    Call inside a transaction, in a portal that has no services yet.
    """
    host = Host.objects.create(name="localhost", address="localhost")
    storage = Storage.objects.create(name="Local archives", host=host, root=str(archives_root()))
    erp, crm = _services()
    production = Environment.objects.create(
        service=erp, name="Production", slug="production", kind="production", allowed_networks="127.0.0.1/32"
    )
    staging = Environment.objects.create(service=erp, name="Staging", slug="staging", kind="staging")
    crm_staging = Environment.objects.create(service=crm, name="Staging", slug="staging", kind="staging")
    minutes, hours = (lambda n: timedelta(minutes=n)), (lambda n: timedelta(hours=n))
    component = Component.objects.create
    database = component(environment=production, name="Database", kind="database", rto=minutes(5), rpo=hours(24))
    component(environment=production, name="API", kind="api", rto=minutes(15))
    component(environment=production, name="Web shop", kind="frontend", rto=minutes(15))
    component(environment=production, name="Invoice worker", kind="worker")
    database_staging = component(environment=staging, name="Database", kind="database", rto=minutes(5))
    component(environment=staging, name="API", kind="api")
    database_crm = component(
        environment=crm_staging, name="Database", kind="database", rto=minutes(30), rpo=timedelta(days=8)
    )

    def target(part: Component, which: Database, smoke_test: str) -> DatabaseTarget:
        return DatabaseTarget.objects.create(
            component=part,
            name=which.name,
            host=server.host,
            port=server.port,
            database=which.name,
            user=which.owner,
            password_ref=f"file:{secret_path(which)}",
            system_identifier=system_identifier,
            server_version=server_version,
            smoke_test=smoke_test,
        )

    targets = (
        target(database, demo_server.ERP, "SELECT count(*) > 0 FROM orders"),
        target(database_staging, demo_server.ERP_STAGING, "SELECT count(*) > 0 FROM orders"),
        target(database_crm, demo_server.CRM, "SELECT count(*) > 0 FROM accounts"),
    )
    _probes(production, server, erp_address)
    return Catalog(*targets, _plans(storage, *targets))


def _probes(environment: Environment, server: DemoServer, erp_address: str) -> None:
    """Questions that this demo can answer. A restore waits for the first and must pass the second."""

    def probe(name: str, kind: str, use: str, **parameters: object) -> None:
        Probe.objects.create(environment=environment, name=name, kind=kind, use=use, parameters=parameters)

    probe("ERP answers", "http", "ready", url=f"http://{erp_address}/health/ready", status=200, limit_s=2)
    where = {"host": server.host, "port": server.port, "database": demo_server.ERP.name, "user": demo_server.ERP.owner}
    secret = f"file:{secret_path(demo_server.ERP)}"
    probe("Database answers", "postgresql", "smoke", **where, password_ref=secret, connections_percent=80)
    probe("Room for archives", "disk", "check", path=str(archives_root()), warn_percent=85, bad_percent=95)


def _services() -> tuple[Service, Service]:
    erp = Service.objects.create(
        name="ERP",
        slug=ERP_SLUG,
        description="Orders, stock and invoices of the Hansewerk trading company.",
        owner_team="Application operations",
        time_zone="Europe/Berlin",
    )
    crm = Service.objects.create(
        name="CRM",
        slug=CRM_SLUG,
        description="Accounts, contacts and campaigns. Production moves in next quarter.",
        owner_team="Sales systems",
        time_zone="Europe/Berlin",
    )
    for rank, (code, name, definition, examples) in enumerate(SEVERITIES, start=1):
        Severity.objects.create(service=erp, code=code, name=name, rank=rank, definition=definition, examples=examples)
    return erp, crm


def _plans(storage: Storage, erp: DatabaseTarget, erp_staging: DatabaseTarget, crm: DatabaseTarget) -> dict[str, Plan]:
    nightly = Plan(
        name="ERP nightly",
        target=erp,
        folder="erp-postgres",
        name_pattern="erp_backup_%Y-%m-%d_%H00",
        on_demand_pattern="erp_manual_%Y%m%d_%H%M%S",
        keep_days=7,
        keep_last=7,
        expected_min=timedelta(seconds=0.2),
        expected_max=timedelta(seconds=20),
    )
    manual = Plan(
        name="ERP staging on demand",
        target=erp_staging,
        folder="erp-staging",
        on_demand_pattern="staging_%Y%m%d_%H%M%S",
        keep_last=3,
    )
    weekly = Plan(
        name="CRM staging weekly",
        target=crm,
        folder="crm-staging",
        name_pattern="crm_backup_%Y-%m-%d_%H%M",
        on_demand_pattern="crm_manual_%Y%m%d_%H%M%S",
        keep_last=3,
        expected_max=timedelta(seconds=30),
    )
    for plan, cron in ((nightly, "0 2 * * *"), (manual, ""), (weekly, "0 3 * * 0")):
        plan.storage = storage
        backups.save_plan(
            plan, cron=cron, misfire=Schedule.Misfire.LATEST, enabled=bool(cron), max_lateness=MAX_LATENESS
        )
    return {"nightly": nightly, "staging": manual, "weekly": weekly}


def archives_root() -> Path:
    """Folder of the storage."""
    return Path(settings.DATA_DIR) / "archives"


def set_decided(schedule: Schedule, until: datetime) -> None:
    """The history has decided the slots up to here; the portal decides those after it."""
    Schedule.objects.filter(pk=schedule.pk).update(decided_until=until)
