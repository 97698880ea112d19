"""The harness's own servers and workers, in a throwaway folder: free to be killed, started again when they are."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from opsportal.stack.folders import CHECKOUT, Folders
from opsportal.stack.identity import Account
from opsportal.stack.process import NotYet, Service, spawn, start_time
from opsportal.stack.programs import postgres_bin
from opsportal.stack.redis import ADMIN
from opsportal.stack.servers import DATABASE, Servers

# A tenth of the usual, so that a case is over in seconds.
LEASE_S, HEARTBEAT_S, TICK_S = 3.0, 0.5, 0.25
# As the product's default: half a lease.
FROZEN_TRANSACTION_MS = int(LEASE_S * 500)
READY_WITHIN_S = 60

PORTAL, TARGET, REDIS, CONTROL, BEAT = "postgres-portal", "postgres-demo", "redis", "control", "beat"
WORKERS = ("worker-a", "worker-b")


class Running:
    """One process that is started again whenever it has gone."""

    def __init__(self, service: Service, logs: Path) -> None:
        self.service = service
        self.name = service.name
        self._log = logs / f"{service.name}.log"
        self.popen: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def pid(self) -> int:
        assert self.popen is not None
        return self.popen.pid

    def tend(self) -> bool:
        """Start it if it does not run; True when this call did. Main thread only (see `spawn`)."""
        if self.popen is not None and self.popen.poll() is None:
            return False
        try:
            self.service.prepare()
        except NotYet:
            return False
        self.starts += 1
        self.popen = spawn(
            self.service.argv,
            env=self.environment(),
            cwd=self.service.cwd,
            log=self._log,
            account=self.service.account,
        ).popen
        return True

    def environment(self) -> Mapping[str, str]:
        return self.service.env

    def last_lines(self, count: int = 15) -> str:
        """The end of its log, for whoever has to find out why it does not come up."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join([f"--- {self.name}, started {self.starts} times", *lines[-count:]])

    def is_ready(self) -> bool:
        return self.popen is not None and self.popen.poll() is None and self.service.is_ready(self.pid)

    def signal(self, number: int) -> None:
        """To its whole group, as a machine that fails would do it."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def stop(self) -> None:
        if self.popen is not None and self.popen.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            self.popen.wait()


class Worker(Running):
    """A Celery worker. Every start gets a temporary folder of its own, by which its commands are known in /proc."""

    def __init__(self, service: Service, logs: Path, tmp: Path) -> None:
        super().__init__(service, logs)
        self._tmp = tmp
        self.folder_of: dict[int, Path] = {}

    def tend(self) -> bool:
        started = super().tend()
        if started:
            self.folder_of[self.pid] = self._folder
        return started

    def environment(self) -> Mapping[str, str]:
        self._folder.mkdir()
        return {**self.service.env, "TMPDIR": str(self._folder)}

    @property
    def _folder(self) -> Path:
        return self._tmp / f"{self.name}-{self.starts}"


class Machine:
    """Everything that runs. A context manager: nothing is left at its end."""

    def __init__(self) -> None:
        account = Account.current()
        self.root = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))  # short: sockets lie below it
        self.root.chmod(0o711)
        self.folders = Folders.prepare(self.root / "d", account)
        self.servers = Servers.describe(self.folders, portal=True, demo=True, redis=True, throwaway=True)
        self.tmp = self._folder("tmp")
        self.faults = self._folder("faults")
        self.running: dict[str, Running] = {}

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(mode=0o700)
        return folder

    def __enter__(self) -> Machine:
        self.servers.create()
        for service in self.servers.services():
            self.running[service.name] = Running(service, self.folders.logs)
        self.tend()
        self.wait_ready()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for name in (*reversed(self.running),):
            self.running[name].stop()
        for pid in self.commands():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """Of the harness itself and of the workers."""
        assert self.servers.portal and self.servers.demo and self.servers.redis
        frozen = quote(f"-c idle_in_transaction_session_timeout={FROZEN_TRANSACTION_MS}ms")
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {
            **keep,
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": "opsportal.settings",
            "SECRET_KEY": secrets.token_hex(32),
            "HTTPS": "false",
            "DATABASE_URL": f"{self.servers.portal.url(DATABASE)}&options={frozen}",
            "REDIS_URL": self.servers.redis.url(),
            "DATA_DIR": str(self.folders.data),
            "PG_BIN": str(postgres_bin(self.folders.account)),
            "OPERATIONS_LEASE_S": str(LEASE_S),
            "OPERATIONS_HEARTBEAT_S": str(HEARTBEAT_S),
            "OPERATIONS_TICK_S": str(TICK_S),
            "OPS_SECRET_CHAOS": self.servers.demo.password,
            "CHAOS_FAULTS": str(self.faults),
        }

    def start_workers(self, env: Mapping[str, str]) -> None:
        """Two operations workers, so that one is warm when the other dies; the control worker; beat."""
        celery = [sys.executable, "-m", "celery", "-A", "tests.chaos.worker_app"]
        quiet = ["--without-mingle", "--without-gossip", "--loglevel", "INFO"]
        argvs = {
            name: [*celery, "worker", "-Q", "operations", "--pool", "prefork", "-c", "1", "-n", f"{name}@chaos", *quiet]
            for name in WORKERS
        }
        argvs[CONTROL] = [*celery, "worker", "-Q", "control", "--pool", "solo", "-n", "control@chaos", *quiet]
        argvs[BEAT] = [*celery, "beat", "--pidfile=", "--loglevel", "INFO"]
        for name, argv in argvs.items():
            service = Service(name=name, title=name, argv=argv, env=env, cwd=CHECKOUT)
            self.running[name] = Worker(service, self.folders.logs, self.tmp)
        self.tend()

    def tend(self) -> None:
        """Start again what has gone."""
        for running in self.running.values():
            running.tend()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not all(running.is_ready() for running in self.running.values()):
            self.tend()
            if time.monotonic() > deadline:
                waiting = [running.last_lines() for running in self.running.values() if not running.is_ready()]
                raise RuntimeError("not ready:\n" + "\n".join(waiting))
            time.sleep(0.02)

    def redis_admin_socket(self) -> tuple[str, str, str]:
        assert self.servers.redis
        return str(self.servers.redis.socket_path), ADMIN, self.servers.redis.password

    # -- processes ------------------------------------------------------------------------------------------------

    def commands(self, of_worker: int | None = None) -> dict[int, str]:
        """Commands that workers have started and that still live: pid -> command line.

        They are known by TMPDIR, which a worker hands down to all it starts, and told from Celery's own processes by
        their command line. `of_worker` is the process id of one worker, which may be dead.
        """
        found = {}
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            if start_time(pid) is None:
                continue
            try:
                environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            folders = [Path(os.fsdecode(entry[7:])) for entry in environ if entry.startswith(b"TMPDIR=")]
            mine = folders and folders[0].parent == self.tmp and of_worker in (None, self._worker_of(folders[0]))
            if mine and argv and "celery" not in argv:
                found[pid] = argv
        return found

    def _worker_of(self, folder: Path) -> int | None:
        """The process that was given this temporary folder."""
        for running in self.running.values():
            if isinstance(running, Worker):
                for pid, known in running.folder_of.items():
                    if known == folder:
                        return pid
        return None
