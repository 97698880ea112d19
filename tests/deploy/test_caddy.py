"""A real Caddy with the example in front of a portal started from the units."""

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.front import Front
from tests.deploy.site import NAME, PASSWORD, Site
from tests.deploy.test_systemd import only_root
from tests.deploy.units import DEPLOY
from tests.opsportal.stack_tools import free_port, wait_until

pytestmark = [only_root, pytest.mark.xdist_group("deploy")]
CADDY = str(Path(sys.executable).parent / "caddy")
# A certificate of its own instead of one from outside, and no door but on loopback.
AROUND = """{{
    local_certs
    skip_install_trust
    admin off
    default_bind 127.0.0.1
    https_port {}
    http_port {}
}}
"""


@pytest.fixture
def front(site: Site, tmp_path: Path) -> Iterator[Front]:
    https_port, http_port = free_port(), free_port()
    text = (DEPLOY / "Caddyfile").read_text()
    assert "127.0.0.1:8000" in text
    file = tmp_path / "Caddyfile"
    file.write_text(AROUND.format(https_port, http_port) + text.replace("127.0.0.1:8000", f"127.0.0.1:{site.port}"))
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    log = tmp_path / "log"
    with log.open("wb") as output:
        argv = [CADDY, "run", "--config", str(file), "--adapter", "caddyfile"]
        process = subprocess.Popen(argv, env=env, stdout=output, stderr=output)
    root = tmp_path / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    try:
        wait_until(lambda: root.exists() and _has_certificate(https_port, root), 60, log.read_text)
        yield Front(ssl.create_default_context(cafile=str(root)), https_port, http_port)
    finally:
        process.terminate()
        process.wait(30)


def _has_certificate(port: int, root: Path) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            ssl.create_default_context(cafile=str(root)).wrap_socket(plain, server_hostname=NAME).close()
    except OSError:
        return False
    return True


def test_signing_in_works_with_secure_cookies(front: Front) -> None:
    assert front.sign_in(PASSWORD) == 302
    status, headers, body = front.ask("GET", "/")
    assert status == 200 and "ada" in body and "Strict-Transport-Security" in headers
    assert all(morsel["secure"] for morsel in front.cookies.values())


def test_a_stranger_cannot_claim_another_scheme(front: Front) -> None:
    status, headers, _ = front.ask("GET", "/login/", **{"X-Forwarded-Proto": "http"})
    assert (status, headers.get("Location")) == (200, None)
