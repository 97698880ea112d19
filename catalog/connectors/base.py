"""What a connector is: it reaches one place where programs run. It knows nothing of the portal's tables or tasks.

A connector starts nothing itself. It turns a command that should run *there* into the command that the worker starts
*here*, so the one runner in `operations.commands` masks, limits, logs and ends every command, near or far. A new
connector is one new module with a subclass of `Connector` and one line in `catalog.connectors.CONNECTORS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from operations.commands import Command


def always() -> bool:
    """For endpoints that need nothing kept open."""
    return True


@dataclass(frozen=True)
class Endpoint:
    """Where a client on this machine connects to. `host` is an address or the folder of a Unix socket, as in libpq."""

    host: str
    port: int
    is_open: Callable[[], bool] = field(default=always, compare=False)
    """Whether what leads there is still up."""


class Connector(ABC):
    """One way to a place. Every method may raise `CatalogError` with a sentence that says what to do."""

    kind: ClassVar[str]

    def __init__(self, *, expected_hostname: str = "", inner: Connector | None = None) -> None:
        """`expected_hostname` is what the place must call itself before anything runs there; empty means not checked.

        `inner` reaches the machine from which this place is reached, such as the host of a container; without it that
        is the worker's own machine.
        """
        self.expected_hostname = expected_hostname
        self.inner = inner

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it leads, for a sentence: “the container erp-postgres on db1.example.org”."""

    @abstractmethod
    def wrap(self, command: Command) -> Command:
        """The command to start here so that `command` runs there.

        Argument vectors stay data, standard input and output are passed through byte by byte, no terminal is
        allocated, and the place is asked who it is, in the same session, before the program starts.
        """

    @abstractmethod
    def forward(self, host: str, port: int, folder: Path) -> AbstractContextManager[Endpoint]:
        """Connections to the endpoint reach `host`:`port` as seen from there (`host` may be a socket folder).

        `folder` is a private folder of the caller for the socket. All of it ends with the context, or with the worker.
        """

    def _outwards(self, command: Command) -> Command:
        """The command that leads there, as it is started from the machine before it."""
        return self.inner.wrap(command) if self.inner else command

    @property
    def _from(self) -> str:
        """“ on db1.example.org”, or nothing where the worker's machine comes before."""
        return f" on {self.inner.place}" if self.inner else ""
