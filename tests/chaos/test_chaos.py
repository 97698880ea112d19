"""A short selection of the cases of `python -m tests.chaos`, run by it in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from opsportal.stack.folders import CHECKOUT
from opsportal.stack.process import die_with_parent
from tests.chaos import cases

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What came of every case, by its name. All are run at the first need: starting the machine takes its time."""
    file = tmp_path_factory.mktemp("chaos") / "outcomes.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short", "--json", str(file)],
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
    return {outcome["name"]: outcome for outcome in json.loads(file.read_text())}


@pytest.mark.parametrize("name", [case.name for case in cases.short() if case not in cases.CONTROLS])
def test_nothing_is_lost_doubled_left_behind_or_mixed(name: str, outcomes: dict[str, dict[str, object]]) -> None:
    assert outcomes[name]["violations"] == []


@pytest.mark.parametrize(
    ("name", "caught"),
    [(case.name, caught) for case, caught in zip(cases.CONTROLS, ("twice", "outlives", "twice"), strict=True)],
)
def test_the_harness_can_fail(name: str, caught: str, outcomes: dict[str, dict[str, object]]) -> None:
    assert any(caught in str(text) for text in outcomes[name]["violations"])  # type: ignore[union-attr]


def test_every_step_of_every_procedure_is_hit() -> None:
    """The table of steps is checked against the code when the harness starts; here, that the cases cover it."""
    names = {case.name for case in cases.every()}
    for subject, steps in cases.STEPS.items():
        for step in steps:
            assert {f"{subject}: kill worker {point} {step}" for point in ("before", "inside", "after")} <= names
            assert {f"{subject}: {what} inside {step}" for what in ("target", "portal", "freeze worker")} <= names
