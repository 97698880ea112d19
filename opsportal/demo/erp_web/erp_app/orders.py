"""What the application asks its database. Columns are always named, so that a later schema does no harm."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from . import features
from .pool import Connection, Row

ORDER = "o.id, o.number, o.status, o.channel, o.placed_at, o.customer_id, c.company, c.city"
NET = "coalesce(sum(round(l.quantity * l.unit_price * (1 - l.discount_percent / 100), 2)), 0)"


class NotPossible(Exception):
    """The request makes no sense; the message is for a person."""


def newest(session: Connection, limit: int = 25) -> list[Row]:
    return session.execute(
        f"SELECT {ORDER}, {NET} AS net FROM (SELECT * FROM orders ORDER BY placed_at DESC, id DESC LIMIT %s) o"  # noqa: S608
        " JOIN customers c ON c.id = o.customer_id LEFT JOIN order_lines l ON l.order_id = o.id"
        f" GROUP BY {ORDER} ORDER BY o.placed_at DESC, o.id DESC",
        [limit],
    ).fetchall()


def one(session: Connection, number: int) -> Row | None:
    """An order with its lines, or None."""
    extra = "".join(f", o.{column}" for column, _ in features.FIELDS)
    order = session.execute(
        f"SELECT {ORDER}{extra} FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.id = %s",  # noqa: S608
        [number],
    ).fetchone()
    if order is None:
        return None
    order["lines"] = session.execute(
        "SELECT l.position, p.sku, p.name, l.quantity, l.unit_price, l.discount_percent,"
        " round(l.quantity * l.unit_price * (1 - l.discount_percent / 100), 2) AS net"
        " FROM order_lines l JOIN products p ON p.id = l.product_id WHERE l.order_id = %s ORDER BY l.position",
        [number],
    ).fetchall()
    order["net"] = sum((line["net"] for line in order["lines"]), Decimal(0))
    return order


def choices(session: Connection) -> tuple[list[Row], list[Row]]:
    """Customers and products that the form offers."""
    customers = session.execute("SELECT id, company, city FROM customers ORDER BY id LIMIT 60").fetchall()
    products = session.execute("SELECT id, sku, name, sales_price FROM products ORDER BY id LIMIT 60").fetchall()
    return customers, products


def quote(session: Connection, asked: dict[str, Any]) -> Row:
    """What a number of pieces would cost. Changes nothing."""
    product, quantity = _number(asked, "product_id"), _number(asked, "quantity")
    found = session.execute("SELECT sku, name, sales_price FROM products WHERE id = %s", [product]).fetchone()
    if found is None:
        raise NotPossible("There is no such product.")
    return {**found, "quantity": quantity, "net": quantity * found["sales_price"]}


def create(session: Connection, asked: dict[str, Any]) -> int:
    """A new order with one line; its number in the database."""
    customer, product, quantity = (_number(asked, name) for name in ("customer_id", "product_id", "quantity"))
    extra = {column: str(asked.get(column) or "")[:200] for column, _ in features.FIELDS}
    names = "".join(f", {column}" for column in extra)
    with session.transaction():
        made = session.execute(
            "WITH fresh AS (SELECT nextval(pg_get_serial_sequence('orders', 'id')) AS id)"  # noqa: S608 - our columns
            f" INSERT INTO orders (id, number, customer_id, taken_by_id, status, channel, shipping_address, placed_at"
            f"{names}) SELECT fresh.id, 'SO-' || to_char(now(), 'YYYY') || '-' || lpad(fresh.id::text, 6, '0'), c.id,"
            " c.account_manager_id, 'open', 'shop', jsonb_build_object('company', c.company, 'street', c.street,"
            f" 'city', c.postal_code || ' ' || c.city), now(){', %s' * len(extra)} FROM fresh, customers c"
            " WHERE c.id = %s RETURNING id",
            [*extra.values(), customer],
        ).fetchone()
        if made is None:
            raise NotPossible("There is no such customer.")
        line = session.execute(
            "INSERT INTO order_lines (order_id, position, product_id, quantity, unit_price)"
            " SELECT %s, 1, id, %s, sales_price FROM products WHERE id = %s RETURNING id",
            [made["id"], quantity, product],
        ).fetchone()
        if line is None:
            raise NotPossible("There is no such product.")
    return int(made["id"])


def change(session: Connection, number: int, asked: dict[str, Any]) -> bool:
    """Another quantity of the first line of an open order. False: there is no such order."""
    quantity = _number(asked, "quantity")
    return bool(
        session.execute(
            "UPDATE order_lines l SET quantity = %s FROM orders o"
            " WHERE o.id = %s AND o.status = 'open' AND l.order_id = o.id AND l.position = 1",
            [quantity, number],
        ).rowcount
    )


def delete(session: Connection, number: int) -> bool:
    """An open order that nobody has begun to work on. False: there is no such order."""
    with session.transaction():
        session.execute("DELETE FROM order_lines USING orders o WHERE order_id = %s AND o.id = order_id"
                        " AND o.status = 'open'", [number])  # fmt: skip
        return bool(session.execute("DELETE FROM orders WHERE id = %s AND status = 'open'", [number]).rowcount)


def _number(asked: dict[str, Any], name: str) -> int:
    try:
        value = int(asked[name])
    except (KeyError, TypeError, ValueError):
        raise NotPossible(f"Give {name} as a number.") from None
    if not 0 < value < 100_000:
        raise NotPossible(f"{name} is out of range.")
    return value
