"""Real databases made for one test, a shop to back up and restore, and people who look at its pages."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from django.test import Client
from psycopg import sql
from pytest_django import DjangoDbBlocker

from backups import actions
from backups.engines.base import Connection
from backups.engines.postgresql import PostgreSQLEngine
from backups.models import Plan
from core.roles import Role
from tests import factories
from tests.backups.postgresql import MARK, PREFIX, run, session
from tests.backups.shop import Shop, describe
from tests.committed import DEPLOYMENT_TABLES, committed_rows
from tests.factories import SampleDatabase

# Emptied after a test with committed rows, those that refer to others first.
TABLES = (
    *DEPLOYMENT_TABLES,
    "webhooks_delivery",
    "webhooks_webhook",
    "operations_event",
    "operations_slot",
    "operations_operationlock",
    "operations_logline",
    "operations_operationstep",
    "backups_restore",
    "backups_archive",
    "backups_plan",
    "backups_storage",
    "operations_operation",
    "operations_schedule",
    "operations_workernode",
    "django_celery_beat_crontabschedule",
    "catalog_servicecontrolcommands",
    "catalog_proberesult",
    "catalog_probe",
    "catalog_databasetarget",
    "catalog_component",
    "catalog_environment",
    "catalog_severity",
    "catalog_service",
    "catalog_host",
    "auditlog_logentry",
    "django_session",
    "core_apitoken",
    "core_user_user_permissions",
    "core_user_groups",
    "core_user",
)


@pytest.fixture(scope="session")
def engine() -> PostgreSQLEngine:
    return PostgreSQLEngine(os.environ.get("PG_BIN", ""))


@pytest.fixture(scope="session")
def target(target_server) -> Connection:
    return Connection(
        target_server.host,
        5432,
        "postgres",
        target_server.user,
        target_server.password,
        application_name=f"{MARK}/op1/a1",
    )


@pytest.fixture(scope="session")
def admin(target) -> Iterator[psycopg.Connection]:
    """A superuser session; at the end every database and role of this run goes."""
    with psycopg.connect(
        host=target.host, user=target.user, password=target.password, dbname="postgres", autocommit=True
    ) as session:
        yield session
        for (name,) in session.execute(
            "SELECT datname FROM pg_database WHERE strpos(datname, %s) > 0", [PREFIX]
        ).fetchall():
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for (name,) in session.execute(
            "SELECT rolname FROM pg_roles WHERE strpos(rolname, %s) > 0", [PREFIX]
        ).fetchall():
            session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def make(admin, target) -> Callable[..., Connection]:
    """Make a database by running statements in it; returns the connection to it."""

    def create(name: str, *statements: str, options: str = "") -> Connection:
        identifier = sql.Identifier(name)
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 " + options).format(identifier))
        conn = dataclasses.replace(target, database=name)
        with session(conn) as one:
            for statement in statements:
                one.execute(statement)
        return conn

    return create


# -- a shop whose rows are committed, for the procedures ---------------------------------------------------------------


@pytest.fixture
def transactional_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with committed_rows(django_db_blocker, TABLES):
        yield


@pytest.fixture(scope="session")
def sample(target_server, engine, tmp_path_factory) -> Iterator[tuple[SampleDatabase, Path]]:
    """A database to copy, and an archive of it to copy; at the end every database of this run goes."""
    database = factories.sample_database(target_server, factories.new_name("sample"))
    folder = tmp_path_factory.mktemp("sample") / "archive"
    folder.mkdir()
    conn = Connection(target_server.host, 5432, database.name, target_server.user, target_server.password)
    describe(folder, engine.dump(conn, folder, run=run))
    yield database, folder
    factories.drop_databases(target_server, factories.PREFIX)


@pytest.fixture
def shop(transactional_db, sample, tmp_path, settings) -> Iterator[Shop]:
    """A shop with a live database of its own, a plan, and an operator."""
    settings.DATA_DIR = tmp_path / "data"
    template, folder = sample
    root = tmp_path / "archives"
    root.mkdir()
    database = factories.sample_database(template.server, template=template.name)
    target = factories.target_on(template.server, database.name)
    plan = factories.PlanFactory(target=target, storage=factories.StorageFactory(root=str(root)))
    operator = factories.PersonFactory(username="olga", role=Role.OPERATOR)
    shop = Shop(database, target, plan, operator, folder)
    yield shop
    if shop.service is not None:
        shop.service.kill()
    factories.drop_databases(template.server, database.name)


# -- the pages ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def manager(db) -> Client:
    return factories.browser(factories.PersonFactory(username="mara", role=Role.MANAGER))


@pytest.fixture
def operator(db) -> Client:
    return factories.browser(factories.PersonFactory(username="olga", role=Role.OPERATOR))


@pytest.fixture
def administrator(db) -> Client:
    return factories.browser(factories.PersonFactory(username="anna", role=Role.ADMINISTRATOR))


@pytest.fixture
def plan(db) -> Plan:
    """A plan with a schedule, whose database and storage do not exist."""
    expected = {"expected_min": timedelta(minutes=15), "expected_max": timedelta(minutes=30)}
    plan = factories.PlanFactory(keep_days=7, **expected)
    return actions.save_plan(plan, cron="0 2 * * *", misfire="latest", enabled=True)
