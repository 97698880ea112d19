"""What checks of every engine share: results that stop at the first failure, and questions about folders."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from backups.diagnostics import diagnostics
from backups.engines.base import CheckResult
from backups.exceptions import BackupError


class Checks:
    """Collects results and raises at the first failure."""

    def __init__(self) -> None:
        self.results: list[CheckResult] = []

    def ok(self, name: str, sentence: str) -> None:
        self.results.append(CheckResult(name, True, sentence))

    def unknown(self, name: str, sentence: str) -> None:
        self.results.append(CheckResult(name, None, sentence))

    def fail(self, name: str, sentence: str, diagnostics: str = "") -> None:
        self.results.append(CheckResult(name, False, sentence))
        raise BackupError(sentence, diagnostics)


def writable(checks: Checks, folder: Path) -> None:
    """A file can be written there."""
    if not folder.is_dir():
        checks.fail(
            "folder", f"The folder {folder} does not exist. Create it or correct the storage.", diagnostics(folder)
        )
    probe = folder / f".write-test-{uuid.uuid4().hex}"
    try:
        with open(probe, "xb", buffering=0) as file:
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
    except OSError as error:
        checks.fail(
            "folder",
            f"The portal's worker cannot write in {folder} ({error.strerror}). Correct owner and mode, or the mount.",
            diagnostics(folder),
        )
    finally:
        probe.unlink(missing_ok=True)
    checks.ok("folder", f"A test file could be written in {folder}.")


def room(checks: Checks, name: str, folder: Path, needed: int, what: str) -> None:
    """So many bytes are free there, or above it where it does not exist yet."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < needed:
        checks.fail(
            name,
            f"{what[0].upper()}{what[1:]} needs about {gb(needed)} in {folder}, only {gb(free)} are free. "
            "Free some space or choose another disk.",
            diagnostics(there),
        )
    checks.ok(name, f"{gb(free)} are free in {folder}, {what} needs about {gb(needed)}.")


def gb(size: int) -> str:
    """Bytes for a person."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
