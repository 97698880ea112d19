"""Small charts drawn on the server as SVG, each with a text alternative and no inline style."""

from collections.abc import Mapping, Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString


def sparkline_svg(values: Sequence[float | None], *, label: str, width: int = 120, height: int = 24) -> SafeString:
    """A line of the last values. None is a gap: the line is broken there. Fewer than two values give an empty frame."""
    known = [v for v in values if v is not None]
    text = _sparkline_text(known, label)
    segments = _segments(values, width, height) if len(known) > 1 else []
    lines = format_html_join("", '<polyline points="{}"/>', ((points,) for points in segments))
    dot = ""
    if segments:
        x, y = segments[-1].split(" ")[-1].split(",")
        dot = format_html('<circle cx="{}" cy="{}" r="2"/>', x, y)
    return format_html(
        '<svg class="sparkline" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}{}</svg>',
        width,
        height,
        width,
        height,
        text,
        lines,
        dot,
    )


def _sparkline_text(known: Sequence[float], label: str) -> str:
    if not known:
        return f"{label}: no values"
    return f"{label}: {len(known)} values, lowest {min(known):g}, highest {max(known):g}, last {known[-1]:g}"


def _segments(values: Sequence[float | None], width: int, height: int) -> list[str]:
    known = [v for v in values if v is not None]
    low, span = min(known), (max(known) - min(known)) or 1
    step = (width - 6) / max(len(values) - 1, 1)
    segments: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            segments.append([])
            continue
        y = height - 3 - (value - low) / span * (height - 6)
        segments[-1].append(f"{3 + index * step:.1f},{y:.1f}")
    return [" ".join(points) for points in segments if points]


def bar_chart_svg(
    rows: Sequence[tuple[str, float] | tuple[str, float, str]], *, label: str, height: int = 56, bar: int = 8
) -> SafeString:
    """Upright bars, one a row of (label, value[, status]). Each bar's title names its label and value."""
    top = max((row[1] for row in rows), default=0) or 1
    width = max(len(rows) * (bar + 3), bar)
    bars = []
    for index, row in enumerate(rows):
        name, value = row[0], row[1]
        status = row[2] if len(row) > 2 else "neutral"
        size = max(value / top * (height - 2), 2)
        bars.append((status, index * (bar + 3), f"{height - size:.1f}", bar, f"{size:.1f}", name, f"{value:g}"))
    drawn = format_html_join(
        "",
        '<rect class="bar-{}" x="{}" y="{}" width="{}" height="{}" rx="1"><title>{}: {}</title></rect>',
        bars,
    )
    spoken = "; ".join(f"{row[0]} {row[1]:g}" for row in rows) or "no values"
    return format_html(
        '<svg class="bar-chart" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}</svg>',
        width,
        height,
        width,
        height,
        f"{label}: {spoken}",
        drawn,
    )


def days_svg(rows: Sequence[tuple[str, str, str]], *, label: str, good: str = "ok") -> SafeString:
    """A strip of days, one bar a row of (day, status, words). In words it names the days that were not good."""
    bars = format_html_join(
        "",
        '<rect class="bar-{}" x="{}" y="0" width="8" height="28" rx="1"><title>{}: {}</title></rect>',
        ((status, index * 11, day, words) for index, (day, status, words) in enumerate(rows)),
    )
    bad = [f"{day} {words}" for day, status, words in rows if status != good]
    spoken = f"{label}: {len(rows) - len(bad)} of {len(rows)} days without trouble" + "".join(
        f"; {each}" for each in bad
    )
    return format_html(
        '<svg class="day-strip" viewBox="0 0 {} 28" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>',
        max(len(rows) * 11 - 3, 8),
        spoken,
        bars,
    )


def stacked_bars_svg(
    rows: Sequence[tuple[str, Sequence[tuple[str, float]]]], *, label: str, names: Mapping[str, str], height: int = 140
) -> SafeString:
    """Upright bars with their label below and their sum on top, each of parts (class, value) from the ground up.

    `names` says what each class is called, for the text alternative and the titles.
    """
    top = max((sum(value for _, value in parts) for _, parts in rows), default=0) or 1
    step, bar, ground = 72, 34, height - 22
    drawn = []
    for index, (name, parts) in enumerate(rows):
        x, y = index * step + (step - bar) / 2, float(ground)
        for css, value in parts:
            size = value / top * (ground - 18)
            y -= size
            drawn.append(_stacked_part(css, x, y, bar, size, f"{name}, {names.get(css, css)}: {value:g}"))
        total = sum(value for _, value in parts)
        middle = f"{index * step + step / 2:g}"
        drawn.append(format_html('<text x="{}" y="{}">{}</text>', middle, f"{y - 5:.1f}", f"{total:g}"))
        drawn.append(format_html('<text class="chart-label" x="{}" y="{}">{}</text>', middle, height - 6, name))
    spoken = "; ".join(f"{name} {sum(value for _, value in parts):g}" for name, parts in rows) or "no values"
    width = max(len(rows) * step, step)
    return format_html(
        '<svg class="stacked-bars" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}</svg>',
        width,
        height,
        width,
        height,
        f"{label}: {spoken}",
        format_html_join("", "{}", ((each,) for each in drawn)),
    )


def _stacked_part(css: str, x: float, y: float, width: float, height: float, title: str) -> SafeString:
    if not height:
        return format_html("")
    return format_html(
        '<rect class="bar-{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>',
        css,
        f"{x:g}",
        f"{y:.1f}",
        f"{width:g}",
        f"{height:.1f}",
        title,
    )
