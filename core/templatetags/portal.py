"""Template tags of every page: times, sizes, durations, states, icons, charts, lists."""

import datetime
from collections.abc import Sequence
from typing import Any

from django import template
from django.contrib.admin.views.main import ChangeList
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from core import charts, icons
from core.changelist import labelled_rows

register = template.Library()

STATUSES = ("ok", "warn", "bad", "neutral", "running")
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """An icon of core.icons, drawn in the colour of the text."""
    return icons.svg(name, css)


@register.simple_tag
def status(kind: str, word: Any) -> SafeString:
    """A state: icon, word and colour, so that colour never speaks alone. Raises ValueError for an unknown kind."""
    if kind not in STATUSES:
        raise ValueError(f"Unknown status {kind!r}; use one of {', '.join(STATUSES)}.")
    return format_html('<span class="status status-{}">{}{}</span>', kind, icons.svg(f"status-{kind}"), word)


@register.simple_tag
def ago(moment: datetime.datetime | None, empty: str = "–") -> SafeString | str:
    """How long ago (or until), with the absolute time and zone on hover and in what a screen reader says."""
    if moment is None:
        return empty
    absolute = absolute_time(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}<span class="sr-only"> ({})</span></time>',
        moment.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        absolute,
        relative_time(moment),
        absolute,
    )


@register.filter
def absolute_time(moment: datetime.datetime | None) -> str:
    """`2026-03-01 14:05:09 CET (Europe/Berlin)` in the zone of the person who reads."""
    if moment is None:
        return "–"
    local = timezone.localtime(moment)
    zone = timezone.get_current_timezone_name()
    short = local.strftime("%Z")
    return f"{local:%Y-%m-%d %H:%M:%S} {short}" + ("" if zone == short else f" ({zone})")


@register.filter
def relative_time(moment: datetime.datetime) -> str:
    """`3 min ago`, `in 2 h`, `just now`."""
    seconds = (timezone.now() - moment).total_seconds()
    if abs(seconds) < 5:
        return "just now"
    text = _coarse(abs(seconds))
    return f"{text} ago" if seconds > 0 else f"in {text}"


def _coarse(seconds: float) -> str:
    """One unit, rounded down: what a person would say."""
    for size, unit in ((365 * 86400, "y"), (30 * 86400, "mo"), (86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


@register.filter
def human_duration(value: datetime.timedelta | float | None) -> str:
    """A timedelta or a number of seconds: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `1 d 4 h`. None is `not set`."""
    if value is None or value == "":
        return "not set"
    seconds = value.total_seconds() if isinstance(value, datetime.timedelta) else float(value)
    if seconds < 0:
        return "−" + human_duration(-seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    parts = [(whole // 86400, "d"), (whole % 86400 // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s")]
    first = next(i for i, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


@register.filter
def filesize_si(size_bytes: float | None) -> str:
    """Bytes in decimal units: `512 B`, `1.2 GB`. None is `–`."""
    if size_bytes is None or size_bytes == "":
        return "–"
    value = float(size_bytes)
    for unit in UNITS:
        if abs(value) < 999.5 or unit == UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" or abs(value) >= 99.95 else f"{value:.1f} {unit}".replace(".0 ", " ")


@register.simple_tag
def sparkline(values: Sequence[float | None], label: str = "Trend", width: int = 120, height: int = 24) -> SafeString:
    """A small line chart with a text alternative."""
    return charts.sparkline_svg(values, label=label, width=width, height=height)


@register.simple_tag
def bar_chart(rows: Sequence[Any], label: str = "Values", height: int = 56, bar: int = 8) -> SafeString:
    """Upright bars of (label, value[, status]) with a text alternative."""
    return charts.bar_chart_svg(rows, label=label, height=height, bar=bar)


@register.simple_tag
def meter(done: float | None, total: float | None, label: str = "Progress") -> SafeString:
    """A progress bar; without a total it shows that something goes on."""
    if not total:
        return format_html('<progress aria-label="{}"></progress>', label)
    return format_html('<progress aria-label="{}" max="{}" value="{}"></progress>', label, total, done or 0)


@register.inclusion_tag("core/partials/results.html")
def portal_results(cl: ChangeList) -> dict[str, Any]:
    """The rows of a list, labelled so that a phone can show them as cards."""
    headers, rows = labelled_rows(cl)
    return {"cl": cl, "headers": headers, "rows": rows}


@register.filter
def status_of(flag: bool | None) -> SafeString:
    """A yes/no as a state: Yes (ok), No (neutral), – (unknown)."""
    if flag is None:
        return mark_safe("–")
    return status("ok", "Yes") if flag else status("neutral", "No")


@register.filter
def audit_action(action: int) -> str:
    """The words for auditlog's action numbers."""
    return {0: "Created", 1: "Changed", 2: "Deleted", 3: "Read"}.get(action, "Changed")
