"""What retention lets go: never the last verified archive, and exactly what the preview says."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backups import actions, retention
from backups.models import Archive, Plan
from operations.models import Operation, OperationLock
from tests.factories import ArchiveFactory, OperationFactory, PlanFactory

State, Verification = Archive.State, Archive.Verification
DAY = timedelta(days=1)


def stay(plan: Plan) -> list[str]:
    return sorted(verdict.archive.name for verdict in retention.judge(plan) if not verdict.remove)


def reasons(plan: Plan) -> dict[str, str]:
    return {verdict.archive.name: verdict.why for verdict in retention.judge(plan)}


def history(plan: Plan, *days: int, **fields: object) -> None:
    """Archives called d1, d2 ... after their age in days."""
    for age in days:
        ArchiveFactory(plan=plan, name=f"d{age}", age=age * DAY, **fields)


class TestRules:
    def test_nothing_set_keeps_everything(self, db):
        """S0-B16 gives no number; none must not mean zero."""
        plan = PlanFactory()
        history(plan, 1, 400, 4000)
        assert stay(plan) == ["d1", "d400", "d4000"]

    def test_by_number(self, db):
        plan = PlanFactory(keep_last=2)
        history(plan, 1, 2, 3, 4)
        assert stay(plan) == ["d1", "d2"]
        assert reasons(plan)["d3"] == "not among the newest 2 verified"

    def test_by_age(self, db):
        plan = PlanFactory(keep_days=7)
        history(plan, 1, 6, 8, 30)
        assert stay(plan) == ["d1", "d6"]
        assert reasons(plan)["d8"] == "older than 7 days"

    def test_either_rule_keeps(self, db):
        plan = PlanFactory(keep_days=3, keep_last=3)
        history(plan, 1, 2, 5, 6)
        assert stay(plan) == ["d1", "d2", "d5"]

    def test_unverified_and_damaged_do_not_count(self, db):
        plan = PlanFactory(keep_last=1)
        history(plan, 3, verification=Verification.DAMAGED)
        history(plan, 4, 5)
        history(plan, 6, unverified=True)
        assert stay(plan) == ["d4"]

    def test_an_unverified_one_stays_while_it_is_newer_than_the_newest_verified(self, db):
        """It may be the best there is: nobody has looked yet."""
        plan = PlanFactory(keep_last=1)
        history(plan, 1, 2, unverified=True)
        history(plan, 3)
        assert stay(plan) == ["d1", "d2", "d3"]
        assert reasons(plan)["d1"] == "newer than the newest verified archive, and not verified yet"

    def test_failed_ones_are_not_judged(self, db):
        plan = PlanFactory(keep_last=1)
        ArchiveFactory(plan=plan, failed=True)
        history(plan, 4)
        assert [verdict.archive.name for verdict in retention.judge(plan)] == ["d4"]

    def test_the_last_verified_stays_however_old(self, db):
        plan = PlanFactory(keep_days=7)
        history(plan, 400)
        history(plan, 500, unverified=True)
        history(plan, 300, verification=Verification.DAMAGED)
        assert stay(plan) == ["d400"]
        assert reasons(plan)["d400"] == "the newest verified archive of its database"

    def test_without_a_verified_one_nothing_goes(self, db):
        plan = PlanFactory(keep_days=7)
        history(plan, 300, 400, unverified=True)
        assert stay(plan) == ["d300", "d400"]

    def test_the_last_verified_is_that_of_the_database_whatever_its_plan(self, db):
        plan = PlanFactory(keep_days=7)
        other = PlanFactory(target=plan.target, storage=plan.storage, folder="other")
        history(plan, 40)
        history(other, 20)
        assert stay(plan) == [] and stay(other) == ["d20"]

    def test_a_plan_that_was_moved_keeps_the_last_of_the_database_it_has_left(self, db):
        plan = PlanFactory(keep_last=1)
        history(plan, 8, 9)
        left, plan.target = plan.target, PlanFactory().target
        plan.save()
        history(plan, 1, 2)
        assert stay(plan) == ["d1", "d8"]
        assert Archive.objects.get(name="d8").target == left

    def test_what_is_marked_stays(self, db):
        plan = PlanFactory(keep_days=7)
        history(plan, 1)
        history(plan, 400, keep=True)
        assert stay(plan) == ["d1", "d400"]

    def test_what_is_in_use_stays(self, db):
        plan = PlanFactory(keep_days=7)
        history(plan, 1, 400)
        actions.request_verify(plan.archives.get(name="d400"), by=None)
        assert stay(plan) == ["d1", "d400"]
        assert reasons(plan)["d400"] == "in use by an operation"

    def test_a_backup_that_is_still_being_verified_stays(self, db):
        """It is published and not verified yet, so no rule counts it."""
        plan = PlanFactory(keep_last=1)
        history(plan, 1)
        running = OperationFactory(state=Operation.State.RUNNING)
        ArchiveFactory(plan=plan, name="new", unverified=True, operation=running)
        assert stay(plan) == ["d1", "new"]


@dataclass(frozen=True)
class Fact:
    """One archive of a drawn history."""

    hours: int
    state: str
    verification: str
    keep: bool
    in_use: bool


FACTS = st.builds(
    Fact,
    hours=st.integers(0, 24 * 20),
    state=st.sampled_from([State.AVAILABLE, State.AVAILABLE, State.AVAILABLE, State.PRUNED, State.MISSING]),
    verification=st.sampled_from([Verification.VERIFIED, Verification.VERIFIED, *Verification]),
    keep=st.booleans(),
    in_use=st.booleans(),
)
LIMIT = st.none() | st.integers(1, 10)


class TestAnyHistory:
    """The promises for every history and every pair of limits."""

    def write(self, plan: Plan, facts: list[Fact]) -> None:
        """Make the plan's archives what was drawn; a row that is not needed is out of the way as missing."""
        OperationLock.objects.all().delete()
        archives = list(plan.archives.order_by("pk"))
        for archive, fact in zip(archives, [*facts, *[None] * len(archives)], strict=False):
            archive.state = fact.state if fact else State.MISSING
            if fact:
                archive.verification, archive.keep = fact.verification, fact.keep
                archive.snapshot_at = self.now - timedelta(hours=fact.hours)
                if fact.in_use:
                    key = retention.archive_lock(archive.pk)
                    OperationLock.objects.create(key=key, operation_id=archive.operation_id)
        Archive.objects.bulk_update(archives, ["state", "verification", "keep", "snapshot_at"])

    @pytest.fixture
    def plan(self, db) -> Plan:
        self.now = timezone.now()
        plan = PlanFactory()
        for number in range(7):
            ArchiveFactory(plan=plan, name=f"a{number}")
        return plan

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(facts=st.lists(FACTS, max_size=7), days=LIMIT, last=LIMIT)
    def test_promises(self, plan, facts, days, last):
        plan.keep_days, plan.keep_last = days, last
        self.write(plan, facts)
        verdicts = retention.judge(plan, self.now)
        available = list(plan.archives.available())
        assert {verdict.archive.pk for verdict in verdicts} == {archive.pk for archive in available}
        assert all(verdict.why for verdict in verdicts)

        gone = {verdict.archive.pk for verdict in verdicts if verdict.remove}
        verified = [archive for archive in available if archive.is_restore_point]
        left = [archive for archive in verified if archive.pk not in gone]
        if not verified or (days is None and last is None):
            assert not gone
            return
        newest = max(archive.snapshot_at for archive in verified)
        assert any(archive.snapshot_at == newest for archive in left), "the last verified archive is gone"
        assert len(left) >= min(last or 1, len(verified)), "fewer verified archives are left than were promised"
        in_use = set(OperationLock.objects.values_list("operation_id", flat=True))
        for archive in available:
            if archive.pk in gone:
                assert not archive.keep and archive.operation_id not in in_use
                assert days is None or self.now - archive.snapshot_at >= days * DAY

        Archive.objects.filter(pk__in=gone).update(state=State.PRUNED)
        assert not any(verdict.remove for verdict in retention.judge(plan, self.now)), "a second look lets more go"

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(facts=st.lists(FACTS, min_size=1, max_size=6), days=LIMIT, last=LIMIT, hours=st.integers(0, 480))
    def test_what_is_not_verified_never_pushes_out_what_is(self, plan, facts, days, last, hours):
        plan.keep_days, plan.keep_last = days, last

        def verified_that_go() -> set[int]:
            return {v.archive.pk for v in retention.judge(plan, self.now) if v.remove and v.archive.is_restore_point}

        self.write(plan, facts)
        before = verified_that_go()
        for verification in (Verification.UNVERIFIED, Verification.DAMAGED):
            self.write(plan, [*facts, Fact(hours, State.AVAILABLE, verification, False, False)])
            assert verified_that_go() == before


class TestPrune:
    """The procedure, on real folders."""

    def names(self, shop) -> list[str]:
        return sorted(path.name for path in shop.folder.iterdir())

    @pytest.fixture
    def crowded(self, shop):
        """A shop with six archives, of which two may go."""
        shop.plan.keep_last = 2
        shop.plan.save()
        now = timezone.now()
        for age in range(1, 7):
            fields = {5: {"keep": True}, 4: {"verification": Verification.UNVERIFIED, "verified_at": None}}.get(age, {})
            shop.archive(f"d{age}", snapshot_at=now - age * DAY, **fields)
        shop.archive("busy", snapshot_at=now - 9 * DAY)
        return shop

    def test_the_preview_is_what_happens(self, crowded):
        reader = actions.request_verify(Archive.objects.get(name="busy"), by=None)
        previewed = stay(crowded.plan)
        assert previewed == ["busy", "d1", "d2", "d5"]
        operation = crowded.done(actions.request_prune(crowded.plan, by=crowded.operator))
        assert self.names(crowded) == previewed
        assert operation.message.startswith("Removed 3 archives, ")
        for archive in Archive.objects.all():
            assert (archive.state == State.AVAILABLE) == (archive.name in previewed)
            assert (archive.removed_at is not None) == (archive.state == State.PRUNED)
        assert "Removed shop/d3: not among the newest 2 verified." in crowded.log_of(operation)
        crowded.done(reader)
        assert crowded.done(actions.request_prune(crowded.plan, by=None)).message.startswith("Removed 1 archives")
        crowded.assert_nothing_left()

    def test_nothing_to_remove(self, shop):
        shop.archive()
        assert shop.done(actions.request_prune(shop.plan, by=None)).message == "Nothing to remove."
        assert self.names(shop) == ["backup_sample"]

    def test_a_removal_that_died_halfway_is_finished_later(self, crowded):
        """The record is written first, so no page offers what is half gone; the files go with the next clean-up."""
        Archive.objects.filter(name="d6").update(state=State.PRUNED)
        assert not any(verdict.archive.name == "d6" for verdict in retention.judge(crowded.plan))
        crowded.plan.keep_last = None
        crowded.plan.save()  # nothing else goes now
        crowded.done(actions.request_prune(crowded.plan, by=None))
        assert "d6" not in self.names(crowded)
        assert Archive.objects.get(name="d6").removed_at is not None

    def test_a_folder_that_is_gone_already_is_no_trouble(self, crowded):
        shutil.rmtree(crowded.folder / "d6")
        crowded.done(actions.request_prune(crowded.plan, by=None))
        assert Archive.objects.get(name="d6").removed_at is not None

    def test_leftovers_of_dead_backups_are_swept_and_those_at_work_are_not(self, shop):
        dead = OperationFactory(state=Operation.State.FAILED)
        alive = OperationFactory(state=Operation.State.RUNNING)
        for operation in (dead, alive):
            (shop.folder / f".partial-op{operation.pk}-a1").mkdir(parents=True)
        (shop.folder / ".trash-1").mkdir()
        operation = shop.done(actions.request_prune(shop.plan, by=None))
        assert self.names(shop) == [f".partial-op{alive.pk}-a1"]
        assert f"Removed the leftover .partial-op{dead.pk}-a1." in shop.log_of(operation)

    def test_a_successful_backup_cleans_up_after_itself(self, shop):
        shop.plan.keep_last = 1
        shop.plan.save()
        shop.archive("old", snapshot_at=timezone.now() - DAY)
        backup = shop.done(shop.back_up())
        prune = Operation.objects.get(procedure="backups.prune")
        assert prune.trigger == Operation.Trigger.OPERATION and str(backup) in prune.reason
        shop.done(prune)
        assert self.names(shop) == [backup.archive.name]
