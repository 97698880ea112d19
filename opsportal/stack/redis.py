"""The embedded Redis: a socket, a password, no network. It carries messages only and may lose them all."""

import hashlib
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from opsportal.stack.identity import Account
from opsportal.stack.process import Service

USER = "ops"
ADMIN = "admin"


@dataclass(frozen=True)
class Redis:
    """One Redis data folder and the folder of its socket."""

    data: Path
    sockets: Path
    program: Path
    account: Account
    password: str
    with_admin: bool = False  # a second user who may flush and configure it: for tests that do

    @property
    def socket_path(self) -> Path:
        return self.sockets / "redis.sock"

    def url(self, user: str = USER) -> str:
        """A REDIS_URL as Celery reads it."""
        return f"redis+socket://{user}:{self.password}@{quote(str(self.socket_path), safe='/')}?virtual_host=0"

    def service(self) -> Service:
        """How the supervisor runs it."""
        return Service(
            name="redis",
            title="Redis",
            argv=[str(self.program), str(self.data / "redis.conf")],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            account=self.account,
            stage=1,
            stop_signal=signal.SIGTERM,
            orphan_signal=signal.SIGTERM,
            prepare=self.configure,
            is_ready=self.is_ready,
        )

    def configure(self) -> None:
        """Write its two configuration files anew."""
        self.socket_path.unlink(missing_ok=True)
        digest = hashlib.sha256(self.password.encode()).hexdigest()
        users = f"user default off\nuser {USER} on #{digest} ~* &* +@all -@dangerous +info\n"
        if self.with_admin:
            users += f"user {ADMIN} on #{digest} ~* &* +@all\n"
        self.account.write(self.data / "users.acl", users)
        lines = {
            "port": "0",
            "unixsocket": _quoted(self.socket_path),
            "unixsocketperm": "700",
            "aclfile": _quoted(self.data / "users.acl"),
            "dir": _quoted(self.data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": '""',
        }
        self.account.write(self.data / "redis.conf", "".join(f"{key} {value}\n" for key, value in lines.items()))

    def is_ready(self, pid: int) -> bool:
        """Whether it answers PING."""
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(1)
                client.connect(str(self.socket_path))
                client.sendall(f"AUTH {USER} {self.password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2 and (part := client.recv(256)):
                    answer += part
                return b"+PONG" in answer
        except OSError:
            return False


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
