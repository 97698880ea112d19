"""What comes in and goes out over the API of releases and deployments, and over the webhook of CI."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Field, Schema
from pydantic import AfterValidator

from core.api import Id, Input, Moment, Page, Text
from deployments.models import ConfigurationChange, Deployment, Gate, Release, Scan

DEEPEST, LONGEST_REPORT = 32, 200_000
BIGGEST_COUNT = 2**31 - 1

Slug = Annotated[Text, Field(min_length=1, max_length=80)]
Version = Annotated[Text, Field(min_length=1, max_length=64)]
Reason = Annotated[Text, Field(min_length=1, max_length=500, description="Kept with it and shown to everybody.")]
Count = Annotated[int, Field(ge=0, le=BIGGEST_COUNT)]


def _storable(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """A report as PostgreSQL can store it: not too deep, not too long, numbers and texts that are some."""
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        if any(isinstance(each, str) and "\0" in each for each in level):
            raise ValueError("A report must not contain the NUL character.")
        level = [child for each in level for child in _children(each)]
    if level:
        raise ValueError(f"A report is nested at most {DEEPEST} deep.")
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        raise ValueError("A report has numbers and texts that can be written down as JSON.") from None
    if len(text) > LONGEST_REPORT:
        raise ValueError(f"A report has at most {LONGEST_REPORT} bytes. Give a link to it.")
    return value


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []


# -- releases ----------------------------------------------------------------------------------------------------------


class ScanIn(Input):
    """What a tool found in a release, counted by severity."""

    kind: Scan.Kind
    tool: Text = Field(min_length=1, max_length=80)
    critical: Count = 0
    high: Count = 0
    medium: Count = 0
    low: Count = 0
    report_url: Text = Field("", max_length=500)
    report: Annotated[dict[str, Any] | None, AfterValidator(_storable)] = None


class ArtefactIn(Input):
    """What a release consists of. It never changes: what has changed gets another version."""

    version: Version
    source_kind: Release.Source
    source: Text = Field(
        min_length=1, max_length=500, description="Path on the host, image name, or repository and revision."
    )
    checksum: Text = Field(
        "", max_length=71, description="sha256: and 64 hexadecimal digits; a git revision needs none."
    )
    notes: Text = Field("", max_length=20_000)
    changes_schema: bool = Field(False, description="It comes with a migration.")
    migrations_tested: Text = Field("", max_length=200, description="Where and by whom; empty: not tested.")
    variables: list[Annotated[Text, Field(min_length=1, max_length=80)]] = Field(
        [], max_length=200, description="Names of the environment variables that it needs."
    )
    ci: Release.Ci = Release.Ci.UNKNOWN
    ci_url: Text = Field("", max_length=500)


class ReleaseIn(ArtefactIn):
    service: Slug = Field(description="Slug of the service.")


class CiResultIn(Input):
    ci: Release.Ci
    url: Text = Field("", max_length=500, description="Of the run. Left out: the one that is known stays.")


class CiMessage(ArtefactIn):
    """What CI says by its signed webhook."""

    event: Literal["release"]
    scans: list[ScanIn] = Field([], max_length=50)
    deploy_to: list[Slug] = Field([], max_length=20, description="Slugs of environments; each waits for its gates.")


class WithdrawIn(Input):
    reason: Reason


class ScanOut(Schema):
    id: int
    kind: str = Field(description=", ".join(Scan.Kind.values))
    tool: str
    critical: int
    high: int
    medium: int
    low: int
    report_url: str
    at: datetime
    by: str | None


class ReleaseOut(Schema):
    """A release. `fingerprint` is what approvals are bound to."""

    id: int
    service: str = Field(description="Its slug.")
    version: str
    source_kind: str = Field(description=", ".join(Release.Source.values))
    source: str
    checksum: str
    fingerprint: str
    notes: str
    changes_schema: bool
    migrations_tested: str
    variables: list[str]
    ci: str = Field(description=", ".join(Release.Ci.values))
    ci_url: str
    created_at: datetime
    created_by: str | None
    withdrawn_at: datetime | None
    withdrawn_by: str | None
    withdrawn_reason: str
    url: str


class ReleaseWithScans(ReleaseOut):
    scans: list[ScanOut] = Field(description="The newest 100, newest first.")
    verified_in: list[str] = Field(description="Slugs of the environments where it was deployed and verified.")
    live_in: list[str] = Field(description="Slugs of the environments where it is live.")


class ReleasePage(Page):
    items: list[ReleaseOut]


class ReleaseFilters(Schema):
    service: Text | None = Field(None, max_length=80, description="Its slug.")
    version: Text | None = Field(None, max_length=64)
    usable: bool | None = Field(None, description="True: not withdrawn.")


# -- deployments -------------------------------------------------------------------------------------------------------


class PlaceOut(Schema):
    id: int
    service: str = Field(description="Its slug.")
    slug: str
    name: str
    kind: str


class GateOut(Schema):
    id: int
    text: str
    kind: str
    optional: bool
    state: str = Field(description=", ".join(Gate.State.values))
    evidence: str
    by: str | None
    looked_at: datetime | None


class ApprovalOut(Schema):
    by: str
    granted: bool
    counts: bool = Field(description="Granted, not expired, and for this artefact.")
    note: str
    at: datetime
    expires_at: datetime | None


class DeploymentOut(Schema):
    """A deployment or a rollback. It is over when `ended_at` is set."""

    id: int
    kind: str = Field(description=", ".join(Deployment.Kind.values))
    state: str = Field(description=", ".join(Deployment.State.values))
    message: str = Field(description="What came of it, or what to do, in a sentence.")
    environment: PlaceOut
    release: int
    version: str
    from_version: str | None
    rollback_of: int | None
    operation: int | None = Field(description="What carries it out; null while it waits.")
    reason: str
    incident: str
    trigger: str
    automatic: bool
    emergency: bool
    solo: bool
    review_needed: bool
    reviewed_by: str | None
    reviewed_at: datetime | None
    review_note: str
    restores: bool
    starts_itself: bool
    not_before: datetime | None
    not_after: datetime | None
    requested_by: str | None
    requested_at: datetime
    started_at: datetime | None
    switched_at: datetime | None
    ended_at: datetime | None
    took_s: float | None = Field(description="Until traffic was on it; of a rollback, from the request.")
    target_s: float | None = Field(description="How long a rollback may take.")
    target_met: bool | None
    url: str


class DeploymentWithGates(DeploymentOut):
    obstacles: list[str] = Field(description="Why it waits, in sentences that say what to do; empty: nothing keeps it.")
    gates: list[GateOut]
    approvals_needed: int
    approvals: list[ApprovalOut]
    checks: list[dict[str, Any]] = Field(description="What was checked after the switch.")


class DeploymentPage(Page):
    items: list[DeploymentOut]


class DeploymentFilters(Schema):
    environment: Id | None = None
    state: Deployment.State | None = None


class DeploymentIn(Input):
    """What to deploy where. An environment by number, or by slug together with `service`; a release by number, or by
    `version`."""

    environment: Id | Slug
    service: Slug | None = Field(None, description="Slug; wanted where the environment is named by its slug.")
    release: Id | None = None
    version: Version | None = None
    reason: Text = Field("", max_length=500)
    emergency: bool = Field(False, description="Past gates and approvals; wants a reason and is reviewed afterwards.")
    solo: bool = Field(False, description="Without approvals, where the environment allows it; is reviewed afterwards.")
    starts_itself: bool = Field(True, description="As soon as nothing keeps it. False: it waits for a start.")
    incident: Text = Field("", max_length=60, description="Number of the incident that it fixes.")
    not_before: Moment | None = None
    not_after: Moment | None = None


class ApproveIn(Input):
    note: Text = Field("", max_length=2000)


class RefuseIn(Input):
    note: Text = Field(min_length=1, max_length=2000, description="Why.")


class GateIn(Input):
    """What a person says about an item of the checklist."""

    passed: bool = True
    evidence: Text = Field(min_length=1, max_length=2000, description="What shows it: a link, an output, who looked.")


class ReviewIn(Input):
    note: Text = Field(min_length=1, max_length=2000, description="What was found.")


class Nothing(Input):
    """`{}`."""


# -- environments ------------------------------------------------------------------------------------------------------


class WayBackOut(Schema):
    version: str
    possible: bool
    warm: bool | None = Field(description="It still runs; null: not looked at lately.")
    sentence: str


class LiveOut(Schema):
    """What is live by the record, and what was seen. They differ when `drift` says something."""

    environment: PlaceOut
    release: int | None
    version: str | None
    since: datetime | None
    deployment: int | None
    by: str | None
    drift: str
    seen_at: datetime | None
    seen_live: str | None = Field(description="The version that gets the traffic, as it was last seen.")
    instances: list[dict[str, Any]]
    settings: dict[str, str] = Field(description="What recorded changes have set. Secrets are never among them.")
    way_back: WayBackOut | None


class RollbackIn(Input):
    reason: Reason
    to: Version | None = Field(None, description="A version. Left out: the one before.")
    restores: bool = Field(False, description="Also put the backup back that was taken before what is live.")
    incident: Text = Field("", max_length=60, description="Number of the incident from which it is started.")


class ChangeIn(Input):
    reason: Reason


class RestartIn(ChangeIn):
    or_roll_back: bool = Field(False, description="Where the restart fails, go back to the release before by itself.")


class ScaleIn(ChangeIn):
    count: int = Field(ge=1, le=1000)


class SettingIn(ChangeIn):
    name: Text = Field(min_length=1, max_length=80)
    value: Text = Field(max_length=2000, description="Empty takes it away.")


class LeftoversOut(Schema):
    would_remove: list[str] = Field(description="In sentences; empty: nothing. It is decided again when it runs.")


class ChangeOut(Schema):
    """A restart, another number of copies, another setting, a clean-up: what it was, what it is, who and why."""

    id: int
    kind: str = Field(description=", ".join(ConfigurationChange.Kind.values))
    environment: PlaceOut
    name: str = Field(description="Of the setting.")
    old: str
    new: str
    reason: str
    by: str | None
    at: datetime
    state: str | None = Field(description="Of its operation; null: it has none.")
    operation: int | None
    takes_back: int | None = Field(description="The change whose old value it set again.")
    or_rolls_back: bool
    url: str


class ChangePage(Page):
    items: list[ChangeOut]


class ChangeFilters(Schema):
    environment: Id | None = None
    kind: ConfigurationChange.Kind | None = None
