"""docs/api.md names every route with the scope it wants, every scope, and every exit code."""

from __future__ import annotations

import re
from pathlib import Path

from core.api import BearerToken
from core.scopes import SCOPES
from operations.doors import WAITED_TOO_LONG
from opsportal.api import api

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text()


def routes() -> set[tuple[str, str, str]]:
    """Method, path and scope of every route there is."""
    found = set()
    for prefix, router in api._routers:
        for path, view in router.path_operations.items():
            for operation in view.operations:
                (key,) = operation.auth_callbacks
                assert isinstance(key, BearerToken)
                scope = key.scope or "any"
                address = re.sub(r"{\w+:(\w+)}", r"{\1}", f"/api/v1{prefix}{path}").rstrip("/")
                found |= {(method, address, scope) for method in operation.methods}
    return found


def test_every_route_with_its_scope():
    rows = re.findall(r"^\| `(GET|POST) (\S+)` \| `?(\w+)`? \|", PAGE, re.MULTILINE)
    assert set(rows) == routes() and len(rows) > 15


def test_every_scope():
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE, re.MULTILINE)) == SCOPES


def test_the_exit_code_of_waiting_too_long():
    assert f"| {WAITED_TOO_LONG} | with `--timeout`" in PAGE
