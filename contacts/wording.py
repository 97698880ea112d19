"""What messages say: one notification, or several for the same reader as one."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings

from contacts import answer
from contacts.models import Notification
from contacts.senders.base import Item, Message
from core.links import list_url
from core.words import counted

SMS_LENGTH = 160
MOST_ITEMS = 40  # in full; of more, each is a line
BODY_LENGTH = 4000


def absolute(url: str) -> str:
    """The address as others reach it; empty while the portal does not know its own."""
    if not url or url.startswith(("https://", "http://")):
        return url
    return f"{settings.PORTAL_URL}{url}" if settings.PORTAL_URL else ""


def message_of(notifications: Sequence[Notification]) -> Message:
    """One message that says them all; the first is the one that is written down as sent."""
    lead, count = notifications[0], len(notifications)
    items = tuple(_item(each, full=index < MOST_ITEMS) for index, each in enumerate(notifications))
    urgent = any(each.urgency == Notification.Urgency.PAGE for each in notifications)
    if count == 1:
        subject, short = lead.subject, lead.subject
        link = items[0].answer_url or items[0].url
    else:
        subject = f"{lead.subject} (and {counted(count - 1, 'more message')})"
        short = f"{counted(count, 'message')}: {lead.subject}"
        pages = [item for item in items if item.answer_url]
        link = pages[0].answer_url if len(pages) == 1 else absolute(list_url(Notification)) or items[0].url
    return Message(
        reference=f"notification-{lead.pk}",
        subject=subject,
        text=_text(items),
        short=_cut(short, SMS_LENGTH),
        link=link,
        urgent=urgent,
        items=items,
    )


def _item(notification: Notification, *, full: bool) -> Item:
    return Item(
        subject=notification.subject,
        body=_cut(notification.body, BODY_LENGTH) if full else "",
        url=absolute(notification.url),
        answer_url=answer.link_for(notification),
    )


def _text(items: Sequence[Item]) -> str:
    """The body for email and chat. Of many messages the later ones are a line each: none is left out."""
    blocks = [_block(item, heading=len(items) > 1) for item in items[:MOST_ITEMS]]
    if rest := items[MOST_ITEMS:]:
        said = f"And {counted(len(rest), 'more message')}, in short; the portal has them in full:"
        blocks.append("\n".join([said, *map(_line, rest)]))
    return "\n\n----\n\n".join(blocks)


def _line(item: Item) -> str:
    link = f" (acknowledge: {item.answer_url})" if item.answer_url else f" ({item.url})" if item.url else ""
    return f"- {item.subject}{link}"


def _block(item: Item, *, heading: bool) -> str:
    lines = [item.subject] if heading or not item.body else []
    if item.body:
        lines.append(item.body)
    if item.answer_url:
        lines.append(f"Acknowledge: {item.answer_url}")
    if item.url:
        lines.append(f"Read more: {item.url}")
    return "\n\n".join(lines)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
