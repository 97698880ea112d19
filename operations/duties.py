"""What the control worker does beside its loop, such as the heartbeat and the webhooks.

Each duty has a thread and a pace of its own: a slow disk or an address that does not answer holds up neither the
control loop nor another duty. A room declares its own when it starts:

    duties.declare("heartbeat", lambda: settings.HEARTBEAT_EVERY_S if settings.HEARTBEAT_URL else None, heartbeat.beat)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from celery.signals import worker_init, worker_shutting_down
from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from operations.worker import CONTROL_QUEUE

logger = logging.getLogger(__name__)

Pace = Callable[[], float | None]
"""Seconds between two rounds; None: this portal has no such duty."""


class Duty(threading.Thread):
    """Does one thing again and again, through any trouble, until stopped."""

    def __init__(self, name: str, every_s: float, work: Callable[[], object]) -> None:
        super().__init__(name=f"duty-{name}", daemon=True)
        self.every_s = every_s
        self.work = work
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.wait(self.every_s):
            try:
                close_old_connections()
                self.work()
            except (DatabaseError, InterfaceError) as error:
                logger.warning("%s: database unavailable: %s", self.name, error)
                connection.close()
            except Exception:
                logger.exception("%s failed", self.name)
        connection.close()


_declared: dict[str, tuple[Pace, Callable[[], object]]] = {}
_running: list[Duty] = []

stopping = threading.Event()
"""Set when this worker shall end: whoever works in a thread of its own begins nothing more."""


def declare(name: str, pace: Pace, work: Callable[[], object]) -> None:
    """Make a duty known."""
    _declared[name] = (pace, work)


def all_duties() -> list[Duty]:
    """Those that this portal has."""
    return [Duty(name, every_s, work) for name, (pace, work) in _declared.items() if (every_s := pace()) is not None]


@worker_init.connect
def start(sender: Any = None, **kwargs: Any) -> None:
    if CONTROL_QUEUE in sender.app.amqp.queues.consume_from:
        _running.extend(all_duties())
        for duty in _running:
            duty.start()


@worker_shutting_down.connect
def stop(**kwargs: Any) -> None:
    stopping.set()
    for duty in _running:
        duty.stop()
