"""Blue-green on a host: real processes behind a real proxy, and everything that can go wrong on the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from catalog.connectors import Connector
from deployments.artefacts import checksum
from deployments.drivers.agent.place import LOG_KEPT_BYTES, LOG_MOST_BYTES
from deployments.drivers.agent.processes import alive, portals_unit
from deployments.drivers.base import Artefact, Driver
from deployments.exceptions import DeploymentError, Fenced, NotReady
from operations.commands import Command, Result, run_checked
from operations.masking import MASK
from tests.deployments import grounds
from tests.deployments.grounds import Ground, Seen
from tests.sshd import running_sshd

pytestmark = pytest.mark.xdist_group("slots")


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with grounds.ground(tmp_path) as made:
        yield made


def state(ground: Ground, slot: str) -> dict[str, object]:
    return dict(json.loads((ground.root / "slots" / slot / "state.json").read_text()))


# -- life --------------------------------------------------------------------------------------------------------------


def test_two_releases_and_back(ground: Ground) -> None:
    driver = ground.driver()
    assert driver.look().sentence == "Nothing is live."
    assert all(check.good for check in driver.preflight(ground.artefact("v1.0.0")))
    ground.deploy("v1.0.0")
    ground.deploy("v1.1.0")
    reality = driver.look()
    assert reality.live == "v1.1.0"
    old = reality.instance_of("v1.0.0")
    assert old and old.warm and not old.live
    assert set(reality.revisions) == {"v1.0.0", "v1.1.0"}
    began = time.monotonic()
    driver.revert("v1.0.0")
    assert driver.look().live == "v1.0.0"
    assert time.monotonic() - began < 5
    assert (ground.root / "active_port").read_text() == str(ground.settings["blue"])
    assert driver.logs("v1.0.0") == [f"v1.0.0 listens on {ground.settings['blue']}"]


def test_the_program_outlives_whoever_started_it_in_a_session_of_its_own(ground: Ground) -> None:
    ground.deploy("v1.0.0")
    known = state(ground, "blue")
    pid = int(str(known["pid"]))
    assert os.getsid(pid) == pid != os.getsid(0)
    assert alive(pid, known["start_time"])


def test_a_warm_version_is_not_started_again(ground: Ground) -> None:
    ground.deploy("v1.0.0")
    ground.deploy("v1.1.0")
    before = state(ground, "blue")["pid"]
    ground.deploy("v1.0.0")
    assert state(ground, "blue")["pid"] == before
    assert "v1.0.0 is still warm in the blue slot." in ground.logged


def test_another_artefact_of_the_same_version_is_no_warm_one(ground: Ground) -> None:
    ground.deploy("v1.0.0")
    ground.deploy("v1.1.0")
    folder = Path(ground.artefact("v1.0.0").source)
    (folder / "more.py").write_text("")
    changed = Artefact("v1.0.0", "folder", str(folder), checksum(folder))
    ground.driver().prepare(changed)
    assert state(ground, "blue")["checksum"] == changed.checksum


def test_restart_goes_through_the_other_slot(ground: Ground) -> None:
    ground.deploy("v1.0.0")
    ground.driver().restart()
    reality = ground.driver().look()
    assert [(each.name, each.live, each.version) for each in reality.instances] == [
        ("blue", False, "v1.0.0"),
        ("green", True, "v1.0.0"),
    ]


def test_a_restart_starts_what_has_ended(ground: Ground) -> None:
    with pytest.raises(DeploymentError, match="Nothing is live here. Deploy a release first."):
        ground.driver().restart()
    ground.deploy("v1.0.0")
    os.killpg(int(str(state(ground, "blue")["pid"])), signal.SIGKILL)
    ground.driver().restart()
    assert ground.driver().look().live == "v1.0.0"


def test_stop_and_start(ground: Ground) -> None:
    ground.deploy("v1.0.0")
    driver = ground.driver()
    driver.stop()
    reality = driver.look()
    assert reality.live == "" and "nothing runs there" in reality.sentence
    driver.start()
    assert driver.look().live == "v1.0.0"


def test_clean_up_leaves_what_is_live_warm_or_kept(ground: Ground) -> None:
    for version in ("v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"):
        ground.deploy(version)
    driver = ground.driver()
    assert [line.split()[0] for line in driver.leftovers(["v1.1.0"])] == ["v1.0.0"]
    assert driver.cleanup(["v1.1.0"])[0].startswith("v1.0.0 was removed")
    assert set(driver.look().revisions) == {"v1.1.0", "v1.2.0", "v1.3.0"}


def test_discard_ends_what_never_went_live_and_nothing_else(ground: Ground) -> None:
    ground.deploy("v1.0.0")
    driver, artefact = ground.driver(), ground.artefact("v1.1.0")
    driver.prepare(artefact)
    known = state(ground, "green")
    driver.discard(artefact)
    assert not alive(known["pid"], known["start_time"])
    driver.discard(ground.artefact("v1.0.0"))
    assert driver.look().live == "v1.0.0"


# -- trouble -----------------------------------------------------------------------------------------------------------


def test_one_that_never_becomes_ready_gets_no_request(ground: Ground) -> None:
    ground.deploy("v1.0.0")
    driver, artefact = ground.driver(environment={"READY_AFTER": "-1"}), ground.artefact("v1.1.0")
    driver.prepare(artefact)
    with pytest.raises(NotReady, match="v1.1.0 was not ready within 1 s: it answered with 503"):
        driver.wait_ready(artefact, 1)
    with pytest.raises(NotReady, match="No traffic goes to it"):
        driver.switch(artefact)
    assert driver.look().live == "v1.0.0"


def test_one_that_ends_says_its_last_words_at_once(ground: Ground) -> None:
    ground.settings["argv"] = [sys.executable, "-c", "import sys; print('no database'); sys.exit(3)"]
    driver, artefact = ground.driver(), ground.artefact("v1.0.0")
    began = time.monotonic()
    driver.prepare(artefact)
    with pytest.raises(NotReady, match="v1.0.0 has ended. Its last words: no database"):
        driver.wait_ready(artefact, 30)
    assert time.monotonic() - began < 10


def test_a_program_that_is_not_there(ground: Ground) -> None:
    ground.settings["argv"] = ["/nowhere/python", "app.py"]
    with pytest.raises(DeploymentError, match="/nowhere/python could not be started|has ended"):
        ground.driver().prepare(ground.artefact("v1.0.0"))
        ground.driver().wait_ready(ground.artefact("v1.0.0"), 2)


def test_a_port_of_somebody_else_is_named(ground: Ground) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", ground.settings["blue"]))
        stranger.listen()
        (port,) = [each for each in ground.driver().preflight(ground.artefact("v1.0.0")) if each.name == "port"]
        assert not port.good
        assert f"Port {ground.settings['blue']} of the blue slot cannot be used" in port.sentence
        assert f"(process {os.getpid()})" in port.sentence


def stranger(port: int, words: str = "") -> subprocess.Popen[bytes]:
    """Somebody else's program on a port, once it listens there."""
    program = (
        f"import socket, time; {words or 'pass'}; s = socket.create_server(('127.0.0.1', {port})); print(flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", f"{program}; time.sleep(60)"], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline()
    return process


@pytest.mark.parametrize("words", ["", "import signal; signal.signal(15, signal.SIG_IGN)"], ids=["polite", "deaf"])
def test_somebody_elses_program_on_a_port_is_ended_and_no_other(ground: Ground, words: str) -> None:
    ground.deploy("v1.0.0")
    ground.deploy("v1.1.0")
    driver = ground.driver()
    assert driver.port_holders() == []  # its own programs are nobody else's
    live = state(ground, "green")
    driver.discard(Artefact("v1.0.0", "", ""))
    process = stranger(ground.settings["blue"], words)
    try:
        (holder,) = driver.port_holders()
        assert (holder.port, holder.pid, holder.user) == (ground.settings["blue"], process.pid, os.geteuid())
        later = replace(holder, started=holder.started + 1)
        driver.end_port_holder(later)  # that process has gone: nothing happens to the one that has its number
        assert process.poll() is None
        driver.end_port_holder(holder)
        assert process.wait(5) in (-signal.SIGTERM, -signal.SIGKILL)
        assert driver.port_holders() == []
        driver.end_port_holder(holder)  # twice is no trouble
    finally:
        process.kill()
        process.wait()
    assert alive(live["pid"], live["start_time"])
    ground.deploy("v1.2.0")


def test_one_that_does_not_hold_the_port_any_more_is_left_alone(ground: Ground) -> None:
    process = stranger(ground.settings["blue"])
    try:
        (holder,) = ground.driver().port_holders()
        with pytest.raises(DeploymentError, match="does not hold port .* any more"):
            ground.driver().end_port_holder(replace(holder, port=ground.settings["green"]))
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_log_that_is_too_long_begins_anew(ground: Ground) -> None:
    ground.deploy("v1.0.0")
    log = ground.root / "slots" / "blue" / "out.log"
    with log.open("r+b") as file:
        file.truncate(LOG_MOST_BYTES)
        file.seek(0, os.SEEK_END)
        file.write(b"\nthe last words\n")
    ground.driver().look()
    assert log.stat().st_size == 0
    assert log.with_name("out.log.1").read_bytes().endswith(b"the last words\n")
    assert log.with_name("out.log.1").stat().st_size == LOG_KEPT_BYTES


def test_a_folder_that_cannot_be_written(ground: Ground) -> None:
    ground.settings["root"] = "/proc/srv"
    permissions = ground.driver().preflight(ground.artefact("v1.0.0"))[0]
    if permissions.good:  # root may write nearly everywhere
        with pytest.raises(DeploymentError):
            ground.driver().prepare(ground.artefact("v1.0.0"))
    else:
        assert "cannot be written by user" in permissions.sentence


def test_another_checksum_is_refused(ground: Ground) -> None:
    artefact = ground.artefact("v1.0.0")
    wrong = Artefact("v1.0.0", "folder", artefact.source, f"sha256:{'0' * 64}")
    with pytest.raises(DeploymentError, match="is not the release that was asked for: its checksum is"):
        ground.driver().prepare(wrong)
    assert not (ground.root / "releases" / "v1.0.0").exists()


@pytest.mark.parametrize("version", ["../../etc", "a/b", "v1;reboot", "v1\nv2", "", "-rf", "$(id)", "v1..2"])
def test_hostile_versions_stay_data(ground: Ground, version: str) -> None:
    source = ground.artefact("v1.0.0").source
    with pytest.raises(DeploymentError, match="A version has letters"):
        ground.driver().prepare(Artefact(version, "folder", source, ""))


def test_archives(ground: Ground, tmp_path: Path) -> None:
    folder = Path(ground.artefact("v1.0.0").source)
    for name, version in (("a b'c.tar.gz", "v2.0.0"), ('d"e.zip', "v2.1.0")):
        path = tmp_path / name
        if name.endswith("zip"):
            with zipfile.ZipFile(path, "w") as zipped:
                zipped.write(folder / "app.py", "app.py")
        else:
            with tarfile.open(path, "w:gz") as packed:
                packed.add(folder / "app.py", "app.py")
        artefact = Artefact(version, "archive", str(path), checksum(path))
        ground.driver().prepare(artefact)
        ground.driver().wait_ready(artefact, 10)
        ground.driver().switch(artefact)
        assert ground.driver().look().live == version


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil"])
def test_archives_that_lead_out_are_refused(ground: Ground, tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as packed:
        packed.addfile(tarfile.TarInfo(name))
    with pytest.raises(DeploymentError, match="leads out of its folder"):
        ground.driver().prepare(Artefact("v1.0.0", "archive", str(path), ""))


def test_archives_with_links_are_refused(ground: Ground, tmp_path: Path) -> None:
    path = tmp_path / "link.tar"
    with tarfile.open(path, "w") as packed:
        info = tarfile.TarInfo("passwd")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(info)
    with pytest.raises(DeploymentError, match="neither a file nor a folder"):
        ground.driver().prepare(Artefact("v1.0.0", "archive", str(path), ""))


def test_secrets_reach_the_program_and_nothing_else(ground: Ground) -> None:
    secret = "hunter2-is-no-good"
    driver = ground.driver(secrets={"DB_PASSWORD": secret})
    driver.prepare(ground.artefact("v1.0.0"))
    pid = state(ground, "blue")["pid"]
    assert secret in Path(f"/proc/{pid}/environ").read_text()
    assert secret not in Path(f"/proc/{pid}/cmdline").read_text()
    for file in ground.root.rglob("*"):
        assert not file.is_file() or secret not in file.read_text(errors="replace")
    assert secret not in str(ground.logged)


def test_a_secret_that_the_program_prints_is_masked(ground: Ground) -> None:
    folder = Path(ground.artefact("v1.0.0").source)
    (folder / "app.py").write_text("import os; print('dsn', os.environ['DB_PASSWORD']); raise SystemExit(3)")
    artefact = Artefact("v1.0.0", "folder", str(folder), checksum(folder))
    driver = ground.driver(secrets={"DB_PASSWORD": "hunter2-hunter2"})
    with pytest.raises(NotReady, match=r"Its last words: dsn \*\*\*"):
        driver.prepare(artefact)
        driver.wait_ready(artefact, 5)
    assert driver.logs("v1.0.0") == [f"dsn {MASK}"]


def test_what_would_end_with_the_portal_is_not_started() -> None:
    unit = "opsportal-operations@operations.service"
    assert portals_unit(f"0::/system.slice/system-opsportal\\x2doperations.slice/{unit}\n") == unit
    for other in ("0::/\n", "0::/user.slice/user-1000.slice/session-3.scope\n", "0::/system.slice/ssh.service\n"):
        assert portals_unit(other) == ""


def test_an_access_log_that_cannot_be_read_is_said_before(ground: Ground) -> None:
    ground.settings["access_log"] = str(ground.root / "nowhere.log")
    (found,) = [each for each in ground.driver().preflight(ground.artefact("v1.0.0")) if each.name == "access log"]
    assert not found.good and "cannot be read by user" in found.sentence


@pytest.mark.needs("ssh", "sshd")
def test_on_another_machine(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The agent is sent over SSH, secrets inside its request; programs stay when the connections end."""
    commands: list[Command] = []

    def run(command: Command, *, stdin: BinaryIO | None = None) -> Result:
        commands.append(command)
        return run_checked(command, stdin=stdin)

    def deploy(version: str, connector: Connector) -> Driver:
        driver = ground.driver(connector=connector, run=run, secrets={"DB_PASSWORD": "hunter2-hunter2"})
        artefact = ground.artefact(version)
        assert [check.sentence for check in driver.preflight(artefact) if not check.good] == []
        driver.prepare(artefact)
        driver.wait_ready(artefact, 10)
        driver.switch(artefact)
        driver.drain(artefact, 5)
        return driver

    with running_sshd(tmp_path_factory.mktemp("far") / "d") as sshd:
        deploy("v1.0.0", sshd.connector())
        driver = deploy("v1.1.0", sshd.connector())
        assert driver.look().live == "v1.1.0"
        driver.revert("v1.0.0")
    reality = ground.driver().look()
    assert reality.live == "v1.0.0" and all(each.ready for each in reality.instances)
    live = state(ground, "blue")
    assert b"hunter2-hunter2" in Path(f"/proc/{live['pid']}/environ").read_bytes()
    assert commands and all("hunter2" not in f"{each.argv} {each.env} {each.shown()}" for each in commands)


# -- fences and deaths -------------------------------------------------------------------------------------------------


def test_an_earlier_attempt_changes_nothing_any_more(ground: Ground) -> None:
    ground.deploy("v1.0.0", attempt=1)
    late, artefact = ground.driver(1), ground.artefact("v1.1.0")
    late.prepare(artefact)
    late.wait_ready(artefact, 10)
    ground.driver(2).discard(artefact)
    for act in (late.switch, late.prepare, late.discard):
        with pytest.raises(Fenced):
            act(artefact)
    assert ground.driver(2).look().live == "v1.0.0"


def test_a_stranger_with_the_same_process_id_is_never_ended(ground: Ground) -> None:
    ground.deploy("v1.0.0")
    ground.deploy("v1.1.0")
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        path = ground.root / "slots" / "blue" / "state.json"
        known = json.loads(path.read_text())
        real = known["pid"]
        path.write_text(json.dumps({**known, "pid": stranger.pid, "start_time": 1}))
        os.killpg(real, signal.SIGKILL)
        time.sleep(0.1)
        ground.deploy("v1.2.0")
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("after_s", [0.02, 0.05, 0.08, 0.12, 0.2])
def test_an_agent_killed_at_any_moment_leaves_one_whole_state(ground: Ground, after_s: float) -> None:
    """The next attempt brings the release out, and no third program runs."""
    ground.deploy("v1.0.0")
    artefact = ground.artefact("v1.1.0")
    driver = ground.driver()
    with killed_after(after_s):
        for act in (driver.prepare, driver.switch):
            try:
                act(artefact)
            except DeploymentError:
                pass
    assert ground.driver(2).look().live in ("v1.0.0", "v1.1.0")
    ground.deploy("v1.1.0", attempt=2)
    assert ground.driver(2).look().live == "v1.1.0"
    recorded = {state(ground, slot)["pid"] for slot in ("blue", "green")}
    running = {int(name) for name in os.listdir("/proc") if name.isdigit() and _runs_here(name, ground)}
    assert running <= recorded


def _runs_here(pid: str, ground: Ground) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd").startswith(str(ground.root / "releases"))
    except OSError:
        return False


@contextmanager
def killed_after(seconds: float) -> Iterator[None]:
    """Whatever agents this process starts meanwhile are killed so long after."""
    stop = threading.Event()

    def strike() -> None:
        time.sleep(seconds)
        while not stop.is_set():
            for name in os.listdir("/proc"):
                if not name.isdigit():
                    continue
                try:
                    words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if words[1:3] == [b"-I", b"-"] and _below_me(int(name)):
                    os.kill(int(name), signal.SIGKILL)
                    return
            time.sleep(0.002)

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _below_me(pid: int) -> bool:
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
        if pid == os.getpid():
            return True
    return False


# -- behind a proxy ----------------------------------------------------------------------------------------------------


def switches(ground: Ground, port: int, count: int) -> list[Seen]:
    ground.deploy("v1.0.0")
    with grounds.load(port) as seen:
        for number in range(count):
            ground.deploy(f"v1.{number % 2 + 1}.0")
    return seen


def judged(seen: list[Seen]) -> None:
    assert [line for each in seen for line in each.failed] == []
    assert sum(each.races for each in seen) == 0
    assert sum(len(each.times) for each in seen) > 100
    assert {"v1.1.0", "v1.2.0"} <= {version for each in seen for version in each.versions}


def test_nobody_notices_switches_behind_caddy(ground: Ground) -> None:
    ground.root.mkdir(parents=True)
    (ground.root / "active_port").write_text(str(ground.settings["blue"]))
    with grounds.caddy(ground) as port:
        judged(switches(ground, port, 6))


@pytest.mark.needs("nginx")
def test_nobody_notices_switches_behind_nginx(tmp_path: Path) -> None:
    with grounds.ground(tmp_path, "socket_link") as ground:
        with grounds.nginx(ground) as port:
            judged(switches(ground, port, 6))
        assert os.readlink(ground.root / "active.sock").endswith("/app.sock")


def test_the_load_notices_a_restart_in_place(ground: Ground) -> None:
    """The control: what blue-green spares its users is seen when it is not there."""
    with grounds.caddy(ground) as port:
        ground.deploy("v1.0.0")
        with grounds.load(port) as seen:
            for _ in range(2):
                ground.driver().stop()
                ground.driver().start()
        assert [line for each in seen for line in each.failed]


def test_errors_are_counted_in_the_access_log(ground: Ground) -> None:
    import http.client

    with grounds.caddy(ground) as port:
        ground.deploy("v1.0.0")
        driver = ground.driver()
        assert driver.sample() is not None
        for path in ("/", "/bad", "/", "/bad", "/"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            connection.getresponse().read()
            connection.close()
        give_up, requests, errors = time.monotonic() + 5, 0, 0
        while requests < 5 and time.monotonic() < give_up:
            found = driver.sample()
            assert found is not None
            requests, errors = requests + found.requests, errors + found.errors
        assert (requests, errors) == (5, 2)
