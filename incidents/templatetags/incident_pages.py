"""Tags of the status page and the month report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django import template
from django.utils.safestring import SafeString

from core import charts

register = template.Library()


@register.simple_tag
def day_strip(rows: Sequence[tuple[str, str, str]], label: str) -> SafeString:
    """The last days of a component, one bar a day."""
    return charts.days_svg(rows, label=label)


@register.simple_tag
def stacked_bars(
    rows: Sequence[tuple[str, Sequence[tuple[str, float]]]], names: Mapping[str, str], label: str = "Values"
) -> SafeString:
    """Bars of several parts with a text alternative."""
    return charts.stacked_bars_svg(rows, label=label, names=names)
