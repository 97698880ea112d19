"""Which change most likely caused an incident: deployments and other changes near its start, ranked with the reasons.

Each change gets points; what speaks for it or against it is a sentence. The points are no probabilities: they order.

- Time: a change is the likelier the shorter before the start it took effect; the weight halves every 20 minutes, and
  nothing that came after the start is a cause.
- Place: the same environment counts in full, another one of the service little.
- Kind: a deployment moves the most, a setting or a restart less, an edit in the portal least.
- What is known of it: failed checks or errors in its log, a schema change, gates that were passed over.
- Words: what the incident is about is named in the release's notes, or is a component the change touches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from core.templatetags.portal import human_duration
from deployments.models import ConfigurationChange, Deployment
from incidents.models import Incident

BEFORE = timedelta(hours=24)
# The start of an incident is a person's or a probe's estimate: what took effect so shortly after may be its cause.
SLACK = timedelta(minutes=2)
HALVES_EVERY = timedelta(minutes=20)
LEAST_TIME = 0.02  # a day-old change can still be the cause, when everything else speaks for it
MOST = 50
ELSEWHERE = 0.15
KINDS = {"deploy": 1.0, "rollback": 0.7, "setting": 0.7, "scale": 0.5, "restart": 0.35, "cleanup": 0.2}
FAILED_CHECKS, SCHEMA, PASSED_OVER, NAMED = 2.5, 1.4, 1.3, 1.8
TAKEN_BACK = 0.3
WORD = re.compile(r"[a-z][a-z0-9-]{3,}")
COMMON = frozenset(
    {"error", "errors", "with", "from", "that", "this", "have", "when", "slow", "fails", "failed", "down"}
)


@dataclass
class Suspect:
    """One change, its points and its reasons. `deployment` is there when it can be rolled back from here."""

    at: datetime
    title: str
    who: str
    url: str
    status: str
    state_word: str
    points: float
    reasons: list[str] = field(default_factory=list)
    deployment: Deployment | None = None
    live: bool = False


def suspects(incident: Incident) -> list[Suspect]:
    """The likeliest first. Three queries; none for an incident without a service."""
    if incident.service_id is None:
        return []
    since, until = incident.started_at - BEFORE, incident.started_at + SLACK
    deployments = (
        Deployment.objects.with_place()
        .select_related("environment__live")
        # Going back by itself is the remedy, not the cause.
        .filter(environment__service=incident.service_id, switched_at__range=(since, until), automatic=False)
        .order_by("-switched_at")[:MOST]
    )
    changes = (
        ConfigurationChange.objects.with_place()
        .filter(environment__service=incident.service_id, at__range=(since, until))
        .order_by("-at")[:MOST]
    )
    components = set(incident.components.values_list("kind", flat=True))
    words = words_of(incident)
    found = [_of_deployment(each, incident, words, components) for each in deployments]
    found += [_of_change(each, incident, words) for each in changes]
    return sorted(found, key=lambda each: (-each.points, -each.at.timestamp()))


def words_of(incident: Incident) -> set[str]:
    text = f"{incident.title} {incident.situation} {incident.description} {' '.join(incident.impacts)}".lower()
    return set(WORD.findall(text)) - COMMON


def _common(at: datetime, environment: int, incident: Incident) -> tuple[float, list[str]]:
    """What time and place say."""
    before = incident.started_at - at
    weight = max(0.5 ** (max(before, timedelta(0)) / HALVES_EVERY), LEAST_TIME)
    when = f"{human_duration(before)} before the start" if before > timedelta(seconds=1) else "at the start"
    reasons = [when[0].upper() + when[1:]]
    if incident.environment_id is not None and environment != incident.environment_id:
        weight *= ELSEWHERE
        reasons.append("In another environment")
    return weight, reasons


def _named(words: set[str], text: str) -> list[str]:
    return sorted(words & set(WORD.findall(text.lower())))


def names_version(version: str, text: str) -> bool:
    """Whether a text names this version, and not only a longer one such as v1.5.0-rc1 or v1.5.01."""
    return re.search(rf"(?<![\w.+-]){re.escape(version)}(?![\w+-]|\.\w)", text) is not None


def _of_deployment(row: Deployment, incident: Incident, words: set[str], components: set[str]) -> Suspect:
    assert row.switched_at is not None
    points, reasons = _common(row.switched_at, row.environment_id, incident)
    points *= KINDS[row.kind]
    bad = [str(check["name"]) for check in row.checks if not check["good"]]
    if bad or row.state == Deployment.State.SUSPECT:
        points *= FAILED_CHECKS
        reasons.append(f"Its checks failed: {', '.join(bad)}" if bad else "Its watch saw errors")
    if row.release.changes_schema:
        points *= SCHEMA * (NAMED if "database" in components else 1)
        reasons.append("It changed the schema")
    if row.emergency or row.solo:
        points *= PASSED_OVER
        reasons.append("Gates were passed over" if row.emergency else "Nobody else approved it")
    if named := _named(words, f"{row.release.notes} {row.reason}"):
        points *= NAMED
        reasons.append(f"It is about {', '.join(named[:3])}")
    if names_version(row.release.version, incident.title):
        points *= NAMED
        reasons.append("The incident names it")
    elif row.state == Deployment.State.ROLLED_BACK and row.ended_at is not None and row.ended_at < incident.started_at:
        points *= TAKEN_BACK
        reasons.append("It had been taken back before")
    live = getattr(row.environment, "live", None)
    return Suspect(
        at=row.switched_at,
        title=f"{row.release.version} to {row.environment.name}" + (" (rollback)" if row.is_rollback else ""),
        who=row.requested_by.display_name if row.requested_by else row.get_trigger_display(),
        url=row.get_absolute_url(),
        status=row.status,
        state_word=row.state_word,
        points=points,
        reasons=reasons,
        deployment=row,
        live=live is not None and live.release_id == row.release_id,
    )


def _of_change(row: ConfigurationChange, incident: Incident, words: set[str]) -> Suspect:
    points, reasons = _common(row.at, row.environment_id, incident)
    points *= KINDS[row.kind]
    if row.operation is not None and row.operation.status == "bad":
        points *= FAILED_CHECKS
        reasons.append("It failed")
    if named := _named(words, f"{row.name.replace('_', ' ')} {row.reason}"):
        points *= NAMED
        reasons.append(f"It is about {', '.join(named[:3])}")
    return Suspect(
        at=row.at,
        title=str(row),
        who=row.by.display_name if row.by else "The portal",
        url=row.get_absolute_url(),
        status=row.status,
        state_word=row.state_word,
        points=points,
        reasons=reasons,
    )
