"""What the control worker does beside its loop: the offline card, the end of break-glass sessions, the heartbeat.

Each has a thread and a pace of its own: a slow disk or an address that does not answer holds up neither the control
loop nor another duty.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from celery.signals import worker_init, worker_shutting_down
from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from operations.worker import CONTROL_QUEUE
from survival import breakglass, heartbeat
from survival.card import places

logger = logging.getLogger(__name__)

CARD_EVERY_S = 15.0
BREAKGLASS_EVERY_S = 15.0


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


_running: list[Duty] = []


def all_duties() -> list[Duty]:
    """Those that this portal has."""
    duties = [Duty("breakglass", BREAKGLASS_EVERY_S, breakglass.close_expired)]
    if settings.OFFLINE_CARD_DIRS:
        duties.append(Duty("card", CARD_EVERY_S, places.write_due))
    if settings.HEARTBEAT_URL:
        duties.append(Duty("heartbeat", settings.HEARTBEAT_EVERY_S, heartbeat.beat))
    return duties


@worker_init.connect
def start(sender: Any = None, **kwargs: Any) -> None:
    if CONTROL_QUEUE in sender.app.amqp.queues.consume_from:
        _running.extend(all_duties())
        for duty in _running:
            duty.start()


@worker_shutting_down.connect
def stop(**kwargs: Any) -> None:
    for duty in _running:
        duty.stop()


user_logged_out.connect(breakglass.on_sign_out, dispatch_uid="survival.breakglass")
