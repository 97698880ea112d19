"""Deploy a release."""

from __future__ import annotations

import time

from django.utils import timezone

from backups import actions as backups
from backups.models import Archive, Plan
from core.exceptions import PortalError
from core.scopes import DEPLOY
from deployments import gates, reach, recording, team_commands
from deployments.exceptions import DeploymentError
from deployments.models import Deployment
from deployments.procedures.base import TrafficProcedure
from deployments.watching import Watch
from operations.commands import Command
from operations.context import StepContext
from operations.models import Operation
from operations.procedures import PlannedStep, Step, register

LOOK_EVERY_S = 1.0


@register
class Deploy(TrafficProcedure):
    """Bring the new version up beside the old one, send traffic to it, and watch; the old one stays warm.

    Until the switch nothing the users see is touched. A failure after it sends traffic back where the environment says
    so; else the new version stays live and going back is offered.
    """

    name = "deployments.deploy"
    title = "Deployment"
    permission = "deployments.run_deployment"
    scope = DEPLOY
    steps = (
        Step("check", "Gates, approvals, ports, disk, permissions, artefact"),
        Step("back_up", "Back up, and pin the backup to this deployment", by_hand=False),
        Step("migrate", "Change the schema"),
        Step("prepare_new", "Start the new version beside the old one", undo="discard"),
        Step("ready", "Wait until the new version is ready"),
        Step("switch", "Send traffic to the new version", undo="switch_back"),
        Step("verify", "Health, smoke test, response time, log"),
        Step("watch", "Watch for errors"),
        Step("drain", "Let the old version finish; it stays warm"),
    )

    def preview(self) -> dict[str, PlannedStep | list[str]]:
        driver = reach.driver_of(self.deployment.environment, self.settings, run=reach.run_unheard)
        found = driver.preview(self.artefact)
        steps: dict[str, PlannedStep | list[str]] = {
            step: found[name]
            for step, name in (("prepare_new", "prepare"), ("switch", "switch"), ("drain", "drain"))
            if name in found
        }
        for step in ("migrate", "smoke"):
            if self.settings.get(step):
                shown = driver.around.connector.wrap(Command(tuple(self.settings[step]))).shown()
                steps["verify" if step == "smoke" else step] = [shown]
        return steps

    # -- before traffic ------------------------------------------------------------------------------------------------

    def check(self, ctx: StepContext) -> None:
        self._check_gates(ctx)
        self.check_place(ctx)

    def _check_gates(self, ctx: StepContext) -> None:
        now, row = timezone.now(), Deployment.objects.with_place().get(pk=self.deployment.pk)
        with ctx.fenced():
            gates.keep(row, now)
        kept = gates.obstacles(row, now)
        if kept:
            raise DeploymentError(f"This may not be deployed any more. {' '.join(kept)}")

    def back_up(self, ctx: StepContext) -> None:
        plan = Plan.objects.filter(pk=self.settings["backup_plan"] or 0).first()
        if plan is None:
            ctx.log("No backup plan is set for this environment; none is taken.")
            return
        child = ctx.child(
            "backup",
            lambda: backups.request_backup(
                plan,
                by=self.operation.requested_by,
                purpose=Archive.Purpose.PRE_CHANGE,
                reason=f"Before {self.operation.title}",
                trigger=Operation.Trigger.OPERATION,
                parent=ctx.operation,
            ),
        )
        archive = child.archive
        with ctx.fenced():
            recording.pin(self.deployment, archive)
        ctx.log(f"Pinned {archive}.")

    def migrate(self, ctx: StepContext) -> None:
        if not self.settings.get("migrate"):
            ctx.log("No migrate command is set for this environment.")
            return
        values = {"{version}": self.release.version, "{source}": self.release.source}
        limit_s = self.settings["command_timeout_s"]
        team_commands.run(ctx, self.driver(ctx), self.settings["migrate"], values, limit_s)

    def prepare_new(self, ctx: StepContext) -> None:
        self.prepare_version(ctx)

    def ready(self, ctx: StepContext) -> None:
        self.wait_ready(ctx)

    # -- with traffic --------------------------------------------------------------------------------------------------

    def switch(self, ctx: StepContext) -> None:
        self._check_gates(ctx)
        self.switch_traffic(ctx)

    def verify(self, ctx: StepContext) -> None:
        self._judge(ctx, self.verify_version(ctx))

    def watch(self, ctx: StepContext) -> None:
        length_s = self.settings.get("watch_for_s")
        if not length_s or ctx.data.get("bad"):
            ctx.log("Not watched." if not length_s else "Its checks failed, so it is not watched.")
            return
        watch = Watch(self.settings.get("most_errors_percent"))
        begun = time.monotonic()
        self._look_on(ctx, Watch(None))  # what was answered before does not count
        while (passed := time.monotonic() - begun) < length_s and not watch.verdict:
            ctx.progress(int(passed), int(length_s), "seconds")
            time.sleep(min(LOOK_EVERY_S, length_s - passed))
            self._look_on(ctx, watch)
        ctx.log(watch.sentence)
        self._judge(ctx, [watch.verdict] if watch.verdict else [])

    def _look_on(self, ctx: StepContext, watch: Watch) -> None:
        """Once. A look that does not work counts like one that finds no answer."""
        driver = self.driver(ctx)
        try:
            if (sample := driver.sample()) is not None:
                watch.answers(time.monotonic(), sample.requests, sample.errors)
            live = driver.look().instance_of(self.release.version)
            watch.health(live is not None and live.live and live.ready, "the new version does not answer.")
        except PortalError as error:
            watch.health(False, f"it could not be looked at. {error.message}")

    def _judge(self, ctx: StepContext, bad: list[str]) -> None:
        """Go back by failing, where the environment says so; else say that it is suspect and offer it."""
        if not bad:
            ctx.conclude(f"{self.release.version} is live.")
            return
        self._show_log(ctx)
        ctx.remember(bad=bad, decided_at=timezone.now().isoformat())
        sentence = f"{self.release.version} failed its checks. {' '.join(bad)}"
        if self.settings.get("auto_rollback") and ctx.data.get("from_version"):
            raise DeploymentError(sentence)
        ctx.conclude(f"{sentence} It is live; roll back, or mend it.")

    def _show_log(self, ctx: StepContext) -> None:
        try:
            for line in self.driver(ctx).logs(self.release.version):
                ctx.log(line, stream="diagnosis")
        except PortalError as error:
            ctx.log(f"Its log could not be read: {error.message}")

    def drain(self, ctx: StepContext) -> None:
        self.drain_old(ctx)

    def retry(self, *, by: object, reason: str, key: str) -> Operation:
        raise DeploymentError("Ask for the deployment again: its gates and approvals have to be looked at anew.")
