"""The team's own commands get the application's secrets in their environment, and nowhere else."""

from __future__ import annotations

import json
import sys

import pytest

from deployments.models import Deployment, LiveState
from deployments.team_commands import filled
from operations.models import LogLine, Operation, OperationStep
from tests.deployments.conftest import Stage

SECRET = "hunter2 'quotes' \" \\ $HOME ä"
# What it got, what it and its parent were started with, and that nothing of the way in is left to be read.
TELL = """
import json, os, sys
argv = [open(f"/proc/{pid}/cmdline").read() for pid in ("self", os.getppid())]
got = {"env": dict(os.environ), "argv": argv, "stdin": sys.stdin.read(), "words": sys.argv[1:]}
print("signs in with", os.environ.get("DB_PASSWORD"))
json.dump(got, open(sys.argv[1], "w"))
"""


@pytest.mark.parametrize("step", ["migrate", "smoke"])
def test_secrets_come_by_the_environment_and_leave_no_trace(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setenv("OPS_SECRET_ERP", SECRET)
    told = stage.folder / "told.json"
    LiveState.objects.create(environment=stage.production, settings={"LOG_LEVEL": "debug"})
    command = [sys.executable, "-I", "-c", TELL, str(told), "{version}", "$(id)"]
    stage.change(secrets={"DB_PASSWORD": "env:OPS_SECRET_ERP"}, **{step: command})
    assert stage.deploy("v1.0.0").state == Deployment.State.LIVE
    got = json.loads(told.read_text())
    assert (got["env"]["DB_PASSWORD"], got["env"]["LOG_LEVEL"]) == (SECRET, "debug")
    assert "OPS_SECRET_ERP" not in got["env"]
    assert (got["words"], got["stdin"]) == ([str(told), "v1.0.0", "$(id)"], "")
    tables = (Operation, OperationStep, LogLine, Deployment)
    kept = [json.dumps(got["argv"], ensure_ascii=False), *(str(list(table.objects.values())) for table in tables)]
    assert all("hunter2" not in text for text in kept)
    assert LogLine.objects.filter(text__startswith="signs in with ").exists()


def test_a_command_that_is_not_there_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_SECRET_ERP", SECRET)
    stage.change(secrets={"DB_PASSWORD": "env:OPS_SECRET_ERP"}, migrate=["/nonexistent/migrate"])
    failed = stage.deploy("v1.0.0")
    assert failed.state == Deployment.State.FAILED
    assert "/nonexistent/migrate could not be started: No such file or directory." in failed.message


def test_words_are_filled_in_anywhere_and_once() -> None:
    values = {"{version}": "v1", "{address}": "127.0.0.1:80", "{source}": "/srv/{version}"}
    words = ["http://{address}/", "{source}", "{other}", "{version}-{version}"]
    assert [filled(word, values) for word in words] == ["http://127.0.0.1:80/", "/srv/{version}", "{other}", "v1-v1"]
