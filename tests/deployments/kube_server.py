"""The part of a Kubernetes API server that rollouts by kubectl need, over TLS with a token. `Cluster` is behind it.

Protocol: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.32/ (apps/v1 deployments and replica sets,
pods and their logs, selfsubjectaccessreviews, lists, watches, JSON patch by RFC 6902). What asks is the kubectl that is
installed, unchanged.

Limits: of RFC 6902 it knows add and replace at paths of objects; a watch sends the whole object after each change;
whatever else is asked is answered with 404 or 405. It was compared with the documentation, not with a real cluster.
"""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.deployments.kube_cluster import NAMESPACE, TICK_S, Cluster, Object
from tests.kubernetes import TOKEN, failure

APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def _resource(name: str, kind: str, namespaced: bool = True) -> Object:
    verbs = ["get", "list", "watch", "patch", "update", "create"]
    return {"name": name, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": verbs}


def _group(name: str) -> Object:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(group: str, *resources: Object) -> Object:
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": list(resources)}


DISCOVERY: dict[str, Object] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group("apps"), _group("authorization.k8s.io")],
    },
    "/api/v1": _resources("v1", _resource("pods", "Pod"), _resource("pods/log", "Pod")),
    "/apis/apps/v1": _resources(
        "apps/v1", _resource("deployments", "Deployment"), _resource("replicasets", "ReplicaSet")
    ),
    "/apis/authorization.k8s.io/v1": _resources(
        "authorization.k8s.io/v1", _resource("selfsubjectaccessreviews", "SelfSubjectAccessReview", False)
    ),
}


def patched(thing: Object, operations: list[Object]) -> Object:
    """RFC 6902, add and replace of members of objects."""
    copy: Object = json.loads(json.dumps(thing))
    for each in operations:
        assert each["op"] in ("add", "replace"), each
        *above, last = each["path"].lstrip("/").split("/")
        place = copy
        for name in above:
            place = place[name.replace("~1", "/").replace("~0", "~")]
        place[last.replace("~1", "/").replace("~0", "~")] = each["value"]
    return copy


def chosen(things: list[Object], query: dict[str, list[str]]) -> list[Object]:
    """By labelSelector, equality only, and by the name in fieldSelector."""
    wanted = [pair.split("=", 1) for pair in query.get("labelSelector", [""])[0].split(",") if pair]
    named = query.get("fieldSelector", [""])[0].removeprefix("metadata.name=")
    return [
        each
        for each in things
        if all(each["metadata"]["labels"].get(name) == value for name, value in wanted)
        and named in ("", each["metadata"]["name"])
    ]


def fields(data: bytes) -> dict[int, bytes]:
    """The last length-delimited field of each number in a protobuf message."""
    found, at = {}, 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(data):
        key = number()
        size = number()
        if key & 7 == 2:
            found[key >> 3] = data[at : at + size]
            at += size
    return found


def reviewed(body: bytes) -> Object:
    """A SelfSubjectAccessReview, which kubectl sends as protobuf (k8s.io/api/authorization/v1/generated.proto)."""
    attributes = fields(fields(fields(fields(body[4:])[2])[2])[1])
    names = {2: "verb", 3: "group", 5: "resource", 6: "subresource"}
    return {name: attributes.get(number, b"").decode() for number, name in names.items()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (OSError, ssl.SSLError):
            self.close_connection = True  # kubectl is gone

    def do_GET(self) -> None:
        path, query = self._asked()
        if not self._let_in():
            return
        if path in DISCOVERY:
            self._say(200, DISCOVERY[path])
        elif query.get("watch") in (["true"], ["1"]):
            self._watch(query)
        else:
            self._say(*self._got(path, query))

    def _got(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        cluster = self.cluster
        with cluster.lock:
            lists = {
                f"{APPS}/deployments": ("Deployment", "apps/v1", [cluster.deployment]),
                f"{APPS}/replicasets": ("ReplicaSet", "apps/v1", cluster.sets),
                f"{CORE}/pods": ("Pod", "v1", cluster.pods),
            }
            if path in lists:
                kind, version, things = lists[path]
                meta = {"resourceVersion": str(cluster.version)}
                items = json.loads(json.dumps(chosen(things, query)))
                return 200, {"kind": f"{kind}List", "apiVersion": version, "metadata": meta, "items": items}
            folder, _, name = path.rpartition("/")
            if name == "log":
                pod = next((each for each in cluster.pods if f"{CORE}/pods/{each['metadata']['name']}" == folder), None)
                return (200, self._log(pod, query)) if pod else failure(404, "NotFound", "pods not found")
            for each in lists.get(folder, ("", "", []))[2]:
                if each["metadata"]["name"] == name:
                    return 200, json.loads(json.dumps(each))
            return failure(404, "NotFound", f'{folder.rpartition("/")[2]} "{name}" not found')

    @staticmethod
    def _log(pod: Object, query: dict[str, list[str]]) -> str:
        image = pod["spec"]["containers"][0]["image"]
        lines = [f"started {image}", "listening"] if "crash" not in str(pod["status"]).lower() else ["FATAL: no table"]
        return "".join(f"{line}\n" for line in lines[-int(query.get("tailLines", ["10"])[0]) :])

    def _watch(self, query: dict[str, list[str]]) -> None:
        """The deployment after each change, until kubectl goes or its time is over."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        seen, give_up = query.get("resourceVersion", ["0"])[0], time.monotonic() + 60
        while time.monotonic() < give_up:
            with self.cluster.lock:
                now = json.loads(json.dumps(self.cluster.deployment))
            if now["metadata"]["resourceVersion"] != seen and chosen([now], query):
                seen = now["metadata"]["resourceVersion"]
                data = json.dumps({"type": "MODIFIED", "object": now}).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            time.sleep(TICK_S)
        self.wfile.write(b"0\r\n\r\n")

    def do_PATCH(self) -> None:
        path, _ = self._asked()
        body = json.loads(self._body())
        if not self._let_in():
            return None
        if path != f"{APPS}/deployments/erp":
            return self._say(*failure(404, "NotFound", f'deployments.apps "{path.rpartition("/")[2]}" not found'))
        if self.headers["Content-Type"] != "application/json-patch+json":
            return self._say(*failure(415, "UnsupportedMediaType", "only JSON patches are understood here"))
        self.cluster.patches.append(body)
        with self.cluster.lock:
            new = patched(self.cluster.deployment, body)
            if self.cluster.replace(new):
                return self._say(200, json.loads(json.dumps(new)))
        modified = "the object has been modified; please apply your changes to the latest version and try again"
        message = f'Operation cannot be fulfilled on deployments.apps "erp": {modified}'
        return self._say(*failure(409, "Conflict", message))

    def do_POST(self) -> None:
        path, _ = self._asked()
        body = self._body()
        if not self._let_in():
            return None
        if path != REVIEWS:
            return self._say(*failure(405, "MethodNotAllowed", "this is not served here"))
        asked = reviewed(body)
        name = "/".join(filter(None, (asked["resource"], asked["subresource"])))
        allowed = f"{asked['verb']} {name}" not in self.cluster.forbidden
        review = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}}
        spec = {"resourceAttributes": {**asked, "namespace": NAMESPACE}}
        return self._say(201, {**review, "spec": spec, "status": {"allowed": allowed}})

    def _asked(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        self.cluster.asked.append(f"{self.command} {self.path}")
        return parts.path, parse_qs(parts.query)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _let_in(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._say(*failure(401, "Unauthorized", "Unauthorized"))
        return False

    def _say(self, code: int, body: Any) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@dataclass(frozen=True)
class Door:
    """How kubectl gets in."""

    port: int
    certificate: bytes

    def kubeconfig(self, token: str = TOKEN) -> str:
        """JSON is YAML."""
        trusted = base64.b64encode(self.certificate).decode()
        place = {"server": f"https://localhost:{self.port}", "certificate-authority-data": trusted}
        named = {"cluster": "c", "user": "u", "namespace": "default"}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": place}],
                "users": [{"name": "u", "user": {"token": token}}],
                "contexts": [{"name": "production", "context": named}],
            }
        )


@contextmanager
def served() -> Iterator[tuple[type[Handler], Door]]:
    """A server whose cluster is set on the handler class."""
    handler = type("ClusterHandler", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="kube-") as folder:
        names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
        new = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names)
        subprocess.run([*new, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)
        context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
        certificate = Path(folder, "cert.pem").read_bytes()
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield handler, Door(server.server_port, certificate)
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def controlled(cluster: Cluster) -> Iterator[Cluster]:
    """With its controller at work."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(TICK_S):
            cluster.tick()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield cluster
    finally:
        stop.set()
        thread.join(5)
