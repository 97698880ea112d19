"""What opens incidents by itself: once per cause, quiet after recovery, one page a person and cause."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import OperationalError, transaction
from django.utils import timezone

from backups import news as backup_news
from backups.models import Archive
from contacts import engine
from contacts.models import Escalation, Notification
from incidents import causes, rules
from incidents.actions import relate, work
from incidents.models import Cause, CauseNews, CauseRule, Incident
from operations import events
from operations.models import Operation, Slot
from tests.contacts.factories import ContactFactory, PolicyFactory, SeverityFactory
from tests.contacts.factories import rule as matrix_rule
from tests.factories import (
    ArchiveFactory,
    EnvironmentFactory,
    OperationFactory,
    PlanFactory,
    RestoreFactory,
    ScheduleFactory,
)
from tests.incidents.factories import CauseRuleFactory

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MONDAY = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)
Ok, Bad, Broken = Operation.State.SUCCEEDED, Operation.State.FAILED, Operation.State.ERRORED


def ended(procedure, state, params=None, message="The disk is full.", **fields):
    operation = OperationFactory(procedure=procedure, state=state, params=params or {}, message=message, **fields)
    with transaction.atomic():
        events.operation_ended(operation)
    return operation


def backup(plan, state, **fields):
    """A backup that ended like that, as the rules hear of it."""
    operation = ended("backups.backup", state, {"plan": plan.pk}, title=f"Back up {plan.target}", **fields)
    if state == Ok:
        ArchiveFactory(plan=plan, operation=operation)
    rules.work_off()
    return operation


def climb():
    """The engine takes the steps that are due."""
    engine.climb_due(50, now=timezone.now())


@pytest.fixture
def plan():
    return PlanFactory()


@pytest.fixture
def service(plan):
    service = plan.target.component.environment.service
    for rank in (1, 3):
        SeverityFactory(service=service, rank=rank)
    matrix_rule(PolicyFactory(service=service), (timedelta(0), [ContactFactory()]))
    return service


@pytest.fixture
def failed(service):
    return CauseRuleFactory(cause="backup-failed", rank=2)


class TestOneIncidentPerCause:
    def test_a_failed_backup_opens_one(self, plan, service, failed):
        operation = backup(plan, Bad)
        incident = Incident.objects.get()
        assert (incident.title, incident.service, incident.rank) == (f"Backup of {plan.target} failed", service, 3)
        assert incident.environment == plan.target.component.environment
        assert list(incident.components.all()) == [plan.target.component]
        assert (incident.door, incident.declared_by) == ("rule", None)
        entry = incident.timeline.get(kind="cause")
        assert "The disk is full." in entry.text and entry.url == operation.get_absolute_url()
        first = incident.timeline.first()
        assert (first.actor, first.source) == ("Rule “A backup failed”", "portal")
        assert Escalation.objects.of(incident).count() == 1

    def test_the_next_failure_updates_it(self, plan, failed):
        for _ in range(3):
            backup(plan, Bad)
        incident = Incident.objects.get()
        assert [entry.text[-12:] for entry in incident.timeline.filter(kind="cause")][1:] == [
            "(2 in a row)",
            "(3 in a row)",
        ]
        assert Escalation.objects.count() == 1 and Cause.objects.get().seen == 3

    def test_each_plan_is_a_cause_of_its_own(self, plan, failed):
        backup(plan, Bad)
        backup(PlanFactory(), Bad)
        assert Incident.objects.count() == 2

    def test_without_a_rule_nothing_opens_and_nothing_is_kept(self, plan, service):
        backup(plan, Bad)
        assert not Incident.objects.exists() and not CauseNews.objects.exists() and not Cause.objects.exists()

    def test_a_rule_of_the_service_goes_before_and_may_switch_off(self, plan, service, failed):
        CauseRuleFactory(cause="backup-failed", service=service, enabled=False)
        backup(plan, Bad)
        assert not Incident.objects.exists()

    def test_so_many_in_a_row_first(self, plan, failed):
        CauseRule.objects.update(after=3)
        for state in (Bad, Bad, Ok, Bad, Bad):
            backup(plan, state)
        assert not Incident.objects.exists()
        backup(plan, Bad)
        incident = Incident.objects.get()
        assert incident.started_at == Cause.objects.get().first_at.replace(microsecond=0) < incident.declared_at

    def test_one_that_somebody_cancelled_is_no_cause(self, plan, failed):
        backup(plan, Operation.State.CANCELLED)
        assert not Incident.objects.exists()

    def test_it_may_page_nobody(self, plan, failed):
        CauseRule.objects.update(escalate=False)
        backup(plan, Bad)
        assert Incident.objects.exists() and not Escalation.objects.exists()
        assert rules.page_the_uncovered() == 0

    def test_merged_into_another_it_goes_on_there(self, plan, failed, ada):
        backup(plan, Bad)
        (incident,) = Incident.objects.all()
        into = relate.merge(incident, rules.declare("The disk is full", by=ada), reason="Same", by=ada).merged_into
        backup(plan, Bad)
        assert Incident.objects.count() == 2 and into.timeline.filter(kind="cause").count() == 1
        backup(plan, Ok)
        into.refresh_from_db()
        assert into.state == "resolved"


class TestRecovery:
    def test_it_resolves_by_itself(self, plan, failed):
        backup(plan, Bad)
        backup(plan, Ok, message="")
        incident = Incident.objects.get()
        assert incident.state == "resolved" and incident.acknowledged_at is None
        assert incident.resolution.startswith("The cause is gone: Back up")
        assert Escalation.objects.get().ending == "resolved"
        assert incident.timeline.filter(actor="Rule “A backup failed”", text__startswith="Resolved.").exists()

    def test_or_only_says_so(self, plan, failed):
        CauseRule.objects.update(resolve=False)
        backup(plan, Bad)
        backup(plan, Ok)
        incident = Incident.objects.get()
        assert incident.state == "open" and incident.timeline.filter(text__startswith="The cause is gone").count() == 1

    def test_the_same_within_the_quiet_time_reopens_it_and_pages_nobody(self, plan, failed):
        with time_machine.travel(MONDAY, tick=False) as clock:
            backup(plan, Bad)
            climb()
            for _ in range(3):
                clock.shift(HOUR)
                backup(plan, Ok)
                clock.shift(HOUR)
                backup(plan, Bad)
        incident = Incident.objects.get()
        assert incident.state == "open" and Escalation.objects.count() == 1
        assert incident.timeline.filter(text__startswith="Reopened").count() == 3

    def test_what_returns_before_anybody_was_told_pages(self, plan, failed):
        """Quiet is for those who know of it."""
        with time_machine.travel(MONDAY, tick=False) as clock:
            for state in (Bad, Ok, Bad):
                backup(plan, state)
                clock.shift(MINUTE)
            climb()
        assert Incident.objects.get().state == "open"
        assert Escalation.objects.count() == 2 and Notification.objects.exists()

    def test_later_it_is_another_one(self, plan, failed):
        with time_machine.travel(MONDAY, tick=False) as clock:
            backup(plan, Bad)
            backup(plan, Ok)
            clock.shift(6 * HOUR + MINUTE)
            backup(plan, Bad)
        assert Incident.objects.count() == 2 == Escalation.objects.count()

    def test_one_that_was_closed_is_not_reopened(self, plan, failed, ada):
        backup(plan, Bad)
        backup(plan, Ok)
        work.close(Incident.objects.get(), by=ada)
        backup(plan, Bad)
        assert Incident.objects.count() == 2

    def test_reopened_quietly_it_pages_when_it_outlasts_the_quiet_time(self, plan, failed):
        """Nobody is forgotten: quiet is not for ever."""
        with time_machine.travel(MONDAY, tick=False) as clock:
            for state in (Bad, Ok, Bad):
                backup(plan, state)
                climb()
            clock.shift(5 * HOUR)
            assert rules.page_the_uncovered() == 0
            clock.shift(2 * HOUR)
            assert (rules.page_the_uncovered(), rules.page_the_uncovered()) == (1, 0)
        assert Escalation.objects.count() == 2


class TestOnePage:
    def test_causes_of_one_service_at_the_same_time_share_it(self, plan, failed, service):
        other = PlanFactory(target=plan.target, storage=plan.storage)
        backup(plan, Bad)
        backup(other, Bad)
        first, second = Incident.objects.order_by("pk")
        assert Escalation.objects.count() == 1 and list(second.related.all()) == [first]
        assert f"Nobody is paged for this one: {first.number}" in second.timeline.filter(kind="escalation").get().text

    def test_the_second_pages_when_the_first_is_over_and_it_is_not(self, plan, failed, olga):
        other = PlanFactory(target=plan.target, storage=plan.storage)
        backup(plan, Bad)
        backup(other, Bad)
        assert rules.page_the_uncovered() == 0
        backup(plan, Ok)
        assert (rules.page_the_uncovered(), rules.page_the_uncovered()) == (1, 0)
        assert Escalation.objects.of(Incident.objects.order_by("pk").last()).get().is_open

    def test_one_that_was_answered_covers_no_other(self, plan, failed, olga):
        """Who has answered the first hears nothing of the second."""
        target = {"target": plan.target, "storage": plan.storage}
        backup(plan, Bad)
        backup(PlanFactory(**target), Bad)
        work.acknowledge(Incident.objects.order_by("pk").first(), by=olga)
        backup(PlanFactory(**target), Bad)
        assert Escalation.objects.count() == 2
        assert (rules.page_the_uncovered(), rules.page_the_uncovered()) == (1, 0)
        assert Escalation.objects.count() == 3

    def test_later_or_graver_it_has_a_page_of_its_own(self, plan, failed, service):
        with time_machine.travel(MONDAY, tick=False) as clock:
            backup(plan, Bad)
            CauseRule.objects.update(rank=1)
            backup(PlanFactory(target=plan.target, storage=plan.storage), Bad)
            assert Escalation.objects.count() == 2
            clock.shift(HOUR)
            backup(PlanFactory(target=plan.target, storage=plan.storage), Bad)
        assert Escalation.objects.count() == 3


class TestEveryCause:
    def test_a_failed_restore_until_one_succeeds(self, service):
        CauseRuleFactory(cause="restore-failed")
        archive = ArchiveFactory()
        for state in (Bad, Broken, Ok):
            restore = RestoreFactory(archive=archive)
            restore.operation.state = state
            restore.operation.save()
            events.operation_ended(restore.operation)
            rules.work_off()
        incident = Incident.objects.get()
        assert incident.title.startswith("Restore of shop_") and incident.state == "resolved"
        assert incident.timeline.filter(kind="cause").count() == 2

    def test_missed_slots_until_the_schedule_starts_again(self, plan, service):
        CauseRuleFactory(cause="slots-missed")
        plan.schedule = schedule = ScheduleFactory(name="Nightly")
        plan.save()
        events.publish(events.SLOTS_MISSED, "2 due times of “Nightly” passed.", subject=schedule)
        rules.work_off()
        incident = Incident.objects.get()
        assert (incident.title, incident.service) == ("Due times missed: Nightly", service)
        operation = OperationFactory(trigger="schedule", params={"plan": plan.pk})
        Slot.objects.create(
            schedule=schedule,
            at=operation.requested_at,
            decided_at=operation.requested_at,
            decision="started",
            operation=operation,
        )
        events.operation_ended(operation)
        rules.work_off()
        incident.refresh_from_db()
        assert incident.state == "resolved"

    @pytest.mark.parametrize("name", [backup_news.ARCHIVE_DAMAGED, backup_news.ARCHIVE_MISSING])
    def test_damaged_archives_until_none_of_the_plan_is(self, service, plan, name):
        CauseRuleFactory(cause="archive-damaged")
        one, two = ArchiveFactory(plan=plan, verification="damaged"), ArchiveFactory(plan=plan, state="missing")
        for archive in (one, two):
            events.publish(name, f"{archive} is damaged.", subject=archive)
        rules.work_off()
        incident = Incident.objects.get()
        Archive.objects.filter(pk=one.pk).update(verification="verified")
        ended("backups.verify", Ok, {"archive": one.pk})
        rules.work_off()
        incident.refresh_from_db()
        assert incident.state == "open"
        Archive.objects.filter(pk=two.pk).update(state="pruned")
        ended("backups.prune", Ok, {"plan": plan.pk})
        rules.work_off()
        incident.refresh_from_db()
        assert incident.state == "resolved"

    def test_an_operation_that_broke_off_and_not_one_that_failed(self, service):
        CauseRuleFactory(cause="operation-errored")
        environment = EnvironmentFactory()
        where = {"environment_label": str(environment)}
        ended("backups.prune", Bad, {}, **where)
        ended("backups.prune", Broken, {}, **where)
        ended("backups.prune", Ok, {}, environment_label="Elsewhere · production")
        rules.work_off()
        incident = Incident.objects.get()
        assert (incident.service, incident.environment, incident.state) == (environment.service, environment, "open")
        ended("backups.prune", Ok, {}, **where)
        rules.work_off()
        incident.refresh_from_db()
        assert incident.state == "resolved"

    def test_a_backup_that_broke_off_is_a_failed_backup(self, plan, failed):
        CauseRuleFactory(cause="operation-errored")
        backup(plan, Broken)
        assert Cause.objects.get().key == f"backup-failed:plan:{plan.pk}"


class TestRecoveryPoints:
    @pytest.fixture
    def rpo(self, service):
        return CauseRuleFactory(cause="rpo-breached")

    def look(self, clock, by):
        clock.shift(by)
        return rules.look_at_recovery_points()

    def test_too_old_a_restore_point_opens_one_and_a_new_one_resolves_it(self, plan, rpo):
        with time_machine.travel(MONDAY, tick=False) as clock:
            ArchiveFactory(plan=plan, age=timedelta(0))
            assert self.look(clock, DAY - MINUTE) == 0
            assert self.look(clock, 5 * MINUTE) == 0 and not Incident.objects.exists()
            for _ in range(5):
                assert self.look(clock, MINUTE) == 1
            incident = Incident.objects.get()
            assert (
                incident.title == f"RPO of {plan.target} missed" and incident.timeline.filter(kind="cause").count() == 1
            )
            ArchiveFactory(plan=plan, age=timedelta(0))
            assert self.look(clock, MINUTE) == 0
        incident.refresh_from_db()
        assert incident.state == "resolved"

    def test_while_a_backup_is_under_way_it_has_an_hour(self, plan, rpo):
        with time_machine.travel(MONDAY, tick=False) as clock:
            ArchiveFactory(plan=plan, age=timedelta(0))
            clock.shift(DAY)
            running = OperationFactory(state=Operation.State.RUNNING)
            ArchiveFactory(plan=plan, failed=True, state="creating", operation=running, age=timedelta(0))
            assert self.look(clock, 30 * MINUTE) == 0
            assert self.look(clock, 40 * MINUTE) == 1

    def test_of_what_was_never_backed_up_it_says_nothing(self, plan, rpo):
        assert rules.look_at_recovery_points() == 0
        ArchiveFactory(plan=plan, failed=True, age=DAY + HOUR)
        assert rules.look_at_recovery_points() == 1

    def test_an_rpo_of_nothing_at_all_is_no_cause(self, plan, rpo):
        component = plan.target.component
        component.rpo = timedelta(0)
        component.save()
        ArchiveFactory(plan=plan, age=HOUR)
        assert rules.look_at_recovery_points() == 0

    def test_resolved_by_a_person_though_it_lasts_it_is_quiet_for_a_time(self, plan, rpo, olga):
        with time_machine.travel(MONDAY, tick=False) as clock:
            ArchiveFactory(plan=plan, age=2 * DAY)
            self.look(clock, MINUTE)
            work.resolve(Incident.objects.get(), by=olga, text="We know")
            for _ in range(5):
                self.look(clock, HOUR)
            assert Incident.objects.count() == 1 and Incident.objects.get().state == "resolved"
            self.look(clock, 2 * HOUR)
            assert Incident.objects.count() == 2

    def test_the_look_costs_the_same_for_many(self, rpo, django_assert_max_num_queries):
        for _ in range(5):
            ArchiveFactory(plan=PlanFactory(), age=HOUR)
        with django_assert_max_num_queries(6):
            rules.look_at_recovery_points()


class TestNothingIsLost:
    def test_the_receiver_only_keeps_the_news(self, plan, failed):
        ended("backups.backup", Bad, {"plan": plan.pk})
        assert CauseNews.objects.count() == 1 and not Incident.objects.exists()
        assert rules.work_off() == 1 and not CauseNews.objects.exists()

    def test_what_goes_wrong_is_tried_again_and_holds_up_nothing(self, plan, failed, monkeypatch, caplog):
        real = causes.sightings_of
        ended("backups.backup", Bad, {"plan": plan.pk}, message="Poison")
        ended("backups.backup", Bad, {"plan": PlanFactory().pk}, message="The disk is full.")

        def fails(event):
            if "Poison" in event.sentence:
                raise ValueError("unexpected")
            return real(event)

        monkeypatch.setattr(causes, "sightings_of", fails)
        rules.work_off(limit=2)
        assert Incident.objects.count() == 1 and CauseNews.objects.get().tries == 1
        rules.work_off()
        assert CauseNews.objects.get().tries == 1  # not again at once
        with time_machine.travel(timezone.now(), tick=False) as clock:
            for pause in rules.PAUSES:
                clock.shift(pause + timedelta(seconds=1))
                rules.work_off()
        assert not CauseNews.objects.exists() and "could not take" in caplog.text

    def test_one_moment_of_trouble_loses_no_cause(self, plan, failed, monkeypatch):
        real, times = causes.sightings_of, []

        def fails_once(event):
            times.append(event)
            if len(times) == 1:
                raise OperationalError("the connection is lost")
            return real(event)

        monkeypatch.setattr(causes, "sightings_of", fails_once)
        backup(plan, Bad)
        assert CauseNews.objects.count() == 1 and not Incident.objects.exists()
        with time_machine.travel(timezone.now() + timedelta(seconds=11)):
            rules.work_off()
        assert Incident.objects.count() == 1 and not CauseNews.objects.exists()

    def test_half_of_what_one_piece_of_news_did_does_not_stay(self, plan, failed, monkeypatch):
        monkeypatch.setattr(rules, "note_that", lambda *args, **options: 1 / 0)
        ended("backups.backup", Bad, {"plan": plan.pk})
        rules.work_off(limit=1)
        assert not Incident.objects.exists() and not Cause.objects.exists() and CauseNews.objects.exists()


def test_thirty_days_of_faults_and_recoveries(plan, service):
    """Nightly backups with an RPO of 24 h. Faults: single failures, three broken nights, a night in which the backup
    fails, succeeds, and fails again soon after, a night without a portal.

    Every incident that opens lies within a fault. Each fault pages once, also the one that comes back.
    """
    for cause in CauseRule.Cause.values:
        CauseRuleFactory(cause=cause)
    numbers = random.Random(4)
    nights = dict.fromkeys(range(30), Ok) | {5: Bad, 11: Bad, 12: Broken, 13: Bad, 16: Bad, 20: Bad}
    bounces = {16}
    silent = {25}  # nothing ran at all
    false_openings, opened = [], set()
    with time_machine.travel(MONDAY + 2 * HOUR, tick=False) as clock:
        ArchiveFactory(plan=plan, age=timedelta(0))
        for day in range(1, 30):
            clock.move_to(MONDAY + day * DAY + 2 * HOUR + timedelta(seconds=numbers.randrange(1, 20)))
            rules.look_at_recovery_points()
            if day not in silent:
                _one_night(plan, nights[day], numbers, clock)
            for again in (Ok, Bad, Ok) if day in bounces else ():
                clock.shift(20 * MINUTE)
                _one_night(plan, again, numbers, clock)
            for number in range(12):
                minutes = 2 if number < 6 else 180 + numbers.randrange(0, 40)
                clock.shift(timedelta(minutes=minutes))
                rules.look_at_recovery_points()
                rules.page_the_uncovered()
                climb()
            faulty = day in silent or nights[day] != Ok
            for incident in Incident.objects.exclude(pk__in=opened):
                opened.add(incident.pk)
                if not faulty:
                    false_openings.append((day, incident.title))
    assert not false_openings
    reopened = sum(
        entry.text.startswith("Reopened") for incident in Incident.objects.all() for entry in incident.timeline.all()
    )
    assert reopened == 1  # what fails again within the quiet time is the same incident
    # Five faults: each has an incident of its backup (not the silent night) and one of its RPO, and one page in all.
    assert (Incident.objects.count(), Escalation.objects.count()) == (9, 5)
    assert not Incident.objects.open().exists()


def _one_night(plan, state, numbers, clock):
    """A backup under way for a few minutes, with a look at the recovery points meanwhile, and its end."""
    operation = OperationFactory(state=Operation.State.RUNNING, params={"plan": plan.pk}, title="Back up")
    archive = ArchiveFactory(plan=plan, failed=True, state="creating", operation=operation, age=timedelta(0))
    started = archive.requested_at
    clock.shift(timedelta(seconds=numbers.randrange(60, 600)))
    rules.look_at_recovery_points()
    Operation.objects.filter(pk=operation.pk).update(state=state, ended_at=started + MINUTE, lease_until=None)
    operation.refresh_from_db()
    if state == Ok:
        whole = ArchiveFactory.build(plan=plan, operation=operation, age=timedelta(0))
        fields = ("name", "size_bytes", "manifest", "verification", "row_count")
        values = {name: getattr(whole, name) for name in fields}
        Archive.objects.filter(pk=archive.pk).update(
            state="available", snapshot_at=started, verified_at=started, **values
        )
    else:
        Archive.objects.filter(pk=archive.pk).update(state="failed")
    with transaction.atomic():
        events.operation_ended(operation)
    rules.work_off()
    rules.look_at_recovery_points()
    climb()
