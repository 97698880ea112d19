"""Asking for backups, verifications, restores and their undo: once per click, or refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django_celery_beat.models import CrontabSchedule

from backups import actions
from backups.exceptions import BackupError
from backups.models import Archive, Plan, Restore
from core.exceptions import PortalError
from core.roles import Role
from operations import locks, scheduling
from operations.exceptions import Refused
from operations.models import Operation, Schedule, Slot
from tests.factories import ArchiveFactory, PersonFactory, PlanFactory, RestoreFactory
from tests.operations.conftest import at_once

State, Verification = Archive.State, Archive.Verification


@pytest.fixture
def olga(db):
    return PersonFactory(username="olga", role=Role.OPERATOR)


def restore(archive: Archive, **options) -> Operation:
    into = options.get("into") or archive.target.database
    values = {"by": None, "reason_kind": Restore.Reason.DELETION, "typed_name": into}
    return actions.request_restore(archive, **{**values, **options})


def refused(ask: Callable[[], object], kind: type[PortalError] = BackupError) -> str:
    """The sentence of a refusal, which must have recorded nothing."""
    before = (Operation.objects.count(), Archive.objects.count(), Restore.objects.count())
    with pytest.raises(kind) as caught:
        ask()
    assert (Operation.objects.count(), Archive.objects.count(), Restore.objects.count()) == before
    assert caught.value.message.endswith(".")
    return caught.value.message


class TestOnce:
    """A double click brings the same key twice and makes one operation."""

    def asks(self, archive: Archive, kept: Restore) -> dict[str, Callable[[str], Operation]]:
        return {
            "backup": lambda key: actions.request_backup(archive.plan, by=None, key=key),
            "verify": lambda key: actions.request_verify(archive, by=None, key=key),
            "prune": lambda key: actions.request_prune(archive.plan, by=None, key=key),
            "restore": lambda key: restore(archive, key=key),
            "undo": lambda key: actions.request_undo(kept, by=None, key=key),
            "drop": lambda key: actions.request_drop_safety_copy(kept, by=None, key=key),
        }

    @pytest.mark.parametrize("what", ["backup", "verify", "prune", "restore", "undo", "drop"])
    def test_the_same_key_gives_the_same_operation(self, db, what):
        kept = RestoreFactory()
        archives, restores = Archive.objects.count(), Restore.objects.count()
        ask = self.asks(kept.archive, kept)[what]
        first, second = ask("k1"), ask("k1")
        assert first == second
        assert Operation.objects.filter(idempotency_key="k1").count() == 1
        assert Archive.objects.count() - archives == (what == "backup")
        assert Restore.objects.count() - restores == (what == "restore")

    def test_a_second_click_after_the_end_finds_what_the_first_has_done(self, db):
        """The state that would refuse a new request is the one the first click has brought about."""
        kept = RestoreFactory()
        dropped = actions.request_drop_safety_copy(kept, by=None, key="drop")
        Restore.objects.filter(pk=kept.pk).update(safety_copy=Restore.SafetyCopy.DROPPED)
        kept.refresh_from_db()
        assert actions.request_drop_safety_copy(kept, by=None, key="drop") == dropped
        checked = actions.request_verify(kept.archive, by=None, key="verify")
        Archive.objects.filter(pk=kept.archive.pk).update(state=State.MISSING)
        kept.archive.refresh_from_db()
        assert actions.request_verify(kept.archive, by=None, key="verify") == checked

    def test_two_clicks_at_the_same_moment_make_one_backup(self, transactional_db):
        plan = PlanFactory()

        def click() -> Operation:
            return actions.request_backup(Plan.objects.with_place().get(pk=plan.pk), by=None, key="k1")

        first, second = at_once(click, click)
        assert isinstance(first, Operation) and first == second
        assert Operation.objects.count() == Archive.objects.count() == 1

    def test_a_schedule_that_asks_twice_gets_one_backup(self, db):
        schedule = actions.save_plan(PlanFactory(), cron="0 2 * * *", misfire="latest", enabled=True).schedule
        Schedule.objects.filter(pk=schedule.pk).update(decided_until=datetime(2026, 1, 18, tzinfo=UTC))
        now = datetime(2026, 1, 19, 1, 0, 5, tzinfo=UTC)
        assert scheduling.decide_due(now) == 2  # one is covered by the later one
        Slot.objects.all().delete()  # as if the decision had been lost after the operation was asked for
        Schedule.objects.filter(pk=schedule.pk).update(decided_until=now - timedelta(hours=1))
        scheduling.decide_due(now)
        operation = Operation.objects.get()
        assert operation.trigger == Operation.Trigger.SCHEDULE
        assert operation.archive.purpose == Archive.Purpose.SCHEDULED
        assert operation.params["name"] == "backup_2026-01-19_0200"  # two o'clock in Berlin


class TestLocks:
    def test_a_person_is_told_who_is_at_the_database(self, db, olga):
        archive = ArchiveFactory()
        running = restore(archive, by=olga)
        for ask in (lambda: actions.request_backup(archive.plan, by=olga), lambda: restore(archive, by=olga)):
            message = refused(ask, Refused)
            assert f"#{running.pk} Restore {archive.target.database} from {archive.name} (queued)" in message
            assert "Wait for it to end, or cancel it" in message

    def test_another_database_is_not_held_up(self, db, olga):
        restore(ArchiveFactory(), by=olga)
        assert actions.request_backup(PlanFactory(), by=olga).state == Operation.State.QUEUED

    def test_a_verification_keeps_a_restore_from_its_archive(self, db, olga):
        archive = ArchiveFactory()
        actions.request_verify(archive, by=olga)
        assert "is working on the same thing" in refused(lambda: restore(archive, by=olga), Refused)

    def test_a_scheduled_backup_waits_for_its_turn(self, shop):
        """Nobody is there to be told: it stays queued while the lock is held, and runs after."""
        holder = shop.back_up()
        slot = datetime(2026, 1, 19, 1, tzinfo=UTC)
        late = shop.back_up(trigger=Operation.Trigger.SCHEDULE, purpose=Archive.Purpose.SCHEDULED, slot=slot)
        assert shop.run(late).state == Operation.State.QUEUED
        assert locks.holder_of(late) == holder
        shop.done(holder)
        shop.done(late)
        assert set(Archive.objects.values_list("verification", flat=True)) == {Verification.VERIFIED}
        assert Archive.objects.get(operation=late).name == "backup_2026-01-19_0200"


class TestRefusals:
    """What may not be restored, and what to do instead."""

    @pytest.mark.parametrize(
        ("fields", "options", "words"),
        [
            ({"unverified": True}, {}, "is not verified. Verify it now, or say why it must be restored unverified."),
            ({"unverified": True}, {"override_reason": "  "}, "is not verified."),
            ({"verification": "damaged"}, {"override_reason": "no time"}, "is damaged: Everything was read."),
            ({"state": "pruned"}, {}, "is removed. Choose another restore point."),
            ({"state": "missing"}, {"override_reason": "no time"}, "Verify it again, or choose another restore point."),
            ({"failed": True}, {"override_reason": "no time"}, "is failed. Choose another restore point."),
            ({}, {"typed_name": "Shop"}, "The name you typed is not the database's. Type"),
            ({}, {"typed_name": ""}, "The name you typed is not the database's."),
            ({}, {"into": "aside", "typed_name": "shop"}, "Type aside exactly to confirm."),
            ({}, {"into": " ", "typed_name": " "}, "Say which database to restore into."),
            ({}, {"reason_kind": "other", "reason": " "}, "Say why you restore when the reason is none of the usual"),
        ],
    )
    def test_a_restore_that_may_not_be(self, db, fields, options, words):
        archive = ArchiveFactory(**fields)
        assert words in refused(lambda: restore(archive, **options))

    def test_an_override_is_recorded_with_its_reason(self, db, olga):
        operation = restore(ArchiveFactory(unverified=True), by=olga, override_reason="The shop is down.")
        assert operation.restore.override_reason == "The shop is down."
        assert operation.restore.requested_by == olga

    def test_the_reason_and_what_is_lost_are_recorded(self, db):
        operation = restore(ArchiveFactory(), reason_kind="other", reason="A drill.")
        assert operation.reason == "Other. A drill."
        assert operation.restore.rto == timedelta(minutes=5)
        lost = operation.restore.expected_loss
        assert lost["readable"] is False and "There is no server socket in /nonexistent" in lost["why"]

    @pytest.mark.parametrize("state", ["pruned", "failed"])
    def test_only_an_available_archive_is_verified(self, db, state):
        fields = {"failed": True} if state == "failed" else {"state": state}
        archive = ArchiveFactory(**fields)
        assert "only an available archive can be verified" in refused(lambda: actions.request_verify(archive, by=None))

    def test_an_undo_needs_a_safety_copy(self, db):
        beside = RestoreFactory(safety_copy=Restore.SafetyCopy.NONE, safety_database="")
        assert "keeps no safety copy" in refused(lambda: actions.request_undo(beside, by=None))
        assert "set no database aside" in refused(lambda: actions.request_drop_safety_copy(beside, by=None))

    def test_the_later_restore_is_undone_first(self, db):
        """Otherwise the earlier undo would put aside what the later restore has brought."""
        first = RestoreFactory()
        later = RestoreFactory(archive=first.archive)
        assert f"undo “{later}”" in refused(lambda: actions.request_undo(first, by=None))
        actions.request_undo(later, by=None)

    def test_a_restore_beside_does_not_stand_in_the_way_of_an_undo(self, db):
        first = RestoreFactory()
        RestoreFactory(archive=first.archive, into_database="aside")
        actions.request_undo(first, by=None)


class TestSavePlan:
    """A plan owns its schedule, and the schedule its crontab row."""

    def save(self, plan: Plan, cron: str = "0 2 * * *", **options) -> Plan:
        actions.save_plan(plan, **{"cron": cron, "misfire": "latest", "enabled": True, **options})
        return Plan.objects.get(pk=plan.pk)

    def test_a_schedule_is_made_in_the_zone_of_the_service(self, db):
        plan = self.save(PlanFactory())
        crontab = plan.schedule.crontab
        assert (crontab.minute, crontab.hour, str(crontab.timezone)) == ("0", "2", "Europe/Berlin")
        assert plan.schedule.enabled and plan.schedule.handler == actions.SCHEDULE_HANDLER

    def test_a_change_keeps_the_rows(self, db):
        plan = self.save(PlanFactory())
        before, decided_until = plan.schedule, plan.schedule.decided_until
        plan = self.save(plan, "30 4 * * 0", misfire="skip", max_lateness=timedelta(hours=2))
        assert (plan.schedule.pk, plan.schedule.crontab.pk) == (before.pk, before.crontab.pk)
        assert (plan.schedule.crontab.hour, plan.schedule.crontab.day_of_week) == ("4", "0")
        assert (plan.schedule.misfire, plan.schedule.max_lateness) == ("skip", timedelta(hours=2))
        assert plan.schedule.decided_until > decided_until

    def test_two_plans_with_one_time_own_two_rows(self, db):
        first, second = self.save(PlanFactory()), self.save(PlanFactory())
        assert first.schedule.crontab.pk != second.schedule.crontab.pk
        self.save(first, "0 5 * * *")
        second.schedule.crontab.refresh_from_db()
        assert second.schedule.crontab.hour == "2"

    def test_no_schedule_means_on_demand(self, db):
        assert self.save(PlanFactory(), "").schedule is None
        assert CrontabSchedule.objects.count() == 0

    def test_emptying_the_schedule_switches_it_off_and_keeps_its_decisions(self, db):
        plan = self.save(PlanFactory())
        schedule = plan.schedule
        assert self.save(plan, "").schedule == schedule
        schedule.refresh_from_db()
        assert not schedule.enabled
        assert self.save(plan, "0 3 * * *").schedule == schedule
        schedule.refresh_from_db()
        assert schedule.enabled

    @pytest.mark.parametrize("cron", ["0 2 * *", "x", "99 2 * * *", "0 2 * * monday-ish", "0 2 30 2 * *"])
    def test_a_mistyped_schedule_changes_nothing(self, db, cron):
        plan = self.save(PlanFactory())
        plan.name = "Renamed"
        with pytest.raises(Refused):
            self.save(plan, cron)
        stored = Plan.objects.get(pk=plan.pk)
        assert stored.name != "Renamed" and stored.schedule.crontab.hour == "2"

    def test_keeping_an_archive(self, db):
        archive = ArchiveFactory()
        actions.set_keep(archive, keep=True)
        archive.refresh_from_db()
        assert archive.keep
        actions.set_keep(archive, keep=False)
        archive.refresh_from_db()
        assert not archive.keep
