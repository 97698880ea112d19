"""The real Dockerfile, built by a real engine without a download, and every role of its entrypoint."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.conftest import TargetServer
from tests.deploy import base_image
from tests.deploy.loopback import relayed, served
from tests.deploy.site import BACK_UP, NAME
from tests.deploy.test_systemd import only_root
from tests.deploy.units import CHECKOUT
from tests.docker_engine import Engine, running_engine
from tests.factories import drop_databases, sample_database
from tests.opsportal.stack_tools import free_port, wait_until

pytestmark = [pytest.mark.needs("dockerd"), only_root, pytest.mark.xdist_group("docker"), pytest.mark.timeout(600)]
IMAGE = "opsportal"
BUILD_LIMIT_S = 400
LONG_ROLES = {"web": 40, "control": 30, "operations": 60, "beat": 15}  # role -> seconds it may take to stop


@dataclass
class Containers:
    engine: Engine
    env: dict[str, str]
    data: Path
    database_url: str  # as this process reaches it
    port: int
    names: list[str] = field(default_factory=list)

    def options(self) -> tuple[str, ...]:
        given = [part for name, value in self.env.items() for part in ("--env", f"{name}={value}")]
        closed = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
        own = ("--volume", f"{self.data}:/data", "--volume", "/portal-backup", "--volume", "/portal-key")
        return ("--network", "host", *own, *closed, *given)

    def start(self, role: str) -> str:
        name = f"portal-{role}"
        self.engine.docker("run", "--detach", "--name", name, *self.options(), IMAGE, role)
        self.names.append(name)
        return name

    def once(self, *arguments: str, stdin: str = "") -> str:
        return self.engine.docker("run", "--rm", "-i", *self.options(), IMAGE, *arguments, stdin=stdin.encode())

    def state(self, name: str) -> dict[str, Any]:
        return json.loads(self.engine.docker("inspect", "--format", "{{json .State}}", name))

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{self.engine.logs(name)[-3000:]}" for name in self.names)

    def value(self, query: str, *values: object) -> Any:
        with psycopg.connect(self.database_url) as session:
            row = session.execute(query, values or None).fetchone()
            return row[0] if row else None


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that has built the image; pip gets its packages from a folder of wheels, by build arguments."""
    folder = tmp_path_factory.mktemp("image")
    wheels = folder / "wheels"
    # Debian's Python is older than the one the suite may run on, and wants async-timeout.
    wanted = ["-r", "requirements.txt", "async-timeout", "-c", "constraints.txt"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--dest", str(wheels)]
    subprocess.run([*pip, *wanted], cwd=CHECKOUT, check=True, timeout=BUILD_LIMIT_S, capture_output=True)
    base = folder / "base.tar"
    base_image.write(base)
    with running_engine() as engine, served(wheels) as address:
        engine.docker("import", str(base), base_image.BASE)
        arguments = ("--build-arg", "PIP_NO_INDEX=1", "--build-arg", f"PIP_FIND_LINKS={address}")
        build = ["build", "--network", "host", "--file", "deploy/Dockerfile", "--tag", IMAGE, *arguments, "."]
        done = subprocess.run(
            ["docker", "--host", f"unix://{engine.socket}", *build],
            cwd=CHECKOUT,
            env={**os.environ, "DOCKER_BUILDKIT": "0"},
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT_S,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        yield engine


@pytest.fixture(scope="module")
def containers(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    name = f"image_{secrets.token_hex(4)}"
    outer = os.environ["DATABASE_URL"]
    with psycopg.connect(outer, autocommit=True) as session:
        session.execute(f'CREATE DATABASE "{name}"')
        account = (session.info.user, session.info.password)
        sockets = session.info.host
    redis = urlsplit(os.environ["REDIS_URL"])
    data = tmp_path_factory.mktemp("data")
    os.chown(data, 10001, 10001)
    port = free_port()
    try:
        with ExitStack() as stack:
            postgres_port = stack.enter_context(relayed(f"{sockets}/.s.PGSQL.5432"))
            redis_port = stack.enter_context(relayed(redis.path))
            env = {
                "SECRET_KEY": secrets.token_urlsafe(50),
                "DATABASE_URL": f"postgresql://{account[0]}:{account[1]}@127.0.0.1:{postgres_port}/{name}",
                "REDIS_URL": f"redis://{redis.username}:{redis.password}@127.0.0.1:{redis_port}/8",
                "ALLOWED_HOSTS": NAME,
                "BEHIND_PROXY": "true",
                "PORT": str(port),
                "SECRET_DIRS": "/data/target-secrets",
            }
            url = outer.replace(urlsplit(outer).path, f"/{name}", 1)
            containers = Containers(engine, env, data, url, port)
            yield containers
            for running in containers.names:
                engine.remove(running)
    finally:
        with psycopg.connect(outer, autocommit=True) as session:
            session.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def test_the_image_holds_what_runs_and_no_more(engine: Engine) -> None:
    config = json.loads(engine.docker("inspect", "--format", "{{json .Config}}", IMAGE))
    assert config["User"] == "10001"
    assert not [line for line in config["Env"] if line.startswith("PIP_")]
    assert config["Healthcheck"]["Test"][-1] == "health"
    listed = engine.docker("run", "--rm", "--network", "none", "--entrypoint", "ls", IMAGE, "-A").split()
    assert not {"tests", "docs", ".git", ".venv", "var"} & set(listed)
    deploy = engine.docker("run", "--rm", "--network", "none", "--entrypoint", "ls", IMAGE, "deploy").split()
    assert set(deploy) - {"__pycache__"} == {"entrypoint.sh", "health.py"}


def test_an_unknown_role_is_a_sentence(engine: Engine) -> None:
    argv = ["docker", "--host", f"unix://{engine.socket}", "run", "--rm", "--network", "none", IMAGE, "cook"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=BUILD_LIMIT_S)
    assert done.returncode == 64 and "Choose web, control" in done.stderr


def test_every_role_starts_backs_up_and_stops_in_time(containers: Containers, target_server: TargetServer) -> None:
    containers.once("migrate")
    containers.once("manage", "shell", stdin='from core.models import User; User.objects.create_user("ada")\n')
    for role in LONG_ROLES:
        containers.start(role)
    wait_until(
        lambda: containers.state("portal-web").get("Health", {}).get("Status") == "healthy", 120, containers.logs
    )

    database = sample_database(target_server)
    for part in ("archives", "target-secrets"):
        (containers.data / part).mkdir(mode=0o700)
    (containers.data / "target-secrets" / "shop").write_text(target_server.password)
    for path in containers.data.rglob("*"):
        os.chown(path, 10001, 10001)
    with relayed(f"{target_server.host}/.s.PGSQL.5432") as port:
        text = BACK_UP.format(
            host="127.0.0.1",
            port=port,
            database=database.name,
            user=target_server.user,
            password="file:/data/target-secrets/shop",
            archives="/data/archives",
        )
        printed = containers.once("manage", "shell", stdin=text)
        (pk,) = re.findall(r"^operation (\d+)$", printed, re.MULTILINE)
        state = "SELECT state FROM operations_operation WHERE id = %s"
        wait_until(lambda: containers.value(state, pk) not in ("queued", "running"), 120, containers.logs)
        assert containers.value(state, pk) == "succeeded", containers.logs()
    drop_databases(target_server, database.name)
    (manifest,) = containers.data.glob("archives/shop/*/manifest.json")
    assert manifest.stat().st_uid == 10001

    took = {}
    for role, limit_s in LONG_ROLES.items():
        begun = time.monotonic()
        containers.engine.docker("stop", "--time", str(limit_s), f"portal-{role}")
        took[role] = time.monotonic() - begun
        assert containers.state(f"portal-{role}")["ExitCode"] == 0, containers.logs()
    assert all(took[role] < limit_s for role, limit_s in LONG_ROLES.items()), took
