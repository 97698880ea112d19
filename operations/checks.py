"""Settings of the engine that would break its promises."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@register()
def check_lease(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """operations.E001: one late heartbeat would lose the lease."""
    lease_s, heartbeat_s = settings.OPERATIONS_LEASE_S, settings.OPERATIONS_HEARTBEAT_S
    if 0 < heartbeat_s * 3 <= lease_s:
        return []
    return [
        Error(
            f"OPERATIONS_LEASE_S is {lease_s:g} and OPERATIONS_HEARTBEAT_S is {heartbeat_s:g}.",
            hint="Make the lease at least three heartbeats long, so that a late one does not lose it.",
            id="operations.E001",
        )
    ]


@register()
def check_frozen_transactions(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """operations.W001: a process that freezes inside a transaction would hide its operation from the control loop."""
    options = settings.DATABASES["default"].get("OPTIONS", {}).get("options", "")
    found = re.search(r"idle_in_transaction_session_timeout=(\d+)\s*([a-z]*)", options)
    limit_s = int(found[1]) * UNITS_S.get(found[2] or "ms", 0) if found else 0
    if 0 < limit_s <= settings.OPERATIONS_LEASE_S:
        return []
    return [
        Warning(
            "The portal's database sessions may stay idle in a transaction for longer than a lease.",
            hint="Set idle_in_transaction_session_timeout in the options of DATABASE_URL to half of the lease.",
            id="operations.W001",
        )
    ]
