"""From rows to connectors: how the machine of a `Host` is reached."""

from __future__ import annotations

from catalog.connectors import Connector, LocalConnector
from catalog.models import Host


def connector_for(host: Host | None) -> Connector:
    """The way to a host; None is the worker's own machine, whichever that is."""
    if host is None:
        return LocalConnector()
    return LocalConnector(expected_hostname=host.expected_hostname)
