"""How backups and runbooks start, stop and ask for a service that is deployed by the portal: through its driver."""

from __future__ import annotations

from catalog import service_control
from catalog.exceptions import CatalogError
from catalog.models import Environment
from catalog.service_control import Run, ServiceControl, ServiceStatus
from core.exceptions import PortalError
from deployments import reach
from deployments.drivers.base import Driver, Token
from deployments.models import DeploymentProfile, LiveState
from operations.models import Operation


class DriverControl(ServiceControl):
    """The live version of an environment."""

    def __init__(self, driver: Driver, version: str, ready_within_s: float) -> None:
        self.driver, self.version = driver, version
        self.ready_timeout_s = ready_within_s

    def start(self) -> None:
        self._do(self.driver.start)

    def stop(self) -> None:
        self._do(self.driver.stop)

    def _do(self, act: object) -> None:
        assert callable(act)
        try:
            act()
        except PortalError as error:
            raise CatalogError(error.message) from error

    def status(self) -> ServiceStatus:
        try:
            reality = self.driver.look()
        except PortalError as error:
            return ServiceStatus(None, None, error.message)
        live = reality.instance_of(reality.live or self.version)
        if live is None:
            return ServiceStatus(False, False, reality.sentence or "Nothing runs.")
        return ServiceStatus(live.running, live.running and live.ready, reality.sentence)


def factory(environment: Environment, run: Run) -> ServiceControl | None:
    """For environments whose release the portal has deployed; the others keep their written-down commands."""
    live = LiveState.objects.select_related("release").filter(environment=environment, release__isnull=False).first()
    profile = DeploymentProfile.objects.select_related("host").filter(environment=environment).first()
    if live is None or live.release is None or profile is None:
        return None
    # Whoever controls a service does so within the newest operation there is: an older one may not any more.
    newest = Operation.objects.order_by("-pk").values_list("pk", "attempt").first() or (0, 0)
    token = Token(*newest)
    driver = reach.driver_of(environment, reach.frozen(profile), run=reach.for_driver(run), token=token)
    return DriverControl(driver, live.release.version, profile.ready_within_s)


service_control.register("deployments", factory)
