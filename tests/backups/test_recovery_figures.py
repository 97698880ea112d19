"""The figures by which a team is judged: age of the newest restore point, time of a restore, duration and size."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backups import board, retention, trends
from backups.models import Archive
from core.roles import Role
from tests.factories import (
    ArchiveFactory,
    ComponentFactory,
    PersonFactory,
    PlanFactory,
    RestoreFactory,
    TargetFactory,
    browser,
)

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def plan_with(**component: object):
    return PlanFactory(target=TargetFactory(component=ComponentFactory(**component)))


@pytest.mark.parametrize(
    ("rpo", "ages", "says"),
    [
        (DAY, [], ("bad", "No restore point")),
        (DAY, [timedelta(hours=23)], ("ok", "Met")),
        (DAY, [timedelta(hours=25), timedelta(days=3)], ("bad", "Missed")),
        (DAY, [DAY], ("bad", "Missed")),  # less than 24 hours, not up to
        (None, [timedelta(hours=1)], ("neutral", "No target")),
    ],
)
def test_the_board_says_whether_the_rpo_is_met(rpo, ages, says):
    """S0-B3: the age of the newest restore point against the target."""
    plan = plan_with(rpo=rpo)
    for age in ages:
        ArchiveFactory(plan=plan, age=age)
    (line,) = board.lines()
    assert line.rpo_status == says


def test_only_a_verified_archive_that_is_there_counts_for_the_rpo():
    plan = plan_with(rpo=DAY)
    ArchiveFactory(plan=plan, age=timedelta(hours=1), unverified=True)
    ArchiveFactory(plan=plan, age=timedelta(hours=2), verification=Archive.Verification.DAMAGED)
    ArchiveFactory(plan=plan, age=timedelta(hours=3), state=Archive.State.MISSING)
    ArchiveFactory(plan=plan, failed=True)
    verified = ArchiveFactory(plan=plan, age=timedelta(hours=30))
    (line,) = board.lines()
    assert (line.newest_id, line.rpo_status) == (verified.pk, ("bad", "Missed"))


def test_old_archives_that_retention_keeps_do_not_make_the_newest_stale():
    """X-22: “no file older than a day” and “kept for seven days” are two questions."""
    plan = plan_with(rpo=DAY)
    plan.keep_days = 7
    plan.save()
    for days in range(6):
        ArchiveFactory(plan=plan, age=timedelta(days=days, minutes=5))
    (line,) = board.lines()
    assert line.rpo_status == ("ok", "Met")
    assert not [verdict for verdict in retention.judge(plan) if verdict.remove]


def test_the_board_says_whether_the_rto_was_met():
    measured = {timedelta(minutes=4): ("ok", "Met"), timedelta(minutes=6): ("bad", "Missed")}
    for time, says in measured.items():
        plan = plan_with(rto=timedelta(minutes=5))
        RestoreFactory(archive=ArchiveFactory(plan=plan), measured=time)
        line = next(line for line in board.lines() if line.target == plan.target)
        assert line.rto_status == says


def test_a_restore_beside_is_no_measure_of_the_rto():
    plan = plan_with(rto=timedelta(minutes=5))
    RestoreFactory(archive=ArchiveFactory(plan=plan), into_database="elsewhere", safety_copy="none", safety_database="")
    (line,) = board.lines()
    assert line.rto_status == ("neutral", "Never measured")


@pytest.mark.parametrize(("minutes", "word"), [(14, "shorter"), (15, ""), (30, ""), (31, "longer")])
def test_a_duration_outside_the_expected_window_is_a_warning(minutes, word):
    """S3-B1: 15 to 30 minutes."""
    plan = PlanFactory(expected_min=timedelta(minutes=15), expected_max=timedelta(minutes=30))
    warning = plan.warning_for(timedelta(minutes=minutes))
    assert (word in warning) if word else warning == ""


def test_the_trend_goes_from_old_to_new_with_a_gap_for_a_failure():
    """S0-B15: duration and size over time."""
    plan = PlanFactory()
    ArchiveFactory(plan=plan, age=3 * DAY, duration=timedelta(seconds=10), size_bytes=1_000_000)
    ArchiveFactory(plan=plan, age=2 * DAY, failed=True)
    ArchiveFactory(plan=plan, age=DAY, duration=timedelta(seconds=30), size_bytes=1_500_000)
    trend = trends.of(list(plan.archives.order_by("-requested_at")))
    assert trend.seconds == [10.0, None, 30.0]
    assert trend.megabytes == [1.0, None, 1.5]
    assert trend.growth_percent == pytest.approx(50)


def test_the_list_of_archives_shows_name_size_age_and_verification():
    """S0-B5; a manager may read it, and the checksum on the archive's page."""
    archive = ArchiveFactory(name="erp_backup_2026-01-19_0200", size_bytes=125_000_000, sha256="ab" * 32)
    page = browser(PersonFactory(role=Role.MANAGER))
    listed = page.get("/backups/archive/").content.decode()
    for text in ("erp_backup_2026-01-19_0200", "125 MB", "1 min ago", "Verified"):
        assert text in listed
    assert archive.manifest["files"][0]["sha256"] in page.get(archive.get_absolute_url()).content.decode()
