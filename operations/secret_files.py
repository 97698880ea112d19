"""Files with secrets for a command, which exist only in memory and only while it runs."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager


@contextmanager
def secret_files(contents: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Name -> path of a sealed memory file with that content; the files are gone when the block ends.

    A regular file of mode 0600, as libpq and ssh require. The path leads through this process and not through the
    command's own descriptors, because ssh closes those it did not open.
    """
    with ExitStack() as stack:
        paths = {}
        for name, content in contents.items():
            fd = os.memfd_create("secret", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            stack.callback(os.close, fd)
            os.fchmod(fd, 0o600)
            os.write(fd, content.encode("utf-8", "surrogateescape"))
            seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
            paths[name] = f"/proc/{os.getpid()}/fd/{fd}"
        yield paths
