"""Real slots behind a real proxy, for tests and the bench: a folder, releases, Caddy or nginx, clients that count."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from catalog.connectors import LocalConnector
from deployments.artefacts import checksum
from deployments.drivers.base import Artefact, Surroundings, Token
from deployments.drivers.blue_green import BlueGreenDriver
from operations.commands import Command, Result, run_checked
from opsportal.stack.process import die_with_parent

APP = Path(__file__).with_name("app.py")
CADDY = Path(sys.executable).with_name("caddy")


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def run(command: Command, *, stdin: BinaryIO | None = None) -> Result:
    return run_checked(command, stdin=stdin)


@dataclass
class Ground:
    """One folder with two slots. `driver(attempt)` acts as that attempt of operation 1."""

    root: Path
    settings: dict[str, Any]
    logged: list[str] = field(default_factory=list)

    def driver(self, attempt: int = 1, *, environment: Mapping[str, str] | None = None, **more: Any) -> BlueGreenDriver:
        around = Surroundings(
            connector=LocalConnector(),
            run=run,
            token=Token(1, attempt),
            log=self.logged.append,
            environment=environment or {},
            timeout_s=30,
            **more,
        )
        return BlueGreenDriver(self.settings, around)

    def artefact(self, version: str) -> Artefact:
        folder = self.root.parent / "built" / version
        if not folder.exists():
            folder.mkdir(parents=True)
            shutil.copy(APP, folder / "app.py")
            (folder / "VERSION").write_text(version)
        return Artefact(version, "folder", str(folder), checksum(folder))

    def deploy(self, version: str, attempt: int = 1) -> None:
        driver, artefact = self.driver(attempt), self.artefact(version)
        driver.prepare(artefact)
        driver.wait_ready(artefact, 10)
        driver.switch(artefact)
        driver.drain(artefact, 5)

    def clear(self) -> None:
        """Nothing of it goes on running."""
        for slot in ("blue", "green"):
            state = self.root / "slots" / slot / "state.json"
            if state.exists():
                pid = json.loads(state.read_text()).get("pid")
                if pid:
                    try:
                        os.killpg(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass


@contextmanager
def ground(folder: Path, proxy: str = "port_file") -> Iterator[Ground]:
    root = folder / "srv"
    place = "{port}" if proxy == "port_file" else "{socket}"
    settings = {
        "root": str(root),
        "argv": [sys.executable, "app.py", place],
        "ready_path": "/health/ready",
        "proxy": proxy,
        "blue": free_port(),
        "green": free_port(),
        "python": sys.executable,
    }
    made = Ground(root, settings)
    try:
        yield made
    finally:
        made.clear()


@contextmanager
def caddy(made: Ground) -> Iterator[int]:
    """Caddy in front, which reads the port file for each request."""
    port, file = free_port(), made.root.parent / "caddy.json"
    log = made.root.parent / "access.log"
    upstream = {"dial": f"127.0.0.1:{{file.{made.root}/active_port}}"}
    handler = {
        "handler": "reverse_proxy",
        "upstreams": [upstream],
        "transport": {"protocol": "http", "keep_alive": {"enabled": False}},
    }
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "automatic_https": {"disable": True},
        "protocols": ["h1"],
        "logs": {"default_logger_name": "access"},
        "routes": [{"handle": [handler]}],
    }
    access = {"writer": {"output": "file", "filename": str(log)}, "encoder": {"format": "json"}}
    logging = {"default": {"level": "ERROR"}, "access": {**access, "include": ["http.log.access.access"]}}
    config = {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": logging},
        "apps": {"http": {"servers": {"app": server}}},
    }
    file.write_text(json.dumps(config))
    made.settings["access_log"] = str(log)
    argv = [str(CADDY), "run", "--config", str(file)]
    with _proxy(argv, port, made.root.parent):
        yield port


@contextmanager
def nginx(made: Ground) -> Iterator[int]:
    """nginx in front, which follows the link to the socket for each request."""
    port, folder = free_port(), made.root.parent / "nginx"
    folder.mkdir()
    log = folder / "access.log"
    file = folder / "nginx.conf"
    file.write_text(
        f"""{"user root;" if os.geteuid() == 0 else ""}
daemon off; error_log stderr crit; pid {folder}/pid; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log {log} combined;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    upstream app {{ server unix:{made.root}/active.sock; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""
    )
    made.settings["access_log"] = str(log)
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
    with _proxy([program, "-p", str(folder), "-c", str(file)], port, folder):
        yield port


@contextmanager
def _proxy(argv: list[str], port: int, folder: Path) -> Iterator[None]:
    env = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(argv, stdout=quiet, stderr=quiet, env=env, preexec_fn=die_with_parent(signal.SIGTERM))
    try:
        give_up = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < give_up and process.poll() is None, f"{argv[0]} does not start"
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(10)


# -- clients -----------------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What one client met. `races`: resets on a connection that had been used before."""

    times: list[tuple[float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    races: int = 0
    versions: set[str] = field(default_factory=set)


@contextmanager
def load(port: int, *, keep: int = 6, post: int = 2, slow: int = 2, fresh: int = 2) -> Iterator[list[Seen]]:
    """Clients in a closed loop: over kept connections, by POST, slow ones, and with a connection a request."""
    stop, seen = threading.Event(), []
    kinds = ["keep"] * keep + ["post"] * post + ["slow"] * slow + ["fresh"] * fresh
    threads = []
    for kind in kinds:
        mine = Seen()
        seen.append(mine)
        threads.append(threading.Thread(target=_client, args=(port, kind, stop, mine), daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


def _client(port: int, kind: str, stop: threading.Event, seen: Seen) -> None:
    connection, used = http.client.HTTPConnection("127.0.0.1", port, timeout=10), 0
    while not stop.is_set():
        if kind == "fresh":
            connection.close()
            connection, used = http.client.HTTPConnection("127.0.0.1", port, timeout=10), 0
        began = time.monotonic()
        try:
            if kind == "post":
                connection.request("POST", "/", body=b"x" * 100)
            else:
                connection.request("GET", "/slow" if kind == "slow" else "/")
            answer = connection.getresponse()
            said = answer.read().decode()
            if answer.status != 200:
                seen.failed.append(f"{kind}: {answer.status}")
            else:
                seen.versions.add(said)
            if kind != "slow":
                seen.times.append((began, time.monotonic() - began))
            used += 1
        except (OSError, http.client.HTTPException) as error:
            if used:
                seen.races += 1
            seen.failed.append(f"{kind}: {type(error).__name__}")
            connection.close()
            connection, used = http.client.HTTPConnection("127.0.0.1", port, timeout=10), 0
        time.sleep(0.002)
    connection.close()
