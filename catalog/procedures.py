"""What a worker does for the catalog: ask probes."""

from __future__ import annotations

from functools import cached_property

from catalog import actions, probing
from catalog.models import Environment, Probe, Service
from core.models import User
from operations.context import StepContext
from operations.models import Operation
from operations.procedures import PlannedStep, Procedure, Step, register


@register
class CheckProbes(Procedure):
    """Ask some probes and keep what they answer. Nothing is changed at the things that are asked."""

    name = "catalog.check_probes"
    title = "Check of probes"
    permission = "catalog.run_probe"
    steps = (Step("ask", "Ask every probe", by_hand=False),)

    @cached_property
    def probes(self) -> list[Probe]:
        return list(Probe.objects.with_place().filter(pk__in=self.operation.params["probes"]))

    @property
    def subject(self) -> Probe | Environment | Service | None:
        """The probe, or what all of them belong to."""
        if len(self.probes) == 1:
            return self.probes[0]
        environments = {probe.environment for probe in self.probes}
        if len(environments) == 1:
            return environments.pop()
        services = {environment.service for environment in environments}
        return services.pop() if len(services) == 1 else None

    def preview(self) -> dict[str, PlannedStep | list[str]]:
        return {"ask": [f"{probe.name}: {probing.question_of(probe).shown()}" for probe in self.probes]}

    def ask(self, ctx: StepContext) -> None:
        good = 0
        for number, probe in enumerate(self.probes):
            ctx.progress(number, len(self.probes), "probes")
            finding = probing.ask(probe, ctx.run)
            with ctx.fenced():
                probing.record(probe, finding)
            good += finding.is_good
            ctx.log(f"{probe.name}: {probe.state_word}. {finding.sentence}")
        ctx.progress(len(self.probes), len(self.probes), "probes")
        bad = [probe.name for probe in self.probes if probe.state in ("bad", "unknown")]
        rest = f" Not good: {', '.join(bad)}." if bad else ""
        ctx.conclude(f"{good} of {len(self.probes)} probes are good.{rest}", good=good, asked=len(self.probes))

    def retry(self, *, by: User | None, reason: str, key: str) -> Operation:
        return actions.request_check(self.probes, by=by, key=key or None, retry_of=self.operation)
