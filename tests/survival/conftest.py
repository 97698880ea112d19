"""A second place of its own for each test, and committed rows where a worker's promises are tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django import DjangoDbBlocker

from operations import dispatch, engine
from operations.models import LogLine, Operation
from tests.backups.conftest import TABLES as BACKUP_TABLES
from tests.committed import CONTACT_TABLES, INCIDENT_TABLES, committed_rows

TABLES = (
    "survival_portalbackup",
    "survival_secondplace",
    "survival_cardcopy",
    "survival_heartbeat",
    "survival_breakglass",
    *INCIDENT_TABLES,
    *CONTACT_TABLES,
    *BACKUP_TABLES,
)


@pytest.fixture
def transactional_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with committed_rows(django_db_blocker, TABLES):
        yield


@pytest.fixture(autouse=True)
def places(tmp_path: Path, settings: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    """DATA_DIR, the second place and the folder of the key, as the defaults put them; and no doorbell."""
    monkeypatch.setattr(dispatch, "_leave_alone_until", float("inf"))
    monkeypatch.setattr(engine, "UNDO_RETRY_S", (0.0, 0.0))
    data = tmp_path / "var"
    (data / "secrets").mkdir(parents=True, mode=0o700)
    (data / "secrets" / "django-secret-key").write_text("a-secret-of-the-stack")
    (data / "target-secrets" / "team").mkdir(parents=True)
    (data / "target-secrets" / "team" / "erp").write_text("password-of-erp")
    settings.DATA_DIR = data  # type: ignore[attr-defined]
    settings.SECRET_DIRS = [data / "target-secrets", Path("/run/secrets")]  # type: ignore[attr-defined]
    settings.PORTAL_BACKUP_DIR = tmp_path / "var-portal-backup"  # type: ignore[attr-defined]
    settings.PORTAL_KEY_DIR = tmp_path / "var-portal-key"  # type: ignore[attr-defined]
    settings.OFFLINE_CARD_DIRS = [str(tmp_path / "var-portal-backup" / "offline-card")]  # type: ignore[attr-defined]
    return tmp_path


@pytest.fixture
def done() -> Callable[[Operation], Operation]:
    """Let a worker do an operation, and see that it succeeded."""

    def run(operation: Operation) -> Operation:
        engine.run(operation.pk, "w1")
        ended = Operation.objects.get(pk=operation.pk)
        assert ended.state == Operation.State.SUCCEEDED, f"{ended.message}\n{ended.traceback}\n{log_of(ended)}"
        return ended

    return run


def ran(operation: Operation) -> Operation:
    """Let a worker do an operation, whatever comes of it."""
    engine.run(operation.pk, "w1")
    return Operation.objects.get(pk=operation.pk)


def log_of(operation: Operation) -> str:
    return "\n".join(LogLine.objects.filter(operation=operation).values_list("text", flat=True))
