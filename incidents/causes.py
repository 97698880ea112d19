"""What news says about causes: which thing goes wrong, or goes well again. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Min, Q

from backups import board
from backups import news as backup_news
from backups.models import Archive, Plan, Restore
from catalog.models import Component, DatabaseTarget, Environment, Service
from core.templatetags.portal import human_duration
from deployments import news as deployment_news
from deployments.models import Deployment
from incidents.models import CauseRule
from operations import events
from operations.models import Event, Operation, Schedule, Slot

Kind = CauseRule.Cause
State = Operation.State
BACKUP, RESTORE, VERIFY, PRUNE = "backups.backup", "backups.restore", "backups.verify", "backups.prune"
WRONG = (State.FAILED, State.ERRORED)
DEPLOYMENTS = (deployment_news.FAILED, deployment_news.LIVE, deployment_news.ROLLED_BACK)
HEARD = (
    events.OPERATION_ENDED,
    events.SLOTS_MISSED,
    backup_news.ARCHIVE_DAMAGED,
    backup_news.ARCHIVE_MISSING,
    *DEPLOYMENTS,
)
# A backup that is under way when a restore point reaches the RPO has so long to become the next one.
UNDER_WAY_FOR = timedelta(hours=1)
# Backups every so often, with an RPO of as long, are seconds late now and then.
SLACK, SLACK_PART = timedelta(minutes=5), 10
ZERO = timedelta(0)


@dataclass(frozen=True)
class Place:
    """Where something went wrong, as far as the catalog knows."""

    service: Service | None = None
    environment: Environment | None = None
    component: Component | None = None


@dataclass(frozen=True)
class Sighting:
    """One look at one thing. `lasting`: it is looked at again and again, and stays bad until it is good."""

    kind: Kind
    thing: str
    bad: bool
    title: str
    sentence: str
    place: Place = Place()
    url: str = ""
    lasting: bool = False

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.thing}"[:200]


def sightings_of(event: Event) -> Iterator[Sighting]:
    """What a piece of news says; most say nothing."""
    if event.name == events.OPERATION_ENDED and event.operation is not None:
        yield from _of_operation(event.operation)
    elif event.name == events.SLOTS_MISSED:
        yield from _of_schedule(event)
    elif event.name in (backup_news.ARCHIVE_DAMAGED, backup_news.ARCHIVE_MISSING):
        yield from _of_archive(event)
    elif event.name in DEPLOYMENTS:
        yield from _of_deployment(event)


def place_of(target: DatabaseTarget) -> Place:
    component = target.component
    return Place(component.environment.service, component.environment, component)


# -- operations --------------------------------------------------------------------------------------------------------


def _of_operation(operation: Operation) -> Iterator[Sighting]:
    if operation.trigger == Operation.Trigger.SCHEDULE:
        yield from _schedule_runs(operation)
    if operation.state in WRONG or operation.state == State.SUCCEEDED:
        about = {BACKUP: _of_backup, RESTORE: _of_restore}.get(operation.procedure, _of_other)
        yield from about(operation)
    if operation.state == State.SUCCEEDED and operation.procedure in (VERIFY, PRUNE):
        yield from _archives_whole(operation)


def _of_backup(operation: Operation) -> Iterator[Sighting]:
    plan = _plan(operation.params.get("plan"))
    if plan is not None:
        title = f"Backup of {plan.target} failed"
        yield _ended(Kind.BACKUP_FAILED, f"plan:{plan.pk}", operation, title, place_of(plan.target))


def _of_restore(operation: Operation) -> Iterator[Sighting]:
    rows = Restore.objects.select_related("target__component__environment__service")
    restore = rows.filter(operation=operation).first()
    if restore is not None:
        title = f"Restore of {restore.into_database} failed"
        place = place_of(restore.target)
        yield _ended(Kind.RESTORE_FAILED, f"database:{restore.target_id}", operation, title, place)


def _of_other(operation: Operation) -> Iterator[Sighting]:
    """Any other operation: that it broke off for an unknown reason, and that it works again. A failure with a sentence
    is no cause: it says itself what to do."""
    if operation.state == State.FAILED:
        return
    thing = f"{operation.procedure}:{operation.environment_label}"
    place = _named_place(operation.environment_label)
    yield _ended(Kind.OPERATION_ERRORED, thing, operation, f"{operation.title}: broke off", place)


def _ended(kind: Kind, thing: str, operation: Operation, title: str, place: Place) -> Sighting:
    sentence = f"{operation.title}: {operation.state_word.lower()}. {operation.message}".strip()
    bad = operation.state in WRONG
    return Sighting(kind, thing, bad, title, sentence, place, operation.get_absolute_url())


def _named_place(label: str) -> Place:
    service, _, name = label.rpartition(" · ")
    found = Environment.objects.select_related("service").filter(service__name=service, name=name).first()
    return Place(found.service, found) if found is not None else Place()


def _plan(pk: int | None) -> Plan | None:
    if pk is None:
        return None
    return Plan.objects.select_related("target__component__environment__service").filter(pk=pk).first()


# -- deployments -------------------------------------------------------------------------------------------------------


def _of_deployment(event: Event) -> Iterator[Sighting]:
    """Of production only. One that was taken back by itself has failed all the same; a rollback that somebody asked for
    is the way out, and so is the next release that goes live."""
    row = Deployment.objects.with_place().filter(pk=event.subject_id or 0).first()
    if row is None or row.environment.kind != Environment.Kind.PRODUCTION:
        return
    bad = row.state in (Deployment.State.FAILED, Deployment.State.SUSPECT, Deployment.State.ROLLED_BACK)
    environment = row.environment
    what = "Rollback" if row.is_rollback else "Deployment"
    yield Sighting(
        Kind.DEPLOYMENT_FAILED,
        f"environment:{environment.pk}",
        bad,
        f"{what} of {row.release.version} to {environment} failed",
        event.sentence,
        Place(environment.service, environment),
        event.url,
    )


# -- schedules ---------------------------------------------------------------------------------------------------------


def _of_schedule(event: Event) -> Iterator[Sighting]:
    schedule = Schedule.objects.filter(pk=event.subject_id or 0).first()
    if schedule is not None:
        title = f"Due times missed: {schedule.name}"
        yield Sighting(
            Kind.SLOTS_MISSED, f"schedule:{schedule.pk}", True, title, event.sentence, _serves(schedule.pk), event.url
        )


def _schedule_runs(operation: Operation) -> Iterator[Sighting]:
    for slot in Slot.objects.filter(operation=operation).select_related("schedule"):
        sentence = f"“{slot.schedule.name}” started again: {operation.title}."
        thing = f"schedule:{slot.schedule_id}"
        yield Sighting(Kind.SLOTS_MISSED, thing, False, slot.schedule.name, sentence, _serves(slot.schedule_id))


def _serves(schedule: int) -> Place:
    plan = Plan.objects.select_related("target__component__environment__service").filter(schedule=schedule).first()
    return place_of(plan.target) if plan is not None else Place()


# -- archives ----------------------------------------------------------------------------------------------------------


def _of_archive(event: Event) -> Iterator[Sighting]:
    archive = Archive.objects.with_place().filter(pk=event.subject_id or 0).first()
    if archive is not None:
        title = f"An archive of {archive.target} is damaged or missing"
        thing = f"plan:{archive.plan_id}"
        yield Sighting(Kind.ARCHIVE_DAMAGED, thing, True, title, event.sentence, place_of(archive.target), event.url)


def _archives_whole(operation: Operation) -> Iterator[Sighting]:
    """After a look at an archive, or a clean-up: whether none of the plan is damaged or missing any more."""
    archive = Archive.objects.filter(pk=operation.params.get("archive")).only("plan_id").first()
    plan = _plan(archive.plan_id if archive is not None else operation.params.get("plan"))
    if plan is None:
        return
    bad = Q(state=Archive.State.MISSING) | Q(state=Archive.State.AVAILABLE, verification=Archive.Verification.DAMAGED)
    if not plan.archives.filter(bad).exists():
        sentence = f"No archive of {plan} is damaged or missing."
        yield Sighting(Kind.ARCHIVE_DAMAGED, f"plan:{plan.pk}", False, str(plan), sentence, place_of(plan.target))


# -- recovery points ---------------------------------------------------------------------------------------------------


def rpo_sightings(now: datetime) -> list[Sighting]:
    """Every database with an RPO: whether its newest restore point is within. Three queries.

    An RPO of 0 says nothing here: no backup can meet it, the board shows it. Neither does a database of which no backup
    was ever tried. A tenth of the RPO, five minutes at most, is no breach yet; while a backup is under way it has an
    hour to become the restore point.
    """
    lines = [line for line in board.lines(now) if line.rpo is not None and line.rpo > ZERO]
    running = set(
        Archive.objects.filter(
            operation__in=Operation.objects.active(), requested_at__gt=now - UNDER_WAY_FOR
        ).values_list("target_id", flat=True)
    )
    first = dict(Archive.objects.values_list("target_id").annotate(Min("requested_at")).order_by())
    found = [_of_line(line, now, running, first) for line in lines]
    return [sighting for sighting in found if sighting is not None]


def _of_line(line: board.Line, now: datetime, running: set[int], first: dict[int, datetime]) -> Sighting | None:
    target, rpo = line.target, line.rpo
    assert rpo is not None
    since = line.newest_at or first.get(target.pk)
    if since is None:
        return None
    age = now - since
    if age >= rpo and (age < rpo + min(SLACK, rpo / SLACK_PART) or _may_still_come(target.pk in running, age, rpo)):
        return None  # neither good nor bad yet
    bad = age >= rpo
    if line.newest_at is None and not bad:
        return None
    if line.newest_at is None:
        sentence = f"There is no restore point of {target}; the first backup was tried {human_duration(age)} ago."
    else:
        sentence = (
            f"The newest restore point of {target} is {human_duration(age)} old; the RPO is {human_duration(rpo)}."
        )
    title = f"RPO of {target} missed"
    url = target.get_absolute_url()
    return Sighting(
        Kind.RPO_BREACHED, f"database:{target.pk}", bad, title, sentence, place_of(target), url, lasting=True
    )


def _may_still_come(under_way: bool, age: timedelta, rpo: timedelta) -> bool:
    return under_way and age < rpo + UNDER_WAY_FOR
