"""What comes in and goes out over the API of incidents."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from ninja import Field, Schema

from core.api import Input, Moment, Page, Text
from incidents.actions import updates as updating
from incidents.actions import work
from incidents.models import Audience, CoreState, Incident, PublicStatus, TimelineEntry


class IncidentOut(Schema):
    """An incident. Times that have not come or are not set are null; compare severities by `rank`, 1 is the worst."""

    id: int
    number: str
    title: str
    state: str = Field(description=", ".join(CoreState.values))
    service: str | None = Field(description="Its slug.")
    severity: str | None = Field(description="The code.")
    rank: int | None
    situation: str
    stage: str | None
    confidential: bool
    declared_by: str | None
    declared_at: datetime
    started_at: datetime
    acknowledged_at: datetime | None
    mitigated_at: datetime | None
    resolved_at: datetime | None
    closed_at: datetime | None
    response_due_at: datetime | None
    response_met: bool | None
    update_due_at: datetime | None
    merged_into: str | None = Field(description="The number of the incident in which it goes on.")
    url: str


class IncidentWithFacts(IncidentOut):
    environment: str | None
    components: list[str]
    description: str
    impacts: list[str]
    impact_words: str
    users_affected: int | None
    data_loss: str
    cost: str
    workaround: str
    root_cause: str
    resolution: str
    eta: str
    channel_name: str
    downtime_s: float | None


class IncidentPage(Page):
    items: list[IncidentOut]


class EntryOut(Schema):
    """An entry of the timeline. `corrects` is the sequence of the entry that it corrects."""

    sequence: int
    at: datetime
    kind: str = Field(description=", ".join(TimelineEntry.Kind.values))
    source: str = Field(description=", ".join(TimelineEntry.Source.values))
    actor: str
    text: str
    corrects: int | None
    hash: str


class TimelinePage(Schema):
    """Oldest first; what came later is asked for with `after` = `last` of this page."""

    items: list[EntryOut]
    last: int


class DeclareIn(Input):
    """A title is enough. Service, severity and environment by slug, code and slug."""

    title: Text = Field(min_length=1, max_length=200)
    service: Text | None = Field(None, max_length=80)
    severity: Text | None = Field(None, max_length=20)
    environment: Text | None = Field(None, max_length=80)
    situation: Text = Field("", max_length=80)
    description: Text = Field("", max_length=20_000)
    confidential: bool = False
    started_at: Moment | None = Field(None, description="When it began; left out: now.")


Name = Annotated[Text, Field(min_length=1, max_length=80)]


class EditIn(Input):
    """What is left out stays as it is."""

    title: Text | None = Field(None, min_length=1, max_length=200)
    description: Text | None = Field(None, max_length=20_000)
    components: list[Name] | None = Field(None, max_length=100, description="Names of components of its service.")
    impacts: list[Name] | None = Field(None, max_length=50)
    impact_words: Text | None = Field(None, max_length=20_000)
    data_loss: Text | None = Field(None, max_length=4, description=", ".join(Incident.DataLoss.values))
    users_affected: int | None = Field(None, ge=0, le=2**31 - 1)
    cost: Text | None = Field(None, max_length=120)
    workaround: Text | None = Field(None, max_length=20_000)
    root_cause: Text | None = Field(None, max_length=20_000)
    resolution: Text | None = Field(None, max_length=20_000)
    eta: Text | None = Field(None, max_length=80)


class NoteIn(Input):
    text: Text = Field(min_length=1, max_length=20_000)
    kind: Text = Field("note", max_length=12, description=", ".join(work.NOTE_KINDS))
    at: Moment | None = Field(None, description="When it happened; left out: now.")


class SeverityIn(Input):
    severity: Text = Field(min_length=1, max_length=20, description="The code.")
    reason: Text = Field(min_length=1, max_length=2000, description="Why it is another.")
    service: Text | None = Field(None, max_length=80, description="Its slug, where the incident has no service yet.")


class UpdateIn(Input):
    """A public one wants a status, and a title unless the incident has one for the public."""

    text: Text = Field(min_length=1, max_length=updating.LONGEST)
    audience: Text = Field("internal", max_length=8, description=", ".join(Audience.values))
    channels: list[Name] = Field([], max_length=50, description="By name; none: kept with the incident alone.")
    public_status: Text = Field("", max_length=14, description=", ".join(PublicStatus.values))
    public_title: Text = Field("", max_length=200)


class UpdateOut(Schema):
    id: int
    at: datetime
    by: str | None
    audience: str
    public_status: str
    text: str
    channels: list[str]


class ResolveIn(Input):
    text: Text = Field("", max_length=20_000, description="What was done.")
    at: Moment | None = Field(None, description="When it was over; left out: now.")


class Nothing(Input):
    pass


class Filters(Schema):
    state: CoreState | None = None
    open: bool | None = Field(None, description="True: neither resolved nor closed.")
    service: Text | None = Field(None, max_length=80, description="The slug.")
    rank: int | None = Field(None, ge=1, le=32767, description="This rank or worse.")
    declared_from: Moment | None = None
    declared_until: Moment | None = None
    search: Text | None = Field(None, max_length=200)
