"""Rolling on a host: real instances behind a real proxy, one replaced at a time, and what can go wrong on the way."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.actions import requesting
from deployments.artefacts import checksum
from deployments.drivers import DRIVERS
from deployments.drivers.agent.processes import alive
from deployments.drivers.agent.rolling import STILL_S
from deployments.drivers.base import Artefact, Driver, Reality
from deployments.drivers.rolling import RollingDriver, RollingForm
from deployments.drivers.slots import HostAgent
from deployments.exceptions import DeploymentError, Fenced, NotReady
from deployments.forms_settings import driver_fields
from deployments.models import Deployment, DeploymentProfile
from deployments.recording import drift_between
from operations import control, engine
from tests.deployments import grounds
from tests.deployments.conftest import Stage
from tests.deployments.grounds import Ground, Seen, free_port
from tests.deployments.test_blue_green import killed_after
from tests.operations.conftest import expire
from tests.operations.samples import Died

pytestmark = pytest.mark.xdist_group("slots")

NAMES = ("1", "2", "3")


@contextmanager
def rolling_ground(folder: Path, proxy: str = "port_file") -> Iterator[Ground]:
    settings = {
        "root": str(folder / "srv"),
        "argv": [sys.executable, "app.py", "{port}" if proxy == "port_file" else "{socket}"],
        "ready_path": "/health/ready",
        "proxy": proxy,
        "instances": 3,
        "ports": [free_port() for _ in NAMES],
        "drain_s": 5,
        "python": sys.executable,
    }
    made = Ground(folder / "srv", settings, kind=RollingDriver)
    try:
        yield made
    finally:
        made.clear()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with rolling_ground(tmp_path) as made:
        yield made


def state(ground: Ground, slot: str) -> dict[str, Any]:
    return dict(json.loads((ground.root / "slots" / slot / "state.json").read_text()))


def versions(driver: Driver) -> dict[str, str]:
    return {each.name: each.version for each in sorted(driver.look().instances, key=lambda each: each.name)}


def whole(ground: Ground, version: str, attempt: int = 1) -> None:
    """One version everywhere, all of it in the proxy's list, and no process that nobody knows of."""
    reality = ground.driver(attempt).look()
    assert (reality.live, reality.unsettled) == (version, "")
    assert [(each.version, each.ready, each.live) for each in reality.instances] == [(version, True, True)] * 3
    assert reality.sentence == f"{version} runs in all 3 instances."
    assert running_below(ground.root) == {state(ground, name)["pid"] for name in NAMES}


def running_below(root: Path) -> set[int]:
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{name}/cwd").startswith(str(root / "releases")):
                found.add(int(name))
        except OSError:
            continue
    return found


def never_ready(ground: Ground, version: str, slot: str) -> Artefact:
    """A release that does not become ready in one of its instances."""
    folder = Path(ground.artefact(version).source)
    text = (folder / "app.py").read_text()
    (folder / "app.py").write_text(
        text.replace('os.environ.get("READY_AFTER", "0")', f'"-1" if os.environ["OPS_SLOT"] == "{slot}" else "0"')
    )
    return Artefact(version, "folder", str(folder), checksum(folder))


# -- behind a proxy ----------------------------------------------------------------------------------------------------


@contextmanager
def fewest_listed(ground: Ground) -> Iterator[list[int]]:
    """The fewest different instances that the proxy's list named, looked at all the time."""
    fewest, stop = [len(NAMES)], threading.Event()

    def look() -> None:
        while not stop.is_set():
            lines = (ground.root / "upstreams" / name for name in NAMES)
            named = {
                os.readlink(f"{line}.sock") if Path(f"{line}.sock").is_symlink() else line.read_text() for line in lines
            }
            fewest[0] = min(fewest[0], len(named))
            time.sleep(0.002)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield fewest
    finally:
        stop.set()
        watcher.join()


def nobody_noticed(seen: list[Seen]) -> set[str]:
    assert [line for each in seen for line in each.failed] == []
    assert sum(each.races for each in seen) == 0
    assert sum(len(each.times) for each in seen) > 100
    return {version for each in seen for version in each.versions}


def there_and_back(ground: Ground, port: int) -> None:
    """Forward, a restart, back, a version that fails in the last instance, and one that fails in the first."""
    ground.deploy("v1.0.0")
    whole(ground, "v1.0.0")
    before = {state(ground, name)["pid"] for name in NAMES}
    with grounds.load(port) as seen, fewest_listed(ground) as fewest:
        ground.deploy("v1.1.0")
        whole(ground, "v1.1.0")
        ground.driver().restart()
        assert not before & {state(ground, name)["pid"] for name in NAMES}
        ground.driver().revert("v1.0.0")
        whole(ground, "v1.0.0")
        third = never_ready(ground, "v1.2.0", "3")
        driver = ground.driver()
        driver.prepare(third)
        driver.wait_ready(third, 3)
        with pytest.raises(NotReady) as error:
            driver.switch(third)
        assert "Instance 3 was not ready within 3 s: it answered with 503" in error.value.message
        assert error.value.message.endswith("All instances run v1.0.0 again.")
        whole(ground, "v1.0.0")
        first = never_ready(ground, "v1.3.0", "1")
        driver.prepare(first)
        with pytest.raises(NotReady, match="Instance 1 was not ready within 1 s"):
            driver.wait_ready(first, 1)
        driver.discard(first)
        whole(ground, "v1.0.0")
    assert fewest == [2]
    assert nobody_noticed(seen) == {"v1.0.0", "v1.1.0", "v1.2.0"}  # what was not ready got no request


def test_nobody_notices_a_rolling_deployment_behind_caddy(ground: Ground) -> None:
    with grounds.caddy(ground, [f"upstreams/{name}" for name in NAMES]) as port:
        there_and_back(ground, port)


@pytest.mark.needs("nginx")
def test_nobody_notices_a_rolling_deployment_behind_nginx(tmp_path: Path) -> None:
    with rolling_ground(tmp_path, "socket_link") as ground:
        with grounds.nginx(ground, [f"upstreams/{name}.sock" for name in NAMES]) as port:
            ground.deploy("v1.0.0")
            with grounds.load(port) as seen:
                ground.deploy("v1.1.0")
                ground.driver().revert("v1.0.0")
            whole(ground, "v1.0.0")
            assert nobody_noticed(seen) == {"v1.0.0", "v1.1.0"}
        for path in (ground.root, ground.root / "upstreams", ground.root / "slots" / "1"):
            assert path.stat().st_mode & 0o755 == 0o755  # nginx's user comes through


def test_the_load_notices_when_an_instance_is_ended_without_being_taken_out(ground: Ground) -> None:
    """The control: what the list spares the users is seen when it is not used."""
    with grounds.caddy(ground, [f"upstreams/{name}" for name in NAMES]) as port:
        ground.deploy("v1.0.0")
        with grounds.load(port) as seen:
            os.killpg(state(ground, "2")["pid"], signal.SIGKILL)
            time.sleep(0.3)
        assert [line for each in seen for line in each.failed]
    reality = ground.driver().look()
    assert "Instance 2 does not run." in reality.unsettled
    assert not (reality.instance_of("v1.0.0") or reality.instances[0]).ready
    row = SimpleNamespace(release=SimpleNamespace(version="v1.0.0"))
    assert drift_between(row, reality) == reality.unsettled  # type: ignore[arg-type]
    ground.driver().start()
    whole(ground, "v1.0.0")


def test_a_slow_request_is_drained_and_a_hanging_one_is_not_waited_for(ground: Ground) -> None:
    import http.client

    ground.settings["drain_s"] = 0
    ground.deploy("v1.0.0")
    hanging = http.client.HTTPConnection("127.0.0.1", ground.settings["ports"][0], timeout=5)
    hanging.connect()
    ground.deploy("v1.1.0")
    hanging.close()
    assert "1 requests of instance 1 were still under way when their time was over." in ground.logged
    whole(ground, "v1.1.0")


# -- life --------------------------------------------------------------------------------------------------------------


def test_a_whole_life(ground: Ground) -> None:
    driver = ground.driver()
    assert driver.look() == Reality("", driver.look().instances, "Nothing is live.", [])
    with pytest.raises(DeploymentError, match="Nothing is live here"):
        driver.start()
    assert all(check.good for check in driver.preflight(ground.artefact("v1.0.0")))
    ground.deploy("v1.0.0")
    assert driver.logs("v1.0.0") == [f"v1.0.0 listens on {port}" for port in ground.settings["ports"]]
    ground.deploy("v1.1.0")
    assert set(driver.look().revisions) == {"v1.0.0", "v1.1.0"}
    assert sorted(driver.preview(ground.artefact("v1.2.0"))) == ["drain", "prepare", "switch"]
    driver.stop()
    assert driver.look().live == "" and running_below(ground.root) == set()
    assert not list((ground.root / "upstreams").iterdir())  # a proxy finds nobody, rather than one that is not ready
    driver.restart()  # where nothing runs, that is to start
    whole(ground, "v1.1.0")
    again = state(ground, "1")["pid"]
    ground.driver(2).start()
    assert state(ground, "1")["pid"] == again  # what runs well is left alone
    ground.deploy("v1.2.0", attempt=2)
    assert [line.split()[0] for line in ground.driver(2).cleanup([])] == ["v1.0.0"]


def test_other_ports_and_fewer_instances_come_with_the_next_deployment(ground: Ground) -> None:
    ground.deploy("v1.0.0")
    gone = state(ground, "3")
    ground.settings.update(instances=2, ports=[ground.settings["ports"][0], free_port()])
    assert [check.sentence for check in ground.driver().preflight(ground.artefact("v1.1.0")) if not check.good] == []
    ground.deploy("v1.1.0")
    assert versions(ground.driver()) == {"1": "v1.1.0", "2": "v1.1.0"}
    assert state(ground, "2")["listens"] == ground.settings["ports"][1]
    assert not alive(gone["pid"], gone["start_time"])
    assert (ground.root / "upstreams" / "3").read_text() in map(str, ground.settings["ports"])


def test_an_instance_that_is_to_go_is_nobody_elses_program(ground: Ground) -> None:
    """Also where the settings have given its port to another one by now."""
    ground.deploy("v1.0.0")
    first, _, third = ground.settings["ports"]
    ground.settings.update(instances=2, ports=[first, third])
    assert ground.driver().port_holders() == []


def test_a_first_version_that_is_not_ready_leaves_nothing_behind(ground: Ground) -> None:
    artefact = never_ready(ground, "v1.0.0", "2")
    driver = ground.driver()
    driver.prepare(artefact)
    with pytest.raises(NotReady, match="Instance 2 was not ready within 0.5 s"):
        driver.wait_ready(artefact, 0.5)
    driver.discard(artefact)
    assert running_below(ground.root) == set() and not list((ground.root / "upstreams").iterdir())


def test_one_that_ends_says_its_last_words_and_the_others_serve_on(ground: Ground) -> None:
    ground.deploy("v1.0.0")
    folder = Path(ground.artefact("v1.1.0").source)
    (folder / "app.py").write_text("import sys; print('no database'); sys.exit(3)")
    artefact = Artefact("v1.1.0", "folder", str(folder), checksum(folder))
    driver = ground.driver()
    with pytest.raises(NotReady, match="Instance 1 with v1.1.0 has ended. Its last words: no database"):
        driver.prepare(artefact)
        driver.wait_ready(artefact, 20)
    assert driver.look().live == "v1.0.0"
    driver.discard(artefact)
    whole(ground, "v1.0.0")


# -- fences and deaths -------------------------------------------------------------------------------------------------


def settle(ground: Ground, artefact: Artefact, attempt: int) -> str:
    """What the procedure does after a death: on where traffic is on the new version, else back."""
    driver = ground.driver(attempt)
    if driver.look().live == artefact.version:
        driver.switch(artefact)
        return artefact.version
    driver.discard(artefact)
    return driver.look().live


def test_whatever_a_worker_did_last_the_next_attempt_makes_one_whole_state(ground: Ground) -> None:
    ground.deploy("v1.0.0")
    artefact, attempt, ends = ground.artefact("v1.1.0"), 1, []
    deaths = [
        "Instance 1 was taken out",
        "Instance 1 was started",
        "Instance 2 is ready",
        "Instance 3 was taken out",
        "Instance 3 is ready",
    ]
    for death in deaths:
        attempt += 1

        def heard(text: str, death: str = death) -> None:
            if text.startswith(death):
                raise Died

        late = ground.driver(attempt, log=heard)
        with pytest.raises(Died):
            late.prepare(artefact)
            late.wait_ready(artefact, 10)
            late.switch(artefact)
        attempt += 1
        ends.append(settle(ground, artefact, attempt))
        whole(ground, ends[-1], attempt)
        for act in (late.prepare, late.switch, late.discard):
            if act != late.discard or ends[-1] == "v1.0.0":
                with pytest.raises(Fenced):
                    act(artefact)
        if ends[-1] == "v1.1.0":
            attempt += 1
            ground.driver(attempt).revert("v1.0.0")
    assert ends[0] == "v1.0.0" and ends[-1] == "v1.1.0"


@pytest.mark.parametrize("after_s", [0.1, 0.4, 0.9, 1.6])
def test_an_agent_killed_at_any_moment_leaves_one_whole_state(ground: Ground, after_s: float) -> None:
    ground.deploy("v1.0.0")
    artefact, driver = ground.artefact("v1.1.0"), ground.driver()
    with killed_after(after_s):
        for act in (driver.prepare, driver.switch):
            try:
                act(artefact)
            except DeploymentError:
                pass
    whole(ground, settle(ground, artefact, 2), 2)


def test_a_change_that_stands_still_is_drift(ground: Ground) -> None:
    ground.deploy("v1.0.0")
    driver = ground.driver()
    driver.prepare(ground.artefact("v1.1.0"))
    reality = driver.look()
    assert "Instance 1 runs v1.1.0 and gets no traffic. Instance 2 runs v1.0.0." in reality.sentence
    assert (reality.live, reality.unsettled) == ("v1.0.0", "")  # somebody may still be at work
    file = ground.root / "walk.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "at": time.time() - STILL_S - 1}))
    assert driver.look().unsettled.endswith("Deploy, roll back or restart to bring them to one version.")
    driver.restart()
    whole(ground, "v1.0.0")


def rolls(stage: Stage, ground: Ground, act: Callable[[], None]) -> Deployment:
    """A deployment of v1.1.0 by the procedure, whose worker dies; then another worker takes over."""
    artefact = ground.artefact("v1.1.0")
    release = stage.release("v1.1.0", source=artefact.source, checksum=artefact.checksum)
    row = requesting.start(stage.ask(release.version), by=stage.olga)
    assert row.operation_id
    with pytest.raises(Died):
        engine.run(row.operation_id, "w1")
    act()
    expire(stage.operation(row))
    control.sweep()
    return stage.carry_out(row, "w2")


@pytest.mark.parametrize(("dies_after", "ends"), [("Instance 1 is ready", "failed"), ("Instance 2 is ready", "live")])
def test_a_deployment_whose_worker_dies_ends_whole(
    stage: Stage, ground: Ground, monkeypatch: pytest.MonkeyPatch, dies_after: str, ends: str
) -> None:
    DeploymentProfile.objects.filter(pk=stage.profile.pk).update(
        driver=DeploymentProfile.Driver.ROLLING, settings=ground.settings
    )
    first = ground.artefact("v1.0.0")
    stage.release("v1.0.0", source=first.source, checksum=first.checksum)
    assert stage.deploy("v1.0.0").state == "live"
    plain = HostAgent.ask

    def ask(self: HostAgent, do: str, **wish: Any) -> dict[str, Any]:
        answer = plain(self, do, **wish)
        if any(said.startswith(dies_after) for said in answer.get("said", ())):
            raise Died
        return answer

    monkeypatch.setattr(HostAgent, "ask", ask)
    done = rolls(stage, ground, lambda: monkeypatch.setattr(HostAgent, "ask", plain))
    version = "v1.1.0" if ends == "live" else "v1.0.0"
    assert done.state == ends
    assert stage.live.release and stage.live.release.version == version and stage.live.drift == ""
    whole(ground, version, done.operation.attempt if done.operation else 0)


# -- form --------------------------------------------------------------------------------------------------------------


def test_the_form_says_what_is_missing() -> None:
    assert DRIVERS["rolling"] is RollingDriver and RollingDriver.kind in DeploymentProfile.Driver.values
    assert list(driver_fields("rolling"))[:7] == [
        f"settings-{name}" for name in ("root", "argv", "ready_path", "instances", "proxy", "ports", "drain_s")
    ]
    values = {
        "root": "/srv/erp",
        "argv": "python3\napp.py\n{port}",
        "ready_path": "/health/ready",
        "instances": "3",
        "proxy": "port_file",
        "ports": "8001, 8002 8003",
        "drain_s": "30",
    }
    form = RollingForm(values)
    assert form.is_valid(), form.errors
    assert form.cleaned_data["ports"] == [8001, 8002, 8003]
    assert RollingForm({**values, "proxy": "socket_link", "ports": ""}).is_valid()
    shown = RollingForm(initial={"ports": [8001, 8002]})["ports"].as_widget()
    assert 'value="8001 8002"' in shown
    for changed, sentence in (
        ({"ports": "8001 8002"}, "There are 3 instances, so 3 ports are needed."),
        ({"ports": "8001 8001 8002"}, "8001 stands here twice."),
        ({"ports": "8001 70000 8002"}, "“70000” is no port."),
        ({"instances": "1"}, "greater than or equal to 2"),
        ({"ready_path": "ready"}, "Write a path such as /health/ready."),
    ):
        assert sentence in str(RollingForm({**values, **changed}).errors)
