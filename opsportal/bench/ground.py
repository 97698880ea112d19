"""Real slots behind a real proxy: a folder, releases, Caddy or nginx. Traffic comes from `opsportal.bench.traffic`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from catalog.connectors import LocalConnector
from deployments.artefacts import checksum
from deployments.drivers.base import Artefact, Driver, Surroundings, Token
from deployments.drivers.blue_green import BlueGreenDriver
from operations.commands import Command, Result, run_checked
from opsportal.bench.exceptions import BenchError
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
    """One folder with slots. `driver(attempt)` acts as that attempt of operation 1."""

    root: Path
    settings: dict[str, Any]
    logged: list[str] = field(default_factory=list)
    kind: type[Driver] = BlueGreenDriver

    def driver(self, attempt: int = 1, *, environment: Mapping[str, str] | None = None, **more: Any) -> Driver:
        values = {
            "connector": LocalConnector(),
            "run": run,
            "token": Token(1, attempt),
            "log": self.logged.append,
            "environment": environment or {},
            "timeout_s": 30,
            **more,
        }
        return self.kind(self.settings, Surroundings(**values))

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
        for state in self.root.glob("slots/*/state.json"):
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
def caddy(made: Ground, files: Sequence[str] = ("active_port",)) -> Iterator[int]:
    """Caddy in front, which reads the port files for each request."""
    port, configuration = free_port(), made.root.parent / "caddy.json"
    log = made.root.parent / "access.log"
    handler = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"127.0.0.1:{{file.{made.root}/{file}}}"} for file in files],
        "load_balancing": {"selection_policy": {"policy": "round_robin"}},
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
    configuration.write_text(json.dumps(config))
    made.settings["access_log"] = str(log)
    argv = [str(CADDY), "run", "--config", str(configuration)]
    with _proxy(argv, port, made.root.parent):
        yield port


@contextmanager
def nginx(made: Ground, links: Sequence[str] = ("active.sock",)) -> Iterator[int]:
    """nginx in front, which follows the links to the sockets for each request."""
    servers = " ".join(f"server unix:{made.root}/{link};" for link in links)
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
    upstream app {{ {servers} }}
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
                if time.monotonic() > give_up or process.poll() is not None:
                    raise BenchError(f"{argv[0]} does not start. Try: {' '.join(argv)}") from None
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(10)
