"""A short run of `python -m tests.chaos.escalation`: some hundreds of steps, with everything that strikes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from opsportal.stack.folders import CHECKOUT
from opsportal.stack.process import die_with_parent

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    file = tmp_path_factory.mktemp("chaos") / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.escalation", "--steps", "480", "--rate", "40", "--json", str(file)],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        preexec_fn=die_with_parent(signal.SIGTERM),
    )
    assert file.exists(), done.stdout[-8000:]
    print(done.stdout)
    found: dict[str, float] = json.loads(file.read_text())
    return found


def test_no_step_and_no_message_is_lost_or_doubled(figures: dict[str, float]) -> None:
    wrong = (
        "steps lost",
        "messages lost",
        "outbox rows doubled",
        "news of steps lost",
        "timeline entries lost or doubled",
        "timelines broken",
        "faults without a message",
    )
    assert {what: figures[what] for what in wrong} == dict.fromkeys(wrong, 0)
    assert figures["messages not sent"] == 0


def test_everything_has_struck(figures: dict[str, float]) -> None:
    assert figures["workers killed"] >= 3
    assert figures["Redis flushed"] >= 1
    assert figures["PostgreSQL crashed"] == 1
    assert figures["steps during and after outages"] > 0


def test_steps_come_in_time_and_faults_reach_somebody(figures: dict[str, float]) -> None:
    """The goals of the full run, with patience for a busy machine: it measures, this only notices what is wrong."""
    slack = float(os.environ.get("CHAOS_SLACK_S", "15"))
    assert figures["lateness outside outages p99, s"] <= 2 + slack
    assert figures["lateness after outages p99, s"] <= 10 + slack
    assert figures["fault to message received p99, s"] <= 15 + slack
