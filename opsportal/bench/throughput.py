"""How many operations a second go through the engine when they do nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db.models import Max, Min

from operations import actions
from operations.models import Operation
from opsportal.bench import noop
from opsportal.bench.portal import wait_for
from opsportal.bench.report import Figure
from opsportal.stack.process import die_with_parent

CONCURRENCY = 2


def measure(count: int) -> tuple[float, float]:
    """Operations a second: requested by one process, and carried out by one worker that finds them all waiting."""
    began = time.monotonic()
    pks = [actions.request(noop.Nothing.name, title=f"Nothing {n}", params={}, by=None).pk for n in range(count)]
    requested = count / (time.monotonic() - began)
    operations = Operation.objects.filter(pk__in=pks)
    worker = _start_worker()
    try:
        wait_for(
            lambda: operations.filter(state=Operation.State.SUCCEEDED).count() == count,
            60 + count / 2,
            f"Not all of {count} empty operations have ended; look at {_log()}.",
            lambda: worker.poll() is not None,
        )
    finally:
        worker.terminate()
        try:
            worker.wait(30)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
    span = operations.aggregate(first=Min("started_at"), last=Max("ended_at"))
    first, last = span["first"], span["last"]
    assert isinstance(first, datetime) and isinstance(last, datetime)
    return requested, count / (last - first).total_seconds()


def _start_worker() -> subprocess.Popen[bytes]:
    """A worker like the portal's, which knows the empty procedure and serves its queue only."""
    argv = [sys.executable, "-m", "celery", "-A", "opsportal", "worker", "-Q", noop.QUEUE, "-I", noop.__name__]
    argv += ["--pool", "prefork", "-c", str(CONCURRENCY), "-n", "bench@%h"]
    argv += ["--without-mingle", "--without-gossip", "--loglevel", "WARNING"]
    with _log().open("wb") as log:
        return subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT, preexec_fn=die_with_parent(signal.SIGTERM))


def _log() -> Path:
    return Path(settings.DATA_DIR) / "bench-worker.log"


def figures(requested: float, carried_out: float) -> list[Figure]:
    """For the report. For information: no goal depends on it."""
    return [
        Figure("Empty operations carried out", "1/s", [carried_out]),
        Figure("  requested by one process", "1/s", [requested]),
    ]
