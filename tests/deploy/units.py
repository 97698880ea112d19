"""Reads the unit files and starts what they say, as the service manager would: account, folder, environment, umask."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from opsportal.stack.identity import Account

CHECKOUT = Path(__file__).resolve().parents[2]
DEPLOY = CHECKOUT / "deploy"
UNITS = DEPLOY / "systemd"
INSTALLED = "/opt/opsportal"  # where the units expect the checkout
CONFIGURED = "/etc/opsportal"


@dataclass
class Unit:
    name: str
    values: dict[str, list[str]]  # of [Service]

    @classmethod
    def read(cls, name: str) -> Unit:
        """`opsportal-operations@operations.service` is read from its template."""
        stem, at, rest = name.partition("@")
        instance = rest.removesuffix(".service")
        values = defaultdict(list)
        section = ""
        for line in (UNITS / (f"{stem}@.service" if at else name)).read_text().splitlines():
            if line.startswith("["):
                section = line
            elif section == "[Service]" and line and not line.startswith("#"):
                key, _, value = line.partition("=")
                values[key].append(value.replace("%i", instance))
        return cls(name, dict(values))

    def one(self, key: str) -> str:
        (value,) = self.values[key]
        return value

    @property
    def stop_limit_s(self) -> float:
        return float(self.one("TimeoutStopSec"))


def environment_file(path: Path) -> dict[str, str]:
    """NAME=value lines, as EnvironmentFile= reads them."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


class Running:
    """One started unit."""

    def __init__(self, unit: Unit, installed: Path, configured: Path, account: Account, folder: Path) -> None:
        self.unit, self.log = unit, folder / f"{unit.name}.log"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = folder / f"{unit.name}.notify"
        self.notify.bind(str(address))
        address.chmod(0o777)
        credentials = self._credentials(configured, account, folder)
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"}
        for line in unit.values["Environment"]:
            env |= dict(part.split("=", 1) for part in shlex.split(line.replace("%d", str(credentials))))
        env |= environment_file(configured / Path(unit.one("EnvironmentFile")).relative_to(CONFIGURED))
        if unit.one("Type") == "notify":
            env["NOTIFY_SOCKET"] = str(address)
        argv = [part.replace(INSTALLED, str(installed)) for part in shlex.split(unit.one("ExecStart"))]
        argv = [part.replace("${PORT}", env["PORT"]).replace("%%", "%") for part in argv]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                argv,
                env=env,
                cwd=unit.one("WorkingDirectory").replace(INSTALLED, str(installed)),
                umask=int(unit.one("UMask"), 8),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **account.popen_args(),
            )

    def _credentials(self, configured: Path, account: Account, folder: Path) -> Path:
        place = account.own_folder(folder / f"{self.unit.name}.credentials")
        for line in self.unit.values["LoadCredential"]:
            name, _, source = line.partition(":")
            account.write(place / name, (configured / Path(source).relative_to(CONFIGURED)).read_text())
        return place

    def wait_until_it_says_ready(self, limit_s: float) -> None:
        self.notify.settimeout(limit_s)
        said = b""
        while b"READY=1" not in said:
            said = self.notify.recv(4096)

    def stop(self) -> int:
        """KillSignal= to the main process alone; its exit code. TimeoutExpired when it outlives TimeoutStopSec=."""
        self.process.send_signal(signal.Signals[self.unit.one("KillSignal")])
        return self.process.wait(self.unit.stop_limit_s)

    def kill(self) -> None:
        self.notify.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(10)

    def output(self) -> str:
        return self.log.read_text(errors="replace")
