"""Go back to an earlier release."""

from __future__ import annotations

from backups import actions as backups
from backups.models import Restore
from core.scopes import DEPLOY
from deployments import reach
from deployments.exceptions import DeploymentError
from deployments.procedures.base import TrafficProcedure
from operations.context import StepContext
from operations.models import Operation
from operations.procedures import PlannedStep, Step, register


@register
class Rollback(TrafficProcedure):
    """Traffic goes to the earlier release as soon as it is ready, which is at once where it stayed warm."""

    name = "deployments.rollback"
    title = "Rollback"
    permission = "deployments.rollback_deployment"
    scope = DEPLOY
    steps = (
        Step("check", "What is live, and whether the earlier version is there"),
        Step("prepare_old", "Start the earlier version, where it is not warm", undo="discard"),
        Step("ready", "Wait until it is ready"),
        Step("switch", "Send traffic to the earlier version", undo="switch_back"),
        Step("restore", "Put the pinned backup back, where that was asked for", by_hand=False),
        Step("verify", "Health, smoke test, response time, log"),
        Step("drain", "Let the other version finish"),
    )

    def preview(self) -> dict[str, PlannedStep | list[str]]:
        driver = reach.driver_of(self.deployment.environment, self.settings, run=reach.run_unheard)
        found = driver.preview(self.artefact)
        pairs = (("prepare_old", "prepare"), ("switch", "switch"), ("drain", "drain"))
        return {step: found[name] for step, name in pairs if name in found}

    def check(self, ctx: StepContext) -> None:
        reality = self.driver(ctx).look()
        ctx.log(reality.sentence or f"Live is {reality.live or 'nothing'}.")
        ctx.remember(from_version=reality.live)
        instance = reality.instance_of(self.release.version)
        if instance is None or not instance.warm:
            self.check_place(ctx)

    def prepare_old(self, ctx: StepContext) -> None:
        self.prepare_version(ctx)

    def ready(self, ctx: StepContext) -> None:
        self.wait_ready(ctx)

    def switch(self, ctx: StepContext) -> None:
        self.switch_traffic(ctx)

    def restore(self, ctx: StepContext) -> None:
        archive = self.deployment.archive
        if not self.deployment.restores or archive is None:
            ctx.log("Code only: no backup is put back.")
            return
        name = archive.target.database
        ctx.child(
            "restore",
            lambda: backups.request_restore(
                archive,
                by=self.operation.requested_by,
                reason_kind=Restore.Reason.OTHER,
                reason=f"{self.operation.title}: {self.deployment.reason}",
                into=name,
                typed_name=name,
                trigger=Operation.Trigger.OPERATION,
                parent=ctx.operation,
            ),
        )

    def verify(self, ctx: StepContext) -> None:
        bad = self.verify_version(ctx)
        if bad:
            ctx.remember(bad=bad)
            ctx.conclude(f"Traffic is on {self.release.version}, and its checks failed: {' '.join(bad)}")
        else:
            ctx.conclude(f"{self.release.version} is live again.")

    def drain(self, ctx: StepContext) -> None:
        self.drain_old(ctx)

    def retry(self, *, by: object, reason: str, key: str) -> Operation:
        raise DeploymentError("Roll back again from the environment's page: what is live may be another release now.")
