"""A real sshd on loopback: its own keys, its own configuration, the user who runs the tests."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from catalog.connectors import SshConnector
from catalog.models import Host
from tests.factories import HostFactory

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
LogLevel ERROR
MaxStartups 100
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)


@dataclass
class Sshd:
    """One server. `host_key` is the line to pin, `key` the private key that opens it."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def user(self) -> str:
        return getpass.getuser()

    @property
    def host_key(self) -> str:
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    @property
    def public_key(self) -> str:
        """That of the account, which is no host key."""
        return " ".join((self.folder / "key.pub").read_text().split()[:2])

    @property
    def key(self) -> str:
        return (self.folder / "key").read_text()

    def start(self) -> None:
        """Returns when it answers."""
        program = shutil.which("sshd", path="/usr/sbin:/sbin") or "sshd"
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        for _ in range(5):
            self.port = self.port or free_port()
            (self.folder / "config").write_text(CONFIG.format(port=self.port, folder=self.folder))
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen([program, "-D", "-e", "-f", self.folder / "config"], stderr=log)
            if self._answers():
                return
            self.stop()
            self.port = 0
        raise AssertionError((self.folder / "log").read_text())

    def _answers(self) -> bool:
        give_up = time.monotonic() + 15
        while time.monotonic() < give_up and self.process and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                    return probe.recv(4) == b"SSH-"
            except OSError:
                time.sleep(0.05)
        return False

    def stop(self) -> None:
        self.drop_sessions()
        if self.process:
            self.process.kill()
            self.process.wait()

    def drop_sessions(self) -> int:
        """Kill what serves the connections, as a broken network would end them; how many there were."""
        assert self.process
        try:
            sessions = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return 0
        dropped = 0
        for session in sessions:
            try:
                if session.name() == "sshd":
                    session.send_signal(signal.SIGKILL)
                    dropped += 1
            except psutil.NoSuchProcess:
                pass
        return dropped

    def change_host_key(self) -> None:
        """The machine was set up anew, or another one answers at the address."""
        self.stop()
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink()
        make_key(self.folder / "host_key")
        self.start()

    def connector(self, **changes: object) -> SshConnector:
        values = {
            "address": "127.0.0.1",
            "port": self.port,
            "user": self.user,
            "private_key": self.key,
            "host_keys": (self.host_key,),
        }
        return SshConnector(**{**values, **changes})  # type: ignore[arg-type]

    def host(self, **fields: object) -> Host:
        """The row for it. The key's reference is a file below the folder of secrets."""
        from django.conf import settings

        secrets = Path(settings.SECRET_DIRS[0])
        secrets.mkdir(parents=True, exist_ok=True)
        reference = secrets / f"ssh-{os.getpid()}-{self.port}"
        reference.write_text(self.key)
        values = {
            "kind": Host.Kind.SSH,
            "address": "127.0.0.1",
            "port": self.port,
            "user": self.user,
            "key_ref": f"file:{reference}",
            "host_keys": self.host_key,
        }
        host: Host = HostFactory(**{"name": f"ssh-{os.getpid()}-{self.port}", **values, **fields})
        return host


@contextmanager
def running_sshd(folder: Path) -> Iterator[Sshd]:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    make_key(folder / "host_key")
    make_key(folder / "key")
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    server = Sshd(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
