"""Commands and connections into real containers, directly, of a Compose project, and on a machine behind SSH."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time

import pytest

from catalog.connectors import ComposeConnector, ContainerConnector
from catalog.exceptions import CatalogError
from operations.background import Background
from operations.commands import Command, run, run_checked
from operations.exceptions import CommandFailed
from tests.catalog.test_connectors_ssh import HOSTILE
from tests.docker_engine import IMAGE, running_engine
from tests.sshd import running_sshd

pytestmark = [
    pytest.mark.needs("dockerd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a Docker engine needs root"),
    pytest.mark.xdist_group("docker"),
]

COMPOSE = f"""
version: "2.4"
services:
  app:
    image: {IMAGE}
    hostname: app
    network_mode: none
    command: sleep 3600
    volumes: ["/usr:/usr:ro", "/etc:/etc:ro"]
"""


@pytest.fixture(scope="module")
def engine():
    with running_engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def box(engine):
    name = engine.container("box")
    return ContainerConnector(container=name, socket=engine.socket)


def sentence(connector, *argv: str) -> str:
    with pytest.raises((CommandFailed, CatalogError)) as caught:
        run_checked(connector.wrap(Command(argv or ("true",), timeout_s=20)))
    return caught.value.message


def test_arguments_stay_data(box):
    program = ("python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *HOSTILE)
    out = bytearray()
    run(box.wrap(Command(program, timeout_s=30)), on_stdout=out.extend)
    assert json.loads(out) == HOSTILE


def test_it_runs_in_there_without_a_terminal(box):
    result = run_checked(box.wrap(Command(("sh", "-c", "uname -n; tty || true"), timeout_s=20)))
    assert result.stdout == b"box\nnot a tty\n"


def test_exit_codes_streams_and_environment(box):
    command = Command(("sh", "-c", 'echo "$WORD"; echo err >&2; exit 7'), env={"WORD": "a 'b'"}, timeout_s=20)
    result = run(box.wrap(command))
    assert (result.code, result.stdout, result.stderr) == (7, b"a 'b'\n", "err\n")


def test_streams_pass_byte_by_byte(box, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(20 << 20))
    digest = hashlib.sha256()
    with source.open("rb") as file:
        assert run(box.wrap(Command(("cat",), timeout_s=60)), stdin=file, on_stdout=digest.update).code == 0
    assert digest.hexdigest() == hashlib.sha256(source.read_bytes()).hexdigest()


def test_another_container_is_refused(engine):
    other = ContainerConnector(container="box", socket=engine.socket, expected_hostname="erp-postgres")
    said = sentence(other, "touch", "/tmp/ran")
    assert "calls itself box, expected is erp-postgres. Nothing was started" in said


@pytest.mark.parametrize("name", ["nowhere", "--privileged", "a;b"])
def test_no_such_container(engine, box, name):
    assert sentence(ContainerConnector(container=name, socket=engine.socket))


def test_a_stopped_container(engine):
    engine.container("stopped", "true")
    give_up = time.monotonic() + 20
    while "Exited" not in engine.docker("ps", "--all", "--filter", "name=stopped", "--format", "{{.Status}}"):
        assert time.monotonic() < give_up
        time.sleep(0.1)
    assert "is not running. Start it" in sentence(ContainerConnector(container="stopped", socket=engine.socket))


def test_no_engine(tmp_path):
    said = sentence(ContainerConnector(container="box", socket=str(tmp_path / "no.sock")))
    assert "does not answer. Start it" in said


def test_a_command_ends_by_its_own_limit_when_the_client_is_gone(engine, box):
    """An engine does not tell a command that its client has gone; the limit goes along with it."""
    command = box.wrap(Command(("sleep", "8881"), timeout_s=1))
    with Background(command) as running:
        give_up = time.monotonic() + 40
        while "sleep 8881" not in engine.docker("top", "box"):
            assert time.monotonic() < give_up
            time.sleep(0.1)
        subprocess.run(["pkill", "-KILL", "-f", "exec -i box.*sleep 8881"], check=False)
        while "sleep 8881" in engine.docker("top", "box"):
            assert time.monotonic() < give_up
            time.sleep(0.5)
        assert running.command is command


@pytest.mark.needs("docker-compose")
def test_a_compose_service(engine, tmp_path, monkeypatch):
    """The file comes from the catalog, wherever the command is started (X-36)."""
    file = tmp_path / "compose.yml"
    file.write_text(COMPOSE)
    monkeypatch.chdir("/")
    connector = ComposeConnector(service="app", file=str(file), project="erp", socket=engine.socket)
    assert sentence(connector)  # it is not up yet
    up = connector._vector()[:-3]
    subprocess.run([*up, "up", "-d"], check=True, capture_output=True)
    try:
        assert run_checked(connector.wrap(Command(("uname", "-n"), timeout_s=30))).stdout == b"app\n"
        out = bytearray()
        program = ("python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *HOSTILE[:-1])
        run(connector.wrap(Command(program, timeout_s=30)), on_stdout=out.extend)
        assert json.loads(out) == HOSTILE[:-1]
    finally:
        subprocess.run([*up, "down"], check=True, capture_output=True)


@pytest.mark.needs("sshd")
def test_a_container_on_a_machine_behind_ssh(engine, box, tmp_path):
    with running_sshd(tmp_path / "d") as sshd:
        far = ContainerConnector(container="box", socket=engine.socket, inner=sshd.connector())
        program = ("python3", "-c", "import sys, json, os; print(json.dumps([os.uname().nodename, *sys.argv[1:]]))")
        out = bytearray()
        run(far.wrap(Command((*program, *HOSTILE[:-1]), timeout_s=30)), on_stdout=out.extend)
        assert json.loads(out) == ["box", *HOSTILE[:-1]]
        sshd.change_host_key()
        assert "another host key" not in sentence(ContainerConnector(container="nowhere", socket=engine.socket))
