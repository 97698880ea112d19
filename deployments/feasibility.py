"""Whether there is a way back from what is live, and how long it would take: shown before anybody deploys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.models import Archive
from catalog.models import Environment
from deployments.models import DeploymentProfile, LiveState, Release

FRESH_FOR = timedelta(hours=24)
SEEN_FOR = timedelta(minutes=15)


@dataclass(frozen=True)
class WayBack:
    """One way back. `warm`: it takes no start. None: nothing was seen lately."""

    release: Release
    warm: bool | None
    present: bool | None
    sentence: str

    @property
    def possible(self) -> bool:
        return self.present is not False


def live_of(environment: Environment) -> LiveState | None:
    return (
        LiveState.objects.select_related("release__service", "previous__service")
        .filter(environment=environment)
        .first()
    )


def way_back_to(release: Release, live: LiveState | None, now: datetime) -> WayBack:
    """How the environment could get to this release, by what was last seen there."""
    if live is None or live.seen_at is None or now - live.seen_at > SEEN_FOR or "instances" not in live.seen:
        return WayBack(release, None, None, f"{release.version}: what is there was not looked at lately.")
    copies = [each for each in live.seen["instances"] if each["version"] == release.version]
    if any(each["running"] and each["ready"] for each in copies):
        return WayBack(release, True, True, f"{release.version} still runs, warm: traffic goes back in seconds.")
    if release.version in live.seen.get("revisions", ()) or copies:
        return WayBack(release, False, True, f"{release.version} is still there and has to be started first.")
    sentence = f"{release.version} is not there any more; it would have to be brought again from {release.source}."
    return WayBack(release, False, False, sentence)


def fresh_backup(profile: DeploymentProfile, now: datetime) -> tuple[Archive | None, str]:
    """The restore point that a deployment can rely on, and a sentence about it; None when it is missing or stale."""
    if profile.backup_plan is None:
        return None, "No backup plan is set for this environment."
    return fresh_backup_of(profile.backup_plan_id, profile.backup_fresh_for or FRESH_FOR, now)


def fresh_backup_of(plan: int | None, fresh_for: timedelta, now: datetime) -> tuple[Archive | None, str]:
    from core.templatetags.portal import human_duration

    newest = Archive.objects.restore_points().filter(plan=plan).best_first().defer("manifest").first()
    if newest is None or newest.snapshot_at is None:
        return None, "There is no verified backup. Back up first."
    age = human_duration(now - newest.snapshot_at)
    if now - newest.snapshot_at > fresh_for:
        allowed = human_duration(fresh_for)
        return None, f"The newest verified backup, {newest}, is {age} old; {allowed} is allowed. Back up first."
    return newest, f"{newest}, verified, is {age} old."
