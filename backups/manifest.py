"""The manifest: what an archive consists of and what was in the database, so that an archive explains itself.

``manifest.json`` is written last, so a folder without one is not an archive. It lists every other file with size and
SHA-256 and ends with a SHA-256 of itself, which finds accidents, not forgers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from backups.exceptions import ArchiveDamaged

NAME = "manifest.json"
FORMAT = 1
READ_BYTES = 1024 * 1024
LARGEST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class FileEntry:
    """A file of the archive, its path relative to the folder; ``plain_size`` is its unpacked size, None if unknown."""

    path: str
    size: int
    sha256: str
    plain_size: int | None = None


@dataclass(frozen=True)
class TableFacts:
    """Rows of a table and a fingerprint of them that does not depend on their order; None when not taken."""

    rows: int
    fingerprint: str | None = None


@dataclass(frozen=True)
class TableEntry:
    """A table in the snapshot. ``file`` is its data file in the archive, ``bytes`` its size in the database."""

    schema: str
    name: str
    oid: int
    file: str
    rows: int
    fingerprint: str | None
    bytes: int

    @property
    def key(self) -> str:
        """How the table is named in comparisons and on pages."""
        return table_key(self.schema, self.name)


@dataclass(frozen=True)
class Grant:
    """A privilege on the database; ``role`` is None for PUBLIC."""

    role: str | None
    privilege: str
    grantable: bool


@dataclass(frozen=True)
class Setting:
    """ALTER DATABASE/ROLE ... SET; ``role`` is None when it is for every role."""

    role: str | None
    name: str
    value: str


@dataclass(frozen=True)
class DatabaseProperties:
    """What belongs to a database but to no object in it; no dump of a single database has it."""

    owner: str
    encoding: str
    locale_provider: str  # as in pg_database: c libc, i icu, b builtin
    locale: str | None
    collate: str
    ctype: str
    icu_rules: str | None = None
    tablespace: str = "pg_default"
    connection_limit: int = -1
    grants: list[Grant] | None = None  # None: the server's default privileges
    settings: list[Setting] = field(default_factory=list)
    comment: str | None = None


@dataclass(frozen=True, kw_only=True)
class DumpFacts:
    """What an engine knows after a dump. Sizes in bytes; ``seconds`` by part."""

    engine: str
    database: str
    server_version: str
    server_version_num: int
    system_identifier: str
    client_version: str
    snapshot_at: datetime
    codec: str
    database_bytes: int
    files: list[FileEntry]
    tables: list[TableEntry]
    large_objects: int
    properties: DatabaseProperties
    extensions: dict[str, str]
    roles: list[str]
    tablespaces: list[str] = field(default_factory=list)
    subscriptions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def archive_bytes(self) -> int:
        """Size of all files without the manifest."""
        return sum(file.size for file in self.files)

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)


@dataclass(frozen=True, kw_only=True)
class Manifest(DumpFacts):
    """The facts of a dump with where it came from."""

    format: int = FORMAT
    operation_id: int
    plan: str
    name: str
    created_at: datetime

    @classmethod
    def of(cls, facts: DumpFacts, *, operation_id: int, plan: str, name: str, created_at: datetime) -> Manifest:
        """The manifest for a dump."""
        values = {one.name: getattr(facts, one.name) for one in dataclasses.fields(facts)}
        return cls(**values, operation_id=operation_id, plan=plan, name=name, created_at=created_at)


def table_key(schema: str, name: str) -> str:
    """An unambiguous name: parts with anything but plain lower-case letters, digits and _ are in double quotes."""

    def quoted(text: str) -> str:
        plain = text.isascii() and text.replace("_", "a").isalnum() and text == text.lower()
        return text if plain else '"' + text.replace('"', '""') + '"'

    return f"{quoted(schema)}.{quoted(name)}"


def write(folder: Path, manifest: Manifest) -> FileEntry:
    """Write ``manifest.json`` so that it is there completely or not at all, also after a power cut."""
    values = encode(manifest)
    values["sha256"] = _digest(values)
    data = json.dumps(values, indent=1, ensure_ascii=True).encode()
    part = folder / (NAME + ".part")
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(part, folder / NAME)
    fsync_folder(folder)
    return FileEntry(NAME, len(data), hashlib.sha256(data).hexdigest())


def read(folder: Path) -> Manifest:
    """Read and check ``manifest.json``. Raises ``ArchiveDamaged``."""
    path = folder / NAME
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ArchiveDamaged(f"{path} is larger than any manifest. Use another archive.")
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArchiveDamaged(
            f"There is no {NAME} in {folder}, so it is not a complete archive. Use another one."
        ) from None
    except OSError as error:
        raise ArchiveDamaged(
            f"{path} cannot be read ({error.strerror}). Check the disk and the permissions."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ArchiveDamaged(
            f"{path} is not readable as JSON, it was damaged or edited. Use another archive."
        ) from error
    if not isinstance(values, dict) or values.get("sha256") != _digest(
        {k: v for k, v in values.items() if k != "sha256"}
    ):
        raise ArchiveDamaged(f"{path} was damaged or edited: its own checksum does not match. Use another archive.")
    if values.get("format") != FORMAT:
        raise ArchiveDamaged(
            f"{path} has format {values.get('format')}, this portal reads {FORMAT}. Update the portal."
        )
    del values["sha256"]
    try:
        manifest: Manifest = decode(Manifest, values)
    except (TypeError, ValueError) as error:
        raise ArchiveDamaged(f"{path} does not have the expected fields ({error}). Use another archive.") from error
    for file in manifest.files:
        _safe(folder, file.path)
    return manifest


def check_files(
    folder: Path,
    manifest: Manifest,
    progress: Callable[[int, int | None, str], None] = lambda done, total, unit: None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """SHA-256 of every file; missing, changed and unknown files are named. Raises ``ArchiveDamaged``."""
    check_listing(folder, manifest)
    done, total = 0, manifest.archive_bytes
    for entry in manifest.files:
        for size in HashedReader(folder, entry).sizes():
            done += size
            progress(done, total, "bytes")
            check()


def check_listing(folder: Path, manifest: Manifest) -> None:
    """The folder has exactly the files of the manifest. Raises ``ArchiveDamaged``."""
    expected = {file.path for file in manifest.files} | {NAME}
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    if missing := sorted(expected - found):
        raise ArchiveDamaged(f"{_some(missing)} missing in {folder}. Use another archive.")
    if extra := sorted(found - expected):
        raise ArchiveDamaged(
            f"{_some(extra)} not part of the archive {folder}. Move what does not belong there away and verify again."
        )


class HashedReader:
    """Reads a file of an archive in pieces and compares size and SHA-256 at its end."""

    def __init__(self, folder: Path, entry: FileEntry) -> None:
        self.path, self.entry = _safe(folder, entry.path), entry

    def sizes(self) -> typing.Iterator[int]:
        """The sizes of the pieces, for who only wants the check."""
        for piece in self:
            yield len(piece)

    def __iter__(self) -> typing.Iterator[bytes]:
        digest, size = hashlib.sha256(), 0
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(fd, "rb", buffering=0) as file:
                while piece := file.read(READ_BYTES):
                    digest.update(piece)
                    size += len(piece)
                    yield piece
        except FileNotFoundError:
            raise ArchiveDamaged(f"{self.path} is missing. Use another archive.") from None
        except OSError as error:
            raise ArchiveDamaged(f"{self.path} cannot be read ({error.strerror}). Check the disk.") from error
        if size != self.entry.size:
            raise ArchiveDamaged(f"{self.path} has {size} bytes instead of {self.entry.size}. Use another archive.")
        if digest.hexdigest() != self.entry.sha256:
            raise ArchiveDamaged(f"{self.path} was changed: its SHA-256 is not the recorded one. Use another archive.")


def hash_file(folder: Path, path: Path) -> FileEntry:
    """The entry for a file that is there now."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
            size += len(piece)
    return FileEntry(str(path.relative_to(folder)), size, digest.hexdigest())


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def encode(value: Any) -> Any:
    """Dataclasses, lists, dicts and moments as JSON values. A text PostgreSQL could not have sent is an error."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: encode(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [encode(one) for one in value]
    if isinstance(value, dict):
        return {str(key): encode(one) for key, one in value.items()}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value


def decode(kind: Any, value: Any) -> Any:
    """The inverse of ``encode`` for the annotated ``kind``. Raises TypeError or ValueError for anything unexpected."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else decode(next(one for one in arguments if one is not types.NoneType), value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise TypeError(f"{kind.__name__} is not an object")
        hints = typing.get_type_hints(kind)
        return kind(**{key: decode(hints[key] if key in hints else _unknown(key), one) for key, one in value.items()})
    if origin is list and isinstance(value, list):
        return [decode(arguments[0], one) for one in value]
    if origin is dict and isinstance(value, dict):
        return {key: decode(arguments[1], one) for key, one in value.items()}
    if kind is datetime and isinstance(value, str):
        return datetime.fromisoformat(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise TypeError(f"{value!r:.80} is not {kind}")


def _unknown(key: str) -> Any:
    raise TypeError(f"unknown field {key!r:.80}")


def _digest(values: dict[str, Any]) -> str:
    data = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(data.encode()).hexdigest()


def _safe(folder: Path, name: str) -> Path:
    """The path of an entry inside ``folder``; refuses what leads out of it."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or str(PurePosixPath(name)) != name:
        raise ArchiveDamaged(
            f"The manifest in {folder} names the file {name!r}, which leads out of the archive. Do not use it."
        )
    return folder / name


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{shown} {'is' if len(names) == 1 else 'are'}"
