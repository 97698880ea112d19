"""Committed rows instead of a test transaction: the engine's promises are about other connections."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from django.contrib.auth.models import Permission
from django.db import connections
from django.db.models.functions import Now
from pytest_django import DjangoDbBlocker

from core.models import User
from operations import actions, control, dispatch, engine
from operations.context import StepContext
from operations.exceptions import OperationError
from operations.models import LogLine, Operation
from opsportal.stack.identity import Account
from opsportal.stack.process import die_with_parent
from opsportal.stack.programs import redis_server
from tests.committed import ENGINE_TABLES, committed_rows
from tests.operations import samples
from tests.operations.samples import Died, Script


@pytest.fixture
def transactional_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with committed_rows(django_db_blocker, ENGINE_TABLES):
        yield


@pytest.fixture
def rows(transactional_db: None) -> None:
    """Committed rows, seen by every connection."""


@pytest.fixture(autouse=True)
def quiet_doorbell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No messages, as if Redis were away; tests of the doorbell itself ask for one."""
    if "broker" not in request.fixturenames:
        monkeypatch.setattr(dispatch, "_leave_alone_until", float("inf"))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> samples.Script:
    fresh = samples.Script()
    monkeypatch.setattr(samples, "script", fresh)
    return fresh


@pytest.fixture
def operator(rows: None) -> User:
    """May control the sample procedures."""
    user = User.objects.create_user("olga")
    codes = ("control_operation", "add_schedule", "add_slot")
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="operations", codename__in=codes))
    return User.objects.get(pk=user.pk)


@pytest.fixture
def ask(rows: None, script: samples.Script) -> Callable[..., Operation]:
    """Ask for a sample operation."""

    def request(procedure: str = "tests.sample", **options: object) -> Operation:
        options = {"title": "Sample", "params": {}, "by": None, **options}
        return actions.request(procedure, **options)  # type: ignore[arg-type]

    return request


def expire(operation: Operation) -> None:
    """As if the lease had run out: the worker has not been heard of."""
    Operation.objects.filter(pk=operation.pk).update(lease_until=Now() - timedelta(seconds=1))


def fresh(operation: Operation) -> Operation:
    return Operation.objects.get(pk=operation.pk)


def step_states(operation: Operation) -> list[str]:
    return list(operation.steps.in_order().values_list("state", flat=True))


def at_once(*works: Callable[[], object]) -> list[object]:
    """Run the works in threads that start together, each with a database connection of its own; their results."""
    results: list[object] = [None] * len(works)
    barrier = threading.Barrier(len(works))

    def run(index: int) -> None:
        try:
            barrier.wait(10)
            results[index] = works[index]()
        except BaseException as error:
            results[index] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


class Broker:
    """A real Redis that a test may stop, and the Celery application pointed at it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis+socket://{self.path}"

    def start(self) -> None:
        argv = [str(redis_server(Account.current())), "--port", "0", "--unixsocket", str(self.path), "--save", ""]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent(signal.SIGKILL))
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client().ping()
                return
            except redis.RedisError:
                assert time.monotonic() < deadline, "Redis does not start"
                time.sleep(0.02)

    def signal(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.path.unlink(missing_ok=True)

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.path))

    def messages(self, queue: str = "operations") -> list[object]:
        """Arguments of the messages that lie there, oldest first."""
        found = []
        for raw in reversed(self.client().lrange(queue, 0, -1)):
            found.append(json.loads(base64.b64decode(json.loads(raw)["body"]))[0])
        return found


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """Started and empty."""
    from opsportal.celery import app

    monkeypatch.setattr(dispatch, "_leave_alone_until", 0.0)
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        made = Broker(Path(folder))
        monkeypatch.setattr(app.conf, "broker_write_url", made.url)
        monkeypatch.setattr(app.conf, "broker_url", made.url)
        made.start()
        yield made
        made.stop()


# -- scripts for the sample procedures --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "UNDO_RETRY_S", (0.0, 0.0))


def fail(sentence: str) -> Callable[[StepContext], None]:
    def act(ctx: StepContext) -> None:
        raise OperationError(sentence)

    return act


def die(ctx: StepContext) -> None:
    raise Died


def run(operation: Operation, worker: str = "w1") -> Operation:
    engine.run(operation.pk, worker)
    return fresh(operation)


def die_in(operation: Operation, script: Script, method: str) -> None:
    """Let a worker die in that method, and the control loop notice."""
    script.on(method, die)
    with pytest.raises(Died):
        engine.run(operation.pk, "w1")
    del script.acts[method]
    assert fresh(operation).state == "running"
    expire(operation)
    assert control.sweep() == 1
    script.calls.clear()


def log_of(operation: Operation) -> str:
    return "\n".join(LogLine.objects.filter(operation=operation).values_list("text", flat=True))
