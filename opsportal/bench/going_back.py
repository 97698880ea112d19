"""From the click on *Roll back*, over real HTTP, until the traffic sees nothing but the version before."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from catalog.models import Environment
from deployments.actions import requesting
from deployments.actions.profiles import save_profile
from deployments.actions.releases import create_release
from deployments.models import Deployment, DeploymentProfile, LiveState, Release
from opsportal.bench import switching
from opsportal.bench.clicks import Browser
from opsportal.bench.exceptions import BenchError
from opsportal.bench.ground import Ground
from opsportal.bench.portal import Place, Portal, finished, step_seconds
from opsportal.bench.report import Figure
from opsportal.bench.switching import Told
from opsportal.bench.traffic import steady

GOAL_S = 2.0
QUIET_S = 0.5
VERSIONS = ("v1.1.0", "v1.2.0")


@dataclass(frozen=True)
class Click:
    """One rollback: by the monotonic clock clicked and ended, the version gone back to, seconds by step."""

    version: str
    clicked: float
    ended: float
    steps: dict[str, float]


@dataclass(frozen=True)
class Clicks:
    """All of them, and what the clients met."""

    made: Sequence[Click]
    told: Told

    def to_traffic(self) -> list[float]:
        """Seconds from each click to the first request from which on all are answered by the version before."""
        return [self._to_traffic(click) for click in self.made]

    def _to_traffic(self, click: Click) -> float:
        answers = self.told.between(click.clicked, click.ended)
        left = [answer.began for answer in answers if answer.version != click.version]
        after = bisect_left(answers, max(left, default=click.clicked) + 1e-9, key=attrgetter("began"))
        if after == len(answers):
            raise BenchError(f"The traffic did not go back to {click.version} within the rollback.")
        return answers[after].began - click.clicked


def measure(portal: Portal, place: Place, count: int) -> Clicks:
    """So many rollbacks through the portal, to a slot that is warm, behind Caddy under the steady load."""
    with switching.place("Caddy") as (made, port):
        environment, releases = _bring_up(made, place)
        live = LiveState.objects.get(environment=environment)
        browser, clicks = Browser(portal.port), []
        browser.sign_in(place)
        with steady(port, switching.RATE) as seen:
            for number in range(count):
                time.sleep(QUIET_S)
                clicks.append(_click(browser, live, releases[number % len(releases)]))
            time.sleep(QUIET_S)
        return Clicks(clicks, Told.of(made, seen))


def _bring_up(made: Ground, place: Place) -> tuple[Environment, list[Release]]:
    """An environment that is deployed to by blue-green, with two releases that went live through the portal."""
    service = place.plan.target.component.environment.service
    environment = Environment.objects.create(service=service, name="Switching", slug="switching", kind="staging")
    save_profile(DeploymentProfile(environment=environment, settings=made.settings, command_timeout_s=60))
    LiveState.objects.filter(environment=environment).update(settings=switching.variables(made))
    releases = []
    for version in VERSIONS:
        artefact = made.artefact(version)
        release = create_release(
            service, version, source_kind="folder", source=artefact.source, checksum=artefact.checksum, by=place.by
        )
        asked = requesting.request_deployment(environment, release, by=place.by, reason="Measurement")
        operation = requesting.start(asked, by=place.by).operation
        assert operation is not None
        finished(operation)
        releases.append(release)
    return environment, releases


def _click(browser: Browser, live: LiveState, to: Release) -> Click:
    path = f"/deployments/livestate/{live.pk}/do/roll_back/"
    fields = browser.get(path)
    clicked = time.monotonic()
    browser.post(path, {**fields, "to": str(to.pk), "reason": "Measurement"})
    row = Deployment.objects.select_related("operation").get(request_key=fields["request_key"])
    assert row.operation is not None
    operation = finished(row.operation)
    return Click(to.version, clicked, time.monotonic(), step_seconds(operation))


def figures(clicks: Clicks) -> list[Figure]:
    """For the report."""
    told, seconds = clicks.told, clicks.to_traffic()
    switches = [click.steps["switch"] for click in clicks.made]
    return [
        Figure("Click on Roll back to all traffic on the version before", "s", seconds, GOAL_S, "p95"),
        Figure("  the same", "s", seconds, statistic="p50"),
        Figure("  step “switch” of it", "s", switches, statistic="p50"),
        Figure(f"  failed requests in {len(seconds)} rollbacks", "", [len(told.failed)], 0, "max"),
        Figure("  races on reused connections", "", [told.races], 0, "max"),
    ]
