"""The portal under measurement: the stack as `make run` starts it, on the servers of the environment."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.utils import timezone

from backups.models import Plan, Storage
from catalog.models import Component, DatabaseTarget, Environment, Host, Service
from core.models import User
from core.roles import Role
from operations.models import Operation, OperationStep, WorkerNode
from opsportal.bench.exceptions import BenchError
from opsportal.bench.server import Server
from opsportal.stack.process import die_with_parent, recorded

PASSWORD_VARIABLE = "OPS_SECRET_BENCH"  # noqa: S105 - the name of a variable
START_LIMIT_S = 120.0
LOOK_S = 0.05


@dataclass(frozen=True)
class Place:
    """What there is to back up, and who asks."""

    plan: Plan
    by: User
    password: str


class Portal:
    """Web server, workers and beat while the block runs."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.log = Path(settings.DATA_DIR) / "bench-portal.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def __enter__(self) -> Portal:
        env = {**os.environ, "PORT": str(self.port), "HOST": "127.0.0.1", "DEMO": "false"}
        env[PASSWORD_VARIABLE] = os.environ[PASSWORD_VARIABLE] = self.server.password
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "opsportal.stack", "run"],
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        try:
            self._wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_ready(self) -> None:
        wait_for(self._answers, START_LIMIT_S, f"The portal did not start; its words are in {self.log}.", self._ended)
        wait_for(
            lambda: len(set(WorkerNode.objects.values_list("name", flat=True))) >= 2,
            START_LIMIT_S,
            f"The workers did not report themselves; their logs are in {self.log.parent / 'logs'}.",
            self._ended,
        )

    def _answers(self) -> bool:
        web = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            web.request("GET", "/health/ready")
            return web.getresponse().status == 200
        except OSError:
            return False
        finally:
            web.close()

    def _ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def operations_worker(self) -> int:
        """Process id of the worker whose pool children run operations."""
        try:
            return recorded(Path(settings.DATA_DIR) / "processes.json")["worker-operations"]
        except KeyError:
            raise BenchError(f"The operations worker does not run; look at {self.log}.") from None


def wait_for(
    met: Callable[[], bool], limit_s: float, sentence: str, given_up: Callable[[], bool] = lambda: False
) -> None:
    """Wait until `met`; BenchError with the sentence when it takes too long or `given_up` says there is no hope."""
    deadline = time.monotonic() + limit_s
    while not met():
        if time.monotonic() > deadline or given_up():
            raise BenchError(sentence)
        time.sleep(LOOK_S)


def catalog(server: Server, database: str) -> Place:
    """Everything between a service and a plan, and an operator. The names carry the database's."""
    root = Path(settings.DATA_DIR) / "bench-archives"
    root.mkdir(exist_ok=True)
    with transaction.atomic():
        host, _ = Host.objects.get_or_create(name="bench", defaults={"address": "localhost"})
        storage, _ = Storage.objects.get_or_create(name="Bench", defaults={"host": host, "root": str(root)})
        service = Service.objects.create(name=database, slug=database.replace("_", "-"))
        environment = Environment.objects.create(service=service, name="Staging", slug="staging", kind="staging")
        component = Component.objects.create(
            environment=environment, name="Database", kind="database", rto=timedelta(minutes=5)
        )
        target = DatabaseTarget.objects.create(
            component=component,
            name=database,
            host=server.host,
            database=database,
            user=server.user,
            password_ref=f"env:{PASSWORD_VARIABLE}",
        )
        plan = Plan.objects.create(name=database, target=target, storage=storage, folder=database)
        password = secrets.token_urlsafe(16)
        by = User.objects.create_user(f"operator.{database}", password=password)
        by.groups.add(Group.objects.get(name=Role.OPERATOR.value))
    return Place(plan, by, password)


def finished(operation: Operation, limit_s: float = 900) -> Operation:
    """Wait for the end; BenchError with the operation's sentence when it did not succeed."""

    def is_final() -> bool:
        operation.refresh_from_db()
        return operation.is_final

    wait_for(is_final, limit_s, f"{operation} has not ended after {limit_s:.0f} s.")
    if operation.state != Operation.State.SUCCEEDED:
        raise BenchError(f"{operation} ended {operation.state_word.lower()}: {operation.message}")
    return operation


def wait_for_step(operation: Operation, name: str, limit_s: float = 900) -> None:
    """Wait for the end of a step, or of the operation."""

    def has_ended() -> bool:
        step = OperationStep.objects.select_related("operation").get(operation=operation, name=name)
        return step.ended_at is not None or step.operation.is_final

    wait_for(has_ended, limit_s, f"{operation} does not get past its step “{name}”.")


def step_seconds(operation: Operation) -> dict[str, float]:
    """Seconds by step name."""
    return {
        step.name: (step.ended_at - step.started_at).total_seconds()
        for step in OperationStep.objects.filter(operation=operation)
        if step.started_at and step.ended_at
    }


def click_to_end(operation: Operation) -> float:
    """Seconds from the request to the end."""
    assert operation.ended_at
    return (operation.ended_at - operation.requested_at).total_seconds()


def close() -> None:
    """Close this process's connection to the portal's database."""
    connection.close()


def now() -> float:
    """Seconds of the clock that the portal's rows are stamped with."""
    return timezone.now().timestamp()
