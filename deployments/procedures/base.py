"""What deploying and rolling back share: the row, the driver as this attempt, the switch and its way back, the end."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from django.utils import timezone

from core.exceptions import PortalError
from deployments import news, reach, recording
from deployments.drivers.base import Artefact, Driver, Reality, Token
from deployments.exceptions import DeploymentError
from deployments.models import Deployment, Release
from deployments.verifying import Verification
from operations import events
from operations.context import StepContext
from operations.models import Operation
from operations.procedures import AfterInterruption, Procedure

State = Deployment.State


class TrafficProcedure(Procedure):
    """A procedure that brings one version into an environment and traffic onto it.

    What it remembers: `from_version`, live before; `switched`, traffic was on the new version; `went_back`, it is on
    the old one again. Reality decides, the memory explains.
    """

    _ctx: StepContext | None = None

    @cached_property
    def deployment(self) -> Deployment:
        return Deployment.objects.with_place().get(pk=self.operation.params["deployment"])

    @property
    def subject(self) -> Deployment | None:
        return Deployment.objects.filter(pk=self.operation.params.get("deployment")).first()

    @property
    def release(self) -> Release:
        return self.deployment.release

    @property
    def artefact(self) -> Artefact:
        return reach.artefact_of(self.release)

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.deployment.frozen

    def driver(self, ctx: StepContext) -> Driver:
        """As this attempt: a place that has seen a later one refuses it."""
        if self._ctx is not ctx:
            self._ctx = ctx
            self._driver = reach.driver_of(
                self.deployment.environment,
                self.settings,
                run=reach.runner(ctx),
                token=Token(self.operation.pk, ctx.attempt),
                log=ctx.log,
                check=ctx.check,
            )
        return self._driver

    def after_interruption(self, ctx: StepContext) -> AfterInterruption:
        """Reality decides: with traffic on the new version it goes on; before that, what was begun is taken back."""
        step = self.operation.steps.unfinished().first()
        if step is None or step.name in ("check", "back_up"):
            return AfterInterruption.RESUME
        reality = self.driver(ctx).look()
        ctx.log(reality.sentence or f"Live is {reality.live or 'nothing'}.")
        return AfterInterruption.RESUME if reality.live == self.release.version else AfterInterruption.UNDO

    # -- steps that both have ----------------------------------------------------------------------------------------

    def check_place(self, ctx: StepContext) -> Reality:
        """Pre-flight of the driver; what was live is remembered. Raises DeploymentError for the first thing amiss."""
        driver = self.driver(ctx)
        bad = []
        for check in driver.preflight(self.artefact):
            ctx.log(f"{check.name}: {check.sentence}")
            if not check.good:
                bad.append(f"{check.sentence} {check.fix}".strip())
        if bad:
            raise DeploymentError(" ".join(bad))
        reality = driver.look()
        if reality.live and reality.live == self.release.version:
            ctx.log(f"{reality.live} gets the traffic already; it is brought there once more.")
        ctx.remember(from_version=reality.live)
        return reality

    def prepare_version(self, ctx: StepContext) -> None:
        self.driver(ctx).prepare(self.artefact)

    def wait_ready(self, ctx: StepContext) -> None:
        self.driver(ctx).wait_ready(self.artefact, float(self.settings["ready_within_s"]))

    def discard(self, ctx: StepContext) -> None:
        """Undo: what was started and never went live ends."""
        self.driver(ctx).discard(self.artefact)
        ctx.log(f"{self.release.version} was stopped.")

    def switch_traffic(self, ctx: StepContext) -> None:
        ctx.remember(switching=True)
        self.driver(ctx).switch(self.artefact)
        at = timezone.now()
        with ctx.fenced():
            recording.switched(self.deployment, self.operation, at)
        ctx.remember(switched=True)
        ctx.log(f"Traffic goes to {self.release.version}.")

    def switch_back(self, ctx: StepContext) -> None:
        """Undo of the switch, by looking: traffic goes to what was live before, when it does not already."""
        before = ctx.data.get("from_version", "")
        driver = self.driver(ctx)
        if driver.look().live == before:
            ctx.log(f"Traffic is on {before or 'nothing'}, as before.")
        elif before:
            driver.revert(before)
            ctx.log(f"Traffic is back on {before}.")
        else:
            driver.stop()
            ctx.log("Nothing was live before, so nothing is live again.")
        if ctx.data.get("switched") or Deployment.objects.filter(pk=self.deployment.pk).went_live().exists():
            with ctx.fenced() as operation:  # as it is now: somebody may have cancelled it
                recording.switched_back(self.deployment, operation, before, timezone.now())
            ctx.remember(went_back=True)

    def verify_version(self, ctx: StepContext) -> list[str]:
        """Check what is live and keep what was found. Returns what is bad, in sentences.

        That nothing could be checked is bad as well. What follows from it is for the procedure to say.
        """
        try:
            found = Verification(self.deployment, self.driver(ctx), ctx).run()
        except PortalError as error:
            return [f"The checks could not be made: {error.message}"]
        with ctx.fenced():
            Deployment.objects.filter(pk=self.deployment.pk).update(checks=[check.shown() for check in found])
        return [f"{check.name}: {check.sentence}" for check in found if not check.good and check.decides]

    def drain_old(self, ctx: StepContext) -> None:
        """Nothing but waiting and looking: where that does not work, traffic stays where it is."""
        try:
            self.driver(ctx).drain(self.artefact, float(self.settings["drain_within_s"]))
            recording.look_at(self.deployment.environment, self.driver(ctx))
        except PortalError as error:
            ctx.log(f"It could not be seen whether requests of the version before have ended: {error.message}")

    # -- the end -------------------------------------------------------------------------------------------------------

    def on_end(self) -> None:
        row = (
            Deployment.objects.select_for_update(of=("self",))
            .select_related("environment__service", "release__service", "from_release__service")
            .get(pk=self.deployment.pk)
        )
        operation = self.operation
        row.ended_at = timezone.now()
        row.message = operation.message
        row.state = self._end_state(operation, row)
        row.save(update_fields=["ended_at", "message", "state"])
        if row.state == State.LIVE and not row.is_rollback:
            recording.let_old_backups_go(row.environment_id)
        name = news.FAILED if row.state in (State.FAILED, State.SUSPECT) else ""
        if row.state == State.LIVE:
            name = news.ROLLED_BACK if row.is_rollback else news.LIVE
        elif row.state == State.ROLLED_BACK:
            name = news.ROLLED_BACK
        if name:
            sentence = f"{row}: {row.state_word.lower()}. {row.message}".strip()
            events.publish(name, sentence, subject=row, operation=operation, data=news.described(row))

    def _end_state(self, operation: Operation, row: Deployment) -> Deployment.State:
        if operation.state == Operation.State.SUCCEEDED:
            return State.SUSPECT if operation.data.get("bad") else State.LIVE
        if operation.data.get("went_back"):
            return State.ROLLED_BACK
        if row.switched_at is not None:
            return State.SUSPECT  # traffic is there, and could not be sent back
        return State.CANCELLED if operation.state == Operation.State.CANCELLED else State.FAILED
