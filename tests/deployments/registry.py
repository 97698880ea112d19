"""The part of a registry that `docker pull` talks to, with images that differ only in their environment.

Protocol: https://distribution.github.io/distribution/spec/api/ (pull: manifests and blobs). It takes no push, knows no
users and lists nothing. What asks is a real Docker engine.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.docker_engine import _image

DOCKER = "application/vnd.docker"
MANIFEST = f"{DOCKER}.distribution.manifest.v2+json"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Registry:
    port: int
    content: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}/erp"

    def image(self, version: str) -> str:
        """An image whose program finds its version in APP_VERSION. Returns its digest."""
        plain = _image()
        layer = gzip.compress(plain, mtime=0)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": [f"APP_VERSION={version}", "PATH=/usr/local/bin:/usr/bin:/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [digest(plain)]},
                "history": [{"created_by": "test"}],
            }
        ).encode()
        part = {"mediaType": f"{DOCKER}.container.image.v1+json", "size": len(config), "digest": digest(config)}
        below = {"mediaType": f"{DOCKER}.image.rootfs.diff.tar.gzip", "size": len(layer), "digest": digest(layer)}
        manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": part, "layers": [below]}).encode()
        self.content.update({digest(each): each for each in (layer, config, manifest)})
        return digest(manifest)


@contextmanager
def running_registry() -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            registry.asked.append(f"{self.command} {self.path}")
            name = self.path.rpartition("/")[2]
            found = b"{}" if self.path == "/v2/" else registry.content.get(name)
            error = b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
            data = error if found is None else found
            self.send_response(404 if found is None else 200)
            is_manifest = found is not None and "/manifests/" in self.path
            self.send_header("Content-Type", MANIFEST if is_manifest else "application/json")
            if is_manifest:
                self.send_header("Docker-Content-Digest", name)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry = Registry(server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
