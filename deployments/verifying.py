"""The checks after a switch: health, probes, smoke test, response time, log. Each is kept with what it found."""

from __future__ import annotations

import re
from dataclasses import dataclass

from catalog.models import Probe
from catalog.probing import ask, record
from deployments import recording, team_commands
from deployments.drivers.base import Driver
from deployments.models import Deployment
from operations.context import StepContext
from operations.exceptions import CommandFailed

REPORTS_ERROR = re.compile(r"\b(ERROR|CRITICAL|FATAL)\b|^Traceback|^panic:")
LOG_LINES = 200


@dataclass(frozen=True)
class Checked:
    """One check. `decides`: it can fail the deployment; else it is only shown."""

    name: str
    good: bool
    sentence: str
    decides: bool = True

    def shown(self) -> dict[str, object]:
        return {"name": self.name, "good": self.good, "sentence": self.sentence, "decides": self.decides}


class Verification:
    """All checks of one deployment, in order. None of them ends the others."""

    def __init__(self, deployment: Deployment, driver: Driver, ctx: StepContext) -> None:
        self.deployment, self.driver, self.ctx = deployment, driver, ctx
        self.frozen = deployment.frozen
        self.version = deployment.release.version
        self.slowest_ms = 0.0
        self.address = ""

    def run(self) -> list[Checked]:
        found = [self._health(), *self._probes()]
        if self.frozen.get("smoke"):
            found.append(self._smoke())
        found += self._speed()
        found += self._log()
        for each in found:
            self.ctx.log(f"{each.name}: {each.sentence}")
        return found

    def _health(self) -> Checked:
        reality = recording.look_at(self.deployment.environment, self.driver)
        live = reality.instance_of(self.version)
        if reality.live != self.version or live is None:
            return Checked("Health", False, f"Traffic goes to {reality.live or 'nothing'}, not to {self.version}.")
        self.slowest_ms, self.address = live.answer_ms or 0.0, live.address
        word = "answers its health check" if live.ready else "does not answer its health check"
        return Checked("Health", live.ready, f"{self.version} {word} at {live.address or 'its place'}.")

    def _probes(self) -> list[Checked]:
        found = []
        for probe in Probe.objects.filter(
            environment=self.deployment.environment, use__in=(Probe.Use.READY, Probe.Use.SMOKE)
        ).select_related("environment", "looks_from"):
            finding = ask(probe, self.ctx.run)
            with self.ctx.fenced():
                record(probe, finding)
            self.slowest_ms = max(self.slowest_ms, 1000 * (finding.latency_s or 0))
            found.append(Checked(probe.name, finding.is_good, finding.sentence))
        return found

    def _smoke(self) -> Checked:
        """The team's own command: signs in, creates, reads, changes, deletes."""
        values = {"{version}": self.version, "{address}": self.address}
        limit_s = self.frozen["command_timeout_s"]
        try:
            result = team_commands.run(self.ctx, self.driver, self.frozen["smoke"], values, limit_s)
        except CommandFailed as error:
            return Checked("Smoke test", False, error.message)
        lines = [line for line in result.stdout.decode(errors="replace").splitlines() if line.strip()]
        return Checked("Smoke test", True, lines[-1][:300] if lines else "It ended well.")

    def _speed(self) -> list[Checked]:
        limit_ms = self.frozen.get("answers_within_ms")
        if not limit_ms:
            return []
        good = self.slowest_ms <= limit_ms
        return [Checked("Response time", good, f"{self.slowest_ms:.0f} ms; {limit_ms} ms are allowed.")]

    def _log(self) -> list[Checked]:
        lines = self.driver.logs(self.version, LOG_LINES)
        if not lines:
            return []
        bad = [line for line in lines if REPORTS_ERROR.search(line)]
        limit = self.frozen.get("most_log_errors")
        last = f" The last: {bad[-1].strip()[:200]}" if bad else ""
        sentence = f"{len(bad)} of the last {len(lines)} lines report an error.{last}"
        return [Checked("Log", limit is None or len(bad) <= limit, sentence, decides=limit is not None)]
