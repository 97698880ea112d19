"""Starts the real stack in a folder of its own and looks at its processes through /proc."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

CHECKOUT = Path(__file__).resolve().parents[2]
_OURS = (
    "DATABASE_URL",
    "REDIS_URL",
    "SECRET_KEY",
    "PG_BIN",
    "HTTPS",
    "DATA_DIR",
    "SECRET_DIRS",
    "DJANGO_SETTINGS_MODULE",
)


def clean_env(**more: str) -> dict[str, str]:
    """The environment without what `make test` gives its own command."""
    kept = {k: v for k, v in os.environ.items() if k.removesuffix("_FILE") not in _OURS and not k.startswith("TARGET_")}
    return {**kept, "DEMO": "false", **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every account can pass through; pytest's own are closed to the servers' account."""
    folder = Path(tempfile.mkdtemp(prefix="stack-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Portal:
    """A `python -m opsportal.stack run` and what it printed."""

    def __init__(self, data: Path, port: int) -> None:
        self.data, self.port = data, port
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "opsportal.stack", "run"],
            cwd=CHECKOUT,
            env=clean_env(DATA_DIR=str(data), PORT=str(port)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, text: str, limit_s: float = 90) -> None:
        wait_until(lambda: text in self.output or self.process.poll() is not None, limit_s, lambda: self.output)
        assert text in self.output, self.output

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> int:
        """Stop it as a service manager would; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self._reader.join(5)


def wait_until(condition, limit_s: float, describe=lambda: "") -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {describe()}"
        time.sleep(0.05)


def listening(processes: list[psutil.Process]) -> set[tuple[str, str]]:
    """(kind, address in the kernel's notation) of every network socket on which any of these processes waits."""
    inodes = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{process.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    target = os.readlink(link)
                    if target.startswith("socket:["):
                        inodes.add(target[8:-1])
    found = set()
    for kind, waiting in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == waiting and fields[9] in inodes:
                found.add((kind, fields[1]))
    return found


def alive(processes: list[psutil.Process]) -> list[str]:
    """Names of those that still run; psutil compares start times, so a reused pid does not count."""
    result = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                result.append(f"{process.pid} {' '.join(process.cmdline())[:80]}")
    return result
