"""The unit files are good, and what they start is a portal that backs up and stops in time."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import TargetServer
from tests.deploy.site import BACK_UP, Site, production
from tests.deploy.units import CHECKOUT, INSTALLED, UNITS, Unit
from tests.factories import sample_database
from tests.opsportal.stack_tools import alive, wait_until

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give processes another account")
SERVICES = (
    "opsportal-web.service",
    "opsportal-control.service",
    "opsportal-operations@operations.service",
    "opsportal-beat.service",
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units beside programs that exist, since the checkout is not in /opt."""
    for path in UNITS.glob("opsportal*"):
        (tmp_path / path.name).write_text(path.read_text().replace(INSTALLED, str(CHECKOUT)))
    return tmp_path


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("name", [*SERVICES, "opsportal.target"])
def test_systemd_finds_nothing_to_say(installed: Path, name: str) -> None:
    shutil.copy(installed / "opsportal-operations@.service", installed / "opsportal-operations@operations.service")
    argv = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(installed / name)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("name", SERVICES)
def test_systemd_counts_it_as_well_closed(installed: Path, name: str) -> None:
    template = re.sub("@.*[.]", "@.", name)
    argv = ["systemd-analyze", "security", "--offline=yes", "--threshold=25", "--no-pager", str(installed / template)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_the_target_wants_every_service() -> None:
    (wants,) = re.findall("^Wants=(.*)$", (UNITS / "opsportal.target").read_text(), re.MULTILINE)
    assert set(wants.split()) == set(SERVICES)
    on_disk = {path.name for path in UNITS.glob("*.service")}
    assert on_disk == {re.sub("@.*[.]", "@.", name) for name in SERVICES}


def test_all_services_are_closed_in_the_same_way() -> None:
    own = {"Type", "ExecStart", "TimeoutStopSec"}
    first, *others = [
        {key: value for key, value in Unit.read(name).values.items() if key not in own} for name in SERVICES
    ]
    assert all(other == first for other in others)


@only_root
@pytest.mark.xdist_group("deploy")
class TestStarted:
    @pytest.fixture(scope="class")
    @staticmethod
    def site(target_server: TargetServer) -> Iterator[Site]:
        with production() as site:
            yield site

    def test_they_make_a_portal_that_backs_up_and_stops_in_time(self, site: Site, target_server: TargetServer) -> None:
        database = sample_database(target_server)
        archives = site.account.own_folder(site.folder / "data" / "archives")
        password = site.configured / "target-secrets" / "shop"
        site.account.write(password, target_server.password)
        site.start(*SERVICES)
        site.units["opsportal-web.service"].wait_until_it_says_ready(60)
        site.wait_ready()

        text = BACK_UP.format(
            host=target_server.host,
            port=5432,
            database=database.name,
            user=target_server.user,
            password=f"file:{password}",
            archives=str(archives),
        )
        (pk,) = re.findall(r"^operation (\d+)$", site.manage("shell", stdin=text), re.MULTILINE)
        state = "SELECT state FROM operations_operation WHERE id = %s"
        wait_until(lambda: site.value(state, pk) not in ("queued", "running"), 90, site.logs)
        assert site.value(state, pk) == "succeeded", site.logs()
        assert list(archives.glob("shop/*/manifest.json"))
        owners = {path.stat().st_uid for path in archives.rglob("*")}
        assert owners == {site.account.uid}

        everything = [p for u in site.units.values() for p in _family(u.process.pid)]
        assert {p.uids().effective for p in everything} == {site.account.uid}
        codes = {name: unit.stop() for name, unit in site.units.items()}
        assert set(codes.values()) == {0}, (codes, site.logs())
        wait_until(lambda: not alive(everything), 10, lambda: str(alive(everything)))


def _family(pid: int) -> list[psutil.Process]:
    main = psutil.Process(pid)
    return [main, *main.children(recursive=True)]
