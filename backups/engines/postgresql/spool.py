"""Compresses the files of a directory dump while pg_dump is still writing them.

For client programs that were built without zstd. Each growing data file is followed by a thread that compresses,
hashes and writes ``NNNN.dat.zst`` beside it; the plain file goes as soon as it is complete. pg_restore reads such a
folder directly where it knows zstd.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import zstandard

from backups.engines.files import SUFFIX, write_all
from backups.manifest import READ_BYTES, FileEntry, fsync_folder

LEVEL = 1
LOOK_EVERY_S = 0.05
_FINISHED = re.compile(r"pg_dump: finished item (\d+) (?:TABLE DATA|BLOBS)")


class Spool:
    """The folder of a running dump. Use as a context manager: leaving it by an exception ends the threads."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder = folder
        self._finished: set[str] = set()
        self._dump_ended = threading.Event()
        self._abandoned = threading.Event()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compress")
        self._jobs: dict[str, Future[FileEntry | None]] = {}
        self._looker = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Spool:
        self._looker.start()
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is not None:
            self._abandoned.set()
        self._dump_ended.set()
        self._looker.join()
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)

    def heard(self, line: str) -> None:
        """A line of pg_dump's verbose output."""
        if found := _FINISHED.match(line):
            self._finished.add(f"{found[1]}.dat")

    def raise_if_failed(self) -> None:
        """Raise what a thread raised, e.g. that the disk is full."""
        for job in list(self._jobs.values()):
            if job.done() and not job.cancelled() and (error := job.exception()):
                raise error

    def dump_ended(self) -> None:
        """pg_dump has ended well: nothing grows any more."""
        self._dump_ended.set()

    def wait(self, timeout_s: float) -> bool:
        """After ``dump_ended``: wait a moment; True when all is compressed."""
        self._looker.join(timeout_s)
        self.raise_if_failed()
        if self._looker.is_alive():
            return False
        waiting = [job for job in self._jobs.values() if not job.done()]
        if waiting:
            time.sleep(min(timeout_s, LOOK_EVERY_S))
        return not waiting

    def entries(self) -> list[FileEntry]:
        """The compressed files."""
        return [entry for job in self._jobs.values() if (entry := job.result())]

    def _look(self) -> None:
        """Give every new data file to the pool. Small files of large objects wait until nothing grows."""
        while True:
            last = self._dump_ended.is_set()
            began = time.monotonic()
            for entry in os.scandir(self.folder):
                name = entry.name
                if name in self._jobs or not name.endswith(".dat") or name == "toc.dat":
                    continue
                if last or not name.startswith("blob_"):
                    self._jobs[name] = self._pool.submit(self._compress, name)
            if last:
                return
            self._dump_ended.wait(max(LOOK_EVERY_S, 10 * (time.monotonic() - began)))

    def _compress(self, name: str) -> FileEntry | None:
        source, target = self.folder / name, self.folder / (name + SUFFIX)
        digest, size, plain_size = hashlib.sha256(), 0, 0
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        with open(source, "rb", buffering=0) as plain, open(target, "xb", buffering=0) as packed:

            def put(data: bytes) -> None:
                nonlocal size
                digest.update(data)
                size += len(data)
                write_all(packed, data)

            while (piece := self._next(plain.fileno(), name)) is not None:
                put(compressor.compress(piece))
                plain_size += len(piece)
            put(compressor.flush())
            os.fsync(packed.fileno())
        if self._abandoned.is_set():
            return None
        source.unlink()
        return FileEntry(target.name, size, digest.hexdigest(), plain_size)

    def _next(self, fd: int, name: str) -> bytes | None:
        """The next piece of a file that may still grow; None at its real end."""
        while not self._abandoned.is_set():
            # In this order: what was written before the file was complete is then certainly read.
            complete = self._dump_ended.is_set() or (name in self._finished and not being_written(fd))
            if piece := os.read(fd, READ_BYTES):
                return piece
            if complete:
                return None
            self._dump_ended.wait(0.02) if not self._dump_ended.is_set() else None
        return None


def being_written(fd: int) -> bool:
    """Has another process this file open for writing? False where the system cannot tell.

    The name of a table may contain a line that looks like pg_dump saying that some file is finished. A read lease is
    refused as long as anybody writes.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def fsync_rest(folder: Path, already: set[str]) -> None:
    """Flush the files that were not flushed when they were written, and the names in the folder."""
    for entry in os.scandir(folder):
        if entry.name not in already and entry.is_file(follow_symlinks=False):
            fd = os.open(entry.path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    fsync_folder(folder)
