"""What every action on an incident shares: the locked row, the right to do it, the search vector."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.contrib.postgres.search import SearchVector
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models, transaction

from incidents import timeline
from incidents.exceptions import IncidentError
from incidents.models import Incident, TimelineEntry
from incidents.querysets import SEARCH_CONFIG
from incidents.timeline import Kind, Source

if TYPE_CHECKING:
    from core.models import User

SEARCHED = ("number", "title", "description", "root_cause", "resolution")
LONGEST_QUOTE = 200
# What no feed and no file can hold, and nobody means to write; line ends and tabs stay.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


@contextmanager
def changing(incident: Incident) -> Iterator[Incident]:
    """The row of an incident, locked, in a transaction. Whoever locks its escalation too does so afterwards: two who do
    both at once wait for each other in one order."""
    with transaction.atomic():
        yield (
            Incident.objects.select_for_update(of=("self",), no_key=True)
            .select_related("service__business_hours", "severity__service__business_hours", "environment", "stage")
            .get(pk=incident.pk)
        )


def demand(allowed: bool) -> None:
    if not allowed:
        raise PermissionDenied


def note_that(
    incident: Incident,
    text: str,
    *,
    by: User | None,
    kind: str = Kind.STATE,
    source: str = "",
    actor: str = "",
    **more: Any,
) -> TimelineEntry:
    """A timeline entry of a change: by a person, or by the portal when nobody did it. `actor` names who has no account,
    or which rule it was."""
    where = source or (Source.PERSON if by is not None else Source.PORTAL)
    return timeline.write(incident, text, kind=kind, source=where, user=by, actor=actor, **more)


def not_merged(incident: Incident) -> None:
    """Raises IncidentError for one that goes on elsewhere."""
    if incident.merged_into is not None:
        raise IncidentError(f"{incident.number} was merged into {incident.merged_into.number}. Go on there.")


def not_ended(incident: Incident) -> None:
    not_merged(incident)
    if incident.is_ended:
        raise IncidentError(f"{incident.number} is {incident.state_word.lower()}. Reopen it if it goes on.")


def not_closed(incident: Incident) -> None:
    not_merged(incident)
    if incident.state == "closed":
        raise IncidentError(f"{incident.number} is closed. Add a note, or declare a new incident and relate the two.")


def demand_text(text: str, what: str) -> str:
    """The text without blanks around it. Raises IncidentError when there is none."""
    text = CONTROL.sub("", text).strip()
    if not text:
        raise IncidentError(what)
    return text


def check_fields(row: models.Model, names: set[str]) -> None:
    """Raises IncidentError with what the fields say about their values."""
    others = {field.name for field in row._meta.fields} - names
    try:
        row.clean_fields(exclude=others)
    except ValidationError as error:
        said = error.message_dict.items()
        raise IncidentError("; ".join(f"{_label(row, name)}: {' '.join(each)}" for name, each in said)) from None


def _label(row: models.Model, name: str) -> str:
    return str(row._meta.get_field(name).verbose_name).capitalize()  # type: ignore[union-attr]


def quoted(value: object) -> str:
    """A value as the timeline cites it."""
    if value in (None, "", []):
        return "not set"
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"“{text}”" if len(text) <= LONGEST_QUOTE else f"“{text[: LONGEST_QUOTE - 1]}…”"


def index(incident: Incident) -> None:
    """Bring the search vector up to date."""
    Incident.objects.filter(pk=incident.pk).update(search=SearchVector(*SEARCHED, config=SEARCH_CONFIG))
