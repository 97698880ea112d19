"""The Compose driver through a whole life: the installed Compose, a real engine, images pulled by their digest."""

from __future__ import annotations

import os
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from catalog.connectors import LocalConnector
from deployments.drivers.base import Artefact, Surroundings, Token
from deployments.drivers.compose import ComposeDriver
from deployments.drivers.compose_host import ComposeForm
from deployments.drivers.images import by_digest
from deployments.exceptions import DeploymentError, Fenced, NotReady
from operations.commands import run_checked
from tests.deployments.registry import Registry, running_registry
from tests.deployments.test_driver_script import free_ports
from tests.docker_engine import Engine, running_engine

pytestmark = [
    pytest.mark.needs("dockerd", "docker-compose"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a Docker engine needs root"),
    pytest.mark.xdist_group("docker"),
]

SERVER = """
import http.server, os, sys
version = os.environ["APP_VERSION"]
print("starting", version, os.environ.get("DB_PASSWORD", "none"), file=sys.stderr, flush=True)
if "crash" in version:
    sys.exit("FATAL: no table orders")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if "slow" in version else 200)
        self.end_headers()
        self.wfile.write((version + " " + os.environ.get("COLOUR", "")).encode())
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        import socket
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

SERVICE = """
  {name}:
    image: ${{{variable}}}
    network_mode: host
    stop_signal: SIGKILL
    command: ["python3", "/app/server.py", "{port}"]
    environment: {{COLOUR: "${{COLOUR}}", DB_PASSWORD: "${{DB_PASSWORD}}"}}
    volumes: ["/usr:/usr:ro", "/etc:/etc:ro", "{folder}:/app:ro"]
"""


@dataclass
class Place:
    folder: Path
    engine: Engine
    registry: Registry
    blue_green: bool
    ports: tuple[int, int]
    logged: list[str] = field(default_factory=list)
    commands: list[Any] = field(default_factory=list)

    def write(self) -> None:
        (self.folder / "app").mkdir()
        (self.folder / "app" / "server.py").write_text(SERVER)
        slots = (("erp-blue", "ERP_IMAGE_BLUE"), ("erp-green", "ERP_IMAGE_GREEN"))
        names = slots if self.blue_green else (("erp", "ERP_IMAGE"),)
        parts = [
            SERVICE.format(name=name, variable=variable, port=port, folder=self.folder / "app")
            for (name, variable), port in zip(names, self.ports, strict=False)
        ]
        (self.folder / "production.yml").write_text('version: "2.4"\nservices:' + "".join(parts))
        (self.folder / ".env").write_text("# ours\nOTHER=stays\n")

    @property
    def settings(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "file": str(self.folder / "production.yml"),
            "project": "erp",
            "service": "erp",
            "way": "recreate",
            "image_variable": "ERP_IMAGE",
            "ready_url": f"http://127.0.0.1:{self.ports[0]}/health/ready",
            "socket": self.engine.socket,
        }
        if self.blue_green:
            values |= {
                "way": "blue_green",
                "ready_url": "http://127.0.0.1:{port}/health/ready",
                "port_file": str(self.folder / "active_port"),
                "blue_port": self.ports[0],
                "green_port": self.ports[1],
            }
        form = ComposeForm(values)
        assert form.is_valid(), form.errors
        return form.cleaned_data

    def driver(self, operation: int = 1, attempt: int = 1, **more: Any) -> ComposeDriver:
        def run(command: Any, **options: Any) -> Any:
            self.commands.append(command)
            return run_checked(command, **options)

        given = {"secrets": {"DB_PASSWORD": "hunter2-hunter2"}, "environment": {"COLOUR": "red"}, **more}
        around = Surroundings(
            LocalConnector(), run, Token(operation, attempt), log=self.logged.append, timeout_s=60, **given
        )
        return ComposeDriver(self.settings, around)

    def artefact(self, version: str) -> Artefact:
        return Artefact(version, "image", f"{self.registry.name}:{version}", self.registry.image(version))

    def deploy(self, version: str, operation: int = 1, within_s: float = 20, checked: bool = False) -> ComposeDriver:
        driver, artefact = self.driver(operation), self.artefact(version)
        bad = [check for check in driver.preflight(artefact) if not check.good] if checked else []
        assert not bad, bad
        driver.prepare(artefact)
        driver.wait_ready(artefact, within_s)
        driver.switch(artefact)
        driver.drain(artefact, 2)
        return driver

    def answer(self, port: int) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
            return str(response.read().decode())


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running_engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with running_registry() as registry:
        yield registry


@pytest.fixture
def place(
    engine: Engine, registry: Registry, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    monkeypatch.setenv("PATH", f"/usr/bin:{os.environ['PATH']}")
    monkeypatch.chdir("/")
    place = Place(tmp_path, engine, registry, "blue_green" in request.fixturenames, free_ports())
    place.write()
    yield place
    for each in engine.docker("ps", "--all", "--quiet").split():
        engine.remove(each)


@pytest.fixture
def blue_green() -> bool:
    return True


def test_a_service_started_anew_through_a_whole_life(place: Place) -> None:
    assert place.driver().look().live == ""
    driver = place.deploy("v1", checked=True)
    (live,) = driver.look().instances
    assert (live.version, live.running, live.ready, live.live) == ("v1", True, True, True)
    assert place.answer(place.ports[0]) == "v1 red"
    driver = place.deploy("v2", operation=2)
    reality = driver.look()
    assert (reality.live, list(reality.revisions)) == ("v2", ["v2", "v1"])
    assert place.answer(place.ports[0]) == "v2 red"
    env = (place.folder / ".env").read_text()
    assert env.startswith("# ours\nOTHER=stays\n") and "COLOUR='red'" in env and "hunter2" not in env
    assert f"ERP_IMAGE='{by_digest(place.artefact('v2'))}'" in env

    assert driver.scale(2) == 1
    assert [each.live for each in driver.look().instances] == [True, True]
    assert driver.scale(1) == 2

    place.driver(3, environment={}).restart()
    assert place.answer(place.ports[0]) == "v2 " and "COLOUR" not in (place.folder / ".env").read_text()
    assert any("starting v2" in line for line in driver.logs("v2")) and "hunter2" not in str(driver.logs("v2"))

    place.driver(3).stop()
    assert place.driver().look().live == ""
    place.driver(3).start()
    assert place.driver().look().live == "v2"
    place.driver(3).revert("v1")
    assert place.answer(place.ports[0]).startswith("v1")

    assert driver.leftovers(["v1", "v2"]) == []
    assert len(driver.leftovers(["v1"])) == 1 and by_digest(place.artefact("v2")) in driver.leftovers(["v1"])[0]
    assert len(place.driver(4).cleanup(["v1"])) == 1
    assert list(driver.look().revisions) == ["v1"] and driver.look().live == "v1"


def test_blue_green_through_a_whole_life(place: Place, blue_green: bool) -> None:
    blue, green = place.ports
    port_file = place.folder / "active_port"
    driver = place.deploy("v1", checked=True)
    assert port_file.read_text() == str(blue) and place.answer(blue).startswith("v1")
    driver, new = place.driver(2), place.artefact("v2")
    driver.prepare(new)
    driver.wait_ready(new, 20)
    assert driver.look().live == "v1" and port_file.read_text() == str(blue)
    driver.switch(new)
    reality = driver.look()
    assert (reality.live, port_file.read_text()) == ("v2", str(green))
    old = reality.instance_of("v1")
    assert old and old.warm and old.address == f"127.0.0.1:{blue}"
    assert place.answer(green).startswith("v2") and stat.S_IMODE(port_file.stat().st_mode) == 0o644

    driver.revert("v1")
    assert driver.look().live == "v1" and port_file.read_text() == str(blue)
    driver.discard(new)
    assert [each.version for each in driver.look().instances] == ["v1"]
    driver.discard(place.artefact("v1"))
    assert driver.look().live == "v1"
    driver.revert("v2")
    assert driver.look().live == "v2" and place.answer(green).startswith("v2")

    place.driver(3).restart()
    assert place.driver().look().live == "v2" and port_file.read_text() == str(blue)
    with pytest.raises(DeploymentError, match="one copy"):
        place.driver(3).scale(2)


def test_a_version_that_never_becomes_ready_gets_no_traffic(place: Place, blue_green: bool) -> None:
    place.deploy("v1")
    for version, word in (("v2-slow", "answered with 503"), ("v2-crash", "FATAL: no table orders")):
        driver, new = place.driver(2), place.artefact(version)
        driver.prepare(new)
        with pytest.raises(NotReady) as caught:
            driver.wait_ready(new, 2)
        assert "did not become ready within 2 s" in caught.value.message and word in caught.value.message
        assert driver.look().live == "v1"
        driver.discard(new)
        assert [each.version for each in driver.look().instances] == ["v1"]
    with pytest.raises(DeploymentError, match="runs in no slot"):
        place.driver(2).switch(place.artefact("v2-slow"))


def test_the_image_before_is_started_again(place: Place) -> None:
    place.deploy("v1")
    with pytest.raises(NotReady, match=r"FATAL: no table orders.*v1 was started again"):
        place.deploy("v2-crash", operation=2, within_s=2)
    assert place.driver().look().live == "v1" and place.answer(place.ports[0]).startswith("v1")
    assert by_digest(place.artefact("v1")) in (place.folder / ".env").read_text()


def test_a_wrong_image_is_said_and_changes_nothing(place: Place) -> None:
    place.deploy("v1")
    absent = Artefact("v9", "image", f"{place.registry.name}:v9", f"sha256:{'0' * 64}")
    with pytest.raises(DeploymentError, match="Push the image, or correct the release"):
        place.driver(2).prepare(absent)
    for source, checksum in (
        ("-v/etc:/x", absent.checksum),
        ("erp:v9", ""),
        (f"erp@sha256:{'1' * 64}", absent.checksum),
    ):
        with pytest.raises(DeploymentError):
            place.driver(2).preflight(Artefact("v9", "image", source, checksum))
    assert place.driver().look().live == "v1"


def test_an_image_built_there_is_known_by_its_id(place: Place) -> None:
    folder = place.folder / "build"
    folder.mkdir()
    base = by_digest(place.artefact("v1"))
    place.engine.docker("pull", "--quiet", base)
    container = place.engine.docker("create", base, "true").strip()
    image = place.engine.docker("commit", "--change", "ENV APP_VERSION=home-made", container, "erp:home").strip()
    driver, artefact = place.driver(), Artefact("v5", "image", "erp:home", image)
    driver.prepare(artefact)
    driver.wait_ready(artefact, 20)
    driver.switch(artefact)
    assert driver.look().live == "v5" and place.answer(place.ports[0]).startswith("home-made")


def test_a_later_token_fences_an_earlier_one(place: Place, blue_green: bool) -> None:
    place.deploy("v1", operation=5)
    new = place.artefact("v2")
    with pytest.raises(Fenced, match="Attempt 1 of operation 5"):
        place.driver(4, 9).prepare(new)
    with pytest.raises(Fenced):
        place.driver(5, 0).switch(place.artefact("v1"))
    place.driver(6).prepare(new)
    late = place.driver(5, 1)
    with pytest.raises(Fenced):
        late.host.send_traffic_to("erp-green")
    assert place.driver().look().live == "v1"


def test_no_secret_on_a_command_line_and_hostile_names_stay_data(place: Place) -> None:
    hostile = "v1'; touch /tmp/owned; $(id)"
    artefact = Artefact(hostile, "image", place.registry.name, place.registry.image("v1"))
    driver = place.driver(environment={"COLOUR": "; $x"})
    with pytest.raises(DeploymentError, match="COLOUR has a quote"):
        driver.prepare(artefact)
        driver.switch(artefact)
    driver = place.driver(environment={"COLOUR": '"; touch x #'})
    driver.prepare(artefact)
    driver.wait_ready(artefact, 20)
    driver.switch(artefact)
    assert driver.look().live == hostile and place.answer(place.ports[0]) == 'v1 "; touch x #'
    assert all("hunter2" not in f"{each.argv}{each.env}{each.shown()}" for each in place.commands)
    assert "hunter2" not in "\n".join(place.logged)
    assert not [path for path in place.folder.iterdir() if "hunter2" in (path.read_text() if path.is_file() else "")]


def test_what_somebody_started_by_hand_is_seen(place: Place) -> None:
    place.deploy("v1")
    image = by_digest(place.artefact("v7"))
    env = {**os.environ, "ERP_IMAGE": image, "DOCKER_HOST": f"unix://{place.engine.socket}", "COLOUR": "x"}
    argv = ["docker-compose", "-f", str(place.folder / "production.yml"), "-p", "erp", "up", "-d"]
    subprocess.run(argv, env={**env, "DB_PASSWORD": "x"}, check=True, capture_output=True)
    assert place.driver().look().live == image.rpartition("@")[2][:19]


def test_preflight_and_dry_run(place: Place, blue_green: bool) -> None:
    artefact = place.artefact("v0")
    shown = place.driver().preview(artefact)
    assert shown["prepare"][0] == f"docker pull {by_digest(artefact)}" and "-f " in shown["prepare"][2]
    assert shown["switch"] == [f"{place.ports[0]} into {place.folder / 'active_port'}"]
    file = place.folder / "production.yml"
    file.write_text(file.read_text().replace("erp-green", "erp-pink"))
    bad = [check for check in place.driver().preflight(artefact) if not check.good]
    assert [check.sentence for check in bad] == [f"{file} has no service erp-green."]
    file.unlink()
    bad = [check for check in place.driver().preflight(artefact) if not check.good]
    assert [check.name for check in bad] == ["Compose file"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("file", "compose.yml"), ("service", "-erp"), ("project", "a b"), ("port_file", ""), ("green_port", "8001")],
)
def test_the_form_refuses(name: str, value: str) -> None:
    values = {"file": "/x/y.yml", "project": "erp", "service": "erp", "way": "blue_green", "image_variable": "I"}
    values |= {"port_file": "/x/p", "blue_port": "8001", "green_port": "8002"}
    assert ComposeForm(values).is_valid()
    form = ComposeForm({**values, name: value})
    assert not form.is_valid() and name in form.errors
