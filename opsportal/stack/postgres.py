"""An embedded PostgreSQL cluster: created once, reached by a socket only, always started in the foreground."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from opsportal.stack import StackError
from opsportal.stack.identity import Account
from opsportal.stack.process import NotYet, Service, start_time

USER = "ops"
_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_STATUS_LINE = 7  # of postmaster.pid, as pg_ctl reads it


@dataclass(frozen=True)
class Cluster:
    """One PostgreSQL data folder and the socket folder where it answers."""

    name: str
    title: str
    data: Path
    sockets: Path
    bin: Path
    account: Account
    password: str
    throwaway: bool = False  # its data need not survive: no fsync, no clean shutdown

    def create(self, databases: Sequence[str] = ()) -> None:
        """Make the cluster and its databases if it does not exist; all of it or nothing."""
        if self.data.exists():
            self.account.own_folder(self.data)
            return
        scratch = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        self.account.own_folder(scratch)
        self._initdb(scratch)
        for database in databases:
            self._single_user(scratch, f'CREATE DATABASE "{database}"')
        scratch.rename(self.data)

    def service(self) -> Service:
        """How the supervisor runs it."""
        argv = [str(self.bin / "postgres"), "-D", str(self.data), "-k", str(self.sockets), "-h", ""]
        settings = ["unix_socket_permissions=0700", "timezone=UTC", "log_timezone=UTC"]
        if self.throwaway:
            settings += ["max_connections=200", "fsync=off", "full_page_writes=off"]
        for setting in settings:
            argv += ["-c", setting]
        return Service(
            name=self.name,
            title=self.title,
            argv=argv,
            env=_ENV,
            account=self.account,
            stage=0,
            # Fast shutdown ends its clients and loses nothing; immediate shutdown only saves time.
            stop_signal=signal.SIGQUIT if self.throwaway else signal.SIGINT,
            stop_limit_s=30,
            orphan_signal=signal.SIGINT,
            last_resort=signal.SIGQUIT,
            prepare=self.clear_remains,
            is_ready=self.is_ready,
        )

    def url(self, database: str) -> str:
        """A DATABASE_URL."""
        return f"postgresql://{USER}:{self.password}@/{database}?host={quote(str(self.sockets), safe='/')}"

    def is_ready(self, pid: int) -> bool:
        """Whether that postmaster accepts connections, by its own word in postmaster.pid (pg_ctl does the same)."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > _STATUS_LINE and lines[0] == str(pid) and lines[_STATUS_LINE].strip() == "ready"

    def clear_remains(self) -> None:
        """Remove the lock files of a crashed server. Raises NotYet while that server is still going down.

        PostgreSQL itself refuses to start when the pid in its lock file is a zombie or was given to another program
        of the same account. We hold the lock of the whole data folder, so nobody else can be starting here.
        """
        lock = self.data / "postmaster.pid"
        try:
            pid = int(lock.read_text().split("\n", 1)[0])
        except FileNotFoundError:
            pid = 0
        except ValueError:
            pid = 0  # cut off by a crash
        if pid and self._is_our_postmaster(pid):
            raise NotYet(f"the earlier server (process {pid}) is still shutting down")
        lock.unlink(missing_ok=True)
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            (self.sockets / name).unlink(missing_ok=True)

    def _is_our_postmaster(self, pid: int) -> bool:
        if start_time(pid) is None:
            return False
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            return name == "postgres" and Path(os.readlink(f"/proc/{pid}/cwd")) == self.data.resolve()
        except OSError:  # gone, or of another account and so not ours
            return False

    def _initdb(self, folder: Path) -> None:
        reader, writer = os.pipe()  # the password never appears in a file or on a command line
        try:
            os.write(writer, f"{self.password}\n".encode())
            os.close(writer)
            if self.account.dropped:
                os.fchown(reader, self.account.uid, self.account.gid)
            argv = [str(self.bin / "initdb"), "-D", str(folder), "-U", USER, f"--pwfile=/proc/self/fd/{reader}"]
            argv += ["--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--encoding=UTF8"]
            argv += ["--locale-provider=builtin", "--locale=C.UTF-8"]
            if self.throwaway:
                argv.append("--no-sync")
            self._run(argv, pass_fds=(reader,))
        finally:
            os.close(reader)

    def _single_user(self, folder: Path, statement: str) -> None:
        argv = [str(self.bin / "postgres"), "--single", "-D", str(folder), "-c", "log_checkpoints=off", "postgres"]
        self._run(argv, text=f"{statement}\n")

    def _run(self, argv: list[str], *, text: str = "", pass_fds: tuple[int, ...] = ()) -> None:
        done = subprocess.run(
            argv,
            input=text,
            env=_ENV,
            cwd="/",
            capture_output=True,
            text=True,
            errors="replace",
            pass_fds=pass_fds,
            start_new_session=True,
            umask=0o077,
            **self.account.popen_args(),
        )
        # A failed statement in single-user mode still exits with 0.
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line or "FATAL" in line]
        if done.returncode != 0 or errors:
            said = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-6:])
            raise StackError(f"The {self.title} could not be created in {self.data.parent}:\n  {said}")
