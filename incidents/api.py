"""Incidents over the API. A confidential one does not exist for those who may not see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.models import QuerySet
from django.http import Http404, HttpRequest
from ninja import Query, Router, Status

from catalog.models import Component, Environment, Service, Severity
from core.api import BearerToken, Id, Sliced, caller, one_of, page_of
from core.scopes import RESPOND
from incidents import measures
from incidents.actions import declare as declaring
from incidents.actions import triage, work
from incidents.actions import updates as updating
from incidents.api_shapes import (
    DeclareIn,
    EditIn,
    EntryOut,
    Filters,
    IncidentPage,
    IncidentWithFacts,
    NoteIn,
    Nothing,
    ResolveIn,
    SeverityIn,
    TimelinePage,
    UpdateIn,
    UpdateOut,
)
from incidents.exceptions import IncidentError
from incidents.forms_updates import channels_for
from incidents.models import Incident, TimelineEntry, Update
from incidents.querysets import IncidentQuerySet
from incidents.timeline import Source
from operations.api import acting
from operations.idempotency import BadKey

router = Router(tags=["Incidents"])
SEE = BearerToken("incidents.view_incident")
API = Source.API
USED = "This key was used for another request. Use a new key for each thing you ask for."


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


@contextmanager
def _answering(request: HttpRequest) -> Iterator[str | None]:
    """As `acting`, for keys that stand for incidents and notes: one key, one request."""
    with acting(request) as key:
        _demand_new(Incident.objects.all(), "idempotency_key", key)
        yield key


def _demand_new(rows: QuerySet[Any], field: str, key: str | None) -> None:
    """Raises BadKey where one of `rows` was made with the same word by another request: what comes before the last
    colon is the word's, what follows the request's."""
    word = f"{key.rpartition(':')[0]}:" if key else ""
    if key and rows.filter(**{f"{field}__startswith": word}).exclude(**{field: key}).exists():
        raise BadKey(USED)


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
        rows = rows.filter(declared_at__gte=filters.declared_from)
    if filters.declared_until is not None:
        rows = rows.filter(declared_at__lt=filters.declared_until)
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
            started_at=data.started_at,
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
    with _answering(request) as key:
        incident = _one(request, id)
        _demand_new(Update.objects.all(), "key", key)
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


@router.post("/incidents/{id}/notes", response={201: EntryOut}, auth=MAY_RESPOND, summary="Add a note")
def note(request: HttpRequest, id: Id, data: NoteIn) -> Any:
    with _answering(request) as key:
        incident = _one(request, id)
        _demand_new(incident.timeline.all(), "data__key", key)
        entry = work.note(
            incident,
            data.text,
            by=caller(request),
            kind=data.kind,
            at=data.at,
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
        work.resolve(_one(request, id), by=caller(request), text=data.text, at=data.at, source=API)
        return _whole(_one(request, id))
