"""Backups that others have made: which there are in the folders that may be looked into, told by their content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from backups import manifest
from backups.engines.base import BackupEngine
from backups.exceptions import BackupError
from backups.models import Storage

DEEPEST = 3  # folders below a root
MOST_LOOKED_AT = 5000
MOST_SHOWN = 200


@dataclass(frozen=True)
class Found:
    """A backup that can be adopted. `size` in bytes.

    `made_at` is when it says it was made, or the file's time where that is earlier: a copy may be younger than what is
    in it, and data must not seem younger than it is.
    """

    path: Path
    kind: str
    size: int
    made_at: datetime


@dataclass(frozen=True)
class Look:
    """What a look into the folders has found: the backups newest first, the folders, and those that cannot be read."""

    found: tuple[Found, ...]
    folders: tuple[Path, ...]
    unreadable: tuple[Path, ...]


def roots(storage: Storage) -> tuple[Path, ...]:
    """The folders that may be looked into: that of the storage, and those of the setting ADOPT_DIRS."""
    return tuple(dict.fromkeys((Path(storage.root), *(Path(folder) for folder in settings.ADOPT_DIRS))))


def look(engine: BackupEngine, storage: Storage) -> Look:
    """Look into the folders from this process."""
    found: list[Found] = []
    readable = [folder for folder in roots(storage) if os.access(folder, os.R_OK | os.X_OK)]
    for folder in readable:
        for number, path in enumerate(_candidates(folder, DEEPEST)):
            if number >= MOST_LOOKED_AT:
                break
            if kind := engine.foreign_kind(path):
                found.append(_found(engine, path, kind))
    found.sort(key=lambda each: each.made_at, reverse=True)
    unreadable = tuple(folder for folder in roots(storage) if folder not in readable)
    return Look(tuple(found[:MOST_SHOWN]), roots(storage), unreadable)


def permitted(engine: BackupEngine, storage: Storage, path: Path) -> Found:
    """The backup at this path. Raises BackupError with the sentence why it may not or cannot be adopted."""
    allowed = roots(storage)
    real = Path(os.path.realpath(path))
    if not any(real.is_relative_to(os.path.realpath(root)) and real != root for root in allowed):
        places = " or ".join(str(root) for root in allowed)
        raise BackupError(f"{path} is not below {places}. Move it there, or name its folder in ADOPT_DIRS.")
    if not real.exists():
        raise BackupError(f"There is no {path} on the worker's machine. Correct the path, or mount the disk it is on.")
    if (real / manifest.NAME).exists() or (real.parent / manifest.NAME).exists():
        raise BackupError(f"{path} is part of an archive that the portal has made. It is in the list of archives.")
    kind = engine.foreign_kind(real) if real.is_file() or real.is_dir() else ""
    if not kind:
        raise BackupError(f"{path} is not a backup that can be adopted for a {engine.name} database. Choose another.")
    return _found(engine, real, kind)


def _candidates(folder: Path, depth: int) -> Iterator[Path]:
    """Plain files, and folders that may be a dump; hidden ones, links, and archives of the portal are left out."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_file():
            yield Path(entry.path)
        elif entry.is_dir():
            inside = Path(entry.path)
            if (inside / manifest.NAME).exists():
                continue
            if (inside / "toc.dat").exists():
                yield inside
            elif depth > 0:
                yield from _candidates(inside, depth - 1)


def _found(engine: BackupEngine, path: Path, kind: str) -> Found:
    status = path.stat()
    size = sum(each.stat().st_size for each in path.iterdir()) if path.is_dir() else status.st_size
    moments = [datetime.fromtimestamp(status.st_mtime, UTC), datetime.now(UTC)]
    said = engine.foreign_moment(path)
    return Found(path, kind, size, min([*moments, said] if said else moments))
