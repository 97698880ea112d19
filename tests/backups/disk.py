"""A disk that is too small, or full."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Disk:
    """A file system of a few megabytes where this user may mount one, otherwise a folder. `said` when it is full."""

    def __init__(self, path: Path, megabytes: int = 2) -> None:
        self.path = path
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
        self.is_mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
        self.said = ("No space left in", "Free some there") if self.is_mounted else ("pg_dump failed", "Read the log")

    @contextmanager
    def full(self) -> Iterator[None]:
        """While this lasts nothing more can be written, here or, without a file system of our own, anywhere."""
        if self.is_mounted:
            filler = self.path / "filler"
            with open(filler, "wb", buffering=0) as file:
                try:
                    while file.write(b"x" * 65536):
                        pass
                except OSError:
                    pass
            yield
            filler.unlink()
            return
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def unmount(self) -> None:
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", str(self.path)], check=True)
