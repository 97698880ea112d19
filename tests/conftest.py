"""Databases and services of the whole suite. `make test` starts the servers; see opsportal/stack/services.py."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

NEEDED = ("DATABASE_URL", "TARGET_SOCKET", "TARGET_USER", "TARGET_PASSWORD")
# Where a program is missing, the Debian package that brings it.
PACKAGES = {
    "age": "age",
    "chromium": "chromium",
    "nginx": "nginx",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "ssh-keyscan": "openssh-client",
    "dockerd": "docker.io",
    "kubectl": "kubernetes-client",
    "sqlite3": "sqlite3",
    "zstd": "zstd",
    "docker-compose": "docker-compose",
    "systemd-analyze": "systemd",
}


@dataclass(frozen=True)
class TargetServer:
    """A PostgreSQL server that the portal may manage: never the one where the portal lives."""

    host: str  # folder of its socket
    user: str
    password: str


def pytest_configure(config: pytest.Config) -> None:
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        raise pytest.UsageError(f"{missing[0]} is not set: run the suite with `make test`, which starts the servers.")
    from django.conf import settings

    # Hashed file names need collectstatic; tests read static files where they lie.
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # else WhiteNoise warns on every request
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
                reason = f"{program} is not installed: apt-get install {PACKAGES.get(program, program)}"
                if os.environ.get("CI") == "true":
                    pytest.fail(reason, pytrace=False)
                pytest.skip(reason)


@pytest.fixture(scope="session")
def target_server() -> Iterator[TargetServer]:
    """The second embedded cluster, for databases that tests back up, break and restore."""
    yield TargetServer(os.environ["TARGET_SOCKET"], os.environ["TARGET_USER"], os.environ["TARGET_PASSWORD"])


@pytest.fixture(autouse=True)
def _no_maintenance_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line about maintenance is kept for some seconds a process: no test reads what another has left."""
    monkeypatch.setattr("incidents.banner.lately._known", (float("inf"), []))
