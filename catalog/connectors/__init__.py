"""The ways to the places where programs run. A new one is a module and a line here."""

from catalog.connectors.base import Connector, Endpoint
from catalog.connectors.local import LocalConnector

CONNECTORS: dict[str, type[Connector]] = {connector.kind: connector for connector in (LocalConnector,)}

__all__ = ["CONNECTORS", "Connector", "Endpoint", "LocalConnector"]
