"""Commands and connections over a real sshd."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
import threading
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from catalog.connectors import SshConnector
from catalog.exceptions import CatalogError
from operations.background import Background
from operations.commands import Command, run, run_checked
from operations.exceptions import CommandFailed
from tests.sshd import Sshd, make_key, running_sshd

pytestmark = pytest.mark.needs("ssh", "sshd", "ssh-keyscan")

HOSTILE = [
    "; rm -rf /",
    "$(touch /tmp/owned)",
    "`id`",
    "-oProxyCommand=touch /tmp/owned",
    "--",
    "a'b\"c\\d",
    "two\nlines",
    "tab\tand  spaces ",
    "*",
    "~root",
    "!!",
    "",
    "é🙂",
    "%h %% ${HOME} $HOME",
    "x" * 100_000,
]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory) -> Sshd:
    with running_sshd(tmp_path_factory.mktemp("ssh") / "d") as server:
        yield server


@pytest.fixture
def own(tmp_path) -> Sshd:
    """For tests that break it."""
    with running_sshd(tmp_path / "d") as server:
        yield server


def sentence(connector: SshConnector, *argv: str) -> str:
    with pytest.raises((CommandFailed, CatalogError)) as caught:
        run_checked(connector.wrap(Command(argv or ("true",), timeout_s=20)))
    return caught.value.message


def wait_for(met, seconds: float = 10) -> None:
    give_up = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def far_processes(mark: str) -> list[psutil.Process]:
    """Processes with the mark as an argument of their own, other than an ssh client."""
    found = []
    for process in psutil.process_iter(["cmdline", "name"]):
        if mark in (process.info["cmdline"] or []) and process.info["name"] == "sleep":
            found.append(process)
    return found


class TestCommands:
    def test_arguments_stay_data(self, sshd):
        program = ("python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *HOSTILE)
        out = bytearray()
        run(sshd.connector().wrap(Command(program, timeout_s=30)), on_stdout=out.extend)
        assert json.loads(out) == HOSTILE
        assert not Path("/tmp/owned").exists()

    def test_exit_codes_and_both_streams(self, sshd):
        result = run(sshd.connector().wrap(Command(("sh", "-c", "echo out; echo err >&2; exit 7"), timeout_s=20)))
        assert (result.code, result.stdout, result.stderr) == (7, b"out\n", "err\n")

    def test_environment_and_folder(self, sshd, tmp_path):
        command = Command(("sh", "-c", 'pwd; echo "$WORD"'), env={"WORD": "a 'b' $c"}, cwd=tmp_path, timeout_s=20)
        assert run_checked(sshd.connector().wrap(command)).stdout.decode() == f"{tmp_path}\na 'b' $c\n"
        nowhere = Command(("true",), cwd=tmp_path / "nowhere", timeout_s=20)
        with pytest.raises(CommandFailed, match="has no folder"):
            run_checked(sshd.connector().wrap(nowhere))

    def test_there_is_no_terminal(self, sshd):
        command = Command(("sh", "-c", "tty || true; test -t 1 || echo plain"), timeout_s=20)
        assert run_checked(sshd.connector().wrap(command)).stdout == b"not a tty\nplain\n"

    def test_streams_pass_byte_by_byte_without_being_kept(self, sshd, tmp_path):
        """200 MB through both directions: nothing is written down, nothing piles up in memory."""
        source = tmp_path / "source"
        piece = os.urandom(1 << 20)
        expected = hashlib.sha256()
        with source.open("wb") as file:
            for _ in range(200):
                file.write(piece)
                expected.update(piece)
        digest = hashlib.sha256()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with source.open("rb") as file:
            command = sshd.connector().wrap(Command(("cat",), timeout_s=120))
            result = run(command, stdin=file, on_stdout=digest.update)
        assert result.code == 0
        assert digest.hexdigest() == expected.hexdigest()
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 30
        assert [path.name for path in tmp_path.iterdir()] == ["source"]

    def test_a_jump_host(self, sshd, own):
        """The second machine is reached from the first; each has its own key and its own pinned host key."""
        behind = own.connector(inner=sshd.connector())
        assert run_checked(behind.wrap(Command(("echo", "there"), timeout_s=30))).stdout == b"there\n"
        wrong = own.connector(inner=sshd.connector(), host_keys=(sshd.host_key,))
        assert "another host key" in sentence(wrong)


class TestRefusals:
    def test_another_host_key(self, own):
        connector = own.connector()
        run_checked(connector.wrap(Command(("true",), timeout_s=20)))
        own.change_host_key()
        assert "shows another host key than the pinned one. Nothing was sent" in sentence(connector)

    def test_no_host_key(self, sshd):
        assert "No host key is pinned" in sentence(sshd.connector(host_keys=()))

    def test_another_machine(self, sshd, tmp_path):
        mark = tmp_path / "ran"
        connector = sshd.connector(expected_hostname="db1.example.org")
        said = sentence(connector, "touch", str(mark))
        assert f"calls itself {socket.gethostname()}, expected is db1.example.org. Nothing was started" in said
        assert not mark.exists()
        run_checked(sshd.connector(expected_hostname=os.uname().nodename).wrap(Command(("true",), timeout_s=20)))

    def test_another_key(self, sshd, tmp_path):
        make_key(tmp_path / "other")
        connector = sshd.connector(private_key=(tmp_path / "other").read_text())
        assert f"does not let “{sshd.user}” in with this key" in sentence(connector)

    def test_what_is_no_key(self, sshd):
        assert "cannot be used" in sentence(sshd.connector(private_key="not a key"))

    def test_nobody_there(self, own):
        own.stop()
        assert "Nothing answers on the SSH port" in sentence(own.connector())

    def test_an_unknown_name(self, sshd):
        assert "is not known here" in sentence(sshd.connector(address="nowhere.invalid"))

    def test_secret_files_are_not_handed_over(self, sshd):
        with pytest.raises(CatalogError, match="cannot be handed over"):
            sshd.connector().wrap(Command(("psql",), secret_files={"PGPASSFILE": "x"}))

    def test_a_zero_byte(self, sshd):
        with pytest.raises(CatalogError, match="zero byte"):
            sshd.connector().wrap(Command(("echo", "a\0b")))

    def test_ten_megabytes_of_argument(self, sshd):
        assert "Argument list too long" in sentence(sshd.connector(), "echo", "x" * 10_000_000)

    def test_keys_never_stand_on_a_command_line_or_on_disk(self, sshd, tmp_path):
        secret = sshd.key.splitlines()[2]
        command = sshd.connector().wrap(Command(("sleep", "2"), timeout_s=20))
        assert secret not in command.shown() and secret not in " ".join(command.argv)
        thread = threading.Thread(target=run, args=(command,))
        thread.start()
        wait_for(lambda: far_processes("2"))
        lines = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                lines.append(path.read_bytes())
            except OSError:
                continue
        thread.join()
        assert not [line for line in lines if secret.encode() in line]


class TestEnds:
    """Nothing runs on at the far end."""

    def test_when_the_client_is_killed(self, sshd):
        mark = "7771"
        with Background(sshd.connector().wrap(Command(("sleep", mark), timeout_s=60))):
            wait_for(lambda: far_processes(mark))
            for process in psutil.process_iter(["name", "cmdline"]):
                if process.info["name"] == "ssh" and any(mark in word for word in process.info["cmdline"] or []):
                    process.kill()
            wait_for(lambda: not far_processes(mark))

    def test_when_the_connection_drops(self, own):
        mark = "7772"
        with Background(own.connector().wrap(Command(("sleep", mark), timeout_s=60))) as command:
            wait_for(lambda: far_processes(mark))
            assert own.drop_sessions()
            wait_for(lambda: not far_processes(mark))
            wait_for(lambda: command.result is not None)
        assert command.command.explain
        assert "broke off" in command.command.explain(command.result)

    def test_when_the_time_is_over(self, sshd):
        mark = "7773"
        result = run(sshd.connector().wrap(Command(("sleep", mark), timeout_s=1)))
        assert result.timed_out
        wait_for(lambda: not far_processes(mark))

    def test_when_it_is_cancelled(self, sshd):
        mark = "7774"
        result = run(sshd.connector().wrap(Command(("sleep", mark), timeout_s=60)), should_stop=lambda: "enough")
        assert result.cancelled
        wait_for(lambda: not far_processes(mark))


class TestForward:
    def test_a_unix_socket_and_a_port(self, sshd, target_server, tmp_path):
        with sshd.connector().forward(target_server.host, 5432, tmp_path) as endpoint:
            assert (tmp_path / ".s.PGSQL.5432").stat().st_mode & 0o077 == 0
            values = {"user": target_server.user, "password": target_server.password, "dbname": "postgres"}
            with psycopg.connect(host=endpoint.host, port=endpoint.port, **values) as session:
                assert session.execute("SELECT 1").fetchone() == (1,)
            assert endpoint.is_open()
        assert not endpoint.is_open()
        assert list(tmp_path.iterdir()) == []

    def test_another_machine_is_refused_before_anything_is_opened(self, sshd, tmp_path):
        connector = sshd.connector(expected_hostname="db1.example.org")
        with pytest.raises(CommandFailed, match="Nothing was started"), connector.forward("/x", 5432, tmp_path):
            raise AssertionError
        assert list(tmp_path.iterdir()) == []

    def test_a_changed_key_is_a_sentence(self, own, tmp_path):
        connector = own.connector()
        own.change_host_key()
        with pytest.raises(CatalogError, match="another host key"), connector.forward("/x", 5432, tmp_path):
            raise AssertionError

    def test_a_dropped_tunnel_is_noticed(self, own, tmp_path):
        with own.connector().forward("127.0.0.1", 1, tmp_path) as endpoint:
            assert endpoint.is_open()
            own.drop_sessions()
            wait_for(lambda: not endpoint.is_open())
