"""The demo's ERP as the supervisor sees it: its ports, the proxy before it, and the people who use it.

The ERP itself is started by the portal, in one of two slots. It watches the supervisor and ends with it.
"""

import contextlib
import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opsportal.stack import StackError
from opsportal.stack.folders import CHECKOUT, Folders, write_private
from opsportal.stack.process import Service

PLACES = {"production": "erp", "staging": "erp-staging"}
"""Environment -> folder of its slots, below DATA_DIR/demo."""
_ACCESS_LOG_MB = 4


@dataclass(frozen=True)
class Ports:
    """On loopback, chosen once and written down: the portal's records name them."""

    proxy: int
    blue: int
    green: int
    staging_proxy: int
    staging_blue: int
    staging_green: int

    @classmethod
    def of(cls, data: Path, portal: int) -> "Ports":
        """Those of a data folder. The first time the proxy gets the portal's port + 80, if that is free."""
        path = data / "demo" / "ports.json"
        with contextlib.suppress(OSError, ValueError, TypeError):
            return cls(**json.loads(path.read_text()))
        # A hundred apart, so that portals on neighbouring ports do not meet.
        wanted = [portal + 80 + 100 * step for step in range(6)]
        with contextlib.ExitStack() as held:
            ports = cls(*[_free_port(port, held) for port in wanted])
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, json.dumps(asdict(ports)))
        return ports


def _free_port(wanted: int, held: contextlib.ExitStack) -> int:
    """The wanted port if it can be had, else any; `held` keeps it until all have been chosen. Raises StackError."""
    for port in (wanted, 0):
        trial = held.enter_context(socket.socket())
        try:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("127.0.0.1", port if port < 65536 else 0))
            return int(trial.getsockname()[1])
        except OSError:
            continue
    raise StackError("No port on 127.0.0.1 is free for the demo's ERP. Start without it: DEMO=false make run.")


@dataclass(frozen=True)
class Erp:
    """The processes that the supervisor keeps alive for it."""

    folder: Path
    ports: Ports

    @classmethod
    def prepare(cls, folders: Folders, portal: int) -> "Erp":
        """Choose the ports and write the proxy's configuration. Raises StackError."""
        ports = Ports.of(folders.data, portal)
        folder = folders.data / "demo"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(folder / "proxy.json", json.dumps(proxy_configuration(ports), indent=1))
        return cls(folder, ports)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.ports.proxy}/"

    @property
    def staging_address(self) -> str:
        return f"http://127.0.0.1:{self.ports.staging_proxy}/"

    def services(self) -> list[Service]:
        """For the supervisor. The proxy goes after everything that may ask for it."""
        here = str(self.folder)
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": here, "XDG_DATA_HOME": here, "XDG_CONFIG_HOME": here}
        proxy = [str(Path(sys.prefix) / "bin" / "caddy"), "run", "--config", "proxy.json"]
        traffic = [sys.executable, "-I", "-S", str(CHECKOUT / "opsportal" / "demo" / "traffic.py")]
        return [
            Service("erp-proxy", "proxy of the ERP", proxy, env, cwd=self.folder, stage=1, stop_limit_s=5),
            Service(
                "erp-traffic",
                "traffic of the ERP",
                [*traffic, f"127.0.0.1:{self.ports.proxy}"],
                {"PATH": env["PATH"]},
                stage=4,
                stop_limit_s=2,
            ),
        ]


def proxy_configuration(ports: Ports) -> dict[str, Any]:
    """For Caddy, run in the demo's folder: paths are relative to it, so that no character of them needs quoting.

    The live port is read from a file for each request. Nothing is kept open towards the slots, so that a switch leaves
    no connection behind; there is no admin API and nothing but the access log is written.
    """
    logs: dict[str, Any] = {"default": {"level": "WARN"}}
    servers: dict[str, Any] = {}
    for name, port in (("production", ports.proxy), ("staging", ports.staging_proxy)):
        place = PLACES[name]
        logs["default"].setdefault("exclude", []).append(f"http.log.access.{place}")
        logs[place] = {
            "include": [f"http.log.access.{place}"],
            "writer": {
                "output": "file",
                "filename": f"{place}-access.log",
                "roll_size_mb": _ACCESS_LOG_MB,
                "roll_keep": 1,
                "roll_gzip": False,
            },
            "encoder": {
                "format": "filter",
                "wrap": {"format": "json"},
                "fields": {field: {"filter": "delete"} for field in ("request>headers", "resp_headers")},
            },
        }
        upstream = {"dial": f"127.0.0.1:{{file.{place}/active_port}}"}
        transport = {"protocol": "http", "keep_alive": {"enabled": False}, "dial_timeout": "2s"}
        servers[name] = {
            "listen": [f"127.0.0.1:{port}"],
            "automatic_https": {"disable": True},
            "protocols": ["h1"],
            "logs": {"default_logger_name": place},
            "routes": [{"handle": [{"handler": "reverse_proxy", "upstreams": [upstream], "transport": transport}]}],
        }
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": logs},
        "apps": {"http": {"servers": servers}},
    }
