"""A real Docker engine without network, and an image made of this machine's own files: nothing is downloaded."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import TargetServer

IMAGE = "opsportal-test:1"
# The folders an image of Debian has, with the links of a merged /usr.
FOLDERS = ("dev", "etc", "proc", "run", "sys", "tmp", "usr", "var")
LINKS = ("bin", "lib", "lib64", "sbin")
SEEN = ("--volume", "/usr:/usr:ro", "--volume", "/etc:/etc:ro")
NOBODY = 65534
PASSWORD = "container-password"


def _image() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in FOLDERS:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        for name in LINKS:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(entry)
    return data.getvalue()


@dataclass
class Engine:
    folder: Path

    @property
    def socket(self) -> str:
        return str(self.folder / "docker.sock")

    def answers(self, *arguments: str) -> bool:
        argv = ["docker", "--host", f"unix://{self.socket}", *arguments]
        return subprocess.run(argv, capture_output=True, timeout=60).returncode == 0

    def docker(self, *arguments: str, stdin: bytes = b"") -> str:
        argv = ["docker", "--host", f"unix://{self.socket}", *arguments]
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def container(self, name: str, *argv: str, options: tuple[str, ...] = ()) -> str:
        """Start one without a network; its name is also its host name."""
        base = ("run", "--detach", "--name", name, "--hostname", name, "--network", "none", *SEEN)
        self.docker(*base, *options, IMAGE, *(argv or ("sleep", "3600")))
        return name

    def logs(self, name: str) -> str:
        argv = ["docker", "--host", f"unix://{self.socket}", "logs", name]
        done = subprocess.run(argv, capture_output=True, timeout=60)
        return (done.stdout + done.stderr).decode()

    def remove(self, name: str) -> None:
        self.docker("rm", "--force", "--volumes", name)

    @contextmanager
    def postgresql(self, name: str, binaries: Path) -> Iterator[TargetServer]:
        """A server inside a container: on a port of its own loopback, and for the tests on a socket out here."""
        folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        folder.chmod(0o755)
        for part in ("data", "run"):
            (folder / part).mkdir(mode=0o700)
            os.chown(folder / part, NOBODY, NOBODY)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        libraries = binaries.parents[2]
        options = ("--user", str(NOBODY), "--volume", f"{folder}:{folder}", "--volume", f"{libraries}:{libraries}:ro")
        options += ("--env", "LC_ALL=C", "--shm-size", "64m")
        data, run = folder / "data", folder / "run"
        auth = ("--auth-local=scram-sha-256", "--auth-host=scram-sha-256", f"--pwfile={folder / 'password'}")
        locale = ("--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--no-sync")
        once = ("run", "--rm", "--network", "none", *SEEN, *options, IMAGE)
        try:
            self.docker(*once, str(binaries / "initdb"), "-D", str(data), "-U", "ops", *auth, *locale)
            settings = ("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", f"unix_socket_directories={run}")
            self.container(name, str(binaries / "postgres"), "-D", str(data), *settings, options=options)
            self._wait_for(name, binaries, run)
            yield TargetServer(str(run), "ops", PASSWORD)
        finally:
            self.remove(name)
            shutil.rmtree(folder, ignore_errors=True)

    def _wait_for(self, name: str, binaries: Path, run: Path) -> None:
        give_up = time.monotonic() + 30
        while not self.answers("exec", name, str(binaries / "pg_isready"), "-h", str(run)):
            assert time.monotonic() < give_up, self.logs(name)
            time.sleep(0.1)


@contextmanager
def running_engine() -> Iterator[Engine]:
    folder = Path(tempfile.mkdtemp(prefix="dk-", dir="/tmp"))
    engine = Engine(folder)
    argv = ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "--log-level=error"]
    places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
    argv += [f"--{name}={folder / place}" for name, place in places.items()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*argv, f"--host=unix://{engine.socket}"], stdout=log, stderr=log, start_new_session=True
        )
    try:
        give_up = time.monotonic() + 60
        while not engine.answers("version"):
            assert process.poll() is None and time.monotonic() < give_up, (folder / "log").read_text()[-2000:]
            time.sleep(0.1)
        engine.docker("import", "-", IMAGE, stdin=_image())
        yield engine
    finally:
        if process.poll() is None:
            for name in engine.docker("ps", "--all", "--quiet").split():
                engine.remove(name)
            process.terminate()
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
