"""What the tests of incidents share."""

from __future__ import annotations

import pytest

from core.models import User
from core.roles import Role
from operations import dispatch
from tests.factories import PersonFactory


@pytest.fixture(autouse=True)
def quiet_doorbell(monkeypatch: pytest.MonkeyPatch) -> None:
    """No messages to workers."""
    monkeypatch.setattr(dispatch, "_leave_alone_until", float("inf"))


@pytest.fixture
def olga(db: None) -> User:
    """An operator."""
    return PersonFactory(username="olga", role=Role.OPERATOR)


@pytest.fixture
def ada(db: None) -> User:
    """An administrator."""
    return PersonFactory(username="ada", role=Role.ADMINISTRATOR)


@pytest.fixture
def mona(db: None) -> User:
    """A manager: sees everything, changes nothing."""
    return PersonFactory(username="mona", role=Role.MANAGER)


@pytest.fixture
def rene(db: None) -> User:
    """A responder: may not restore."""
    return PersonFactory(username="rene", role=Role.RESPONDER)
