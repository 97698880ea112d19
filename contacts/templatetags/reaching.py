"""Template tags for ways to reach people: numbers are links that dial."""

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from contacts.models import Way
from contacts.ways import NUMBERS, compact
from core.templatetags.portal import status

register = template.Library()


@register.filter
def way_link(way: Way) -> SafeString | str:
    """The address of a way: a number dials, an email address opens a mail, a gap says that it is one."""
    return address_link(way.address, way.kind)


@register.filter
def address_link(address: str, kind: str) -> SafeString | str:
    """The same for an address of a kind such as `phone`."""
    if not address:
        return status("warn", "Missing")
    if kind in NUMBERS:
        return format_html('<a href="tel:{}">{}</a>', compact(address), address)
    if kind == Way.Kind.EMAIL:
        return format_html('<a href="mailto:{}">{}</a>', address, address)
    return address
