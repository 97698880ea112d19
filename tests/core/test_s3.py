"""Objects in a bucket: signed as Amazon's own example, and taken by a server that checks every signature."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core import outbound, s3
from core.addresses import parse_networks
from core.exceptions import PortalError

ACCESS, SECRET = "AKIDEXAMPLE", "a-secret-key-of-the-tests"


@dataclass
class Buckets:
    """What a service with one bucket got, whose signatures it has checked itself, from the request as it came."""

    server: ThreadingHTTPServer
    objects: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def service(self, **changes: object) -> s3.Service:
        values = {"endpoint": self.endpoint, "region": "eu-central-1", "access_key": ACCESS, "secret_key": SECRET}
        return s3.Service(**{**values, "allow": outbound.Allowed(parse_networks(["127.0.0.0/8"])), **changes})

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


def signature_of(handler: BaseHTTPRequestHandler, body: bytes) -> str:
    """The signature that this request should have."""
    fields = dict(part.strip().split("=", 1) for part in handler.headers["Authorization"].split(" ", 1)[1].split(","))
    _, day, region, service, last = fields["Credential"].split("/")
    canonical = f"{handler.command}\n{handler.path}\n\n"
    for name in fields["SignedHeaders"].split(";"):
        canonical += f"{name}:{handler.headers[name].strip()}\n"
    canonical += f"\n{fields['SignedHeaders']}\n{hashlib.sha256(body).hexdigest()}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{handler.headers['x-amz-date']}\n{day}/{region}/{service}/{last}\n{digest}"
    key = b"AWS4" + SECRET.encode()
    for part in (day, region, service, last):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


@pytest.fixture
def buckets() -> Iterator[Buckets]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            given = self.headers["Authorization"].rpartition("Signature=")[2]
            if not self.path.startswith("/cards/"):
                self._say(404, "NoSuchBucket")
            elif given != signature_of(self, body):
                self._say(403, "SignatureDoesNotMatch")
            else:
                made.objects[self.path] = (self.headers["Content-Type"], body)
                self._say(200, "")

        def _say(self, status: int, code: str) -> None:
            data = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Buckets(server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def test_amazons_own_example():
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, “PUT Object”."""
    headers = {
        "date": "Fri, 24 May 2013 00:00:00 GMT",
        "host": "examplebucket.s3.amazonaws.com",
        "x-amz-content-sha256": hashlib.sha256(b"Welcome to Amazon S3.").hexdigest(),
        "x-amz-date": "20130524T000000Z",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
    }
    account = s3.Service("", "us-east-1", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    assert s3.authorization("PUT", "/test%24file.text", headers, account) == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,"
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


@pytest.mark.parametrize(
    ("key", "path"),
    [("card.html", "/cards/card.html"), ("a b/ü+$&?.html", "/cards/a%20b/%C3%BC%2B%24%26%3F.html")],
)
def test_it_is_taken(buckets, key, path):
    buckets.service().put("cards", key, b"<p>", "text/html; charset=utf-8")
    assert buckets.objects == {path: ("text/html; charset=utf-8", b"<p>")}


@pytest.mark.parametrize(
    ("changes", "bucket", "sentence"),
    [
        ({"secret_key": "another"}, "cards", "403 SignatureDoesNotMatch"),
        ({}, "other", "404 NoSuchBucket"),
        ({"endpoint": "http://127.0.0.1:1"}, "cards", "Nothing answers"),
        ({"allow": outbound.Allowed()}, "cards", "Correct the address"),
        ({"endpoint": "http://169.254.169.254"}, "cards", "Correct the address"),
    ],
)
def test_what_does_not_go_is_a_sentence(buckets, changes, bucket, sentence):
    with pytest.raises(PortalError, match=sentence):
        buckets.service(**changes).put(bucket, "card.html", b"x", "text/html")
    assert buckets.objects == {} and SECRET not in repr(buckets.service())
