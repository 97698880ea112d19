"""What a backup engine is. An engine knows one kind of database; it knows nothing of the portal's tables or tasks.

A new engine is one new module with a subclass of ``BackupEngine`` and one line in ``backups.engines.ENGINES``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from backups.manifest import DatabaseProperties, DumpFacts, Manifest, TableFacts
from operations.commands import Command, OnLine, OnStdout, Result

Progress = Callable[[int, int | None, str], None]
"""(done, total or None, unit); called often, always in the caller's thread."""

Log = Callable[[str], None]
"""One line for the person who watches."""

Check = Callable[[], None]
"""Called often during long work; raises to stop it."""


class Runner(Protocol):
    """Runs a command to its end; raises ``CommandFailed`` when it ends with another code than 0."""

    def __call__(
        self,
        command: Command,
        *,
        on_line: OnLine | None = None,
        on_stdout: OnStdout | None = None,
        stdin: BinaryIO | None = None,
    ) -> Result: ...


def no_progress(done: int, total: int | None, unit: str) -> None:
    """For callers that do not show progress."""


def no_log(text: str) -> None:
    """For callers that do not show a log."""


def no_check() -> None:
    """For callers that never stop."""


@dataclass(frozen=True)
class Connection:
    """How to reach a database. ``host`` is a name, an address or the folder of a Unix socket.

    ``application_name`` marks everything the portal does at the server; by it a later attempt finds and ends what an
    earlier one left behind.
    """

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    sslmode: str = "prefer"
    maintenance_database: str = "postgres"
    application_name: str = "opsportal"
    connect_timeout_s: int = 10
    address: str = ""
    """How sentences call the place, where `host` is only this end of a way to it."""
    system_identifier: str = ""
    """When set, every session asks the server for it first and refuses to work on another server."""

    def __str__(self) -> str:
        if self.address:
            return f"database “{self.database}” at {self.address}"
        place = f"the socket in {self.host}" if self.host.startswith("/") else f"{self.host}:{self.port}"
        return f"database “{self.database}” at {place}"


@dataclass(frozen=True)
class TableSize:
    """A table with user data and the bytes of its heap and TOAST, without indexes."""

    name: str
    bytes: int


@dataclass(frozen=True)
class ServerIdentity:
    """Which server it is and which version it runs."""

    system_identifier: str
    version: str


@dataclass(frozen=True)
class ServerFacts:
    """What the server says of itself, the database and our role. Sizes in bytes."""

    version: str
    version_num: int
    system_identifier: str
    database_bytes: int
    tables: tuple[TableSize, ...]
    extensions: tuple[str, ...]
    role: str
    is_superuser: bool
    can_create_databases: bool
    bypasses_row_security: bool
    can_terminate: bool
    connections: int
    max_connections: int

    @property
    def table_bytes(self) -> int:
        """Bytes of all tables without indexes: what a dump has to read."""
        return sum(table.bytes for table in self.tables)


@dataclass(frozen=True)
class CheckResult:
    """One pre-flight check. ``ok`` is None when it could not be decided; the sentence says why."""

    name: str
    ok: bool | None
    sentence: str


@dataclass(frozen=True)
class VerifyReport:
    """What a verification looked at. ``sentence`` says it for a person."""

    files: int
    bytes: int
    tables: int
    rows: int
    sentence: str


@dataclass(frozen=True)
class LiveRows:
    """Rows per table now; ``estimated`` when counting would have taken too long and statistics were read instead."""

    rows: dict[str, int]
    estimated: bool


class BackupEngine(ABC):
    """One kind of database. Every method may raise ``BackupError`` (or a subclass) with a sentence."""

    name: str

    def __init__(self, bin_dir: str = "") -> None:
        """``bin_dir`` is the folder of the client programs; empty means the PATH."""
        self.bin_dir = bin_dir

    # Looking
    @abstractmethod
    def inspect(self, conn: Connection) -> ServerFacts:
        """What is there. Raises ``TargetUnavailable``."""

    @abstractmethod
    def identify(self, conn: Connection) -> ServerIdentity:
        """Which server answers, asked without touching the database itself, which may be missing or broken."""

    @abstractmethod
    def live_rows(self, conn: Connection, *, timeout_s: float = 15) -> LiveRows:
        """Rows per table now, for the preview of what a restore would lose."""

    # Backing up
    @abstractmethod
    def preflight_dump(self, conn: Connection, facts: ServerFacts, folder: Path) -> list[CheckResult]:
        """Everything that can be known to stop a dump into ``folder``; raises at the first that does."""

    @abstractmethod
    def dump_commands(self, conn: Connection, folder: Path, *, jobs: int = 2) -> list[Command]:
        """The commands a dump would run, to be shown and not to be run."""

    @abstractmethod
    def dump(
        self, conn: Connection, folder: Path, *, jobs: int, run: Runner, progress: Progress, log: Log, check: Check
    ) -> DumpFacts:
        """Dump into the empty ``folder``; all is on disk when it returns. The manifest is the caller's to write."""

    @abstractmethod
    def verify(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        run: Runner,
        work_dir: Path,
        progress: Progress,
        log: Log,
        check: Check,
    ) -> VerifyReport:
        """Read every byte of an archive and compare with its manifest. Raises ``ArchiveDamaged``."""

    # Restoring
    @abstractmethod
    def restore_commands(self, conn: Connection, folder: Path, scratch: str, *, jobs: int = 2) -> list[Command]:
        """The commands a restore would run, to be shown and not to be run."""

    @abstractmethod
    def preflight_restore(
        self,
        conn: Connection,
        manifest: Manifest,
        folder: Path,
        *,
        system_identifier: str | None,
        forbidden: Iterable[tuple[str, str]],
        work_dir: Path,
    ) -> list[CheckResult]:
        """Everything that can be known to stop a restore; raises at the first that does."""

    @abstractmethod
    def end_backends(self, conn: Connection, application_name_prefix: str, before_attempt: int | None = None) -> int:
        """End what earlier attempts left running at the server, wait until it is gone; returns how many."""

    @abstractmethod
    def create_scratch(
        self, conn: Connection, scratch: str, properties: DatabaseProperties, *, check: Check = no_check
    ) -> None:
        """An empty database like the one that was dumped. An existing one of that name is dropped first."""

    @abstractmethod
    def load(
        self,
        folder: Path,
        manifest: Manifest,
        conn: Connection,
        scratch: str,
        *,
        jobs: int,
        work_dir: Path,
        run: Runner,
        progress: Progress,
        log: Log,
        check: Check,
    ) -> None:
        """Load the archive into ``scratch``; every byte is checked on the way."""

    @abstractmethod
    def analyze(self, conn: Connection, database: str, *, jobs: int, run: Runner) -> None:
        """Gather the statistics the planner needs."""

    @abstractmethod
    def measure(self, conn: Connection, database: str, *, check: Check, progress: Progress) -> dict[str, TableFacts]:
        """Rows and fingerprint of every table of ``database``."""

    @abstractmethod
    def compare(
        self, manifest: Manifest, measured: dict[str, TableFacts], *, server_version_num: int | None = None
    ) -> list[str]:
        """The differences as sentences; empty when the loaded data is the dumped data."""

    @abstractmethod
    def apply_properties(self, conn: Connection, database: str, properties: DatabaseProperties, *, log: Log) -> None:
        """Connection limit, privileges, settings and comment, which no dump of one database contains."""

    @abstractmethod
    def swap(self, conn: Connection, live: str, scratch: str, old: str, *, check: Check = no_check) -> None:
        """``live`` becomes ``old`` and ``scratch`` becomes ``live``, both or none; may be repeated.

        ``check`` is asked here and below when the session stands and nothing is done yet: a successor has ended the
        sessions it found, so whoever connects later must be stopped by its own lease.
        """

    @abstractmethod
    def swap_back(self, conn: Connection, live: str, old: str, aside: str, *, check: Check = no_check) -> None:
        """``live`` becomes ``aside`` and ``old`` becomes ``live``, both or none; may be repeated."""

    @abstractmethod
    def database_exists(self, conn: Connection, database: str) -> bool:
        """Is there a database of that name?"""

    @abstractmethod
    def drop_database(self, conn: Connection, database: str, *, check: Check = no_check) -> bool:
        """Drop it, clients or not; False when there was none."""

    @abstractmethod
    def rename_database(self, conn: Connection, before: str, after: str, *, check: Check = no_check) -> None:
        """Give a database another name, clients or not; done already when only `after` exists."""

    # What others have made
    @abstractmethod
    def foreign_kind(self, path: Path) -> str:
        """What a file or folder is by its content, in words; empty when this engine cannot load it."""

    @abstractmethod
    def foreign_moment(self, path: Path) -> datetime | None:
        """When it was made, as it says itself; None when it does not say."""

    @abstractmethod
    def preflight_foreign(self, conn: Connection, path: Path) -> list[CheckResult]:
        """Room for loading it beside the live database; raises when there is too little."""

    @abstractmethod
    def foreign_commands(self, conn: Connection, path: Path, scratch: str, *, jobs: int = 2) -> list[Command]:
        """The commands that would load it, to be shown and not to be run."""

    @abstractmethod
    def load_foreign(
        self,
        conn: Connection,
        path: Path,
        scratch: str,
        *,
        jobs: int,
        run: Runner,
        progress: Progress,
        log: Log,
        check: Check,
    ) -> None:
        """Load it into the empty database ``scratch``. Raises when it is damaged or cut off."""

    @abstractmethod
    def properties(self, conn: Connection) -> DatabaseProperties:
        """Those of the live database. Raises ``TargetUnavailable``."""

    # For dry runs and logs: how a person would write what the methods above do
    @abstractmethod
    def create_text(self, conn: Connection, scratch: str) -> str:
        """Creating the scratch database."""

    @abstractmethod
    def swap_text(self, conn: Connection, live: str, incoming: str, aside: str) -> list[str]:
        """``incoming`` takes the name ``live``; what is live becomes ``aside`` before, unless that is empty."""

    @abstractmethod
    def drop_text(self, conn: Connection, database: str) -> str:
        """Dropping a database."""

    @abstractmethod
    def smoke_test(self, conn: Connection, database: str, query: str) -> str:
        """Connect and ask; `query` must answer true, empty asks only for the tables. Returns a sentence."""
