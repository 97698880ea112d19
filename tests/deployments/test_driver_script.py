"""The script driver through a whole life, with a real `deploy.sh` that runs a small web server, blue and green."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from catalog.connectors import LocalConnector
from deployments.drivers.base import Artefact, Surroundings, Token
from deployments.drivers.script import ScriptDriver, ScriptForm
from deployments.exceptions import DeploymentError, Fenced, NotReady
from operations.commands import run_checked
from tests.catalog.test_connectors_ssh import HOSTILE
from tests.sshd import running_sshd

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if "slow" in sys.argv[2] else 200)
        self.end_headers()
        self.wfile.write(sys.argv[2].encode())
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

SCRIPT = r"""#!/bin/sh
# Blue-green by a port file, as teams write it.
cd "$(dirname "$0")" || exit 1
printf '%s %s %s %s\n' "$1" "$DEPLOYMENT_MODE" "$OPS_TOKEN" "$OPS_KEEP" >> calls
live=$(cat live 2>/dev/null) port=$(cat active_port.txt 2>/dev/null)
go() {
    new=BLUE
    [ "$port" = "$new" ] && new=GREEN
    [ -f "pid.$new" ] && kill "$(cat pid.$new)" 2>/dev/null
    python3 server.py "$new" "$1" </dev/null >server.log 2>&1 &
    echo $! > "pid.$new"
    printf '%s' "$live" > previous; printf '%s' "$1" > live; echo "$new" > active_port.txt
}
case "$1" in
status)
    [ -f broken ] && exit 4
    echo "mode: $DEPLOYMENT_MODE"; [ -z "$live" ] || echo "live: $live"; echo "port $port";;
deploy)
    echo "deploying $RELEASE_VERSION, password $DB_PASSWORD"
    case "$RELEASE_VERSION" in *bad*) echo "no such build: $RELEASE_VERSION" >&2; exit 3;; esac
    [ -f wait ] && { echo > started; sleep "$(cat wait)"; }
    [ -f liar ] || go "$RELEASE_VERSION";;
rollback) echo "going back"; go "$(cat previous)";;
cleanup) echo "removed 2 old builds";;
*) exit 64;;
esac
"""


@dataclass
class Place:
    folder: Path
    ports: tuple[int, int]
    logged: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        values = {
            "script": str(self.folder / "deploy.sh"),
            "folder": str(self.folder),
            "mode": "blue-green",
            "version_variable": "RELEASE_VERSION",
            "version_from": r"^live: (.*)$",
            "active_port_file": str(self.folder / "active_port.txt"),
            "ready_url": "http://localhost:{port}/health/ready",
        }
        form = ScriptForm(values)
        assert form.is_valid(), form.errors
        return form.cleaned_data

    def driver(self, operation: int = 1, attempt: int = 1, **more: Any) -> ScriptDriver:
        settings = {**self.settings, **more.pop("settings", {})}
        given = {"secrets": {"DB_PASSWORD": "hunter2-hunter2"}, "timeout_s": 20, **more}
        token = Token(operation, attempt)
        around = Surroundings(LocalConnector(), run_checked, token, log=self.logged.append, **given)
        return ScriptDriver(settings, around)

    def deploy(self, version: str, operation: int = 1, within_s: float = 10, checked: bool = False) -> ScriptDriver:
        driver, artefact = self.driver(operation), Artefact(version, "git", "abc")
        bad = [check for check in driver.preflight(artefact) if not check.good] if checked else []
        assert not bad, bad
        driver.prepare(artefact)
        driver.wait_ready(artefact, within_s)
        driver.switch(artefact)
        driver.drain(artefact, 1)
        return driver

    @property
    def calls(self) -> list[str]:
        return [line.split()[0] for line in (self.folder / "calls").read_text().splitlines() if "status" not in line]


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("PATH", f"/usr/bin:{os.environ['PATH']}")  # a python3 that is no wrapper starts faster
    blue, green = free_ports()
    (tmp_path / "server.py").write_text(SERVER)
    script = tmp_path / "deploy.sh"
    script.write_text(SCRIPT.replace("BLUE", str(blue)).replace("GREEN", str(green)))
    script.chmod(0o755)
    yield Place(tmp_path, (blue, green))
    for file in tmp_path.glob("pid.*"):
        subprocess.run(["kill", file.read_text().strip()], check=False, capture_output=True)


def test_a_whole_life(place: Place) -> None:
    first = place.driver().look()
    assert first.live == "" and "names no live version" in first.sentence
    driver = place.deploy("v1", checked=True)
    (live,) = driver.look().instances
    assert (live.version, live.running, live.ready, live.live) == ("v1", True, True, True)
    assert live.address == f"localhost:{place.ports[0]}" and live.answer_ms is not None
    assert any("password ***" in line or "deploying v1" in line for line in driver.logs("v1"))
    driver = place.deploy("v2", operation=2)
    reality = driver.look()
    assert (reality.live, list(reality.revisions)) == ("v2", ["v1"])
    assert reality.instances[0].address == f"localhost:{place.ports[1]}"
    driver.revert("v1")
    assert driver.look().live == "v1" and not driver.look().revisions
    place.driver(3).restart()
    assert driver.look().live == "v1"
    assert place.driver(4).cleanup(["v1", "v0"]) == ["removed 2 old builds"]
    assert place.driver(4).leftovers([])
    assert place.calls == ["deploy", "deploy", "rollback", "deploy", "cleanup"]
    assert "blue-green 4:1 v1 v0" in (place.folder / "calls").read_text()
    with pytest.raises(DeploymentError, match="no word for stopping"):
        driver.stop()
    with pytest.raises(DeploymentError, match="fixed number"):
        driver.scale(3)


def test_the_same_operation_does_not_deploy_twice(place: Place) -> None:
    place.deploy("v1")
    place.driver(1, 2).switch(Artefact("v1", "git", ""))
    assert place.calls == ["deploy"]
    place.driver(2).switch(Artefact("v1", "git", ""))
    assert place.calls == ["deploy", "deploy"]


def test_a_script_that_fails_says_why_and_what_was_live_stays(place: Place) -> None:
    place.deploy("v1")
    with pytest.raises(DeploymentError) as caught:
        place.driver(2).switch(Artefact("v2-bad", "git", ""))
    assert "exit code 3" in caught.value.message and "no such build: v2-bad" in caught.value.message
    driver = place.driver(2)
    assert driver.look().live == "v1"
    driver.revert("v1")
    assert place.calls == ["deploy", "deploy"]


def test_a_version_that_never_becomes_ready(place: Place) -> None:
    place.deploy("v1")
    driver, artefact = place.driver(2), Artefact("v2-slow", "git", "")
    driver.wait_ready(artefact, 1)
    with pytest.raises(NotReady, match=r"did not become ready within 1 s\. Its health check answered with 503"):
        driver.switch(artefact)
    reality = driver.look()
    assert reality.live == "v2-slow" and not reality.instances[0].ready
    driver.revert("v1")
    assert driver.look().instances[0].ready and place.calls[-1] == "rollback"


def test_a_script_that_ends_well_and_did_nothing(place: Place) -> None:
    place.deploy("v1")
    (place.folder / "liar").touch()
    driver = place.driver(2)
    driver.wait_ready(Artefact("v2", "git", ""), 0.5)
    with pytest.raises(NotReady, match="names v1 and not v2"):
        driver.switch(Artefact("v2", "git", ""))


def test_after_a_lost_status_it_says_where_to_go(place: Place) -> None:
    """`rollback` would go somewhere; `deploy` with a version goes there."""
    place.deploy("v1")
    place.deploy("v2", operation=2)
    (place.folder / "live").write_text("")
    place.driver(2).revert("v1")
    assert place.calls[-1] == "deploy" and place.driver().look().live == "v1"


@pytest.mark.parametrize("version", [*HOSTILE[:-1:2], "two\nlines", "x" * 5000])
def test_hostile_versions_stay_data(place: Place, version: str) -> None:
    driver = place.driver()
    driver.wait_ready(Artefact(version, "git", ""), 0.2)
    try:
        driver.switch(Artefact(version, "git", ""))
    except NotReady:
        pass  # a status prints a line, and this may not be one any more
    assert (place.folder / "live").read_bytes() == os.fsencode(version)
    assert {path.name for path in place.folder.iterdir()} <= {
        *("server.py", "deploy.sh", "calls", "live", "previous", "active_port.txt", "server.log"),
        *(".ops-deploy-fence", ".ops-deploy-fence.json", f"pid.{place.ports[0]}", f"pid.{place.ports[1]}"),
    }


def test_a_later_token_fences_an_earlier_one(place: Place) -> None:
    place.deploy("v1", operation=5)
    for operation, attempt in ((4, 9), (5, 0)):
        with pytest.raises(Fenced, match="Attempt 1 of operation 5"):
            place.driver(operation, attempt).switch(Artefact("v2", "git", ""))
    assert place.calls == ["deploy"] and place.driver(5, 2).look().live == "v1"


def test_two_attempts_never_run_the_script_together(place: Place) -> None:
    """The later one waits for the lock; the script runs once after the other."""
    (place.folder / "wait").write_text("1")
    first = place.driver(1, 1)
    first.wait_ready(Artefact("v1", "git", ""), 0.1)

    def deploy_slowly() -> None:
        with contextlib.suppress(NotReady):  # the other may have been there before it looked
            first.switch(Artefact("v1", "git", ""))

    slow = threading.Thread(target=deploy_slowly)
    slow.start()
    while not (place.folder / "started").exists():
        time.sleep(0.02)
    (place.folder / "wait").unlink()
    began = time.monotonic()
    place.driver(1, 2).switch(Artefact("v2", "git", ""))
    assert time.monotonic() - began > 0.5
    slow.join()
    assert place.calls == ["deploy", "deploy"]


def test_a_script_that_hangs_is_ended_with_what_it_started(place: Place) -> None:
    (place.folder / "wait").write_text("86.5")
    driver = place.driver(timeout_s=1)
    with pytest.raises(DeploymentError, match=r"took too long and was ended\..*deploying v1"):
        driver.switch(Artefact("v1", "git", ""))
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 86.5" not in shown


def test_no_secret_in_arguments_logs_or_sentences(place: Place) -> None:
    commands: list[Any] = []

    def run(command: Any, **options: Any) -> Any:
        commands.append(command)
        return run_checked(command, **options)

    around = Surroundings(
        LocalConnector(), run, Token(1, 1), place.logged.append, secrets={"DB_PASSWORD": "hunter2-hunter2"}
    )
    driver = ScriptDriver(place.settings, around)
    with pytest.raises(DeploymentError) as caught:
        driver.switch(Artefact("bad", "git", ""))
    assert commands and all("hunter2" not in f"{each.argv} {each.env} {each.shown()}" for each in commands)
    assert "hunter2" not in caught.value.message and "***" in "\n".join(driver.logs("bad"))
    assert "hunter2" not in "\n".join(place.logged)
    assert "hunter2" not in (place.folder / ".ops-deploy-fence.json").read_text()


@pytest.mark.needs("ssh", "sshd")
def test_on_another_machine(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The secrets travel by standard input; what the script has started stays when the connection ends."""
    commands: list[Any] = []

    def run(command: Any, **options: Any) -> Any:
        commands.append(command)
        return run_checked(command, **options)

    with running_sshd(tmp_path_factory.mktemp("far") / "d") as sshd:
        secrets = {"DB_PASSWORD": "hunter2-hunter2"}
        around = Surroundings(sshd.connector(), run, Token(1, 1), place.logged.append, secrets=secrets)
        driver, artefact = ScriptDriver(place.settings, around), Artefact("v1; id", "git", "")
        assert all(check.good for check in driver.preflight(artefact))
        driver.switch(artefact)
        reality = driver.look()
    assert reality.live == "v1; id" and reality.instances[0].ready
    assert place.driver().look().instances[0].ready
    assert all("hunter2" not in f"{each.argv} {each.env} {each.shown()}" for each in commands)


def test_preflight_names_what_is_missing(place: Place) -> None:
    script = place.folder / "deploy.sh"
    (place.folder / "broken").touch()
    bad = [check for check in place.driver().preflight(Artefact("v1", "git", "")) if not check.good]
    assert [check.name for check in bad] == ["Status"] and "exit code 4" in bad[0].sentence
    script.unlink()
    bad = [check for check in place.driver().preflight(Artefact("v1", "git", "")) if not check.good]
    assert [check.name for check in bad] == ["Script"] and "chmod" in bad[0].fix


def test_a_damaged_fence_is_said(place: Place) -> None:
    (place.folder / ".ops-deploy-fence.json").write_text("{")
    with pytest.raises(DeploymentError, match="is damaged"):
        place.driver().switch(Artefact("v1", "git", ""))
    assert not (place.folder / "calls").exists() or not place.calls


def test_the_dry_run(place: Place) -> None:
    shown = place.driver().preview(Artefact("v1; rm", "git", ""))
    assert shown["switch"][0].startswith("DEPLOYMENT_MODE=blue-green RELEASE_VERSION='v1; rm' ")


@pytest.mark.parametrize(
    ("field_name", "value"),
    [
        ("script", "deploy.sh"),
        ("script", "/opt/../etc/x"),
        ("version_variable", "A B"),
        ("version_from", "live"),
        ("version_from", "("),
        ("ready_url", "file:///etc/passwd"),
        ("mode", "canary"),
        ("active_port_file", ""),
    ],
)
def test_the_form_refuses(place: Place, field_name: str, value: str) -> None:
    form = ScriptForm({**place.settings, field_name: value})
    assert not form.is_valid() and field_name in form.errors
    assert json.dumps(form.errors)
