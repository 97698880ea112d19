"""Names of archives and of the folders they are kept in."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, tzinfo
from pathlib import PurePosixPath

from backups.exceptions import BackupError

LONGEST_BYTES = 200
DATE_DIRECTIVES = frozenset("YyGmbBdjUWVuwaAF")
TIME_DIRECTIVES = frozenset("HIMSpfzZ")
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def archive_name(pattern: str, at: datetime, zone: tzinfo) -> str:
    """The name for an archive taken at the moment ``at``, written in ``zone``; nothing is stripped or replaced.

    ``pattern`` is a strftime pattern such as ``erp_backup_%Y-%m-%d_%H00``. Raises ``BackupError``.
    """
    _check_directives(pattern)
    name = at.astimezone(zone).strftime(pattern)
    check_name(name, "The name pattern")
    return name


def adopted_name(source: str) -> str:
    """The name for an archive made of the file or folder ``source``. Raises ``BackupError``."""
    plain = re.sub(r"[^\w.-]", "_", source.rstrip("/").rpartition("/")[2])
    return check_name(f"adopted_{plain[:150].encode()[:180].decode(errors='ignore')}")


def validate_pattern(pattern: str) -> None:
    """Refuse a pattern that gives no usable name, or the same name for ever. Raises ``BackupError``."""
    used = _check_directives(pattern)
    if not used & DATE_DIRECTIVES:
        raise BackupError(
            f"The name pattern {pattern!r} gives every archive the same name. Add a date, for example %Y-%m-%d."
        )
    for moment in (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2025, 9, 24, 22, 58, 59, 999999, tzinfo=UTC)):
        archive_name(pattern, moment, UTC)


def _check_directives(pattern: str) -> set[str]:
    """The letters of the directives in the pattern."""
    _check_seen(pattern, "The name pattern")  # first: strftime ends at a zero byte and stumbles over half characters
    used = set(re.findall(r"%(.?)", pattern, re.DOTALL)) - {"%"}
    if unknown := sorted(used - DATE_DIRECTIVES - TIME_DIRECTIVES):
        known = ", ".join(f"%{letter}" for letter in "YmdHMSUVj")
        raise BackupError(
            f"The name pattern {pattern!r} uses %{unknown[0]}, which is not known here. Known are {known}."
        )
    return used


def check_name(name: str, what: str = "The name") -> str:
    """``name`` if it can be the name of a folder and nothing else. Raises ``BackupError``."""
    shown = ascii(name)[:120]
    if not name or name.strip() != name:
        raise BackupError(f"{what} {shown} is empty or begins or ends with a blank. Correct it.")
    if "/" in name or "\\" in name:
        raise BackupError(f"{what} {shown} leads into another folder. Use a name without / and \\.")
    if name.startswith("."):
        raise BackupError(
            f"{what} {shown} begins with a dot, which is for hidden and unfinished files. Begin it otherwise."
        )
    if any(unicodedata.category(character) in _UNSEEN for character in name):
        raise BackupError(f"{what} {shown} holds a character that cannot be seen, such as a line break. Remove it.")
    if len(name.encode()) > LONGEST_BYTES:
        raise BackupError(f"{what} {shown} is longer than {LONGEST_BYTES} bytes. Shorten it.")
    return name


def _check_seen(text: str, what: str) -> None:
    if any(unicodedata.category(character) in _UNSEEN for character in text):
        raise BackupError(
            f"{what} {ascii(text)[:120]} holds a character that cannot be seen, such as a line break. Remove it."
        )


def check_folder(folder: str) -> PurePosixPath:
    """A relative folder whose every part is a plain name; "" is the storage itself. Raises ``BackupError``."""
    if folder.startswith("/"):
        raise BackupError(f"The folder {ascii(folder)[:120]} is absolute. Give it relative to the storage.")
    parts = folder.split("/") if folder else []
    for part in parts:
        check_name(part, "The folder")
    return PurePosixPath(*parts)
