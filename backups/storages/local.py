"""A folder on a disk of the worker, or on a share that is mounted there."""

from __future__ import annotations

import builtins
import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Container, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from backups import manifest
from backups.exceptions import StorageError
from backups.naming import check_folder, check_name
from backups.storages.base import Storage

PARTIAL = re.compile(r"\.partial-op(\d+)-a(\d+)")
TRASH = ".trash-"
MOST_NAMESAKES = 1000


class LocalStorage(Storage):
    """Archives as folders below ``root``, which must exist: a missing one is often a disk that is not mounted."""

    def folder(self, relative_folder: str) -> Path:
        """The absolute path of a folder; refuses what leads out of the storage, by .. or by a symbolic link."""
        if not self.root.is_absolute() or not self.root.is_dir():
            raise StorageError(
                f"The storage {self.root} does not exist. Create the folder, or mount the disk it is on."
            )
        root = self.root.resolve()
        path = root / check_folder(relative_folder)
        if not path.resolve().is_relative_to(root):
            raise StorageError(f"{path} leads out of the storage {root} by a symbolic link. Remove the link.")
        return path

    def ensure(self, relative_folder: str) -> Path:
        folder = self.folder(relative_folder)
        with _sentences(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def begin(self, relative_folder: str, op_id: int, attempt: int) -> Path:
        folder = self.ensure(relative_folder)
        with _sentences(folder):
            self.discard(relative_folder, op_id)
            partial = folder / f".partial-op{op_id}-a{attempt}"
            partial.mkdir(mode=0o700)
            return partial

    def discard(self, relative_folder: str, op_id: int) -> None:
        folder = self.folder(relative_folder)
        if not folder.is_dir():
            return
        with _sentences(folder):
            for path, found_op in _partials(folder):
                if found_op == op_id:
                    _discard(path)

    def publish(self, partial: Path, name: str) -> Path:
        check_name(name)
        self._inside(partial)
        if not (partial / manifest.NAME).is_file():
            raise StorageError(f"{partial} has no {manifest.NAME}, so it is not complete. Run the backup again.")
        with _sentences(partial):
            _fsync_tree(partial)
            for number in range(1, MOST_NAMESAKES):
                target = partial.with_name(name if number == 1 else f"{name}-{number}")
                try:
                    # Fails on anything but an empty folder, and a published one never is: no look-before-you-leap.
                    os.rename(partial, target)
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                        continue
                    raise
                manifest.fsync_folder(target.parent)
                return target
        raise StorageError(
            f"There are {MOST_NAMESAKES} archives named {name} already. Use a pattern with a finer time."
        )

    def find_published(self, relative_folder: str, op_id: int, *, since: datetime | None = None) -> Path | None:
        for path in self.list(relative_folder):
            try:
                values = json.loads((path / manifest.NAME).read_bytes())
            except (OSError, ValueError):
                continue
            if not isinstance(values, dict) or values.get("operation_id") != op_id:
                continue
            if since is None or datetime.fromisoformat(str(values.get("created_at"))) >= since:
                return path
        return None

    def list(self, relative_folder: str) -> builtins.list[Path]:
        folder = self.folder(relative_folder)
        if not folder.exists():
            return []
        with _sentences(folder):
            return sorted(
                Path(entry.path)
                for entry in os.scandir(folder)
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            )

    def free_bytes(self, relative_folder: str = "") -> int:
        path = self.folder(relative_folder)
        while not path.exists():
            path = path.parent
        return shutil.disk_usage(path).free

    def remove(self, archive: Path) -> bool:
        self._inside(archive)
        if archive.is_symlink():
            raise StorageError(f"{archive} is a symbolic link and not an archive. Remove it by hand.")
        with _sentences(archive.parent):
            return _discard(archive)

    def sweep_partials(self, relative_folder: str, known_running_ops: Container[int]) -> builtins.list[Path]:
        folder = self.folder(relative_folder)
        removed: builtins.list[Path] = []
        if not folder.is_dir():
            return removed
        with _sentences(folder):
            for entry in builtins.list(os.scandir(folder)):
                partial = PARTIAL.fullmatch(entry.name)
                if entry.name.startswith(TRASH) or (partial and int(partial[1]) not in known_running_ops):
                    _discard(Path(entry.path))
                    removed.append(Path(entry.path))
        return removed

    def _inside(self, path: Path) -> None:
        """Refuse a path that is not directly in a folder of this storage."""
        root = self.folder("")
        if ".." in path.parts or path.parent.resolve() != path.parent or not path.parent.is_relative_to(root):
            raise StorageError(f"{path} is not in the storage {root}. Correct the record it comes from.")


def _is_archive(path: Path) -> bool:
    return (path / manifest.NAME).exists()


def _partials(folder: Path) -> Iterator[tuple[Path, int]]:
    for entry in builtins.list(os.scandir(folder)):
        if found := PARTIAL.fullmatch(entry.name):
            yield Path(entry.path), int(found[1])


def _discard(path: Path) -> bool:
    """Out of sight at once, then deleted. Renaming first also stops a writer that is still at it."""
    trash = path.with_name(f"{TRASH}{uuid.uuid4().hex}")
    try:
        os.rename(path, trash)
    except FileNotFoundError:
        return False
    manifest.fsync_folder(path.parent)
    shutil.rmtree(trash, ignore_errors=True)
    if trash.exists():
        shutil.rmtree(trash)
    return True


def _fsync_tree(folder: Path) -> None:
    for path, _, files in os.walk(folder):
        for name in files:
            fd = os.open(Path(path, name), os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        manifest.fsync_folder(Path(path))


@contextmanager
def _sentences(folder: Path) -> Iterator[None]:
    """Errors of the disk as sentences."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"No space left in {folder}. Free some, or move the storage to a larger disk."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(
                f"The worker may not write {where} ({error.strerror}). Correct owner and mode, or the mount."
            ) from error
        raise StorageError(f"{where} cannot be used ({error.strerror}). Check the disk and the path.") from error
