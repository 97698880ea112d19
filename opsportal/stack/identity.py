"""Who runs the servers, and which folders that account may use.

PostgreSQL refuses to run as root. Started by root, both servers run as `nobody`; started by anybody else, as oneself.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opsportal.stack import StackError


@dataclass(frozen=True)
class Account:
    """The account that owns the servers' data and processes."""

    uid: int
    gid: int
    dropped: bool  # True when it is not the account that runs the supervisor

    @classmethod
    def current(cls) -> "Account":
        """Ourselves, or `nobody` when we are root. Raises StackError when root has nobody to hand the servers to."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), dropped=False)
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise StackError(
                "PostgreSQL refuses to run as root and this system has no account 'nobody'; "
                "start the portal as an ordinary user."
            ) from None
        return cls(nobody.pw_uid, nobody.pw_gid, dropped=True)

    def popen_args(self) -> dict[str, Any]:
        """Keyword arguments that make subprocess start a program as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.dropped else {}

    def own_folder(self, path: Path) -> Path:
        """Create a folder that only this account can enter; an existing one must already be its own."""
        if not path.is_dir():
            path.mkdir(mode=0o700)
            if self.dropped:
                os.chown(path, self.uid, self.gid)
        found = path.stat().st_uid
        if found != self.uid:
            raise StackError(
                f"{path} belongs to {_user_name(found)}, but the servers would run as {_user_name(self.uid)}: start "
                "the portal as the user who created it, or choose another folder with DATA_DIR=... make run."
            )
        return path

    def write(self, path: Path, text: str) -> None:
        """Write a file that only this account can read."""
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            if self.dropped:
                os.fchown(fd, self.uid, self.gid)
            file.write(text)

    def can_enter(self, folder: Path) -> bool:
        """Whether this account can pass through an existing folder and everything above it."""
        return self.try_run(["test", "-x", str(folder)]) is None

    def try_run(self, argv: list[str]) -> str | None:
        """Run a short program as this account; None when it worked, else what it said."""
        try:
            done = subprocess.run(
                argv, cwd="/", capture_output=True, text=True, errors="replace", timeout=30, **self.popen_args()
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return None if done.returncode == 0 else (done.stderr.strip() or f"exit {done.returncode}")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
