"""The worker's own machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catalog.connectors.base import Connector, Endpoint
from catalog.exceptions import CatalogError
from operations.commands import Command


class LocalConnector(Connector):
    """Runs commands as they are, after a look at the machine's name."""

    kind = "local"

    @property
    def place(self) -> str:
        return "this machine"

    def _assert_identity(self) -> None:
        here = socket.gethostname()
        if self.expected_hostname and self.expected_hostname != here:
            raise CatalogError(
                f"This worker runs on {here}, expected is {self.expected_hostname}. Nothing was started. "
                "Serve the host's queue on that machine only, or correct the host in the catalog."
            )

    def wrap(self, command: Command) -> Command:
        self._assert_identity()
        return command

    @contextmanager
    def forward(self, host: str, port: int, folder: Path) -> Iterator[Endpoint]:
        self._assert_identity()
        yield Endpoint(host, port)
