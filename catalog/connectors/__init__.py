"""The ways to the places where programs run. A new one is a module and a line here."""

from catalog.connectors.base import Connector, Endpoint
from catalog.connectors.containers import ComposeConnector, ContainerConnector
from catalog.connectors.kubernetes import KubectlConnector
from catalog.connectors.local import LocalConnector
from catalog.connectors.ssh import SshConnector

CONNECTORS: dict[str, type[Connector]] = {
    connector.kind: connector
    for connector in (LocalConnector, SshConnector, ContainerConnector, ComposeConnector, KubectlConnector)
}

__all__ = [
    "CONNECTORS",
    "ComposeConnector",
    "Connector",
    "ContainerConnector",
    "Endpoint",
    "KubectlConnector",
    "LocalConnector",
    "SshConnector",
]
