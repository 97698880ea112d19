"""How the ERP is deployed to, what was deployed in thirty days, and what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.utils import timezone

from catalog.models import Environment
from core.roles import Role
from deployments import reach
from deployments.actions.profiles import save_profile
from deployments.actions.requesting import request_deployment
from deployments.drivers.base import Reality
from deployments.models import (
    Approval,
    ChecklistItem,
    ChecklistTemplate,
    ConfigurationChange,
    Deployment,
    DeploymentProfile,
    FreezeWindow,
    Gate,
    LiveState,
    ReleaseRules,
)
from deployments.models.settings import GateKind
from operations.models import Operation
from opsportal.demo import deploy_story, releases
from opsportal.demo.deploy_story import Past
from opsportal.demo.history import Teller
from opsportal.demo.records import PastOperation
from opsportal.demo.slots import Place
from opsportal.demo.timeline import at

ZONE = ZoneInfo("Europe/Berlin")
NEXT = "v1.6.0"
SATURDAY = 5
SHORT = (
    ("CI/CD pipeline passes all gates", GateKind.CI, False),
    ("Database migrations tested", GateKind.MIGRATIONS, False),
    ("Environment variables configured", GateKind.VARIABLES, False),
    ("Health checks functional", GateKind.READY, False),
    ("Rollback plan confirmed", GateKind.ROLLBACK, False),
)
LONG = (
    ("All tests passing (CI green)", GateKind.CI, False),
    ("Security scans passed (no critical or high findings)", GateKind.SCANS, False),
    ("SBOM generated and reviewed", GateKind.SBOM, False),
    ("Database migrations tested", GateKind.MIGRATIONS, False),
    ("Environment variables configured", GateKind.VARIABLES, False),
    ("Secrets rotated, if needed", GateKind.MANUAL, True),
    ("Backup created", GateKind.BACKUP, False),
    ("Rollback plan documented", GateKind.ROLLBACK, False),
)
EVIDENCE = {
    GateKind.CI: "CI passed.",
    GateKind.MIGRATIONS: "This release changes no schema.",
    GateKind.VARIABLES: "4 variables are set, none that this release needs is missing.",
    GateKind.READY: "The running version answers its health check.",
    GateKind.ROLLBACK: "The version before still runs, warm: traffic goes back in seconds.",
}


class History:
    """What happened. Its operations are written together with all others, then the rows that name them."""

    def __init__(self, teller: Teller, places: Mapping[str, Place]) -> None:
        self.teller, self.places = teller, places
        catalog = teller.catalog
        self.environments: dict[str, Environment] = {
            "production": catalog.erp.component.environment,
            "staging": catalog.erp_staging.component.environment,
        }
        self.service = self.environments["production"].service
        self.told = deploy_story.tell(teller.story.nights)
        self.olga, self.anton = teller.people[Role.OPERATOR], teller.people[Role.APPROVER]
        self.past: dict[str, PastOperation] = {
            past.key: deploy_story.operation(past, self.environments[past.kind], teller, self.olga)
            for past in self.told
        }

    def operations(self) -> Sequence[PastOperation]:
        return list(self.past.values())

    def write(self, rows: Mapping[str, Operation], seen: Mapping[str, Reality], now: datetime) -> None:
        """Profiles, releases, deployments, what is live, and what comes next. `seen` is what really runs."""
        self.templates = _templates()
        self.profiles = self._profiles()
        ReleaseRules.objects.create(service=self.service)
        self.releases = releases.create(self.service, deploy_story.built(self.told), self.olga)
        made: dict[str, Deployment] = {}
        for past in self.told:
            made[past.key] = self._deployment(past, rows[past.key], made)
        Operation.objects.bulk_update([rows[past.key] for past in self.told], ["params"])
        for kind, environment in self.environments.items():
            self._live(kind, environment, made, seen[kind], now)
        self._restart()
        self._what_comes(now)

    # -- how it is deployed to -----------------------------------------------------------------------------------------

    def _profiles(self) -> dict[str, DeploymentProfile]:
        found = {}
        for kind, place in self.places.items():
            found[kind] = DeploymentProfile(
                environment=self.environments[kind],
                settings=place.settings,
                secrets=place.secrets,
                migrate=place.migrate,
                smoke=place.smoke,
                command_timeout_s=120,
                ready_within_s=30,
                drain_within_s=15,
                answers_within_ms=2000,
                auto_rollback=True,
                rollback_target=timedelta(minutes=2),
            )
        production, nightly = found["production"], self.teller.plans["nightly"]
        production.promotes_from = self.environments["staging"]
        production.checklist = self.templates[0]
        production.approvals, production.approval_lasts, production.solo = 1, timedelta(hours=24), True
        production.watch_for, production.most_errors_percent = timedelta(seconds=90), 2
        production.backup_plan, production.backup_fresh_for = nightly, timedelta(hours=26)
        return {kind: save_profile(profile) for kind, profile in found.items()}

    # -- what happened -------------------------------------------------------------------------------------------------

    def _deployment(self, past: Past, operation: Operation, made: Mapping[str, Deployment]) -> Deployment:
        one, release = self.past[past.key], self.releases[past.version]
        good = [
            {"name": name, "good": True, "sentence": sentence, "decides": True}
            for name, sentence in deploy_story.checks(past)
        ]
        row = Deployment.objects.create(
            environment=self.environments[past.kind],
            release=release,
            kind=Deployment.Kind.ROLLBACK if past.is_rollback else Deployment.Kind.DEPLOY,
            state=Deployment.State.LIVE,
            message=one.message,
            from_release=self.releases[past.before] if past.before else None,
            rollback_of=made[past.rollback_of] if past.rollback_of else None,
            operation=operation,
            # No backup was taken before deployments in those days.
            frozen={**reach.frozen(self.profiles[past.kind]), "backup_plan": None},
            fingerprint=release.fingerprint,
            requested_at=one.requested_at if past.is_rollback else one.requested_at - timedelta(minutes=22),
            requested_by=self.olga,
            reason=past.reason,
            emergency=past.emergency,
            review_needed=past.emergency,
            started_at=one.requested_at,
            switched_at=deploy_story.switched_at(one),
            ended_at=one.ended_at,
            checks=good,
        )
        operation.params = {"deployment": row.pk}
        if past.kind == "production" and not past.is_rollback:
            self._settled(row, past)
        return row

    def _settled(self, row: Deployment, past: Past) -> None:
        """Its checklist, and the approval of somebody else; an emergency went past both."""
        looked_at = self.past[past.key].started_at
        Gate.objects.bulk_create(
            Gate(
                deployment=row,
                position=position,
                text=item.text,
                kind=item.kind,
                state=Gate.State.PASSED,
                evidence=EVIDENCE[GateKind(item.kind)],
                looked_at=looked_at,
            )
            for position, item in enumerate(ChecklistItem.objects.filter(template=self.templates[0]))
        )
        if not past.emergency:
            asked = row.requested_at + timedelta(minutes=9)
            Approval.objects.create(
                deployment=row,
                by=self.anton,
                fingerprint=row.fingerprint,
                granted=True,
                note="Seen on staging.",
                at=asked,
                expires_at=asked + timedelta(hours=24),
            )

    def _live(
        self, kind: str, environment: Environment, made: Mapping[str, Deployment], seen: Reality, now: datetime
    ) -> None:
        last = [past for past in self.told if past.kind == kind][-1]
        row = made[last.key]
        LiveState.objects.filter(environment=environment).update(
            release=row.release,
            previous=row.from_release,
            deployment=row,
            since=row.switched_at,
            settings=self.places[kind].variables,
            seen=asdict(seen),
            seen_at=timezone.now(),
        )

    def _restart(self) -> None:
        ConfigurationChange.objects.create(
            environment=self.environments["production"],
            kind=ConfigurationChange.Kind.RESTART,
            reason="The certificate of the EDI partner was replaced.",
            at=at(self.teller.story.nights[10], 9, 12),
            by=self.olga,
        )

    # -- what comes next -----------------------------------------------------------------------------------------------

    def _what_comes(self, now: datetime) -> None:
        """Tomorrow morning the release with the new column, if somebody approves it; a freeze at a weekend to come."""
        today = now.astimezone(ZONE).date()
        opens = datetime.combine(today + timedelta(days=1), time(6, 30), tzinfo=ZONE)
        request_deployment(
            self.environments["production"],
            self.releases[NEXT],
            by=self.olga,
            reason="Delivery wishes, before the shop opens.",
            not_before=opens,
            not_after=opens + timedelta(hours=1),
        )
        # Not one that is nearly here: whoever starts the demo on a Friday wants to deploy on Saturday.
        days = (SATURDAY - today.weekday()) % 7
        begins = datetime.combine(today + timedelta(days=days if days >= 3 else days + 7), time(0), tzinfo=ZONE)
        FreezeWindow.objects.create(
            service=self.service,
            environment_kind=Environment.Kind.PRODUCTION,
            starts_at=begins,
            ends_at=begins + timedelta(days=2, hours=6),
            reason="Stocktaking: the ERP is not changed",
        )


def _templates() -> list[ChecklistTemplate]:
    """The short one and the long one."""
    made = []
    for name, items in (("Before production, short", SHORT), ("Before production, with scans and backup", LONG)):
        template = ChecklistTemplate.objects.create(name=name)
        ChecklistItem.objects.bulk_create(
            ChecklistItem(template=template, position=position, text=text, kind=kind, optional=optional)
            for position, (text, kind, optional) in enumerate(items, start=1)
        )
        made.append(template)
    return made
