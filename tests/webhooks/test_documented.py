"""docs/webhooks.md: its code accepts what arrives, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from operations.events import NAMES
from tests.webhooks.conftest import SECRET, Receiver, send_due, tell
from webhooks import sending
from webhooks.models import Webhook

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "webhooks.md").read_text()


@pytest.fixture
def check() -> Any:
    found: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], found)
    return found["is_from_the_portal"]


@pytest.mark.usefixtures("transactional_db")
def test_the_documented_check_takes_what_arrives_and_nothing_else(check, webhook: Webhook, receiver: Receiver):
    tell()
    send_due()
    (request,) = receiver.got
    assert check(request.headers, request.body, SECRET)
    assert not check(request.headers, request.body + b" ", SECRET)
    assert not check(request.headers, request.body, "whsec_" + "A" * 32)
    old = {**request.headers, "webhook-timestamp": str(int(request.headers["webhook-timestamp"]) - 301)}
    assert not check(old, request.body, SECRET)


def test_the_table_names_every_event():
    named = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| (?!`)", PAGE, re.MULTILINE))
    assert named == {name for name in NAMES if not name.startswith("tests.")}


def test_it_tells_the_pauses_and_limits_that_there_are():
    assert sending.PAUSES == (10, 60, 300, 1800, 7200, 21600) and "10 s, 1 min, 5 min, 30 min, 2 h and 6 h" in PAGE
    assert f"slow ({sending.TIMEOUT_S:g} s)" in PAGE and f"{sending.MOST_A_MINUTE} a minute" in PAGE
    assert sending.AT_ONCE == 4 and f"each for {sending.ROUND_S:g} s before" in PAGE
