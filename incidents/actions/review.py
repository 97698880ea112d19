"""Writing the review of an incident: saved until it is published, then closed to edits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone

from contacts.models import Contact
from core.models import User
from incidents import access, timeline
from incidents import review as sheets
from incidents.actions.writing import changing, note_that
from incidents.exceptions import IncidentError
from incidents.models import Incident, Review

PERMISSION = "incidents.change_review"
EDITABLE = frozenset(
    ["title", "summary", "impact", "root_cause", "resolution", "lessons", "meeting_at", "owner", "review_on"]
)


def may_write(user: User | None, incident: Incident) -> bool:
    """Whether this person may write the incident's review."""
    return user is not None and user.has_perm(PERMISSION) and access.may_work(user, incident)


def _taken(review: Review, by: User | None) -> Review:
    """The row, locked. Raises PermissionDenied where `by` may not write it."""
    review = locked(review)
    if not may_write(by, review.incident):
        raise PermissionDenied("Your role does not allow writing this review.")
    return review


def locked(review: Review) -> Review:
    """The row as it is now, held until the transaction ends; its incident first, as everywhere."""
    Incident.objects.select_for_update(of=("self",), no_key=True).only("pk").get(pk=review.incident_id)
    rows = Review.objects.select_for_update(of=("self",)).select_related("incident__service", "incident__severity")
    return rows.get(pk=review.pk)


def _taken_draft(review: Review, by: User | None) -> Review:
    review = _taken(review, by)
    if review.state == Review.State.PUBLISHED:
        raise IncidentError("This review is published. Take it back to a draft before you change it.")
    return review


def draft(incident: Incident, *, by: User | None) -> Review:
    """A draft for an incident that has none, also before it is resolved."""
    with changing(incident) as row:
        if not may_write(by, row):
            raise PermissionDenied("Your role does not allow writing this review.")
        return sheets.draft_for(row)


@transaction.atomic
def save(review: Review, *, by: User | None, attendees: Iterable[Contact] | None = None, **fields: Any) -> Review:
    """Save what was written. Raises IncidentError for a published one."""
    if unknown := set(fields) - EDITABLE:
        raise ValueError(f"Not a field of a review: {', '.join(sorted(unknown))}")
    review = _taken_draft(review, by)
    changed = [name for name, value in fields.items() if not same(getattr(review, name), value)]
    for name in changed:
        setattr(review, name, fields[name])
    if attendees is not None and set(review.attendees.all()) != (chosen := set(attendees)):
        review.attendees.set(chosen)
        changed.append("attendees")
    if changed:
        review.version += 1
        review.save(update_fields=[*(name for name in changed if name != "attendees"), "version"])
        _note(review, f"The review was changed: {', '.join(sorted(map(_label, changed)))}.", by)
    return review


def same(before: Any, after: Any) -> bool:
    """Whether a field says the same, whatever its line ends."""
    if isinstance(before, str) and isinstance(after, str):
        return sheets.plain(before) == sheets.plain(after)
    return before == after


def _label(name: str) -> str:
    return str(Review._meta.get_field(name).verbose_name)  # type: ignore[union-attr]  # none is a generic relation


@transaction.atomic
def regenerate(review: Review, *, by: User | None) -> Review:
    """Write the draft anew from the record; what was written by hand is replaced. Meeting and follow-up stay."""
    review = _taken_draft(review, by)
    drafted = sheets.draft_values(review.incident)
    values = drafted | {
        "drafted": sheets.kept(drafted),
        "drafted_at": timezone.now(),
        "version": review.version + 1,
    }
    for name, value in values.items():
        setattr(review, name, value)
    review.save(update_fields=[*values])
    review.attendees.set(sheets.attendees_of(review.incident))
    _note(review, "The review was drafted anew from the record.", by)
    return review


@transaction.atomic
def publish(review: Review, *, by: User | None) -> Review:
    """Finish the review: everybody who sees the incident reads it as it is now. A second time changes nothing."""
    review = _taken(review, by)
    if review.state == Review.State.PUBLISHED:
        return review
    if not review.incident.is_ended:
        raise IncidentError("The incident is still open. Resolve it before its review is published.")
    if not review.root_cause.strip():
        raise IncidentError("Write the root cause before you publish: it is what others look for.")
    review.state, review.published_at = Review.State.PUBLISHED, timezone.now()
    review.save(update_fields=["state", "published_at"])
    _note(review, "The review was published.", by)
    return review


@transaction.atomic
def take_back(review: Review, *, by: User | None) -> Review:
    """Back to a draft, so that it can be corrected. A second time changes nothing."""
    review = _taken(review, by)
    if review.state == Review.State.DRAFT:
        return review
    review.state, review.published_at = Review.State.DRAFT, None
    review.save(update_fields=["state", "published_at"])
    _note(review, "The review was taken back to a draft.", by)
    return review


def after_resolving(incident: Incident) -> None:
    """Draft the review. One that is there already, from before it was reopened, says anew what the record says."""
    found = Review.objects.filter(incident=incident).first()
    if found is None:
        sheets.draft_for(incident)
        return
    review = locked(found)
    if review.state == Review.State.PUBLISHED:
        return
    new, left = sheets.bring_up_to_date(review)
    review.version += 1
    review.drafted_at = timezone.now()
    review.save(update_fields=[*new, "drafted", "drafted_at", "version"])
    review.attendees.add(*sheets.attendees_of(review.incident))
    if new:
        _note(review, f"Drafted anew in the review: {', '.join(sorted(map(_label, new)))}.", None)
    if left:
        named = ", ".join(sorted(map(_label, left)))
        _note(review, f"In the review people wrote this, and it stays: {named}. Look whether it still holds.", None)


def after_reopening(incident: Incident) -> None:
    """What was published is a draft again: it tells an end that was none."""
    found = Review.objects.filter(incident=incident, state=Review.State.PUBLISHED).first()
    if found is None:
        return
    review = locked(found)
    review.state, review.published_at = Review.State.DRAFT, None
    review.save(update_fields=["state", "published_at"])
    _note(review, "The review is a draft again, since the incident was reopened.", None)


def _note(review: Review, text: str, by: User | None) -> None:
    note_that(review.incident, text, by=by, kind=timeline.Kind.NOTE, url=review.get_absolute_url())
