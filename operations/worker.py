"""What a worker process does beside its tasks: report itself, and in the control worker run the control loop."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from celery.signals import worker_init, worker_shutting_down
from django.db import DatabaseError, InterfaceError, close_old_connections, connection
from django.utils import timezone

from operations.control import ControlLoop
from operations.models import WorkerNode

logger = logging.getLogger(__name__)

REPORT_S = 5.0
CONTROL_QUEUE = "control"


class Reporter(threading.Thread):
    """Keeps this worker's row fresh."""

    def __init__(self, name: str, queues: list[str], concurrency: int) -> None:
        super().__init__(name="worker-reporter", daemon=True)
        self.node = name
        self.queues = queues
        self.concurrency = concurrency
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
                "queues": self.queues,
                "concurrency": self.concurrency,
                "pid": os.getpid(),
                "started_at": self.started_at,
                "heartbeat_at": timezone.now(),
                "stopping": self.stopping,
            },
        )


_running: dict[str, Any] = {}


@worker_init.connect
def start_threads(sender: Any = None, **kwargs: Any) -> None:
    """Before the broker is reached: a worker that waits for Redis is alive all the same."""
    queues = sorted(sender.app.amqp.queues.consume_from)
    reporter = Reporter(sender.hostname, queues, sender.concurrency or 1)
    reporter.start()
    _running["reporter"] = reporter
    if CONTROL_QUEUE in queues:
        loop = ControlLoop()
        loop.start()
        _running["loop"] = loop


@worker_shutting_down.connect
def stop_threads(**kwargs: Any) -> None:
    if "loop" in _running:
        _running["loop"].stop()
    if "reporter" in _running:
        _running["reporter"].shut_down()
