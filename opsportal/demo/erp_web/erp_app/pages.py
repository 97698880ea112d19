"""The pages, as text. Everything that comes from outside is escaped here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from html import escape
from typing import Any

from . import features

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6678; --line: #d9dee7; --paper: #fff; --ground: #f4f6f9;
  --slot: #3a4250; --accent: #1f5fbf; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebf2; --soft: #9aa6b8; --line: #323b4a; --paper: #1b212b;
  --ground: #12161d; --accent: #7fb0ff; } }
.blue { --slot: #1d5fc4; } .green { --slot: #1a7a45; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
header { background: var(--slot); color: #fff; }
header div, main, footer { max-width: 960px; margin: 0 auto; padding: 12px 20px; }
header div { display: flex; gap: 20px; align-items: center; flex-wrap: wrap; }
header a { color: #fff; text-decoration: none; } header a:hover { text-decoration: underline; }
header div > b { font-size: 17px; margin-right: auto; }
.version { border: 1px solid #ffffff99; border-radius: 999px; padding: 1px 12px; font-variant-numeric: tabular-nums; }
main { padding-top: 20px; } h1 { font-size: 22px; margin: 0 0 16px; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 16px; margin: 0 0 16px;
  overflow-x: auto; }
table { width: 100%; border-collapse: collapse; } th { color: var(--soft); font-weight: 600; text-align: left; }
th, td { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
tr:last-child td { border-bottom: 0; } .n { text-align: right; font-variant-numeric: tabular-nums; }
a { color: var(--accent); } .state { border-radius: 4px; padding: 0 8px; border: 1px solid var(--line); }
label { display: block; margin: 0 0 12px; color: var(--soft); }
input, select { display: block; width: 100%; max-width: 420px; padding: 8px; font: inherit; color: var(--ink);
  background: var(--ground); border: 1px solid var(--line); border-radius: 6px; }
button, .button { background: var(--accent); color: var(--paper); border: 0; border-radius: 6px; padding: 8px 18px;
  font: inherit; font-weight: 600; cursor: pointer; text-decoration: none; display: inline-block; }
@media (max-width: 600px) { th, td { white-space: normal; } }
.bad { border-left: 4px solid #c0392b; } footer { color: var(--soft); }
"""


def page(title: str, body: str, *, version: str, slot: str, who: str) -> bytes:
    """A whole page with the band that says which version answers, from which slot."""
    colour = slot if slot in ("blue", "green") else ""
    account = f"<span>{escape(who)}</span>" if who else '<a href="/sign-in">Sign in</a>'
    return (
        f'<!doctype html><html lang="en" class="{colour}"><head><meta charset="utf-8"><title>{escape(title)} · ERP'
        '</title><meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/style.css"></head>'
        '<body><header><div><b>Hansewerk ERP</b><a href="/orders">Orders</a><a href="/orders/new">New order</a>'
        f'{account}<span class="version"><b id="version">{escape(version)}</b> {escape(slot)}</span></div></header>'
        f"<main><h1>{escape(title)}</h1>{body}</main>"
        f'<footer>Answered by <b>{escape(version)}</b> in the <b id="slot">{escape(slot or "only")}</b> slot.</footer>'
        "</body></html>"
    ).encode()


def order_list(rows: Iterable[dict[str, Any]]) -> str:
    lines = "".join(
        f'<tr><td><a href="/orders/{row["id"]}">{escape(row["number"])}</a></td><td>{escape(row["company"])}</td>'
        f'<td>{_when(row["placed_at"])}</td><td><span class="state">{escape(row["status"])}</span></td>'
        f'<td class="n">{row["net"]:,.2f}</td></tr>'
        for row in rows
    )
    head = '<th>Order</th><th>Customer</th><th>Placed</th><th>State</th><th class="n">Net EUR</th>'
    return f'<div class="card"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def one_order(order: dict[str, Any], others: Iterable[dict[str, Any]]) -> str:
    lines = "".join(
        f"<tr><td>{line['position']}</td><td>{escape(line['sku'])}</td><td>{escape(line['name'])}</td>"
        f'<td class="n">{line["quantity"]}</td><td class="n">{line["unit_price"]:,.2f}</td>'
        f'<td class="n">{line["net"]:,.2f}</td></tr>'
        for line in order["lines"]
    )
    facts = f"{escape(order['company'])}, {escape(order['city'])}. Placed {_when(order['placed_at'])}, "
    facts += f'by {escape(order["channel"])}. <span class="state">{escape(order["status"])}</span>'
    for column, name in features.FIELDS:
        facts += f"<br>{escape(name)}: {escape(order[column] or 'none')}"
    head = (
        '<th>#</th><th>Article</th><th>Name</th><th class="n">Pieces</th><th class="n">Price</th><th class="n">Net</th>'
    )
    body = f'<div class="card">{facts}</div><div class="card"><table><thead><tr>{head}</tr></thead><tbody>{lines}'
    body += f'<tr><td colspan="5">Total</td><td class="n">{order["net"]:,.2f}</td></tr></tbody></table></div>'
    links = " · ".join(f'<a href="/orders/{each["id"]}">{escape(each["number"])}</a>' for each in others)
    return body + (f'<div class="card">Other orders of this customer: {links}</div>' if links else "")


def new_order(customers: Iterable[dict[str, Any]], products: Iterable[dict[str, Any]]) -> str:
    who = "".join(f'<option value="{c["id"]}">{escape(c["company"])}, {escape(c["city"])}</option>' for c in customers)
    what = "".join(
        f'<option value="{p["id"]}">{escape(p["sku"])} {escape(p["name"])}, {p["sales_price"]:,.2f}</option>'
        for p in products
    )
    extra = "".join(
        f'<label>{escape(name)}<input name="{column}" maxlength="200"></label>' for column, name in features.FIELDS
    )
    return (
        f'<form method="post" action="/orders" class="card"><label>Customer<select name="customer_id">{who}</select>'
        f'</label><label>Article<select name="product_id">{what}</select></label><label>Pieces<input name="quantity" '
        f'type="number" min="1" max="999" value="1" required></label>{extra}<button>Take the order</button></form>'
    )


def sign_in(wrong: bool) -> str:
    said = '<p class="card bad" role="alert">This name and password do not fit.</p>' if wrong else ""
    return (
        f'{said}<form method="post" action="/sign-in" class="card"><label>Name<input name="name" required autofocus '
        'autocomplete="username"></label><label>Password<input name="password" type="password" required '
        'autocomplete="current-password"></label><button>Sign in</button></form>'
    )


def trouble(sentence: str) -> str:
    return f'<p class="card bad" role="alert">{escape(sentence)}</p>'


def _when(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
