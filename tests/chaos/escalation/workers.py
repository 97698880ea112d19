"""Processes that do what the control worker does for escalations and messages, and are begun again when they are gone.

They are forked from one process that has loaded Django, so that starting them takes no time from what is measured.
The pause before a new one is what a real worker needs to start.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import django

DUTIES = ("duty-escalation", "duty-notifications")
STARTS_WITHIN_S = 2.0


def work() -> None:
    """The two duties, as the control worker runs them."""
    from operations import duties

    for duty in duties.all_duties():
        if duty.name in DUTIES:
            duty.start()
    threading.Event().wait()


def main(count: int, pids: Path) -> None:
    django.setup()
    from django.db import connections
    from django.urls import get_resolver

    from opsportal.stack.process import die_with_parent

    _ = get_resolver().url_patterns  # whoever names a page needs them all
    die = die_with_parent(signal.SIGKILL)
    alive: set[int] = set()
    due = [0.0] * count
    while True:
        now = time.monotonic()
        for _ in [at for at in due if at <= now]:
            connections.close_all()
            pid = os.fork()
            if pid == 0:
                try:
                    die()
                    work()
                finally:
                    os._exit(1)
            alive.add(pid)
        due = [at for at in due if at > now]
        fresh = pids.with_suffix(".new")
        fresh.write_text(" ".join(map(str, alive)))
        fresh.replace(pids)
        gone = 0
        while not gone and not any(at <= time.monotonic() for at in due):
            gone, _ = os.waitpid(-1, os.WNOHANG) if alive else (0, 0)
            time.sleep(0.01)
        if gone:
            alive.discard(gone)
            due.append(time.monotonic() + STARTS_WITHIN_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
