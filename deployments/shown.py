"""What the pages of an environment and of a release say: copies as last seen, ways back, the way of a promotion."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.dateparse import parse_datetime

from catalog.models import Environment
from deployments.board import KINDS
from deployments.drivers.base import Instance
from deployments.exceptions import DeploymentError
from deployments.feasibility import WayBack, way_back_to
from deployments.models import Deployment, DeploymentProfile, LiveState, Release

MOST_WAYS = 8
MOST_RELEASES = 50
INSTANCE_FIELDS = frozenset(Instance.__dataclass_fields__)


@dataclass(frozen=True)
class Way:
    """A way back with the word and colour of its state."""

    way: WayBack
    status: str
    word: str


def instances(live: LiveState | None) -> list[Instance]:
    """The copies as they were last seen, the live one first."""
    rows = live.seen.get("instances", ()) if live is not None else ()
    found = [Instance(**{name: row[name] for name in INSTANCE_FIELDS & row.keys()}) for row in rows]
    return sorted(found, key=lambda each: (not each.live, each.name))


def copies(live: LiveState | None) -> list[tuple[Instance, str, str, datetime | None]]:
    """The copies, each with status, word, and since when it runs where the driver said so as a time."""
    return [(each, *instance_state(each), _moment(each.since)) for each in instances(live)]


def _moment(text: str) -> datetime | None:
    try:
        return parse_datetime(text)
    except ValueError:
        return None


def instance_state(instance: Instance) -> tuple[str, str]:
    """Status and word of one copy."""
    if instance.live:
        return ("ok", "Live") if instance.ready else ("bad", "Live, does not answer")
    if instance.warm:
        return "ok", "Warm"
    return ("warn", "Not ready") if instance.running else ("neutral", "Stopped")


def earlier_releases(live: LiveState) -> QuerySet[Release]:
    """Where one could go back to: what ran there, and what was seen there; newest first, without what is live."""
    seen = {each.version for each in instances(live)} | set(live.seen.get("revisions", ()))
    ran = Q(deployments__environment=live.environment_id, deployments__switched_at__isnull=False)
    return (
        Release.objects.for_service(live.environment.service_id)
        .filter(ran | Q(version__in=seen))
        .exclude(pk=live.release_id or 0)
        .select_related("service")
        .distinct()
        .order_by("-created_at", "-pk")
    )


def ways_back(live: LiveState, now: datetime) -> list[Way]:
    """The release before comes first, then the others that are there."""
    if live.release_id is None:
        return []
    found = list(earlier_releases(live)[:MOST_WAYS])
    if live.previous is not None and live.previous_id != live.release_id:
        found = [live.previous, *(each for each in found if each.pk != live.previous_id)]
    return [_way(way_back_to(each, live, now), each.pk == live.previous_id) for each in found[:MOST_WAYS]]


def _way(way: WayBack, is_previous: bool) -> Way:
    """That older ones are gone is as it should be; of the one before it is bad news."""
    if way.warm:
        return Way(way, "ok", "Warm")
    if way.present is None:
        return Way(way, "neutral", "Not looked at lately")
    if way.present:
        return Way(way, "ok", "Present")
    return Way(way, "bad" if is_previous else "neutral", "Gone")


# -- promotion ---------------------------------------------------------------------------------------------------------


@dataclass
class Stop:
    """One environment on the way of a release. `seen` is its last deployment of this release there."""

    environment: Environment
    live: LiveState | None
    profile: DeploymentProfile | None
    is_live: bool = False
    verified: Deployment | None = None
    last: Deployment | None = None
    kept: str = ""

    @property
    def status(self) -> str:
        if self.last is not None and not self.is_live and self.verified is None:
            return self.last.status
        return "ok" if self.is_live or self.verified is not None else "neutral"

    @property
    def word(self) -> str:
        if self.is_live:
            return "Live" if self.verified is not None else "Live, not verified"
        if self.verified is not None:
            return "Verified"
        return self.last.state_word if self.last is not None else "Not there yet"


def promotion(release: Release) -> list[Stop]:
    """The environments of its service, from development to production, and what became of it in each."""
    environments = Environment.objects.filter(service=release.service_id).select_related(
        "service", "live", "deployment_profile__promotes_from"
    )
    stops = {
        each.pk: Stop(each, getattr(each, "live", None), getattr(each, "deployment_profile", None))
        for each in environments
    }
    for row in release.deployments.select_related("requested_by").order_by("requested_at", "pk"):
        stop = stops[row.environment_id]
        stop.last = row
        if row.state == Deployment.State.LIVE:
            stop.verified = row
    for stop in stops.values():
        stop.is_live = stop.live is not None and stop.live.release_id == release.pk
        source = stop.profile.promotes_from if stop.profile is not None else None
        if source is not None and source.pk in stops and stops[source.pk].verified is None:
            stop.kept = f"Must be verified in {source.name} first."
    order = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(
        stops.values(), key=lambda stop: (order[Environment.Kind(stop.environment.kind)], stop.environment.name)
    )


@dataclass
class Known:
    """Where a release was verified and is live, by the names of environments."""

    verified: set[str] = field(default_factory=set)
    live: set[str] = field(default_factory=set)


def known_of(releases: Iterable[Release]) -> dict[int, Known]:
    """For many releases at once, in two queries."""
    found = {release.pk: Known() for release in releases}
    verified = Deployment.objects.filter(release__in=found, state=Deployment.State.LIVE)
    for pk, name in verified.values_list("release", "environment__name").distinct():
        found[pk].verified.add(name)
    for pk, name in LiveState.objects.filter(release__in=found).values_list("release", "environment__name"):
        if pk is not None:
            found[pk].live.add(name)
    return found


def release_choices(environment: Environment, profile: DeploymentProfile | None) -> list[tuple[str, str]]:
    """The releases that may be asked for, newest first, each with how far it has come."""
    releases = list(Release.objects.for_service(environment.service_id).usable()[:MOST_RELEASES])
    known, source = known_of(releases), profile.promotes_from if profile is not None else None
    return [(str(each.pk), _label(each, known[each.pk], source)) for each in releases]


def _label(release: Release, known: Known, source: Environment | None) -> str:
    parts = [release.version]
    if known.live:
        parts.append(f"live in {', '.join(sorted(known.live))}")
    if known.verified - known.live:
        parts.append(f"verified in {', '.join(sorted(known.verified - known.live))}")
    if source is not None and source.name not in known.verified:
        parts.append(f"not verified in {source.name}")
    if release.changes_schema:
        parts.append("changes the schema")
    return " · ".join(parts)


def raw(frozen: dict[str, Any]) -> str:
    """The frozen settings for the raw part of a page. Of secrets they hold the references only."""
    return json.dumps(frozen, indent=2, sort_keys=True, ensure_ascii=False)


def asked_release(environment: Environment, pk: str) -> Release:
    """The release of a form's choice. Raises DeploymentError where it is gone."""
    found = Release.objects.select_related("service").for_service(environment.service_id).filter(pk=pk).first()
    if found is None:
        raise DeploymentError("This release is not there any more. Choose another one.")
    return found
