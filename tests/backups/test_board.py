"""Recovery targets against what was measured, on the board, on the plan and on the archive."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backups import board
from backups.models import Archive, Plan
from core.roles import Role
from tests.factories import ArchiveFactory, ComponentFactory, PersonFactory, PlanFactory, RestoreFactory, browser
from tests.pages import page_of

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def line_of(plan: Plan, now=None) -> board.Line:
    return next(line for line in board.lines(now) if line.target == plan.target)


def with_targets(rto: timedelta | None, rpo: timedelta | None) -> Plan:
    return PlanFactory(target__component=ComponentFactory(rto=rto, rpo=rpo))


class TestRpo:
    """S0-B3: less than 24 hours since the newest verified backup."""

    @pytest.mark.parametrize(
        ("age", "status"),
        [(HOUR, "Met"), (24 * HOUR - timedelta(seconds=1), "Met"), (24 * HOUR, "Missed"), (90 * HOUR, "Missed")],
    )
    def test_age_of_the_newest_restore_point(self, age, status):
        plan = with_targets(None, 24 * HOUR)
        archive = ArchiveFactory(plan=plan)
        line = line_of(plan, archive.snapshot_at + age)
        assert (line.age, line.rpo_status[1], line.newest_id) == (age, status, archive.pk)

    def test_only_a_restore_point_counts(self):
        plan = with_targets(None, 24 * HOUR)
        good = ArchiveFactory(plan=plan, age=30 * HOUR)
        ArchiveFactory(plan=plan, unverified=True)
        ArchiveFactory(plan=plan, verification=Archive.Verification.DAMAGED)
        ArchiveFactory(plan=plan, state=Archive.State.MISSING)
        ArchiveFactory(plan=plan, failed=True)
        line = line_of(plan)
        assert (line.newest_id, line.rpo_status) == (good.pk, ("bad", "Missed"))

    def test_a_database_without_any_comes_first(self):
        fine, none = with_targets(None, HOUR), with_targets(None, None)
        ArchiveFactory(plan=fine)
        assert [line.target for line in board.lines()] == [none.target, fine.target]
        assert line_of(none).rpo_status == ("bad", "No restore point")

    def test_not_set_is_not_zero(self):
        plan = with_targets(None, None)
        ArchiveFactory(plan=plan, age=9000 * HOUR)
        assert line_of(plan).rpo_status == ("neutral", "No target")


class TestRto:
    """S0-B2: every restore is timed and marked met or missed."""

    @pytest.mark.parametrize(
        ("rto", "measured", "status"),
        [
            (timedelta(minutes=5), timedelta(minutes=5), "Met"),
            (timedelta(minutes=5), timedelta(minutes=5, seconds=1), "Missed"),
            (None, timedelta(minutes=5), "No target"),
            (timedelta(minutes=5), None, "Never measured"),
        ],
    )
    def test_the_last_restore(self, rto, measured, status):
        plan = with_targets(rto, None)
        archive = ArchiveFactory(plan=plan)
        RestoreFactory(archive=archive, measured=timedelta(seconds=1))
        restore = RestoreFactory(archive=archive, rto=rto, measured=measured)
        if measured is None:
            archive.restores.exclude(pk=restore.pk).delete()
        assert line_of(plan).rto_status[1] == status
        assert restore.rto_met == {"Met": True, "Missed": False}.get(status)

    def test_a_restore_beside_says_nothing_about_the_target(self):
        plan = with_targets(timedelta(minutes=5), None)
        RestoreFactory(archive=ArchiveFactory(plan=plan), into_database="aside", measured=timedelta(hours=9))
        assert line_of(plan).rto_status == ("neutral", "Never measured")


def test_the_home_page_shows_the_board():
    plan = with_targets(timedelta(minutes=5), 24 * HOUR)
    RestoreFactory(archive=ArchiveFactory(plan=plan, age=25 * HOUR), measured=timedelta(minutes=7))
    text = page_of(browser(PersonFactory(role=Role.MANAGER)).get("/")).text
    board = text[text.index("Recovery targets") :]
    assert str(plan.target) in board and "Missed 1 d" in board and "Missed 5 min" in board and "7 min" in board


def test_a_backup_outside_what_is_expected_is_marked():
    """S3-B1: 15 to 30 minutes; a backup of ten seconds has probably not read everything."""
    plan = PlanFactory(expected_min=15 * HOUR / 60, expected_max=30 * HOUR / 60)
    client = browser(PersonFactory(role=Role.MANAGER))
    for minutes, words in ((10, "shorter than the expected 15 min"), (40, "longer than the expected 30 min"), (20, "")):
        archive = ArchiveFactory(plan=plan, duration=minutes * HOUR / 60)
        text = page_of(client.get(archive.get_absolute_url())).text
        assert ("than the expected" in text) == bool(words) and words in text


def test_a_plan_says_whether_it_meets_its_target():
    plan = with_targets(None, 24 * HOUR)
    client = browser(PersonFactory(role=Role.MANAGER))
    assert "No restore point" in page_of(client.get(plan.get_absolute_url())).text
    ArchiveFactory(plan=plan, age=30 * HOUR)
    assert "RPO missed" in page_of(client.get(plan.get_absolute_url())).text
    ArchiveFactory(plan=plan)
    assert "RPO met" in page_of(client.get(plan.get_absolute_url())).text
