"""How incidents are handled in the demo, and the records of those of the past."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from catalog.models import Component, Service, Severity
from contacts.models import Role as JobRole
from core.models import User
from core.roles import Role
from incidents import chain, numbers, review
from incidents.actions.writing import index
from incidents.models import (
    ActionItem,
    Assignment,
    Audience,
    CauseRule,
    CoreState,
    Incident,
    IncidentOperation,
    IncidentProfile,
    IncidentRole,
    MessageTemplate,
    ProfileRole,
    PublicComponent,
    PublicStatus,
    Review,
    Stage,
    TimelineEntry,
    Update,
    Workflow,
)
from operations.models import Operation
from opsportal.demo import incident_story
from opsportal.demo.contacts import Directory
from opsportal.demo.history import Teller
from opsportal.demo.incident_story import Past

Kind, Source = TimelineEntry.Kind, TimelineEntry.Source
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
STAGES = (
    ("Detection", CoreState.OPEN, 2, "Is it real? Ask the probes\nLook at what changed in 24 hours"),
    ("Assessment", CoreState.ACKNOWLEDGED, 3, "Who is affected?\nTake a backup\nDecide the severity"),
    ("Immediate response", CoreState.ACKNOWLEDGED, 5, "Stop the bleeding: restart, roll back or restore"),
    ("Resolution and communication", CoreState.MITIGATED, None, "Tell the departments\nFix the cause\nWrite it down"),
    ("Review", CoreState.RESOLVED, None, "Write the review\nChange monitoring and runbooks"),
)
GATES = (
    "Root cause analysis completed",
    "Prevention measures identified",
    "Documentation updated",
    "Team retrospective scheduled",
)
TEMPLATES = (
    (
        "First message",
        Audience.INTERNAL,
        "",
        "INCIDENT: {service} - {title}\nStatus: {status}\nSeverity: {severity}\nImpact: {users} users affected\n"
        "ETA: {eta}\n{url}",
    ),
    (
        "Public: we are looking into it",
        Audience.PUBLIC,
        PublicStatus.INVESTIGATING,
        "System outage detected at {time}. We are investigating.",
    ),
    ("Public: it works again", Audience.PUBLIC, PublicStatus.RESOLVED, "The system is restored. We are sorry."),
)


def create(teller: Teller, rows: dict[str, Operation], directory: Directory, now: datetime) -> None:
    """Write how incidents are handled, and those of the past. Call inside the transaction of the records."""
    erp = teller.catalog.erp.component.environment.service
    profile = _profile(erp)
    _rules()
    _public(erp)
    for past in incident_story.tell(teller, now):
        _Told(teller, rows, directory, profile, now, past).write()


# -- how they are handled ----------------------------------------------------------------------------------------------


def _profile(erp: Service) -> IncidentProfile:
    workflow = Workflow.objects.create(name="Five stages")
    for order, (name, state, minutes, checklist) in enumerate(STAGES, start=1):
        Stage.objects.create(
            workflow=workflow,
            order=order,
            name=name,
            core_state=state,
            limit=minutes * MINUTE if minutes else None,
            checklist=checklist,
        )
    profile = IncidentProfile.objects.create(
        service=erp,
        workflow=workflow,
        channel_pattern="#incident-{service}-{yyyymmdd}-{severity}",
        gates=list(GATES),
        review_from_rank=2,
    )
    lead, owner = JobRole.objects.get(name="Technical Lead"), JobRole.objects.get(name="Business Owner")
    for role, job, duties in (
        (IncidentRole.COMMANDER, lead, "Decides the severity\nBrings people together\nMakes the go or no-go decisions"),
        (IncidentRole.COMMUNICATIONS, owner, "Tells departments and customers\nTalks to vendors"),
    ):
        # The lead stands in everywhere: whoever owns the business may not work on incidents.
        ProfileRole.objects.create(profile=profile, role=role, primary_role=job, backup_role=lead, duties=duties)
    for name, audience, status, body in TEMPLATES:
        MessageTemplate.objects.create(name=name, service=erp, audience=audience, public_status=status, body=body)
    return profile


def _rules() -> None:
    """What opens an incident by itself, in every service."""
    for cause, rank, after in (
        (CauseRule.Cause.BACKUP_FAILED, 2, 1),
        (CauseRule.Cause.SLOTS_MISSED, 3, 1),
        (CauseRule.Cause.RPO_BREACHED, 2, 1),
        (CauseRule.Cause.RESTORE_FAILED, 1, 1),
        (CauseRule.Cause.ARCHIVE_DAMAGED, 2, 1),
        (CauseRule.Cause.DEPLOYMENT_FAILED, 2, 1),
        (CauseRule.Cause.OPERATION_ERRORED, 3, 1),
    ):
        CauseRule.objects.create(cause=cause, rank=rank, after=after)


def _public(erp: Service) -> None:
    named = {"Web shop": "Web shop", "API": "Partner interface", "Invoice worker": "Invoices"}
    parts = Component.objects.filter(environment__service=erp, environment__kind="production", name__in=named)
    for order, component in enumerate(parts, start=1):
        PublicComponent.objects.create(component=component, name=named[component.name], order=order)


# -- what happened -----------------------------------------------------------------------------------------------------


@dataclass
class _Told:
    """Writes one of them down, as it would have been written at the time."""

    teller: Teller
    rows: dict[str, Operation]
    directory: Directory
    profile: IncidentProfile
    now: datetime
    past: Past

    def write(self) -> None:
        past, erp = self.past, self.profile.service
        assert erp is not None
        severity = Severity.objects.get(service=erp, rank=past.rank)
        environment = self.teller.catalog.erp.component.environment
        self.incident = incident = Incident(
            number=numbers.take(self.profile.number_pattern, erp, past.declared),
            title=past.title,
            service=erp,
            environment=environment,
            severity=severity,
            rank=severity.rank,
            state=self._state(),
            stage=self._stage(),
            stage_since=past.declared if past.resolved is None else None,
            door=Incident.Door.CLICK if past.by else Incident.Door.RULE,
            declared_by=self._user(past.by),
            declared_at=past.declared,
            started_at=past.declared - past.began * MINUTE,
            acknowledged_at=self._when(past.acknowledged),
            mitigated_at=self._when(past.mitigated),
            resolved_at=self._when(past.resolved),
            closed_at=self._when(past.closed),
            response_due_at=past.declared + severity.response_time if severity.response_time else None,
            update_due_at=self.now + DAY if past.resolved is None else None,
            impacts=list(past.impacts),
            users_affected=past.users,
            data_loss=past.loss or ("none" if past.resolved else ""),
            root_cause=past.cause,
            resolution=past.fix,
            public=bool(past.updates),
            public_status=past.updates[-1][1] if past.updates else "",
            public_title=past.title if past.updates else "",
        )
        incident.channel_name = numbers.room(self.profile.channel_pattern, incident)
        incident.save()
        incident.components.set(Component.objects.filter(environment=environment, name__in=past.components))
        index(incident)
        self._people()
        self._timeline()
        self._what_follows()

    def _state(self) -> str:
        past = self.past
        if past.closed is not None and past.declared + past.closed * MINUTE < self.now:
            return CoreState.CLOSED
        return CoreState.RESOLVED if past.resolved is not None else CoreState.ACKNOWLEDGED

    def _stage(self) -> Stage | None:
        assert self.profile.workflow is not None
        name = "Review" if self.past.resolved is not None else "Resolution and communication"
        return self.profile.workflow.stages.get(name=name)

    def _when(self, minute: float | None) -> datetime | None:
        if minute is None:
            return None
        found = self.past.declared + minute * MINUTE
        return found if found < self.now else None

    def _user(self, role: Role | None) -> User | None:
        return self.teller.people[role] if role else None

    def _people(self) -> None:
        people = self.directory.people
        commander, talks = people[Role.ADMINISTRATOR], people[Role.OPERATOR]
        for role, primary, backup in (
            (IncidentRole.COMMANDER, commander, people[Role.RESPONDER]),
            (IncidentRole.TECHNICAL, people[self.past.worked], None),
            (IncidentRole.COMMUNICATIONS, talks, people[Role.RESPONDER]),
        ):
            Assignment.objects.create(incident=self.incident, role=role, primary=primary, backup=backup)

    def _timeline(self) -> None:
        past = self.past
        worked = past.worked
        said: list[tuple[float, str, str, Role | None]] = [
            (0, Kind.STATE, f"Declared: {past.title}. Service ERP. Severity {self.incident.severity}.", past.by)
        ]
        marks = ((past.acknowledged, "Acknowledged."), (past.mitigated, "Mitigated."), (past.resolved, "Resolved."))
        said += [(minute, Kind.STATE, text, worked) for minute, text in marks if minute is not None]
        if past.closed is not None:
            said.append((past.closed, Kind.STATE, "Closed.", Role.ADMINISTRATOR))
        said += [(minute, kind, text, worked) for minute, kind, text in past.notes]
        said += [(minute, Kind.UPDATE, f"Public update: {text}", Role.OPERATOR) for minute, _, text in past.updates]
        previous, sequence = "", 0
        for minute, kind, text, role in sorted(said, key=lambda one: one[0]):
            moment = self._when(minute) if minute else past.declared
            if moment is None:
                continue
            sequence += 1
            entry = self._entry(sequence, moment, kind, text, self._user(role), previous)
            previous = entry.hash

    def _entry(
        self, sequence: int, moment: datetime, kind: str, text: str, user: User | None, previous: str
    ) -> TimelineEntry:
        entry = TimelineEntry(
            incident=self.incident,
            sequence=sequence,
            at=moment,
            recorded_at=moment,
            kind=kind,
            source=Source.PERSON if user else Source.PORTAL,
            user=user,
            actor=user.display_name if user else "The portal",
            text=text,
            previous_hash=previous,
        )
        entry.hash = chain.entry_hash(entry)
        entry.save()
        return entry

    def _what_follows(self) -> None:
        past, incident = self.past, self.incident
        for key in past.operations:
            IncidentOperation.objects.create(incident=incident, operation=self.rows[key], noted=True)
        for minute, status, text in past.updates:
            update = Update.objects.create(
                incident=incident,
                at=self._when(minute) or past.declared,
                by=self.teller.people[Role.OPERATOR],
                audience=Audience.PUBLIC,
                public_status=status,
                text=text,
            )
            update.channels.add(self.directory.channel)
        for text, owner, days, done in past.actions:
            self._action(text, owner, days, done)
        if past.resolved is not None:
            self._review()

    def _action(self, text: str, owner: Role, days: int, done: bool) -> None:
        made = self._when(self.past.resolved) or self.past.declared
        ActionItem.objects.create(
            incident=self.incident,
            text=text,
            owner=self.directory.people[owner],
            due_on=(self.now + timedelta(days=days)).date(),
            made_at=made,
            done_at=made + 2 * DAY if done else None,
            done_by=self._user(owner) if done else None,
        )

    def _review(self) -> None:
        found = review.draft_for(self.incident)
        found.drafted_at = self.incident.resolved_at or found.drafted_at
        if self.incident.state == CoreState.CLOSED:
            found.lessons = "What went well? It was seen early.\n\nWhat will we do differently? See the actions."
            found.state, found.published_at = Review.State.PUBLISHED, self.incident.closed_at
        found.save()
