"""What this release shows beside the order itself: the customer's other orders, and when delivery is wished."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

FIELDS: tuple[tuple[str, str], ...] = (("delivery_wish", "Delivery wish"),)
"""Columns of an order that may be filled in, and what they are called."""
SHOWN = 5


def recent_orders(pool: Any, order: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """The last other orders of the same customer."""
    with pool.session() as session:
        rows: list[dict[str, Any]] = session.execute(
            "SELECT id, number, status, placed_at FROM orders WHERE customer_id = %s AND id <> %s"
            " ORDER BY placed_at DESC LIMIT %s",
            [order["customer_id"], order["id"], SHOWN],
        ).fetchall()
    return rows
