"""The ways to deploy. A new one is a module and a line here."""

from deployments.drivers.base import Driver
from deployments.drivers.blue_green import BlueGreenDriver
from deployments.drivers.compose import ComposeDriver
from deployments.drivers.kubernetes import KubernetesDriver
from deployments.drivers.rolling import RollingDriver
from deployments.drivers.script import ScriptDriver

DRIVERS: dict[str, type[Driver]] = {
    driver.kind: driver for driver in (BlueGreenDriver, RollingDriver, ScriptDriver, ComposeDriver, KubernetesDriver)
}

__all__ = ["DRIVERS", "Driver"]
