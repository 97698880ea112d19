"""The demo, loaded for real, for the tests of one module."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from opsportal.demo.server import DATABASES, MARK, DemoServer
from tests.conftest import TargetServer


def demo(*options: str) -> str:
    """Run the command; what it said."""
    said = StringIO()
    call_command("demo", *options, stdout=said)
    return said.getvalue()


@contextmanager
def loaded_demo(blocker: DjangoDbBlocker, data: Path, target_server: TargetServer) -> Iterator[DemoServer]:
    """The demo, loaded in `data`. Leftovers of an interrupted load are there before; nothing is left afterwards."""
    password = data / "server-password"
    password.write_text(target_server.password)
    (data / "lock").write_text(json.dumps({"pid": os.getpid()}))  # what it starts ends with us
    server = DemoServer(target_server.host, target_server.user, target_server.password)
    with pytest.MonkeyPatch.context() as env, override_settings(DATA_DIR=data, SECRET_DIRS=[data / "target-secrets"]):
        env.setenv("DEMO_PG_HOST", server.host)
        env.setenv("DEMO_PG_USER", server.user)
        env.setenv("DEMO_PG_PASSWORD_FILE", str(password))
        remove_databases(server)
        with server.session() as session:
            session.execute("CREATE DATABASE erp")
            session.execute(f"COMMENT ON DATABASE erp IS '{MARK}'")
        (data / "archives" / ".demo" / "night-3").mkdir(parents=True)
        with blocker.unblock(), transaction.atomic():
            # The portal loads the demo outside a transaction; here one waits meanwhile, to be rolled back.
            connection.cursor().execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            demo()
            yield server
            demo("--stop")
            transaction.set_rollback(True)
        remove_databases(server)


def remove_databases(server: DemoServer) -> None:
    with server.session() as session:
        for database in DATABASES:
            session.execute(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")
        for role in {database.owner for database in DATABASES}:
            session.execute(f"DROP ROLE IF EXISTS {role}")
