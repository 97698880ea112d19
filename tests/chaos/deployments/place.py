"""An environment of the harness: slots on this machine behind a proxy that is killed and started again."""

from __future__ import annotations

import http.client
import os
import random
import shutil
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from catalog.models import Environment, Service
from deployments.actions.releases import create_release
from deployments.models import DeploymentProfile, LiveState, Release
from opsportal.stack.process import Service as Program
from opsportal.stack.process import start_time
from tests.chaos.deployments import strikes
from tests.chaos.deployments.cases import PROXIES
from tests.chaos.servers import Machine, Running
from tests.chaos.world import World
from tests.deployments import grounds
from tests.deployments.grounds import Ground

# Not where the kernel takes ports of outgoing connections: a port that is free while its program is dead stays free.
PORTS = range(20_000, 30_000)
READY_AFTER_S, SLOW_S = 0.25, 0.4
MIGRATE = ["/bin/sleep", "0.2"]
WATCH_FOR = timedelta(seconds=0.4)
LIMIT_S = 5


def port() -> int:
    """A free port that no outgoing connection is given."""
    while True:
        number = random.choice(PORTS)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", number))
            except OSError:
                continue
        return number


def listens(number: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", number), 1).close()
    except OSError:
        return False
    return True


@dataclass
class Place:
    """One environment and what stands behind it."""

    proxy: str
    ground: Ground
    port: int
    environment: Environment
    world: World
    built: int = 0

    @property
    def root(self) -> Path:
        return self.ground.root

    @property
    def live(self) -> LiveState:
        return LiveState.objects.with_place().get(environment=self.environment)

    @property
    def version(self) -> str:
        """What the books say is live."""
        release = self.live.release
        return release.version if release is not None else ""

    def release(self) -> Release:
        """A new one each time."""
        self.built += 1
        artefact = self.ground.artefact(f"v{1 + PROXIES.index(self.proxy)}.{self.built}.0")
        return create_release(
            self.environment.service,
            artefact.version,
            source_kind="folder",
            source=artefact.source,
            checksum=artefact.checksum,
            by=self.world.person,
        )

    def change(self, **values: object) -> None:
        DeploymentProfile.objects.filter(environment=self.environment).update(**values)

    # -- reality -------------------------------------------------------------------------------------------------------

    def named_slot(self) -> str:
        """The slot that the proxy is sent to; empty when it is none."""
        goes = strikes.named(self.root)
        return next((name for name, known in strikes.slots(self.root).items() if str(known["listens"]) == goes), "")

    def running(self) -> dict[int, Path]:
        """Every process that was started in the folder of a release: pid -> that folder."""
        found, releases = {}, str(self.root / "releases")
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                folder = os.readlink(f"/proc/{pid}/cwd")
            except OSError:
                continue
            if folder.startswith(f"{releases}/") and start_time(pid) is not None:
                found[pid] = Path(folder)
        return found

    def recorded(self) -> dict[str, int]:
        """Slots whose program lives, by what is written down: slot -> process id."""
        found = {}
        for slot, known in strikes.slots(self.root).items():
            pid = known.get("pid")
            if pid and start_time(int(str(pid))) == known.get("start_time"):
                found[slot] = int(str(pid))
        return found

    def is_served(self) -> bool:
        """Whether a program runs where the proxy is sent to."""
        return self.named_slot() in self.recorded()

    def turn(self) -> None:
        """The proxy goes to the other slot, and nobody writes it down."""
        other = next(known for slot, known in strikes.slots(self.root).items() if slot != self.named_slot())
        if self.proxy == "caddy":
            (self.root / "active_port").write_text(str(other["listens"]))
            return
        (self.root / "active.sock").unlink()
        (self.root / "active.sock").symlink_to(str(other["listens"]))

    def answer(self) -> str:
        """What a user gets: the version, or what went wrong."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        try:
            connection.request("GET", "/")
            got = connection.getresponse()
            return got.read().decode() if got.status == 200 else f"status {got.status}"
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()


def make(world: World, proxy: str, service: Service, stack: ExitStack) -> Place:
    """The environment, its profile and its proxy, which the machine keeps alive from now on."""
    folder = world.machine.root / proxy
    folder.mkdir()
    folder.chmod(0o755)  # nginx's user has to come through
    kind = "port_file" if proxy == "caddy" else "socket_link"
    ground = stack.enter_context(grounds.ground(folder, kind))
    ground.root.mkdir()
    ground.settings.update(blue=port(), green=port())
    number = _start_proxy(world.machine, proxy, ground)
    environment = Environment.objects.create(service=service, name=proxy, slug=proxy, kind="production")
    DeploymentProfile.objects.create(
        environment=environment,
        settings=ground.settings,
        migrate=MIGRATE,
        watch_for=WATCH_FOR,
        ready_within_s=15,
        drain_within_s=10,
        command_timeout_s=60,
        rollback_target=timedelta(minutes=2),
    )
    given = {"READY_AFTER": str(READY_AFTER_S), "SLOW_S": str(SLOW_S)}
    LiveState.objects.create(environment=environment, settings=given)
    return Place(proxy, ground, number, environment, world)


def _start_proxy(machine: Machine, proxy: str, ground: Ground) -> int:
    """As the ground of the tests starts it, but under supervision. Returns its port."""
    folder, number = ground.root.parent, port()
    with (grounds.caddy if proxy == "caddy" else grounds.nginx)(ground) as first:
        pass  # its configuration is written
    file = folder / ("caddy.json" if proxy == "caddy" else "nginx/nginx.conf")
    file.write_text(file.read_text().replace(f"127.0.0.1:{first}", f"127.0.0.1:{number}"))
    if proxy == "caddy":
        argv = [str(Path(sys.executable).with_name("caddy")), "run", "--config", str(file)]
    else:
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
        argv = [program, "-p", str(file.parent), "-c", str(file)]
    env = {"PATH": os.environ["PATH"], **dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(folder))}
    service = Program(name=proxy, title=proxy, argv=argv, env=env, is_ready=lambda pid: listens(number))
    machine.running[proxy] = Running(service, machine.folders.logs)
    machine.tend()
    machine.wait_ready()
    return number
