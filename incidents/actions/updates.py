"""Telling the people concerned: an update goes into the record, to the channels chosen, and onto the status page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction

from contacts import notifying
from contacts.models import Channel
from incidents import access, clocks, news, status_page, timeline, updates
from incidents.actions.writing import changing, check_fields, demand_text, not_merged, note_that
from incidents.exceptions import IncidentError
from incidents.models import Audience, Incident, MessageTemplate, PublicStatus, Update

if TYPE_CHECKING:
    from core.models import User

LONGEST = 5000
PERMISSION = "incidents.publish_update"


def may_send(user: User | None, incident: Incident) -> bool:
    """Whether this person may send updates on the incident."""
    return user is not None and access.may_publish(user, incident)


def _demand(user: User | None, incident: Incident) -> None:
    if not may_send(user, incident):
        raise PermissionDenied("Your role does not allow sending updates on this incident.")


def send(
    incident: Incident,
    *,
    audience: str,
    text: str,
    channels: Sequence[Channel],
    public_status: str = "",
    public_title: str = "",
    template: MessageTemplate | None = None,
    by: User | None,
    key: str | None = None,
) -> Update:
    """Send an update. The same `key` sends it once, however often it comes.

    Raises PermissionDenied, or IncidentError with a sentence.
    """
    with changing(incident) as row:
        _demand(by, row)
        if key and (sent := Update.objects.filter(key=key).first()):
            if sent.incident_id != row.pk:
                raise IncidentError("This page belongs to another incident. Open it again and write the update anew.")
            return sent
        text = demand_text(text, "Write what the people concerned should know.")
        not_merged(row)
        _check(audience, text)
        public = audience == Audience.PUBLIC
        if public:
            _put_on_the_page(row, public_status, public_title)
        update = Update.objects.create(
            incident=row,
            by=by,
            audience=audience,
            public_status=public_status if public else "",
            template=template,
            text=text,
            key=key or None,
        )
        update.channels.set(channels)
        _write_down(update, channels)
        row.update_told_at = None
        row.update_due_at = None if row.is_ended else clocks.next_update(row.severity, update.at)
        row.save(update_fields=["public", "public_status", "public_title", "update_due_at", "update_told_at"])
        for channel in channels:
            _tell(channel, update)
    return update


def _check(audience: str, text: str) -> None:
    if audience not in Audience.values:
        raise IncidentError("Choose who is told: internal or public.")
    if len(text) > LONGEST:
        raise IncidentError(f"The text is longer than {LONGEST:,} characters. Shorten it.")


def _put_on_the_page(row: Incident, public_status: str, public_title: str) -> None:
    """Set what the status page reads. Not saved."""
    if row.confidential:
        raise IncidentError("A confidential incident cannot be on the status page. Send an internal update instead.")
    if public_status not in PublicStatus.values:
        raise IncidentError("Choose the public status: it stands beside the text on the status page.")
    if row.is_ended and public_status != PublicStatus.RESOLVED:
        raise IncidentError(f"{row.number} is over. Choose “Resolved”, or reopen it first.")
    row.public_title = " ".join(public_title.split()) or row.public_title
    if not row.public_title:
        raise IncidentError("Give a public title: the incident's own title stays inside.")
    row.public, row.public_status = True, public_status
    check_fields(row, {"public_title"})
    transaction.on_commit(status_page.lately.forget)


def _write_down(update: Update, channels: Sequence[Channel]) -> None:
    told = ", ".join(channel.name for channel in channels) or "no channel"
    if update.public_status and settings.STATUS_PAGE:
        told = f"the status page and {told}"
    label = f"Public update ({update.get_public_status_display()})" if update.public_status else "Internal update"
    note_that(
        update.incident,
        f"{label}, sent to {told}:\n{update.text}",
        by=update.by,
        kind=timeline.Kind.UPDATE,
        at=update.at,
        data={"update": update.pk, "audience": update.audience, "channels": [channel.pk for channel in channels]},
    )


def _tell(channel: Channel, update: Update) -> None:
    """One message a channel. Everybody may read the log of messages, so of a confidential incident it says nothing."""
    incident = update.incident
    body = update.text
    if incident.confidential:
        body = "There is an update on a confidential incident. Those who are named in it can read it in the portal."
    notifying.notify_channel(
        channel,
        key=f"incident-update:{update.pk}:{channel.pk}",
        subject=_subject(update),
        body=body,
        url="" if update.audience == Audience.PUBLIC else incident.get_absolute_url(),
    )


def _subject(update: Update) -> str:
    incident = update.incident
    if update.audience == Audience.PUBLIC:
        return f"{incident.public_title}: {update.get_public_status_display()}"
    severity = f" ({updates.severity_words(incident)})" if incident.severity and not incident.confidential else ""
    return f"{news.harmless(incident)}{severity}"


def hide(incident: Incident, *, by: User | None) -> Incident:
    """Take it off the status page, with all that was said there. A second time changes nothing."""
    with changing(incident) as row:
        _demand(by, row)
        if row.public:
            row.public = False
            row.save(update_fields=["public"])
            note_that(row, "Taken off the status page.", by=by, kind=timeline.Kind.UPDATE)
            transaction.on_commit(status_page.lately.forget)
    return row


def save_template(template: MessageTemplate) -> MessageTemplate:
    """Save a template. Raises IncidentError where it names what cannot be filled, with the names that can."""
    trouble = updates.trouble_with(template.body, public=template.audience == Audience.PUBLIC)
    if trouble:
        raise IncidentError(trouble)
    if template.audience != Audience.PUBLIC:
        template.public_status = ""
    template.save()
    return template
