"""The guard of outgoing requests: forbidden addresses are never reached, and nobody is held up."""

from __future__ import annotations

import http.server
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from core import outbound
from core.addresses import ip_address, parse_networks, why_refused
from core.outbound import Allowed, OutboundFailed, OutboundRefused, fetch, resolve

LOOPBACK = Allowed(parse_networks(["127.0.0.0/8", "::1/128"]))
NOBODY = Allowed()


class Peer(http.server.BaseHTTPRequestHandler):
    """Answers by path, and remembers who came."""

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers["Host"]))  # type: ignore[attr-defined]
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        body = b"x" * 5000 if self.path == "/large" else b'{"status": "ok"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/drip":
            for byte in body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.3)
            return
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(handler: type = Peer, context: ssl.SSLContext | None = None) -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *args: None  # type: ignore[method-assign]
    server.seen = []  # type: ignore[attr-defined]
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def peer() -> Iterator[http.server.ThreadingHTTPServer]:
    with serving() as server:
        yield server


def url(server: http.server.ThreadingHTTPServer, path: str = "/", host: str = "127.0.0.1") -> str:
    return f"http://{host}:{server.server_address[1]}{path}"


# Every way we know to write an address that must not be reached. All but the named networks lead to this machine, to
# metadata, to an internal network or to nobody.
FORBIDDEN = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "127.0.0.1.",
    "127.255.255.254",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "0.0.0.0",
    "0",
    "0x0",
    "00000.0.0.0",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:7f00:0001::1]",
    "[2002:a9fe:a9fe::]",
    "[2001:0:7f00:1::80ff:fffe]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fe80::1%lo]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[fe80::5efe:7f00:1]",
    "[::5efe:127.0.0.1]",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "[::ffff:169.254.169.254]",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "10.0.0.1",
    "10.1",
    "167772161",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.257",
    "100.64.0.1",
    "192.0.0.8",
    "198.18.0.1",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "１２７.0.0.1",
    "127。0。0。1",
    "①②⑦.0.0.1",
    "[::ffff:0:127.0.0.1]",
    "127.0.0.1%00.example.org",
    "user@127.0.0.1",
    "example.org@127.0.0.1",
    "127.0.0.1#@example.org",
    "127.0.0.1\\@example.org",
    "127.0.0.1 example.org",
    "127.0.0.1\n.example.org",
    "-127.0.0.1",
    "a..b",
    "",
    "[::1",
    "::1]",
    "x" * 300,
]


def test_there_are_enough_of_them():
    assert len(set(FORBIDDEN)) >= 60


@pytest.mark.parametrize("host", FORBIDDEN)
def test_a_forbidden_address_is_never_reached(host, peer):
    """Nothing is allowed, and the one server that could be reached on this machine sees nobody."""
    port = peer.server_address[1]
    with pytest.raises((OutboundRefused, OutboundFailed)):
        fetch("GET", f"http://{host}:{port}/", allow=NOBODY, timeout_s=3)
    assert peer.seen == []


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "0.0.0.0",
        "[::]",
        "[fe80::1]",
        "224.0.0.1",
        "[fd00:ec2::254]",
        "100.100.100.200",
    ],
)
def test_metadata_and_nobody_are_refused_whatever_is_allowed(host):
    everything = Allowed(parse_networks(["0.0.0.0/0", "::/0"]))
    with pytest.raises(OutboundRefused, match="never asked"):
        fetch("GET", f"http://{host}/", allow=everything)


def test_the_control_an_allowed_one_arrives(peer):
    response = fetch("GET", url(peer, "/health?x=1"), allow=LOOPBACK)
    assert (response.status, response.body, response.address) == (200, b'{"status": "ok"}', "127.0.0.1")
    assert peer.seen == [("/health?x=1", f"127.0.0.1:{peer.server_address[1]}")]


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "192.0.1.1"])
def test_public_addresses_may(address):
    assert why_refused(ip_address(address), ()) == ""


def test_an_address_that_hides_another_needs_both_allowed():
    hidden = ip_address("64:ff9b::a00:1")
    assert why_refused(hidden, parse_networks(["64:ff9b::/96"]))
    assert not why_refused(hidden, parse_networks(["64:ff9b::/96", "10.0.0.0/8"]))


class TestRebinding:
    """What the name service says counts once."""

    def test_the_second_answer_changes_nothing(self, peer, monkeypatch):
        port = peer.server_address[1]
        answers = iter(["8.8.8.8", "127.0.0.1", "127.0.0.1"])
        asked = []

        def look_up(host, wanted, **kwargs):
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), wanted))]

        tried = []
        monkeypatch.setattr(outbound.socket, "getaddrinfo", look_up)
        monkeypatch.setattr(
            outbound.socket, "create_connection", lambda place, timeout: tried.append(place) or _refuse()
        )
        with pytest.raises(OutboundFailed):
            fetch("GET", f"http://rebind.example.org:{port}/", allow=NOBODY, timeout_s=3)
        assert asked == ["rebind.example.org"]
        assert tried == [("8.8.8.8", port)]
        assert peer.seen == []

    def test_one_forbidden_address_among_many_refuses_all(self, monkeypatch):
        def look_up(host, port, **kwargs):
            return [(2, 1, 6, "", (address, port)) for address in ("8.8.8.8", "1.1.1.1", "169.254.169.254")]

        monkeypatch.setattr(outbound.socket, "getaddrinfo", look_up)
        with pytest.raises(OutboundRefused, match=r"two.example.org \(169.254.169.254\)"):
            resolve("two.example.org", 80, NOBODY)

    def test_a_name_that_leads_to_metadata(self, monkeypatch):
        monkeypatch.setattr(
            outbound.socket, "getaddrinfo", lambda host, port, **k: [(10, 1, 6, "", ("fd00:ec2::254", port, 0, 0))]
        )
        with pytest.raises(OutboundRefused, match="never asked"):
            resolve("metadata.example.org", 80, Allowed(parse_networks(["::/0"])))


def _refuse() -> None:
    raise ConnectionRefusedError("refused")


class TestRedirects:
    @pytest.mark.parametrize(
        "place", ["http://169.254.169.254/latest/meta-data", "//127.0.0.1/", "http://[::1]/", "file:///etc/passwd"]
    )
    def test_they_are_reported_and_not_followed(self, peer, place):
        with serving() as other:
            place = place.replace("127.0.0.1", f"127.0.0.1:{other.server_address[1]}")
            response = fetch("GET", url(peer, f"/to/{place}"), allow=LOOPBACK)
            assert response.is_redirect and response.headers["location"] == place
            assert other.seen == [] and len(peer.seen) == 1


class TestThePortalItself:
    def test_its_names(self, settings):
        settings.ALLOWED_HOSTS = ["ops.example.org", "localhost"]
        for name in ("ops.example.org", "OPS.example.org.", "ops。example.org"):
            with pytest.raises(OutboundRefused, match="is the portal itself"):
                fetch("GET", f"https://{name}/", allow=LOOPBACK)

    def test_its_port_on_any_address_of_this_machine(self, settings, peer):
        settings.PORTAL_PORT = peer.server_address[1]
        for host in ("127.0.0.1", "127.7.7.7", "localhost"):
            with pytest.raises(OutboundRefused, match="is the portal itself"):
                fetch("GET", url(peer, host=host), allow=LOOPBACK)
        assert peer.seen == []


class TestBounds:
    def test_drop_by_drop_ends_in_time(self, peer):
        began = time.monotonic()
        with pytest.raises(OutboundFailed, match="did not answer completely within 1 s"):
            fetch("GET", url(peer, "/drip"), allow=LOOPBACK, timeout_s=1)
        assert time.monotonic() - began < 4

    def test_headers_drop_by_drop_end_in_time(self):
        class Dripping(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100:
                        self.request.sendall(bytes([byte]))
                        time.sleep(0.3)
                except OSError:
                    pass

        with serving(Dripping) as server, pytest.raises(OutboundFailed, match="within 1 s"):
            fetch("GET", url(server), allow=LOOPBACK, timeout_s=1)

    def test_one_that_never_answers(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            with pytest.raises(OutboundFailed, match="within 1 s"):
                fetch("GET", f"http://127.0.0.1:{silent.getsockname()[1]}/", allow=LOOPBACK, timeout_s=1)

    def test_what_is_too_large_is_cut(self, peer):
        response = fetch("GET", url(peer, "/large"), allow=LOOPBACK, max_bytes=1000)
        assert (len(response.body), response.truncated) == (1000, True)

    def test_no_http(self):
        class Talker(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.sendall(b"220 mail.example.org ESMTP\r\n" * 3)

        with serving(Talker) as server, pytest.raises(OutboundFailed, match="not HTTP"):
            fetch("GET", url(server), allow=LOOPBACK, timeout_s=3)

    def test_nobody_there(self):
        with pytest.raises(OutboundFailed, match="Nothing answers at 127.0.0.1"):
            fetch("GET", "http://127.0.0.1:1/", allow=LOOPBACK, timeout_s=3)

    @pytest.mark.parametrize(
        "text",
        ["ftp://example.org/", "example.org", "https://", "http://a:99999/", "http://a:0/", "javascript:alert(1)"],
    )
    def test_what_is_no_url(self, text):
        with pytest.raises(OutboundRefused):
            fetch("GET", text, allow=LOOPBACK)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority and a server certificate for localhost, good for ten days."""
    folder = tmp_path_factory.mktemp("ca")

    def openssl(*argv: str) -> None:
        subprocess.run(["openssl", *argv], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes", "-keyout")
    openssl(*new, "ca.key", "-x509", "-days", "30", "-subj", "/CN=Test CA", "-out", "ca.pem")
    openssl(*new, "key.pem", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-out", "csr.pem")
    (folder / "ext").write_text("subjectAltName=DNS:localhost\n")
    signed = ("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "10", "-extfile", "ext")
    openssl(*signed, "-out", "cert.pem")
    return folder


class TestTls:
    @pytest.fixture
    def secure(self, authority):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
        with serving(context=context) as server:
            yield server

    def test_a_trusted_certificate_and_its_end(self, secure, authority, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
        response = fetch("GET", url(secure, host="localhost").replace("http:", "https:"), allow=LOOPBACK)
        assert response.status == 200
        assert response.certificate_ends
        days = (response.certificate_ends.timestamp() - time.time()) / 86400
        assert 9 < days < 10.1

    def test_one_that_nobody_has_signed(self, secure):
        with pytest.raises(OutboundFailed, match="is not accepted"):
            fetch("GET", url(secure, host="localhost").replace("http:", "https:"), allow=LOOPBACK)

    def test_one_for_another_name(self, secure, authority, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
        with pytest.raises(OutboundFailed, match="is not accepted"):
            fetch("GET", url(secure).replace("http:", "https:"), allow=LOOPBACK)

    def test_no_tls_at_all(self, peer):
        with pytest.raises(OutboundFailed, match="does not speak TLS"):
            fetch("GET", url(peer).replace("http:", "https:"), allow=LOOPBACK, timeout_s=3)

    def test_the_time_is_over_in_the_middle_of_the_handshake(self, authority, monkeypatch):
        """And then the other side would go on drop by drop."""
        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority / "cert.pem", authority / "key.pem")

        class Slow(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                time.sleep(1.2)
                try:
                    with context.wrap_socket(self.request, server_side=True) as tls:
                        tls.recv(1000)
                        tls.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
                        for _ in range(100):
                            tls.sendall(b"x")
                            time.sleep(0.1)
                except OSError:
                    pass

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Slow) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            began = time.monotonic()
            with pytest.raises(OutboundFailed, match="did not answer completely within 1 s"):
                fetch("GET", f"https://localhost:{server.server_address[1]}/", allow=LOOPBACK, timeout_s=1)
            assert time.monotonic() - began < 4
            server.shutdown()
