"""Releases, deployments and environments as programs get them: over the API, from CI's webhook, from commands."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from catalog.models import Environment
from deployments import feasibility, gates
from deployments.models import Approval, ConfigurationChange, Deployment, Gate, LiveState, Release, Scan

MOST_SCANS = 100


def _name(person: Any) -> str | None:
    return person.get_username() if person is not None else None


def _seconds(value: Any) -> float | None:
    return value.total_seconds() if value is not None else None


def release_row(release: Release) -> dict[str, Any]:
    what = ("id", "version", "source_kind", "source", "checksum", "fingerprint", "notes", "changes_schema")
    known = ("migrations_tested", "variables", "ci", "ci_url", "created_at", "withdrawn_at", "withdrawn_reason")
    return {
        **{name: getattr(release, name) for name in (*what, *known)},
        "service": release.service.slug,
        "created_by": _name(release.created_by),
        "withdrawn_by": _name(release.withdrawn_by),
        "url": release.get_absolute_url(),
    }


def scan_row(scan: Scan) -> dict[str, Any]:
    names = ("id", "kind", "tool", "critical", "high", "medium", "low", "report_url", "at")
    return {**{name: getattr(scan, name) for name in names}, "by": _name(scan.by)}


def whole_release(release: Release) -> dict[str, Any]:
    scans = release.scans.select_related("by").defer("report")[:MOST_SCANS]
    verified = Environment.objects.filter(deployments__release=release, deployments__state=Deployment.State.LIVE)
    live = LiveState.objects.filter(release=release).order_by("environment__slug")
    return {
        **release_row(release),
        "scans": [scan_row(scan) for scan in scans],
        "verified_in": sorted(set(verified.values_list("slug", flat=True))),
        "live_in": list(live.values_list("environment__slug", flat=True)),
    }


def place_row(environment: Environment) -> dict[str, Any]:
    names = ("id", "slug", "name", "kind")
    return {**{name: getattr(environment, name) for name in names}, "service": environment.service.slug}


def deployment_row(deployment: Deployment) -> dict[str, Any]:
    """A row that came `with_place`."""
    what = ("id", "kind", "state", "message", "reason", "incident", "trigger", "target_met")
    words = ("automatic", "emergency", "solo", "review_needed", "review_note", "restores", "starts_itself")
    times = ("not_before", "not_after", "requested_at", "started_at", "switched_at", "ended_at", "reviewed_at")
    return {
        **{name: getattr(deployment, name) for name in (*what, *words, *times)},
        "environment": place_row(deployment.environment),
        "release": deployment.release_id,
        "version": deployment.release.version,
        "from_version": deployment.from_release.version if deployment.from_release is not None else None,
        "rollback_of": deployment.rollback_of_id,
        "operation": deployment.operation_id,
        "requested_by": _name(deployment.requested_by),
        "reviewed_by": _name(deployment.reviewed_by),
        "took_s": _seconds(deployment.took),
        "target_s": _seconds(deployment.target),
        "url": deployment.get_absolute_url(),
    }


def gate_row(gate: Gate) -> dict[str, Any]:
    names = ("id", "text", "kind", "optional", "state", "evidence", "looked_at")
    return {**{name: getattr(gate, name) for name in names}, "by": _name(gate.by)}


def _approval(approval: Approval, deployment: Deployment) -> dict[str, Any]:
    approval.deployment = deployment  # as it is here: no query for each
    names = ("granted", "note", "at", "expires_at")
    return {
        **{name: getattr(approval, name) for name in names},
        "by": _name(approval.by),
        "counts": approval.counts(timezone.now()),
    }


def waits_for(deployment: Deployment) -> list[str]:
    """Why it has not started, in sentences; empty: nothing keeps it, or it has."""
    return gates.obstacles(deployment, timezone.now()) if deployment.state == Deployment.State.WAITING else []


def whole_deployment(deployment: Deployment) -> dict[str, Any]:
    """With what it waits for. The gates of one that waits are as they are now."""
    waits = deployment.state == Deployment.State.WAITING
    items = gates.checked(deployment, timezone.now()) if waits else deployment.gates.select_related("by")
    return {
        **deployment_row(deployment),
        "obstacles": waits_for(deployment),
        "gates": [gate_row(gate) for gate in items],
        "approvals_needed": deployment.approvals_needed,
        "approvals": [_approval(each, deployment) for each in deployment.approvals.select_related("by")],
        "checks": deployment.checks,
    }


def one_deployment(pk: int) -> Deployment:
    return Deployment.objects.with_place().get(pk=pk)


def change_row(change: ConfigurationChange) -> dict[str, Any]:
    """A row that came `with_place`."""
    names = ("id", "kind", "name", "old", "new", "reason", "at", "or_rolls_back")
    return {
        **{name: getattr(change, name) for name in names},
        "environment": place_row(change.environment),
        "by": _name(change.by),
        "state": change.operation.state if change.operation is not None else None,
        "operation": change.operation_id,
        "takes_back": change.takes_back_id,
        "url": change.get_absolute_url(),
    }


def live_row(environment: Environment) -> dict[str, Any]:
    """What is live there, whether that is what was seen, and the way back."""
    live = LiveState.objects.with_place().filter(environment=environment).first() or LiveState(environment=environment)
    deployment, release = live.deployment, live.release
    way = feasibility.way_back_to(live.previous, live, timezone.now()) if live.previous is not None else None
    return {
        "environment": place_row(environment),
        "release": live.release_id,
        "version": release.version if release is not None else None,
        "since": live.since,
        "deployment": live.deployment_id,
        "by": _name(deployment.requested_by) if deployment is not None else None,
        "drift": live.drift,
        "seen_at": live.seen_at,
        "seen_live": live.seen.get("live"),
        "instances": live.seen.get("instances", []),
        "settings": live.settings,
        "way_back": way
        and {
            "version": way.release.version,
            "possible": way.possible,
            "warm": way.warm,
            "sentence": way.sentence,
        },
    }
