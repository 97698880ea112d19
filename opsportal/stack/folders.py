"""Where the stack keeps its things, who holds a data folder, and the secrets made on the first start."""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from opsportal.stack import StackError
from opsportal.stack.identity import Account
from opsportal.stack.programs import SYSTEM_HOME

CHECKOUT = Path(__file__).resolve().parents[2]
_LONGEST_SOCKET_PATH = 107  # bytes; the kernel's sun_path


@dataclass(frozen=True)
class Folders:
    """The folders below DATA_DIR, all created."""

    data: Path
    logs: Path
    secrets: Path
    servers: Path  # the databases' own; elsewhere when their account cannot reach DATA_DIR
    sockets: Path
    account: Account

    @property
    def register(self) -> Path:
        return self.data / "processes.json"

    @classmethod
    def prepare(cls, data: Path, account: Account) -> "Folders":
        """Create what is missing. Raises StackError when a folder is not ours or cannot be made."""
        try:
            make_data_dir(data, account)
            logs, secret = (_private(data / name) for name in ("logs", "secrets"))
            servers = _servers_home(data, account)
            sockets = _socket_home(servers, data, account)
        except OSError as error:
            raise StackError(
                f"{data} cannot be used for the portal's data ({error}); choose another with DATA_DIR=... make run."
            ) from error
        return cls(data, logs, secret, servers, sockets, account)

    def socket_folder(self, name: str) -> Path:
        """A server's own socket folder, which only its account can enter."""
        return self.account.own_folder(self.sockets / name)

    def secret(self, name: str, *, needed_by: Path | None = None) -> str:
        """A random secret, made when first asked for; `needed_by` is data that was made with it."""
        path = self.secrets / name
        with contextlib.suppress(FileNotFoundError):
            if value := path.read_text().strip():
                return value
        if needed_by is not None and needed_by.exists():
            raise StackError(f"{path} is missing, but {needed_by} was made with it; put it back from a backup.")
        value = secrets.token_hex(32)
        write_private(path, value)
        return value


class DataLock:
    """Holds a data folder for one supervisor; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, data: Path, address: str) -> None:
        self._file = (data / "lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = read_lock(data)
            raise StackError(
                f"A portal already runs on {data}: process {holder.get('pid', '?')}, {holder.get('address', '')}. "
                "Stop it first, or start another with DATA_DIR=... PORT=... make run."
            ) from None
        self._file.seek(0)
        self._file.truncate()
        json.dump({"pid": os.getpid(), "address": address}, self._file)
        self._file.flush()

    def release(self) -> None:
        """Let go; the file stays, because removing it would let two holders in."""
        self._file.close()


def read_lock(data: Path) -> dict[str, object]:
    """Who wrote the lock last: pid and address. Says nothing about whether it is held."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads((data / "lock").read_text()))
    return {}


def is_held(data: Path) -> bool:
    """Whether a supervisor holds this data folder now."""
    try:
        with (data / "lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; only we can read it."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def make_data_dir(data: Path, account: Account) -> None:
    """Create DATA_DIR so that the servers' account can pass through it, and nobody else can look inside."""
    if not data.is_dir():
        data.parent.mkdir(parents=True, exist_ok=True)
        data.mkdir()
        data.chmod(0o711 if account.dropped else 0o700)


def _private(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _servers_home(data: Path, account: Account) -> Path:
    """Folder of the databases: in DATA_DIR, or below /var/lib when their account cannot get there.

    The place is decided once and written down, because a later change of some folder's mode must not make the portal
    start again with an empty database.
    """
    pointer = data / "servers-are-in"
    if pointer.exists():
        home = Path(pointer.read_text().strip())
        if not home.is_dir():
            raise StackError(
                f"The databases of {data} were in {home}, which is gone; put it back, or remove {pointer}."
            )
        return home
    home = data / "servers"
    fresh = not home.exists()
    home.mkdir(exist_ok=True)
    if fresh:
        home.chmod(0o711 if account.dropped else 0o700)
    if not account.dropped or account.can_enter(home):
        return home
    if not fresh:
        raise StackError(
            f"The databases in {home} can no longer be reached by the account that runs them; "
            "give the folders above it permission to pass (chmod o+x)."
        )
    home.rmdir()
    SYSTEM_HOME.mkdir(mode=0o755, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix=f"{_short_hash(data)}-", dir=SYSTEM_HOME))
    home.chmod(0o711)
    if not account.can_enter(home):
        raise StackError(
            f"The account that runs the databases can enter neither {data} nor {SYSTEM_HOME}; "
            "choose another folder with DATA_DIR=... make run."
        )
    write_private(pointer, str(home))
    return home


def _socket_home(servers: Path, data: Path, account: Account) -> Path:
    """Folder of the socket folders, short enough for the kernel."""
    home = servers / "run"
    if len(os.fsencode(home / "portal" / ".s.PGSQL.5432")) <= _LONGEST_SOCKET_PATH:
        home.mkdir(exist_ok=True)
        home.chmod(0o711 if account.dropped else 0o700)
        return home
    home = Path("/tmp") / f"opsportal-{_short_hash(data)}"  # noqa: S108 - checked below
    try:
        home.mkdir(mode=0o700)
        os.chown(home, account.uid, account.gid)
    except FileExistsError:
        found = home.lstat()
        # In a folder where everybody may write, somebody else may have been here first.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or stat.S_IMODE(found.st_mode) != 0o700:
            raise StackError(
                f"{home} belongs to somebody else; remove it, or choose a shorter DATA_DIR for the sockets."
            ) from None
    return home


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
