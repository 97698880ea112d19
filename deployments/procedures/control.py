"""Restart, scale, set: changes of what is live that bring no other version."""

from __future__ import annotations

from functools import cached_property

from core.scopes import DEPLOY
from deployments import reach, recording
from deployments.actions import rollback
from deployments.drivers.base import Driver, PortHolder, Token
from deployments.exceptions import DeploymentError
from deployments.models import ConfigurationChange, LiveState
from operations.context import StepContext
from operations.models import Operation
from operations.procedures import PlannedStep, Procedure, Step, register

Kind = ConfigurationChange.Kind


class ChangeProcedure(Procedure):
    """A procedure on one recorded change of one environment."""

    scope = DEPLOY
    permission = "deployments.control_service"

    @cached_property
    def change(self) -> ConfigurationChange:
        return ConfigurationChange.objects.with_place().get(pk=self.operation.params["change"])

    @property
    def subject(self) -> ConfigurationChange | None:
        return ConfigurationChange.objects.filter(pk=self.operation.params.get("change")).first()

    def driver(self, ctx: StepContext) -> Driver:
        profile = reach.profile_of(self.change.environment)
        return reach.driver_of(
            self.change.environment,
            reach.frozen(profile),
            run=reach.runner(ctx),
            token=Token(self.operation.pk, ctx.attempt),
            log=ctx.log,
            check=ctx.check,
        )


@register
class Control(ChangeProcedure):
    """Make one recorded change, and look at what came of it."""

    name = "deployments.control"
    title = "Change of a service"
    steps = (
        Step("note", "Note how it is now", by_hand=False),
        Step("change_it", "Make the change", undo="take_back"),
        Step("look", "Look at what runs now", by_hand=False),
    )

    def preview(self) -> dict[str, PlannedStep | list[str]]:
        return {"change_it": [str(self.change)]}

    def note(self, ctx: StepContext) -> None:
        reality = recording.look_at(self.change.environment, self.driver(ctx))
        ctx.remember(copies=sum(each.running for each in reality.instances))
        if self.change.kind == Kind.PORT:
            return  # before a first release a port can be taken too
        if not LiveState.objects.filter(environment=self.change.environment, release__isnull=False).exists():
            raise DeploymentError(
                f"The portal has deployed nothing to {self.change.environment}. Deploy a release first."
            )

    def change_it(self, ctx: StepContext) -> None:
        kind = Kind(self.change.kind)
        if kind == Kind.SCALE:
            before = self.driver(ctx).scale(int(self.change.new))
            self._keep_old(ctx, str(before))
            return
        if kind == Kind.PORT:
            self.driver(ctx).end_port_holder(PortHolder(**self.operation.params["holder"]))
            return
        if kind == Kind.SETTING:
            self._set(ctx, self.change.name, self.change.new)
        self.driver(ctx).restart()

    def _set(self, ctx: StepContext, name: str, value: str) -> None:
        """The setting as the application gets it with its next start. Empty: it is not set any more."""
        with ctx.fenced():
            live = LiveState.objects.select_for_update().get(environment=self.change.environment)
            if value:
                live.settings[name] = value
            else:
                live.settings.pop(name, None)
            live.save(update_fields=["settings"])

    def _keep_old(self, ctx: StepContext, old: str) -> None:
        with ctx.fenced():
            ConfigurationChange.objects.filter(pk=self.change.pk, old="").update(old=old)

    def take_back(self, ctx: StepContext) -> None:
        kind = Kind(self.change.kind)
        if kind == Kind.SCALE and self.change.old:
            self.driver(ctx).scale(int(self.change.old))
        elif kind == Kind.SETTING:
            self._set(ctx, self.change.name, self.change.old)
            self.driver(ctx).restart()
        elif kind != Kind.PORT:
            self.driver(ctx).start()

    def on_end(self) -> None:
        """A restart that failed goes back to the release before, where whoever asked said so."""
        failed = self.operation.state in (Operation.State.FAILED, Operation.State.ERRORED)
        if not failed or not self.change.or_rolls_back:
            return
        try:
            rollback.request_rollback(
                self.change.environment,
                by=self.operation.requested_by,
                reason=f"The restart failed. {self.operation.message} {self.change.reason}",
                trigger=Operation.Trigger.OPERATION,
            )
        except DeploymentError as error:
            self.operation.message += f" It could not be rolled back: {error.message}"
            Operation.objects.filter(pk=self.operation.pk).update(message=self.operation.message)

    def look(self, ctx: StepContext) -> None:
        reality = recording.look_at(self.change.environment, self.driver(ctx))
        ctx.conclude(f"Done. {reality.sentence}".strip())


@register
class Cleanup(ChangeProcedure):
    """Remove old versions that are neither live nor the way back."""

    name = "deployments.cleanup"
    title = "Clean-up of old versions"
    steps = (Step("remove", "Remove what is not needed any more"), Step("look", "Look at what is left", by_hand=False))

    def preview(self) -> dict[str, PlannedStep | list[str]]:
        driver = reach.looking_driver(reach.profile_of(self.change.environment))
        return {"remove": driver.leftovers(kept_versions(self.change.environment_id))}

    def remove(self, ctx: StepContext) -> None:
        removed = self.driver(ctx).cleanup(kept_versions(self.change.environment_id))
        for sentence in removed:
            ctx.log(sentence)
        with ctx.fenced():
            ConfigurationChange.objects.filter(pk=self.change.pk).update(new="\n".join(removed)[:4000] or "Nothing")
        ctx.conclude(f"{len(removed)} things were removed." if removed else "There was nothing to remove.")

    def look(self, ctx: StepContext) -> None:
        recording.look_at(self.change.environment, self.driver(ctx))


def kept_versions(environment: int) -> list[str]:
    """What a clean-up leaves: what is live, and what one would go back to."""
    live = LiveState.objects.select_related("release", "previous").filter(environment=environment).first()
    releases = (live.release, live.previous) if live is not None else ()
    return [release.version for release in releases if release is not None]
