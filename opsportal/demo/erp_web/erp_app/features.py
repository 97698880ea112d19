"""What this release shows beside the order itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

FIELDS: tuple[tuple[str, str], ...] = ()
"""Columns of an order that may be filled in, and what they are called."""


def recent_orders(pool: Any, order: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Other orders of the same customer: not in this release."""
    return ()
