"""The steps around a change of the live database: stop the application, start it again, wait until it is ready."""

from __future__ import annotations

from backups.exceptions import BackupError
from backups.procedures.base import TargetProcedure
from catalog.models import Probe
from catalog.probes import Finding
from catalog.probing import ask, record, wait_until_good
from catalog.service_control import ServiceControl, control_for
from operations.context import StepContext

READY_WITHOUT_CONTROL_S = 120.0


class AroundService(TargetProcedure):
    """Stops and starts the application of the target's environment, when somebody has said how."""

    def service(self, ctx: StepContext) -> ServiceControl | None:
        return control_for(self.target.component.environment, run=ctx.run)

    def preview_service(self) -> dict[str, list[str]]:
        """The commands for the dry run, by step."""
        control = control_for(self.target.component.environment)
        commands = control.commands() if control is not None else {}
        steps = {"stop_service": ("stop",), "start_service": ("start", "status")}
        return {step: [commands[name].shown() for name in names if name in commands] for step, names in steps.items()}

    def stop_service(self, ctx: StepContext) -> None:
        control = self.service(ctx)
        if control is None:
            ctx.log("No service control is set for this environment; nothing to stop.")
            return
        ctx.remember(service_was_running=control.status().running is not False)
        control.stop()

    def start_again(self, ctx: StepContext) -> None:
        """Undo of the stop: the application runs again if it ran before."""
        control = self.service(ctx)
        if control is not None and ctx.data.get("service_was_running", True):
            control.start()
            control.wait_ready()

    def start_service(self, ctx: StepContext) -> None:
        if self.service(ctx) is None:
            ctx.log("No service control is set for this environment; nothing to start.")
        elif not ctx.data.get("service_was_running", True):
            ctx.log("The application was stopped before and stays stopped.")
        self.start_again(ctx)
        self.wait_for_probes(ctx)

    def wait_for_probes(self, ctx: StepContext) -> None:
        """Until what is marked “ready” in this environment is good, if the application runs."""
        probes = Probe.objects.for_use(self.target.component.environment, Probe.Use.READY)
        if not ctx.data.get("service_was_running", True) or not probes:
            return
        control = self.service(ctx)
        limit_s = control.ready_timeout_s if control is not None else READY_WITHOUT_CONTROL_S
        sentence = wait_until_good(probes, ctx.run, limit_s, lambda probe, finding: self._note(ctx, probe, finding))
        if sentence:
            raise BackupError(f"Not ready within {limit_s:g} s. {sentence}")
        ctx.log(f"Ready: {', '.join(probe.name for probe in probes)}.")

    def _note(self, ctx: StepContext, probe: Probe, finding: Finding) -> None:
        """What a restore has asked is an answer like any other."""
        with ctx.fenced():
            record(probe, finding)

    def run_smoke_probes(self, ctx: StepContext) -> None:
        """What is marked “smoke test” must be good; the first that is not ends the step."""
        if not ctx.data.get("service_was_running", True):
            return
        for probe in Probe.objects.for_use(self.target.component.environment, Probe.Use.SMOKE):
            finding = ask(probe, ctx.run)
            self._note(ctx, probe, finding)
            ctx.log(f"{probe.name}: {finding.sentence}")
            if not finding.is_good:
                raise BackupError(f"The smoke test “{probe.name}” failed: {finding.sentence}")

    def stop_again(self, ctx: StepContext) -> None:
        """Undo of the start: nobody must work on a database that is about to be replaced again."""
        control = self.service(ctx)
        if control is not None:
            control.stop()
