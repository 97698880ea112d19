"""Database files and their names: which there are, who has them open, and how one takes another's place."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from backups.engines.base import Check, Connection
from backups.engines.files import disk_errors
from backups.exceptions import BackupError, TargetUnavailable
from backups.manifest import fsync_folder

SIDECARS = ("-wal", "-shm", "-journal")
LONGEST_NAME = 200  # bytes; the suffixes need some of the file system's 255
BUSY_S = 10.0
MACHINE_ID = Path("/etc/machine-id")


def path_of(conn: Connection, name: str) -> Path:
    """The file of that name in the folder; refuses whatever could lead elsewhere."""
    if not name or "/" in name or "\0" in name or name in (".", "..") or len(name.encode()) > LONGEST_NAME:
        raise BackupError(f"“{name[:100]}” is not the plain name of a file. Write a name without “/”.")
    return Path(conn.host) / name


def existing(conn: Connection, name: str = "") -> Path:
    """The file, which is there and may be read. Raises ``TargetUnavailable``."""
    path = path_of(conn, name or conn.database)
    if not path.is_file():
        raise TargetUnavailable(
            f"There is no file {path} on the machine of this process. Correct folder and name in the catalog, or mount "
            "the disk it is on."
        )
    if not os.access(path, os.R_OK):
        raise TargetUnavailable(f"The portal's account may not read {path}. Correct owner and mode, or its groups.")
    return path


def identity_of(conn: Connection) -> str:
    """A number for the folder on this machine: the same file elsewhere, or another folder here, has another one."""
    folder = Path(conn.host)
    if not folder.is_dir():
        raise TargetUnavailable(
            f"There is no folder {folder} on the machine of this process. Correct it in the catalog, or mount its disk."
        )
    try:
        machine = MACHINE_ID.read_text().strip()
    except OSError:
        machine = ""  # containers often have none, and a host name that changes
    digest = hashlib.sha256(f"{machine}\0{folder.resolve()}".encode()).digest()
    return str(int.from_bytes(digest[:8], "big"))


def sidecars(path: Path) -> Iterator[Path]:
    """Names of the log and the journals of a database file, there or not."""
    return (path.with_name(path.name + suffix) for suffix in SIDECARS)


def sees_everybody() -> bool:
    """Whether `holders` may look at the processes of every account. Those of other containers it never sees."""
    return os.geteuid() == 0


def holders(path: Path) -> list[str]:
    """Other processes that have the file open, as far as this account may look: `name (number)`."""
    try:
        wanted = path.stat()
    except OSError:
        return []
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) != os.getpid() and _has_open(pid, wanted):
            try:
                found.append(f"{Path('/proc', pid, 'comm').read_text().strip()} ({pid})")
            except OSError:
                continue
    return found


def _has_open(pid: str, wanted: os.stat_result) -> bool:
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for number in numbers:
        try:
            status = os.stat(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue
        if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False


def exchange(live: Path, incoming: Path, aside: Path, check: Check) -> None:
    """``live`` becomes ``aside`` and ``incoming`` becomes ``live``. May be repeated after a death at any point.

    First the live file gets its second name, then one rename replaces it: at every instant the live name leads to the
    old database or to the new one. Until that rename nothing is decided, and an exchange the other way round takes
    the second name away again.
    """
    with disk_errors(live.parent):
        if not incoming.exists():
            if not live.exists():
                raise BackupError(f"Neither {live} nor {incoming} is there. Restore beside, under another name.")
            _move_sidecars(incoming, live)
            return  # an earlier attempt has done it
        if same(live, incoming):
            _take_back(live, incoming)
            fsync_folder(live.parent)
            return
        _settle(live)
        check()
        if live.exists():
            if not same(live, aside):
                link(live, aside)
            _move_sidecars(live, aside)
        try:
            os.rename(incoming, live)
        except FileNotFoundError:  # a successor has taken this over, put everything back, and removed it
            _take_back(live, aside)
            raise
        _move_sidecars(incoming, live)
        if using := holders(aside):  # somebody has opened it between the last look and the rename
            os.link(live, incoming)
            os.rename(aside, live)
            _move_sidecars(aside, live)
            raise _in_use(live, ", ".join(using[:5]))
        fsync_folder(live.parent)


def _take_back(live: Path, aside: Path) -> None:
    """The live file loses its second name, and gets back what had gone along with that."""
    if same(live, aside):
        _move_sidecars(aside, live)
        aside.unlink()


def link(source: Path, target: Path) -> None:
    """A second name for a file; refuses one that is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise BackupError(f"There is a file {target} already. Rename or remove it, then use Retry.") from None
    fsync_folder(target.parent)


def same(one: Path, other: Path) -> bool:
    """Whether both names lead to one file."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _move_sidecars(source: Path, target: Path) -> None:
    """What a file that SQLite cannot open has beside it goes with it. One that it can open has nothing by now."""
    for before, after in zip(sidecars(source), sidecars(target), strict=True):
        if before.exists() and not after.exists():
            os.rename(before, after)


def _settle(live: Path) -> None:
    """Bring everything of the live database into its one file. Raises BackupError while somebody uses it."""
    if not live.exists():
        return
    broken = False
    try:
        uri = f"file:{quote(str(live))}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)) as session:
            session.execute("BEGIN EXCLUSIVE")  # waits for writers, and rolls back what a crash left in a journal
            session.execute("COMMIT")
            session.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise _in_use(live, str(error)) from error
        raise BackupError(
            f"SQLite cannot open {live} for writing ({error}). Correct owner and mode of the file and its folder, and "
            "run the worker as the account of the application, or as root."
        ) from error
    except sqlite3.DatabaseError:
        broken = True  # it is set aside as it is, with what lies beside it
    if using := holders(live):
        raise _in_use(live, ", ".join(using[:5]))
    if not broken and any(path.exists() for path in sidecars(live)):  # the last connection removes them
        raise _in_use(live, "its log is still in use")


def _in_use(live: Path, why: str) -> BackupError:
    return BackupError(
        f"{live} is in use ({why}). A program that has it open would go on writing into the replaced file. Stop it, or "
        "set up service control, then use Retry."
    )
