"""The part of a Kubernetes API server that `kubectl exec` talks to; its pods are containers of a real Docker engine.

Protocol: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.32/ (pods/exec), streams over SPDY/3.1
(https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/) in the subprotocol v4.channel.k8s.io. What asks is
the kubectl that is installed, unchanged.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.docker_engine import Engine

TOKEN = "token-of-the-service-account"
NAMESPACE = "shop"
SUBPROTOCOL = "v4.channel.k8s.io"
SYN_STREAM, SYN_REPLY, PING, FIN = 1, 2, 6, 1
# Both sides of a SPDY connection compress their headers with this dictionary (draft 3.1, section 2.6.10.1).
DICTIONARY = zlib.decompress(
    base64.b85decode(
        "c-"
        "m!D+j84B5Y^POlu47cNqzv&Eg6F(=s2D6gL`r7blhYbclr#0D+)0PARwqqzP`Jl<SOlqBpw{><?Mx;OeS;Zqjt8ROeWJ6$cCQY^%0*ZexS#!0R"
        "s^boyH&)ftgeaJY7B;QLa`p^gzrvdj_m>jkfI(Wu$Ef*;0h3dnzCWl>B7mPo*(#lMIHqazTHVB##Is)e3UuYz)pI@fe{6wZDEs7hq$)kUa(Z_H"
        "aJZ@xUDkdG^48ZR6?-E2j?0zdmqXQztF^W0HTIJ?=c6r;SV<n?jV7c?MgLQW4D&>5xjEE`#e*-^YGG(#yP)QIUw}gi-"
        "fWLzDN~rnWyt(mD$dR^)Mz@DlN0|L<dDA0I-I&rw-VI=Ri4E^K6INYTs(*>)1q3m@Eem(viiEUm_JUjEA-kLL8CVIE)!0RnX_Kn!TQjOjS*A*>"
        "VnDn**(Dru95=Ll_&e#fJl555huA=AeL`sO$-OHG=tW!TZatTpMJqjbBU?q;+3ui#k+D3!`SY14Mj`Y7X&YArcu?|!EkD6AhVdGy=e-"
        "TSlRRY4v@FsUcQ!e~W8aKUl^+`Ue+?g4x*jb5ij*pF7*g7bnGC4I`0*Cju%IInnF@v7pY;&nyLYr#vwYr)S2;S0gvh=Plv5Jf49N)$pAwJ6R-"
        "@w(<^%|%V2D)xu7`PJBatO66W8;jHH(i}=I(186kE@H(CcI(#Au=jul7Adn6Sn-dtVSmD>0s1J=<}Z5~CNu(5T)VK)O#@b>a1n{YHZ?llVBBD("
        "VIR^Y*)JiuP-6(Py6L=u4wC@dR>?#wpy+EHvs@T>D=oW*1-"
        "q4jUHO2|9eX=i{2F#OwCLg^d#56XTeF`*G0uNTA1uRW>~4UJ{S6JG)sV64pfmPCM*JD@_Sf4xwHoX_-"
        "bdKRvsLU&raRo3GjH2H`sfd+)yqtJZ}j*goNdwii!=FuPi%_jjnsC8AF-"
        "ZZ1?^)tu7wYJjjKlQ5k|gjKWm>gur$bJeWO<U|HaE8F7u1SLH91dxTxRcMMiw~T?Y2kC4cn~<Ho1L"
    )
)


class Streams:
    """The streams of one upgraded connection, by what kubectl calls them: error, stdin, stdout, stderr."""

    def __init__(self, sock: socket.socket, reader: Any) -> None:
        self.sock, self.reader = sock, reader
        self.names: dict[int, str] = {}
        self._inflate, self._deflate = zlib.decompressobj(zdict=DICTIONARY), zlib.compressobj(zdict=DICTIONARY)
        self._lock = threading.Lock()

    def frames(self) -> Iterator[tuple[str, bytes, bool]]:
        """Data as it comes: name of the stream, bytes, whether it ends. Streams are opened and pings answered."""
        while head := self.reader.read(8):
            first, second = struct.unpack(">II", head)
            flags, data = second >> 24, self.reader.read(second & 0xFFFFFF)
            if not first >> 31:
                yield self.names[first], data, bool(flags & FIN)
            elif first & 0xFFFF == SYN_STREAM:
                (number,) = struct.unpack(">I", data[:4])
                self.names[number] = self._headers(data[10:])["streamtype"]
                self._control(SYN_REPLY, struct.pack(">I", number) + self._block({}))
                yield self.names[number], b"", bool(flags & FIN)
            elif first & 0xFFFF == PING:
                self._control(PING, data)

    def _headers(self, block: bytes) -> dict[str, str]:
        plain, found, at = self._inflate.decompress(block), [], 4
        for _ in range(2 * struct.unpack(">I", plain[:4])[0]):
            (size,) = struct.unpack(">I", plain[at : at + 4])
            found.append(plain[at + 4 : at + 4 + size].decode())
            at += 4 + size
        return dict(zip(found[::2], found[1::2], strict=True))

    def _block(self, headers: dict[str, str]) -> bytes:
        plain = struct.pack(">I", len(headers))
        for text in (text for pair in headers.items() for text in pair):
            plain += struct.pack(">I", len(text)) + text.encode()
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def _control(self, kind: int, data: bytes) -> None:
        self._send(struct.pack(">II", 1 << 31 | 3 << 16 | kind, len(data)) + data)

    def write(self, name: str, data: bytes, *, ends: bool = False) -> None:
        number = next(number for number, known in self.names.items() if known == name)
        self._send(struct.pack(">II", number, int(ends) << 24 | len(data)) + data)

    def _send(self, data: bytes) -> None:
        with self._lock:
            self.sock.sendall(data)


def execute(streams: Streams, argv: list[str], wanted: set[str]) -> None:
    """Run the command with the streams as its own, and tell how it ended, as kubelet does."""
    frames = streams.frames()
    while set(streams.names.values()) < wanted:
        next(frames)
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)

    def feed() -> None:
        try:
            for name, data, ends in frames:
                if name == "stdin":
                    process.stdin.write(data)
                    if ends:
                        process.stdin.close()
        except (OSError, ValueError):
            pass
        finally:
            process.stdin.close()  # whoever asked is gone

    def carry(name: str, source: Any) -> None:
        try:
            while data := source.read(32768):
                streams.write(name, data)
            streams.write(name, b"", ends=True)
        except OSError:
            pass

    threading.Thread(target=feed, daemon=True).start()
    out = [threading.Thread(target=carry, args=(name, getattr(process, name))) for name in ("stdout", "stderr")]
    for thread in out:
        thread.start()
    for thread in out:
        thread.join()
    code = process.wait()
    status: dict[str, Any] = {"metadata": {}, "status": "Success"}
    if code:
        message = f"command terminated with non-zero exit code: exit status {code}"
        causes = [{"reason": "ExitCode", "message": str(code)}]
        status |= {"status": "Failure", "reason": "NonZeroExitCode", "message": message, "details": {"causes": causes}}
    streams.write("error", json.dumps(status).encode(), ends=True)


@dataclass
class Cluster:
    """An API server, its pods by name, and what it was asked."""

    server: ThreadingHTTPServer
    engine: Engine
    pods: list[str]
    certificate: bytes
    asked: list[str] = field(default_factory=list)
    forbidden: bool = False

    @property
    def kubeconfig(self) -> str:
        """What somebody puts into a file or a secret; JSON is YAML."""
        trusted = base64.b64encode(self.certificate).decode()
        place = {"server": f"https://localhost:{self.server.server_port}", "certificate-authority-data": trusted}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": place}],
                "users": [{"name": "u", "user": {"token": TOKEN}}],
                "contexts": [{"name": "production", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "production",
            }
        )

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """To a GET that is no command."""
        if path == "/api":
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}
        if path == "/api/v1":
            pods = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"]}
            return 200, {"kind": "APIResourceList", "groupVersion": "v1", "resources": [pods]}
        name = path.removeprefix(f"/api/v1/namespaces/{NAMESPACE}/pods/")
        if name in self.pods:
            meta = {"name": name, "namespace": NAMESPACE, "uid": "1"}
            spec, status = {"containers": [{"name": "main", "image": "x"}]}, {"phase": "Running"}
            return 200, {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec, "status": status}
        return failure(404, "NotFound", f'pods "{name}" not found')


def failure(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return code, {**status, "reason": reason, "message": message, "code": code}


@contextmanager
def running_cluster(engine: Engine, *pods: str) -> Iterator[Cluster]:
    """Containers of the engine as pods of one cluster."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            cluster.asked.append(f"GET {path}")
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._say(*failure(401, "Unauthorized", "Unauthorized"))
            elif "websocket" in self.headers.get("Upgrade", "").lower():  # kubectl then falls back to SPDY
                self._say(*failure(400, "BadRequest", "only SPDY is spoken here"))
            else:
                self._say(*cluster.answer(path))

        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            query, pod = parse_qs(parts.query, keep_blank_values=True), parts.path.split("/")[-2]
            cluster.asked.append(f"POST {parts.path}")
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self._say(*failure(401, "Unauthorized", "Unauthorized"))
            if cluster.forbidden:
                message = 'pods "x" is forbidden: User "u" cannot create resource "pods/exec"'
                return self._say(*failure(403, "Forbidden", message))
            self.send_response(101)
            for name, value in (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")):
                self.send_header(name, value)
            self.send_header("X-Stream-Protocol-Version", SUBPROTOCOL)
            self.end_headers()
            self.close_connection = True
            docker = ("docker", "--host", f"unix://{cluster.engine.socket}", "exec", "-i", pod)
            assert "tty" not in query, "no terminal may be asked for"
            wanted = {"error", *(name for name in ("stdin", "stdout", "stderr") if query.get(name) == ["true"])}
            try:
                execute(Streams(self.connection, self.rfile), [*docker, *query["command"]], wanted)
            except (OSError, StopIteration):
                pass  # kubectl is gone

        def _say(self, code: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="kube-") as folder:
        names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
        new = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names)
        files = ("-keyout", "key.pem", "-out", "cert.pem")
        subprocess.run([*new, *files], cwd=folder, check=True, capture_output=True)
        context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
        certificate = Path(folder, "cert.pem").read_bytes()
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    cluster = Cluster(server, engine, list(pods), certificate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
