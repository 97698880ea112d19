"""Settings that would break the engine's promises are found before it starts."""

from __future__ import annotations

from typing import Any

import pytest

from operations import checks


@pytest.mark.parametrize(("lease_s", "heartbeat_s", "found"), [(30, 5, []), (30, 11, ["operations.E001"])])
def test_a_lease_lasts_some_heartbeats(settings: Any, lease_s: float, heartbeat_s: float, found: list[str]) -> None:
    settings.OPERATIONS_LEASE_S, settings.OPERATIONS_HEARTBEAT_S = lease_s, heartbeat_s
    assert [message.id for message in checks.check_lease()] == found


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("-c idle_in_transaction_session_timeout=15s", []),
        ("-c idle_in_transaction_session_timeout=15000", []),
        ("-c statement_timeout=1s -c idle_in_transaction_session_timeout=1500ms", []),
        ("-c idle_in_transaction_session_timeout=1min", ["operations.W001"]),
        ("-c idle_in_transaction_session_timeout=0", ["operations.W001"]),
        ("", ["operations.W001"]),
    ],
)
def test_a_frozen_transaction_ends_within_a_lease(
    settings: Any, monkeypatch: pytest.MonkeyPatch, options: str, found: list[str]
) -> None:
    settings.OPERATIONS_LEASE_S = 30
    monkeypatch.setitem(settings.DATABASES["default"], "OPTIONS", {"options": options})
    assert [message.id for message in checks.check_frozen_transactions()] == found
