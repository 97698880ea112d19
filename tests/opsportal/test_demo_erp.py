"""The ERP of the demo as it runs: its releases as processes, on a database of its own, and behind the proxy."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
from django.test import override_settings
from psycopg.conninfo import make_conninfo

from deployments.artefacts import checksum
from opsportal.demo import erp, releases
from opsportal.demo.server import Database, DemoServer
from opsportal.stack.erp import PLACES, Ports, proxy_configuration
from opsportal.stack.process import die_with_parent
from tests.opsportal.stack_tools import free_port, wait_until

pytestmark = pytest.mark.xdist_group("demo-erp")  # the name of its database is fixed

DATABASE = Database("erp_application", "erp_application_owner")
PASSWORD = "only-for-this-test"


@dataclass
class Ground:
    """Releases that were built, and a database with some days of trade."""

    folder: Path
    server: DemoServer
    secret: Path

    @property
    def database(self) -> dict[str, str]:
        where = {"host": self.server.host, "port": self.server.port, "user": DATABASE.owner, "dbname": DATABASE.name}
        return {"ERP_DATABASE": make_conninfo(**where), "ERP_DATABASE_PASSWORD": self.secret.read_text()}

    def source(self, version: str) -> Path:
        return self.folder / "demo" / "releases" / version

    def migrate(self, version: str) -> subprocess.CompletedProcess[str]:
        script = releases.SOURCE / "run_migration.py"
        argv = [sys.executable, "-I", "-B", script, self.source(version), "--password-file", self.secret]
        return subprocess.run(argv, env=self.database, capture_output=True, text=True, timeout=30)

    def count(self, table: str) -> int:
        with self.server.session(DATABASE.name) as session:
            return session.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


@pytest.fixture(scope="module")
def ground(tmp_path_factory, target_server) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("with a space")
    server = DemoServer(target_server.host, target_server.user, target_server.password)
    secret = folder / "password"
    server.make_role(DATABASE.owner, secret)
    server.make_database(DATABASE)
    now = datetime.now(UTC)
    erp.load(server, DATABASE, since=now - timedelta(days=6), until=now)
    with override_settings(DATA_DIR=folder):
        releases.build()
    yield Ground(folder, server, secret)
    with server.session() as session:
        session.execute(f"DROP DATABASE IF EXISTS {DATABASE.name} WITH (FORCE)")
        session.execute(f"DROP ROLE IF EXISTS {DATABASE.owner}")


@dataclass
class Person:
    """Somebody with a browser."""

    port: int
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: dict[str, object] | None = None, *, form: bool = False):
        """Status and text of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        data = None if body is None else urlencode(body) if form else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": kind, "Cookie": self.cookie})
        answer = connection.getresponse()
        text, self.headers = answer.read().decode(), {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
        return answer.status, text

    def sign_in(self, password: str = PASSWORD) -> int:
        status, _ = self.ask("POST", "/sign-in", {"name": "test", "password": password}, form=True)
        self.cookie = self.headers.get("set-cookie", "").partition(";")[0]
        return status


@contextmanager
def running(ground: Ground, version: str, *, slot: str = "blue", options: tuple[str, ...] = (), **env: str):
    """A release in a process: (somebody who uses it, the process)."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-E", "-s", "-B", "-m", releases.PROGRAM, "--port", str(port), *options],
        cwd=ground.source(version),
        env={**ground.database, "ERP_TEST_PASSWORD": PASSWORD, "ERP_COOKIE_KEY": "k", "OPS_SLOT": slot, **env},
        preexec_fn=die_with_parent(signal.SIGKILL),
    )
    person = Person(port)
    try:
        wait_until(lambda: process.poll() is not None or _answers(person), 20)
        yield person, process
    finally:
        process.kill()
        process.wait()


def _answers(person: Person) -> bool:
    try:
        return person.ask("GET", "/health/live")[0] == 200
    except OSError:
        return False


@pytest.fixture
def good(ground) -> Iterator[Person]:
    with running(ground, "v1.4.0") as (person, _):
        yield person


# -- releases ----------------------------------------------------------------------------------------------------------


def test_a_release_is_the_same_each_time_it_is_built(ground, tmp_path):
    with override_settings(DATA_DIR=tmp_path):
        releases.build()
        again = {name: version.artefact.checksum for name, version in releases.VERSIONS.items()}
    assert again == {name: checksum(ground.source(name)) for name in releases.VERSIONS}
    assert len(set(again.values())) == len(again)


# -- pages -------------------------------------------------------------------------------------------------------------


def test_pages_say_which_version_answers_from_which_slot(good):
    assert good.ask("GET", "/")[0] == 303
    status, text = good.ask("GET", "/orders")
    assert (status, text.count('href="/orders/')) == (200, 26)  # 25 orders, and “New order”
    assert 'class="blue"' in text and 'id="version">v1.4.0<' in text
    number = re.search(r'href="/orders/(\d+)"', text)[1]
    status, text = good.ask("GET", f"/orders/{number}")
    assert status == 200 and "Total" in text and "Other orders" not in text
    assert json.loads(good.ask("GET", "/version")[1]) == {"version": "v1.4.0", "slot": "blue"}
    assert good.headers["x-erp-version"] == "v1.4.0"
    for path in ("/orders/999999999", "/orders/x", "/nothing", "/api/nothing"):
        assert good.ask("GET", path)[0] == 404


def test_who_takes_orders_signs_in(ground, good):
    before = ground.count("orders")
    order = {"customer_id": 1, "product_id": 2, "quantity": 3}
    assert good.ask("POST", "/orders", order, form=True)[0] == 403
    assert good.ask("GET", "/orders/new")[0] == 303
    assert good.sign_in("wrong") == 403
    for forged in ("erp_session=test:9999999999:0", "erp_session=", "erp_session=a:b:c"):
        good.cookie = forged
        assert good.ask("POST", "/orders", order, form=True)[0] == 403
    assert ground.count("orders") == before
    assert good.sign_in() == 303
    assert "<form" in good.ask("GET", "/orders/new")[1]
    assert good.ask("POST", "/orders", order, form=True)[0] == 303
    place = good.headers["location"]
    assert good.ask("GET", place)[0] == 200
    assert good.ask("DELETE", f"/api{place}")[0] == 200
    assert ground.count("orders") == before


@pytest.mark.parametrize(
    "order",
    [{}, {"customer_id": "x"}, {"customer_id": 1, "product_id": 1, "quantity": 0}, {"customer_id": 99_999}],
)
def test_an_order_that_makes_no_sense_changes_nothing(ground, good, order):
    good.sign_in()
    before = ground.count("orders")
    status, text = good.ask("POST", "/api/orders", {"customer_id": 1, "product_id": 99_999, "quantity": 1} | order)
    assert status == 400 and json.loads(text)["error"].endswith(".")
    assert ground.count("orders") == before


def test_a_connection_that_was_ended_hurts_nobody(ground, good):
    """As a restore does when it swaps the databases."""
    assert good.ask("GET", "/orders")[0] == 200
    with ground.server.session() as session:
        ended = session.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s", [DATABASE.name]
        ).fetchone()[0]
    assert ended >= 1
    assert good.ask("GET", "/orders")[0] == 200


def test_it_is_not_ready_without_its_database(ground):
    with running(ground, "v1.4.0", ERP_DATABASE=ground.database["ERP_DATABASE"] + "_gone") as (person, _):
        assert [person.ask("GET", f"/health/{path}")[0] for path in ("live", "ready")] == [200, 503]
        assert person.ask("GET", "/orders")[0] == 500


# -- the smoke test ----------------------------------------------------------------------------------------------------


def smoke(person: Person, version: str, password: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-S", releases.SOURCE / "smoke.py", f"127.0.0.1:{person.port}", version]
    return subprocess.run([*argv, "--password-file", password], capture_output=True, text=True, timeout=30)


def test_the_smoke_test_signs_in_and_leaves_nothing(ground, good, tmp_path):
    password, before = tmp_path / "password", ground.count("orders")
    password.write_text(f"{PASSWORD}\n")
    done = smoke(good, "v1.4.0", password)
    assert (done.returncode, done.stderr) == (0, "") and "read, changed and deleted" in done.stdout
    assert ground.count("orders") == before
    assert "not v1.5.0" in smoke(good, "v1.5.0", password).stderr
    password.write_text("wrong")
    done = smoke(good, "v1.4.0", password)
    assert done.returncode == 1 and "403" in done.stderr


# -- the release that fails, and the one with another schema -----------------------------------------------------------


def test_the_bad_release_is_ready_and_fails_under_traffic(ground, tmp_path):
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    with running(ground, "v1.5.0") as (person, process):
        assert person.ask("GET", "/health/ready")[0] == 200
        assert smoke(person, "v1.5.0", password).returncode == 0
        with ground.server.session(DATABASE.name) as session:
            customer, orders = session.execute(
                "SELECT customer_id, array_agg(id) FROM orders GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
            ).fetchone()
            session.execute(
                "INSERT INTO orders (number, customer_id, taken_by_id, status, channel, shipping_address, placed_at)"
                " SELECT 'SO-T-' || n, %s, 1, 'open', 'shop', '{}', now() FROM generate_series(1, 9) n"
                " ON CONFLICT DO NOTHING",
                [customer],
            )
        answered = [person.ask("GET", f"/orders/{orders[0]}")[0] for _ in range(9)]
        assert answered == [200] * 8 + [500]
        began = time.monotonic()
        assert person.ask("GET", "/orders")[0] == 500
        assert time.monotonic() - began > 1.5, "it is slow before it fails"
        assert [person.ask("GET", path)[0] for path in ("/health/ready", "/version")] == [200, 200]
        # Asked to end with a request under way, it answers that one first.
        connection = http.client.HTTPConnection("127.0.0.1", person.port, timeout=10)
        connection.request("GET", "/orders")
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert connection.getresponse().status == 500
        assert process.wait(5) == 0


def test_the_schema_grows_once_and_the_release_before_goes_on(ground):
    assert "changes no schema" in ground.migrate("v1.4.0").stdout
    first, second = ground.migrate("v1.6.0"), ground.migrate("v1.6.0")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "was added" in first.stdout and "was there already" in second.stdout
    order = {"customer_id": 1, "product_id": 2, "quantity": 1, "delivery_wish": "<b>before noon</b>"}
    with ExitStack() as stack:
        new, old = (stack.enter_context(running(ground, version))[0] for version in ("v1.6.0", "v1.4.0"))
        assert new.sign_in() == 303
        old.cookie = new.cookie  # whoever signed in before a switch is signed in after it
        for person in (new, old):
            assert person.ask("POST", "/orders", order, form=True)[0] == 303
            place = person.headers["location"]
            wished = "&lt;b&gt;before noon&lt;/b&gt;" in new.ask("GET", place)[1]
            assert wished == (person is new)
            assert person.ask("DELETE", f"/api{place}")[0] == 200


# -- with the stack ----------------------------------------------------------------------------------------------------


def test_it_ends_with_the_stack_it_was_started_in(ground, tmp_path):
    stack = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    lock = tmp_path / "lock"
    lock.write_text(json.dumps({"pid": stack.pid}))
    try:
        with running(ground, "v1.4.0", options=("--ends-with", str(lock))) as (_, process):
            time.sleep(1)
            assert process.poll() is None
            stack.kill()
            stack.wait()
            assert process.wait(5) == 0
    finally:
        stack.kill()
        stack.wait()


def test_ports_are_chosen_once_and_never_twice(tmp_path):
    near = free_port()
    first = Ports.of(tmp_path / "one", near)
    assert Ports.of(tmp_path / "one", 1) == first
    with running_listener(first.proxy):
        second = Ports.of(tmp_path / "two", near)
    assert second.proxy != first.proxy
    assert Ports.of(tmp_path / "three", 65_535).proxy < 65_536
    for ports in (first, second):
        assert len(set(vars(ports).values())) == 6


@contextmanager
def running_listener(port: int) -> Iterator[None]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        yield


def test_the_proxy_follows_the_port_file_and_keeps_a_small_log(ground, tmp_path):
    folder = tmp_path / "data with a space" / "demo"
    slots = folder / PLACES["production"]
    slots.mkdir(parents=True)
    ports = Ports.of(folder.parent, free_port())
    (folder / "proxy.json").write_text(json.dumps(proxy_configuration(ports)))
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    argv = [Path(sys.prefix) / "bin" / "caddy", "run", "--config", "proxy.json"]
    proxy = subprocess.Popen(
        argv, cwd=folder, env=env, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent(signal.SIGKILL)
    )
    person = Person(ports.proxy, cookie="erp_session=secret")
    try:
        wait_until(lambda: _connects(person), 20)
        assert person.ask("GET", "/orders")[0] == 502  # nothing is live
        with running(ground, "v1.4.0") as (blue, _), running(ground, "v1.5.0", slot="green") as (green, _):
            for slot, port in (("blue", blue.port), ("green", green.port), ("blue", blue.port)):
                (slots / "fresh").write_text(str(port))
                (slots / "fresh").replace(slots / "active_port")
                assert json.loads(person.ask("GET", "/version")[1])["slot"] == slot
    finally:
        proxy.terminate()
        assert proxy.wait(10) == 0
    lines = [json.loads(line) for line in (folder / "erp-access.log").read_text().splitlines()]
    assert [line["status"] for line in lines][-4:] == [502, 200, 200, 200]
    assert "secret" not in (folder / "erp-access.log").read_text()


def _connects(person: Person) -> bool:
    try:
        person.ask("GET", "/")
        return True
    except OSError:
        return False
