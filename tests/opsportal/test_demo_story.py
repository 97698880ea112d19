"""The story of the demo holds at any time of the year at which somebody starts it first."""

from datetime import UTC, datetime, timedelta

import pytest
from django_celery_beat.models import CrontabSchedule

from operations.slots import slots_between
from opsportal.demo import deploy_story, releases, timeline
from opsportal.demo.slots import LIVE

FIRST_STARTS = [datetime(2026, 3, 28, tzinfo=UTC) + timedelta(hours=7 * step, minutes=13 * step) for step in range(12)]
FIRST_STARTS += [datetime(2026, 10, 24, 23, tzinfo=UTC) + timedelta(minutes=35 * step) for step in range(12)]
FIRST_STARTS += [datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2028, 2, 29, 1, 5, tzinfo=UTC)]


def slots(hour: str, day_of_week: str, now: datetime) -> list[datetime]:
    crontab = CrontabSchedule(minute="0", hour=hour, day_of_week=day_of_week, timezone="Europe/Berlin")
    return list(slots_between(crontab, now - timeline.DAYS, now))


@pytest.mark.parametrize("now", FIRST_STARTS)
def test_the_story_holds_at_any_first_start(now):
    story = timeline.tell(slots("2", "*", now), slots("3", "0", now), now)
    assert all(backup.requested_at < now - timedelta(minutes=5) for backup in story.backups)
    assert all(moment < now for moment in story.moments.values())
    assert len({backup.key for backup in story.backups}) == len(story.backups)
    kept = [backup for backup in story.kept if backup.plan == "nightly"]
    assert sum(not backup.damaged for backup in kept) >= timeline.KEEP_LAST
    assert {"pre-change", f"night-{timeline.DAMAGED}", "night-1"} <= {backup.key for backup in kept}
    assert len(kept) <= 9
    removed = [key for prune in story.prunes for key in prune.removed]
    succeeded = {backup.key for backup in story.backups if backup.outcome is timeline.Outcome.OK}
    assert sorted([*removed, *(backup.key for backup in story.kept)]) == sorted(succeeded)


@pytest.mark.parametrize("now", FIRST_STARTS)
def test_the_deployments_hold_at_any_first_start(now):
    told = deploy_story.tell(timeline.tell(slots("2", "*", now), slots("3", "0", now), now).nights)
    assert all(past.moment < now - timedelta(minutes=10) for past in told)
    live: dict[str, str] = {}
    for past in told:
        assert live.get(past.kind, "") == past.before, past.key
        live[past.kind] = past.version
        if past.kind == "production" and not past.emergency and not past.is_rollback:
            assert any(each.kind == "staging" and each.version == past.version for each in told)
    assert live == {kind: version for kind, (_, version) in LIVE.items()}
    assert set(deploy_story.built(told)) == set(releases.VERSIONS)
