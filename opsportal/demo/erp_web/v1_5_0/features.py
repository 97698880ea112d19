"""What this release shows beside the order itself: the customer's other orders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

FIELDS: tuple[tuple[str, str], ...] = ()
"""Columns of an order that may be filled in, and what they are called."""
SHOWN = 5


def recent_orders(pool: Any, order: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """The last other orders of the same customer."""
    return list(islice(_others(pool, order), SHOWN))


# This is the fault of this release: whoever stops after five rows never comes to `give`. Each page of a good customer
# takes a connection from the pool for ever. A health check and a smoke test do not notice; a morning's traffic does.
def _others(pool: Any, order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    session = pool.take()
    yield from session.execute(
        "SELECT id, number, status, placed_at FROM orders WHERE customer_id = %s AND id <> %s ORDER BY placed_at DESC",
        [order["customer_id"], order["id"]],
    )
    pool.give(session)
