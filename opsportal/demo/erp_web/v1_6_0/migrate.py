"""The migration of this release: orders get a wish for delivery. Does no harm when it runs twice.

The release before goes on working with it: it names its columns, and the new one has a default.
"""

from __future__ import annotations

from typing import Any


def migrate(session: Any) -> str:
    """Change the schema; what was done, in a sentence."""
    session.execute("SET lock_timeout = '3s'")  # nobody waits behind us for long
    there = session.execute(
        "SELECT 1 FROM information_schema.columns WHERE table_name = 'orders' AND column_name = 'delivery_wish'"
    ).fetchone()
    session.execute("ALTER TABLE orders ADD COLUMN IF NOT EXISTS delivery_wish text NOT NULL DEFAULT ''")
    return "orders.delivery_wish was there already." if there else "orders.delivery_wish was added."
