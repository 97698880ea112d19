"""The compose file is accepted by a real Compose, publishes one port and knows no password; its secrets fit."""

import hashlib
import os
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import yaml

from opsportal.stack.identity import Account
from opsportal.stack.programs import redis_server
from tests.deploy.units import DEPLOY
from tests.opsportal.stack_tools import wait_until

PORTAL = {"migrate", "web", "control", "operations", "beat"}
needs_compose = pytest.mark.needs("docker-compose")


def compose(**env: str) -> subprocess.CompletedProcess[str]:
    argv = ["docker-compose", "--file", str(DEPLOY / "compose.yaml"), "config"]
    env = {"PATH": f"{os.environ['PATH']}:/usr/bin", "HOME": "/nonexistent", **env}
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    done = compose(ALLOWED_HOSTS="ops.example.org")
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


@needs_compose
def test_it_wants_to_know_the_host() -> None:
    done = compose()
    assert done.returncode != 0 and "Name the host" in done.stderr


@needs_compose
def test_only_the_web_port_is_published_on_loopback(config: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in config["services"].items() if service.get("ports")}
    (port,) = published.pop("web")
    assert not published
    assert "127.0.0.1" in str(port) and "8000" in str(port)
    assert config["networks"]["servers"]["internal"] is True
    assert all(set(config["services"][name]["networks"]) == {"servers"} for name in ("postgres", "redis"))


@needs_compose
def test_every_role_is_there_closed_and_waits_for_the_migrations(config: dict[str, Any]) -> None:
    services = config["services"]
    assert services.keys() == PORTAL | {"postgres", "redis"}
    for name in PORTAL:
        assert services[name]["command"] == [name]
        assert services[name]["read_only"] is True and services[name]["cap_drop"] == ["ALL"]
        switched_off = services[name].get("healthcheck") in ({"test": ["NONE"]}, {"disable": True})
        assert switched_off is (name != "web")
    for name in PORTAL - {"migrate"}:
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert services["migrate"]["depends_on"].keys() == {"postgres"}


@needs_compose
def test_no_value_is_a_password(config: dict[str, Any]) -> None:
    for service in config["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|_URL|KEY", name):
                assert str(value).startswith("/run/"), name


def test_the_secrets_fit_together(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    script = [str(DEPLOY / "make-secrets.sh"), str(folder)]
    subprocess.run(script, check=True, timeout=30)
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    named = set(re.findall(r"^  ([\w-]+): \{file: [.]/secrets/\1\}$", (DEPLOY / "compose.yaml").read_text(), re.M))
    assert texts.keys() == named
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(texts["secret-key"]) >= 50
    assert urlsplit(texts["database-url"]).password == texts["postgres-password"]
    password = urlsplit(texts["redis-url"]).password or ""
    assert len(password) >= 40 and f"#{hashlib.sha256(password.encode()).hexdigest()} " in texts["redis-acl"]
    assert subprocess.run(script, capture_output=True, timeout=30).returncode == 1  # never a second time


def test_a_real_redis_lets_in_who_has_the_secret_and_nobody_else(tmp_path: Path) -> None:
    subprocess.run([str(DEPLOY / "make-secrets.sh"), str(tmp_path / "secrets")], check=True, timeout=30)
    account = Account(os.geteuid(), os.getegid(), dropped=False)
    with TemporaryDirectory(prefix="redis-", dir="/tmp") as folder:
        door = f"{folder}/socket"
        argv = [str(redis_server(account)), "--port", "0", "--unixsocket", door, "--dir", folder, "--save", ""]
        argv += ["--aclfile", str(tmp_path / "secrets" / "redis-acl")]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: Path(door).exists(), 20)
            secret = urlsplit((tmp_path / "secrets" / "redis-url").read_text())
            known = redis.Redis(unix_socket_path=door, username=secret.username, password=secret.password)
            assert known.lpush("celery", "message") == 1
            with pytest.raises(redis.exceptions.NoPermissionError):
                known.flushall()
            with pytest.raises(redis.exceptions.AuthenticationError):
                redis.Redis(unix_socket_path=door).ping()
        finally:
            process.terminate()
            process.wait(20)
