"""A short selection of the cases of `python -m tests.chaos.deployments`, run by it in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from opsportal.stack.folders import CHECKOUT
from opsportal.stack.process import die_with_parent
from tests.chaos.deployments import cases

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos"), pytest.mark.timeout(600)]
# The full run measures; this one only has to notice what is wrong, also on a busy machine.
SLACK_S = "15"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What came of every case, by its name. All are run at the first need: starting the machine takes its time."""
    file = tmp_path_factory.mktemp("chaos") / "outcomes.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.deployments", "--short", "--json", str(file)],
        cwd=CHECKOUT,
        env={"CHAOS_SLACK_S": SLACK_S, **os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        preexec_fn=die_with_parent(signal.SIGTERM),
    )
    assert file.exists(), done.stdout[-8000:]
    print(done.stdout)
    return {outcome["case"]: outcome for outcome in json.loads(file.read_text())}


@pytest.mark.parametrize("name", [case.name for case in cases.short() if not case.is_control])
def test_one_whole_state_and_nobody_notices(name: str, outcomes: dict[str, dict[str, object]]) -> None:
    assert outcomes[name]["violations"] == []
    assert outcomes[name]["strikes"] == 1


def test_the_harness_can_fail(outcomes: dict[str, dict[str, object]]) -> None:
    found = str(outcomes[cases.CONTROL.name]["violations"])
    assert [word for word in cases.CAUGHT if word not in found] == []


def test_every_step_is_hit() -> None:
    """The table of steps is checked against the code when the harness starts; here, that the cases cover it."""
    names = {case.name for case in cases.every()}
    assert len(names) == len(cases.every())
    for subject, steps in cases.STEPS.items():
        for step in steps:
            assert {f"{subject}: kill worker {point} {step}" for point in ("before", "inside", "after")} <= names
            assert f"{subject}: portal inside {step}" in names
