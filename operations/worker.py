"""What a worker process does beside its tasks: report itself, and in the control worker run the control loop."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from celery.signals import worker_init, worker_shutting_down
from django.db import DatabaseError, InterfaceError, close_old_connections, connection
from django.utils import timezone

from core.version import version
from operations import standing
from operations.control import ControlLoop
from operations.models import WorkerNode

logger = logging.getLogger(__name__)

REPORT_S = 5.0
CONTROL_QUEUE = "control"


def place() -> str:
    """Six characters that tell this machine or container from others, also where host names repeat.

    They stay the same when the worker starts again in the same place. The kernel's boot tells machines apart, the
    process namespace the containers on one of them.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return hashlib.sha256(f"{boot}/{os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:6]


def node_name(celery_name: str) -> str:
    """The name under which a worker reports itself: Celery's, with the place. Unless a living twin beside us has it."""
    name = base = f"{celery_name}/{place()}"
    number = 1
    while (row := WorkerNode.objects.filter(name=name).first()) is not None and _is_twin(row):
        number += 1
        name = f"{base}-{number}"
    return name


def _is_twin(row: WorkerNode) -> bool:
    """Whether the worker of that row runs here now, and is not this process."""
    try:
        alive = b"celery" in Path(f"/proc/{row.pid}/cmdline").read_bytes()
    except OSError:
        return False
    return alive and row.pid != os.getpid() and row.is_live


class Reporter(threading.Thread):
    """Keeps this worker's row fresh. `looped_at` tells when its control loop last came round."""

    def __init__(
        self,
        name: str,
        queues: list[str],
        concurrency: int,
        looped_at: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        super().__init__(name="worker-reporter", daemon=True)
        self.node = name
        self.queues = queues
        self.concurrency = concurrency
        self.looped_at = looped_at
        self.started_at = timezone.now()
        self.stopping = False
        self._wake = threading.Event()

    def shut_down(self) -> None:
        """Tell the operations of this worker to stop in good order."""
        self.stopping = True
        self._wake.set()

    def run(self) -> None:
        while True:
            close_old_connections()
            try:
                self.report()
            except (DatabaseError, InterfaceError) as error:
                logger.warning("worker %s could not report itself: %s", self.node, error)
                connection.close()
            self._wake.wait(REPORT_S)
            self._wake.clear()

    def report(self) -> None:
        WorkerNode.objects.update_or_create(
            name=self.node,
            defaults={
                "host": socket.gethostname(),
                "version": version(),
                "queues": self.queues,
                "concurrency": self.concurrency,
                "pid": os.getpid(),
                "started_at": self.started_at,
                "heartbeat_at": timezone.now(),
                "looped_at": self.looped_at(),
                "stopping": self.stopping,
            },
        )


_running: dict[str, Any] = {}


def current_name(celery_name: str) -> str:
    """The name of this worker's row, also in the processes of its pool."""
    reporter = _running.get("reporter")
    return reporter.node if reporter is not None else celery_name


@worker_init.connect
def start_threads(sender: Any = None, **kwargs: Any) -> None:
    """Before the broker is reached: a worker that waits for Redis is alive all the same."""
    queues = sorted(sender.app.amqp.queues.consume_from)
    loop = ControlLoop(first=standing.ensure) if CONTROL_QUEUE in queues else None
    reporter = Reporter(
        _free_name(sender.hostname), queues, sender.concurrency or 1, lambda: loop.looped_at if loop else None
    )
    reporter.start()
    _running["reporter"] = reporter
    if loop is not None:
        loop.start()
        _running["loop"] = loop


def _free_name(celery_name: str) -> str:
    """Without the database the name cannot be looked up; then nobody else reports itself either."""
    try:
        return node_name(celery_name)
    except (DatabaseError, InterfaceError):
        return f"{celery_name}/{place()}"
    finally:
        connection.close()  # the processes of the pool must not inherit it


@worker_shutting_down.connect
def stop_threads(**kwargs: Any) -> None:
    if "loop" in _running:
        _running["loop"].stop()
    if "reporter" in _running:
        _running["reporter"].shut_down()
