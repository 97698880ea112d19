"""The references: what the same work costs with nothing but PostgreSQL's programs and zstd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from opsportal.bench.exceptions import BenchError
from opsportal.bench.server import Server

_PYTHON_ZSTD = """
import sys, zstandard
zstandard.ZstdCompressor(level=1, write_checksum=True).copy_stream(sys.stdin.buffer, sys.stdout.buffer)
"""


def compressor(*, install: bool) -> tuple[list[str], str]:
    """The command that compresses as `zstd -1` does, and what it is called. As root, zstd may be installed first."""
    if install and not shutil.which("zstd") and os.geteuid() == 0 and shutil.which("apt-get"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "install", "-y", "-qq", "zstd"], env=env, capture_output=True)
    if program := shutil.which("zstd"):
        return [program, "-1", "-q", "-c"], "zstd -1"
    return [sys.executable, "-c", _PYTHON_ZSTD], "python zstandard, level 1 (the program zstd is not installed)"


class Bare:
    """Timed runs of the bare programs. Their files are below `folder`."""

    def __init__(self, server: Server, folder: Path, compress: Sequence[str]) -> None:
        self.server, self.folder, self.compress = server, folder, compress
        folder.mkdir(parents=True, exist_ok=True)

    def backup(self, database: str) -> tuple[float, int]:
        """`pg_dump -Fc -Z0 | zstd -1` into a file on disk: seconds and bytes. The file is removed again."""
        path = self.folder / "reference.dump.zst"
        began = time.monotonic()
        with path.open("wb") as file:
            dump = subprocess.Popen(
                [self._program("pg_dump"), "-Fc", "-Z0", database],
                stdout=subprocess.PIPE,
                env=self.server.environment,
            )
            assert dump.stdout
            packed = subprocess.run(self.compress, stdin=dump.stdout, stdout=file)
            dump.stdout.close()
            if dump.wait() or packed.returncode:
                raise BenchError("The reference pg_dump | zstd failed; its messages are above.")
            os.fsync(file.fileno())
        seconds, size = time.monotonic() - began, path.stat().st_size
        path.unlink()
        return seconds, size

    def dump_folder(self, database: str) -> Path:
        """An uncompressed directory dump, the best that pg_restore -j can be given."""
        target = self.folder / "reference.folder"
        shutil.rmtree(target, ignore_errors=True)
        self._run("pg_dump", "-Fd", "-j2", "--compress=none", "-f", str(target), database)
        return target

    def restore(self, source: Path, database: str) -> float:
        """Seconds of `pg_restore -j2 --exit-on-error` into an empty database, which is dropped again."""
        self.server.create(database)
        began = time.monotonic()
        self._run("pg_restore", "-Fd", "-j2", "--exit-on-error", "-d", database, str(source))
        seconds = time.monotonic() - began
        self.server.drop(database)
        return seconds

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run([self._program(program), *arguments], env=self.server.environment)
        if done.returncode:
            raise BenchError(f"The reference {program} failed; its messages are above.")

    def _program(self, name: str) -> str:
        return str(self.server.bin / name)
