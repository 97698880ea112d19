"""A real nginx with the example in front of a portal started from the units: what a browser gets over TLS."""

import http.client
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.front import Front, answers
from tests.deploy.site import NAME, PASSWORD, Site
from tests.deploy.test_systemd import only_root
from tests.deploy.units import DEPLOY
from tests.opsportal.stack_tools import free_port, wait_until

pytestmark = [pytest.mark.needs("nginx"), only_root, pytest.mark.xdist_group("deploy")]
EXAMPLE = (DEPLOY / "nginx.conf").read_text()
# What Debian's nginx.conf has around the files of conf.d, with every path below one folder.
AROUND = """
daemon off; user root; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/opsportal.conf; }}
"""


@pytest.fixture
def front(site: Site, tmp_path: Path) -> Iterator[Front]:
    """Its own nginx for each test, so that the limit on sign-ins begins anew."""
    certificate, key = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    argv += ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    subprocess.run([*argv, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    https_port, http_port = free_port(), free_port()
    changes = {
        "127.0.0.1:8000": f"127.0.0.1:{site.port}",
        "listen 80;": f"listen 127.0.0.1:{http_port};",
        "listen 443 ": f"listen 127.0.0.1:{https_port} ",
        "/etc/ssl/opsportal": str(tmp_path),
    }
    text = EXAMPLE
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "opsportal.conf").write_text(text)
    main = tmp_path / "nginx.conf"
    main.write_text(AROUND.format(folder=tmp_path))
    nginx = ["/usr/sbin/nginx", "-c", str(main), "-p", str(tmp_path), "-e", str(tmp_path / "error.log")]
    tried = subprocess.run([*nginx, "-t"], capture_output=True, text=True, timeout=30)
    assert tried.returncode == 0 and "warn" not in tried.stderr, tried.stderr
    process = subprocess.Popen(nginx)
    try:
        wait_until(lambda: answers(https_port), 20, (tmp_path / "error.log").read_text)
        yield Front(ssl.create_default_context(cafile=str(certificate)), https_port, http_port)
    finally:
        process.terminate()
        process.wait(20)


def test_plain_http_leads_to_https(front: Front) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", front.http_port, timeout=10)
    connection.request("GET", "/backups/plan/", headers={"Host": NAME})
    answer = connection.getresponse()
    connection.close()
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{NAME}/backups/plan/")


def test_signing_in_works_with_secure_cookies_and_hsts(front: Front) -> None:
    assert front.sign_in(PASSWORD) == 302
    status, headers, body = front.ask("GET", "/")
    assert status == 200 and "ada" in body
    assert headers["Strict-Transport-Security"].startswith("max-age=31536000")
    assert {name: bool(morsel["secure"]) for name, morsel in front.cookies.items()} == {
        "opsportal_session": True,
        "opsportal_csrf": True,
    }
    style = re.findall(r'href="(/static/[^"]+\.css)"', body)[0]
    assert front.ask("GET", style)[0] == 200


def test_without_the_proxy_the_portal_redirects(site: Site) -> None:
    assert site.get("/login/") == 301


def test_a_stranger_cannot_claim_another_scheme(front: Front) -> None:
    status, headers, _ = front.ask("GET", "/login/", **{"X-Forwarded-Proto": "http"})
    assert (status, headers.get("Location")) == (200, None)


def test_sign_in_attempts_are_limited_and_reading_is_not(front: Front) -> None:
    body = {"username": "nobody", "password": "wrong", "csrfmiddlewaretoken": "x"}
    got = [front.ask("POST", "/login/", body)[0] for _ in range(14)]
    assert got.count(429) >= 2 and got[0] == 403
    assert front.ask("GET", "/login/")[0] == 200
