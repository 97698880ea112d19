"""Incidents over the API. A confidential one does not exist for those who may not see it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

from django.http import Http404, HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema, Status

from catalog.models import Component, Environment, Service, Severity
from core.api import BearerToken, Id, Input, Page, Sliced, Text, caller, one_of, page_of
from core.scopes import RESPOND
from incidents import measures
from incidents.actions import declare as declaring
from incidents.actions import triage, work
from incidents.actions import updates as updating
from incidents.exceptions import IncidentError
from incidents.forms_updates import channels_for
from incidents.models import Audience, CoreState, Incident, PublicStatus, TimelineEntry, Update
from incidents.querysets import IncidentQuerySet
from incidents.timeline import Source
from operations.api import acting
from operations.idempotency import BadKey

router = Router(tags=["Incidents"])
SEE = BearerToken("incidents.view_incident")
API = Source.API
USED = "This key was used for another request. Use a new key for each thing you ask for."


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
    started_at: datetime | None = Field(None, description="When it began, with a zone; left out: now.")


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
    at: datetime | None = Field(None, description="When it happened, with a zone; left out: now.")


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
    at: datetime | None = Field(None, description="When it was over, with a zone; left out: now.")


class Nothing(Input):
    pass


class Filters(Schema):
    state: CoreState | None = None
    open: bool | None = Field(None, description="True: neither resolved nor closed.")
    service: Text | None = Field(None, max_length=80, description="The slug.")
    rank: int | None = Field(None, ge=1, le=32767, description="This rank or worse.")
    declared_from: datetime | None = None
    declared_until: datetime | None = None
    search: Text | None = Field(None, max_length=200)


def _shown(incident: Incident) -> dict[str, Any]:
    same = ("id", "number", "title", "state", "rank", "situation", "confidential", "declared_at", "started_at")
    times = ("acknowledged_at", "mitigated_at", "resolved_at", "closed_at", "response_due_at", "update_due_at")
    return {
        **{name: getattr(incident, name) for name in (*same, *times)},
        "service": incident.service.slug if incident.service else None,
        "severity": incident.severity.code if incident.severity else None,
        "stage": incident.stage.name if incident.stage else None,
        "declared_by": incident.declared_by.get_username() if incident.declared_by else None,
        "response_met": measures.response_met(incident),
        "merged_into": incident.merged_into.number if incident.merged_into else None,
        "url": incident.get_absolute_url(),
    }


def _whole(incident: Incident) -> dict[str, Any]:
    facts = ("description", "impacts", "impact_words", "users_affected", "data_loss", "cost", "workaround", "eta")
    lasted = measures.downtime(incident)
    return {
        **_shown(incident),
        **{name: getattr(incident, name) for name in (*facts, "root_cause", "resolution", "channel_name")},
        "environment": incident.environment.slug if incident.environment else None,
        "components": [component.name for component in incident.components.all()],
        "downtime_s": lasted.total_seconds() if lasted is not None else None,
    }


def _entry(entry: TimelineEntry) -> dict[str, Any]:
    names = ("sequence", "at", "kind", "source", "actor", "text", "hash")
    return {
        **{name: getattr(entry, name) for name in names},
        "corrects": entry.corrects.sequence if entry.corrects else None,
    }


def _update(update: Update) -> dict[str, Any]:
    return {
        **{name: getattr(update, name) for name in ("id", "at", "audience", "public_status", "text")},
        "by": update.by.get_username() if update.by else None,
        "channels": [channel.name for channel in update.channels.order_by("name")],
    }


def _visible(request: HttpRequest) -> IncidentQuerySet:
    return Incident.objects.visible_to(caller(request)).with_names().select_related("merged_into", "environment")


def _one(request: HttpRequest, pk: int) -> Incident:
    return one_of(_visible(request), pk, "incident")


def _aware(at: datetime | None) -> datetime | None:
    return timezone.make_aware(at) if at is not None and timezone.is_naive(at) else at


@contextmanager
def _answering(request: HttpRequest) -> Iterator[str | None]:
    """As `acting`, for keys that stand for incidents and notes: one key, one request."""
    with acting(request) as key:
        if key:
            used = Incident.objects.filter(idempotency_key__startswith=_start(key)).exclude(idempotency_key=key)
            if used.exists():
                raise BadKey(USED)
        yield key


def _start(key: str) -> str:
    """What two requests with one word have in common."""
    return key.rpartition(":")[0] + ":"


# -- reading -----------------------------------------------------------------------------------------------------------


@router.get("/incidents", response=IncidentPage, auth=SEE, summary="List incidents")
def list_incidents(request: HttpRequest, part: Sliced, filters: Query[Filters]) -> Any:
    rows = _visible(request)
    if filters.state is not None:
        rows = rows.filter(state=filters.state)
    if filters.open is not None:
        rows = rows.open() if filters.open else rows.filter(state__in=Incident.ENDED)
    if filters.service is not None:
        rows = rows.filter(service__slug=filters.service)
    if filters.rank is not None:
        rows = rows.filter(rank__lte=filters.rank)
    if filters.declared_from is not None:
        rows = rows.filter(declared_at__gte=_aware(filters.declared_from))
    if filters.declared_until is not None:
        rows = rows.filter(declared_at__lt=_aware(filters.declared_until))
    if filters.search:
        rows = rows.matching(filters.search)
    return page_of(rows, part, _shown)


@router.get("/incidents/{id}", response=IncidentWithFacts, auth=SEE, summary="One incident")
def get_incident(request: HttpRequest, id: Id) -> Any:
    return _whole(_one(request, id))


@router.get("/incidents/{id}/timeline", response=TimelinePage, auth=SEE, summary="Its timeline")
def get_timeline(
    request: HttpRequest,
    id: Id,
    after: int = Query(0, ge=0, le=2**31 - 1),
    limit: int = Query(200, ge=1, le=1000),
) -> Any:
    rows = _one(request, id).timeline.filter(sequence__gt=after).select_related("corrects").order_by("sequence")[:limit]
    items = [_entry(row) for row in rows]
    return {"items": items, "last": items[-1]["sequence"] if items else after}


# -- responding --------------------------------------------------------------------------------------------------------


@router.post(
    "/incidents",
    response={201: IncidentWithFacts},
    auth=BearerToken("incidents.declare_incident", RESPOND),
    summary="Declare an incident",
)
def declare(request: HttpRequest, data: DeclareIn) -> Any:
    with _answering(request) as key:
        service, severity, environment = _place(data)
        incident = declaring.declare(
            data.title,
            service=service,
            severity=severity,
            environment=environment,
            situation=data.situation,
            description=data.description,
            confidential=data.confidential,
            started_at=_aware(data.started_at),
            by=caller(request),
            door=Incident.Door.API,
            key=key,
        )
        return Status(201, _whole(_one(request, incident.pk)))


def _place(data: DeclareIn) -> tuple[Service | None, Severity | None, Environment | None]:
    """What the words name. Raises Http404 with what there is not."""
    if data.service is None:
        if data.severity is not None or data.environment is not None:
            raise Http404("Severities and environments belong to a service: name the service too.")
        return None, None, None
    service = _named(Service.objects.all(), "service", slug=data.service)
    severity = _named(service.severities.all(), "severity of it", code=data.severity) if data.severity else None
    environments = Environment.objects.filter(service=service)
    environment = _named(environments, "environment of it", slug=data.environment) if data.environment else None
    return service, severity, environment


def _named(rows: Any, what: str, **by: str) -> Any:
    found = rows.filter(**by).first()
    if found is None:
        raise Http404(f"There is no {what} called “{next(iter(by.values()))}”.")
    return found


MAY_RESPOND = BearerToken("incidents.respond_incident", RESPOND)


@router.post("/incidents/{id}", response=IncidentWithFacts, auth=MAY_RESPOND, summary="Write down what is known")
def edit(request: HttpRequest, id: Id, data: EditIn) -> Any:
    with _answering(request):
        incident = _one(request, id)
        fields = {name: value for name, value in data.model_dump(exclude_unset=True).items() if value is not None}
        if data.components is not None:
            fields["components"] = [_component(incident, name) for name in data.components]
        triage.edit(incident, by=caller(request), source=API, **fields)
        return _whole(_one(request, id))


def _component(incident: Incident, name: str) -> Component:
    """The component of that name, in the incident's environment where the service has it in several."""
    found = list(Component.objects.filter(environment__service=incident.service_id, name=name))
    here = [each for each in found if each.environment_id == incident.environment_id] if len(found) > 1 else found
    if not found:
        raise Http404(f"There is no component of its service called “{name}”.")
    if not here:
        raise IncidentError(f"“{name}” is in several environments. Set the environment of the incident first.")
    return here[0]


# The incident decides: who commands it or leads its communications may, whatever their role in the portal.
ASKED_OF_THE_INCIDENT = BearerToken("incidents.view_incident", RESPOND)


@router.post(
    "/incidents/{id}/severity",
    response=IncidentWithFacts,
    auth=ASKED_OF_THE_INCIDENT,
    summary="Change its severity",
)
def change_severity(request: HttpRequest, id: Id, data: SeverityIn) -> Any:
    with _answering(request):
        incident = _one(request, id)
        severity = _named(_service_of(incident, data).severities.all(), "severity of it", code=data.severity)
        triage.change_severity(incident, severity, reason=data.reason, by=caller(request))
        return _whole(_one(request, id))


def _service_of(incident: Incident, data: SeverityIn) -> Service:
    if data.service is not None:
        return _named(Service.objects.all(), "service", slug=data.service)
    if incident.service is None:
        raise IncidentError("Severities belong to a service, and the incident has none yet: name the service too.")
    return incident.service


@router.post("/incidents/{id}/updates", response={201: UpdateOut}, auth=ASKED_OF_THE_INCIDENT, summary="Send an update")
def send_update(request: HttpRequest, id: Id, data: UpdateIn) -> Any:
    with _answering(request) as word:
        incident, key = _one(request, id), _update_key(word)
        rows = channels_for(incident)
        update = updating.send(
            incident,
            audience=data.audience,
            text=data.text,
            channels=[_named(rows, "channel for it", name=name) for name in dict.fromkeys(data.channels)],
            public_status=data.public_status,
            public_title=data.public_title,
            by=caller(request),
            key=key,
        )
        return Status(201, _update(update))


def _update_key(word: str | None) -> str | None:
    """The one-time key of an update, as short as its column. Raises BadKey where it was used for another update."""
    if word is None:
        return None
    start, whole = (hashlib.sha256(part.encode()).hexdigest()[:31] + ":" for part in (_start(word), word))
    if Update.objects.filter(key__startswith=start).exclude(key=start + whole).exists():
        raise BadKey(USED)
    return start + whole


@router.post("/incidents/{id}/notes", response={201: EntryOut}, auth=MAY_RESPOND, summary="Add a note")
def note(request: HttpRequest, id: Id, data: NoteIn) -> Any:
    with _answering(request) as key:
        incident = _one(request, id)
        if key and incident.timeline.filter(data__key__startswith=_start(key)).exclude(data__key=key).exists():
            raise BadKey(USED)
        entry = work.note(
            incident,
            data.text,
            by=caller(request),
            kind=data.kind,
            at=_aware(data.at),
            source=API,
            key=key,
        )
        return Status(201, _entry(entry))


@router.post("/incidents/{id}/acknowledge", response=IncidentWithFacts, auth=MAY_RESPOND, summary="Acknowledge it")
def acknowledge(request: HttpRequest, id: Id, data: Nothing) -> Any:
    with _answering(request):
        work.acknowledge(_one(request, id), by=caller(request), source=API)
        return _whole(_one(request, id))


@router.post("/incidents/{id}/resolve", response=IncidentWithFacts, auth=MAY_RESPOND, summary="Resolve it")
def resolve(request: HttpRequest, id: Id, data: ResolveIn) -> Any:
    with _answering(request):
        work.resolve(_one(request, id), by=caller(request), text=data.text, at=_aware(data.at), source=API)
        return _whole(_one(request, id))
