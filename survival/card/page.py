"""The card as one HTML file that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.template.loader import render_to_string
from django.utils import timezone


def as_html(found: dict[str, Any], now: datetime | None = None) -> str:
    return render_to_string("survival/card.html", {"card": found, "written_at": now or timezone.now()})
