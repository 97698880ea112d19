"""What a storage is: a place for archives. It knows nothing of the portal's tables or tasks."""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from collections.abc import Container
from datetime import datetime
from pathlib import Path


class Storage(ABC):
    """Every method may raise ``StorageError`` with a sentence. Folders are relative to the storage's root."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @abstractmethod
    def folder(self, relative_folder: str) -> Path:
        """The absolute path of a folder in the storage, which need not exist."""

    @abstractmethod
    def ensure(self, relative_folder: str) -> Path:
        """The absolute path of a folder, made if it does not exist."""

    @abstractmethod
    def begin(self, relative_folder: str, op_id: int, attempt: int) -> Path:
        """A new, hidden, empty folder to write an archive into; those of earlier attempts are removed."""

    @abstractmethod
    def discard(self, relative_folder: str, op_id: int) -> None:
        """Remove what that operation has begun and not published."""

    @abstractmethod
    def publish(self, partial: Path, name: str) -> Path:
        """Make the archive visible under ``name`` (or ``name-2``, ...), wholly or not at all; returns its folder."""

    @abstractmethod
    def find_published(self, relative_folder: str, op_id: int, *, since: datetime | None = None) -> Path | None:
        """The archive that operation has published already, so that a second attempt adopts it.

        One made before ``since``, when the operation was asked for, is another portal's of the same number.
        """

    @abstractmethod
    def list(self, relative_folder: str) -> builtins.list[Path]:
        """The visible folders, by name."""

    @abstractmethod
    def free_bytes(self, relative_folder: str = "") -> int:
        """Space left for us."""

    @abstractmethod
    def remove(self, archive: Path) -> bool:
        """Remove an archive; it is invisible from the first moment. False when there was none."""

    @abstractmethod
    def sweep_partials(self, relative_folder: str, known_running_ops: Container[int]) -> builtins.list[Path]:
        """Remove from a folder what operations that do not run left unfinished; returns what was removed."""
