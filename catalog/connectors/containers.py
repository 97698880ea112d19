"""Containers: one by its name, or the service of a Compose project. Podman's `docker` works as well."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catalog.connectors.base import Connector, Endpoint
from catalog.connectors.far import carried, far_vector
from catalog.connectors.relay import relayed
from operations.commands import Command, Result

_EXPLANATIONS = (
    (
        r"Cannot connect to the Docker daemon|error during connect|docker daemon is not running",
        "The Docker engine{on} does not answer. Start it, or correct the socket of this host in the catalog.",
    ),
    (
        r"permission denied while trying to connect|dial unix .*: permission denied",
        "The portal's user may not use the Docker engine{on}. Add it to the group of the engine's socket.",
    ),
    (
        r"No such container|No such service|no configuration file provided|no container found for service",
        "There is no {place}. Start it, or correct its name in the catalog.",
    ),
    (
        r"is not running|is paused|is restarting|No container found for",
        "{place} is not running. Start it, then try again.",
    ),
    (r"not found.*Docker|docker(-compose)?: (command )?not found", "There is no docker program{on}. Install it there."),
    (r"executable file not found|\"sh\": .*not found", "{place} has no shell, which is needed to run anything in it."),
)

# Compose is a plugin of docker today and was a program of its own before.
_COMPOSE = 'if docker compose version >/dev/null 2>&1; then exec docker compose "$@"; else exec docker-compose "$@"; fi'


class ContainerConnector(Connector):
    """A running container. `socket` is that of the engine, empty for the usual one."""

    kind = "docker"

    def __init__(
        self, *, container: str, socket: str = "", expected_hostname: str = "", inner: Connector | None = None
    ) -> None:
        super().__init__(expected_hostname=expected_hostname, inner=inner)
        self.container, self.socket = container, socket

    @property
    def place(self) -> str:
        return f"the container {self.container}{self._from}"

    def _vector(self) -> tuple[str, ...]:
        engine = ("--host", f"unix://{self.socket}") if self.socket else ()
        return ("docker", *engine, "exec", "-i", self.container)

    def wrap(self, command: Command) -> Command:
        argv = (*self._vector(), *far_vector(command, self.expected_hostname, "child"))
        return self._outwards(carried(command, argv, self.place, self.expected_hostname, self._explain))

    def _explain(self, result: Result) -> str:
        if result.code not in (1, 125, 126, 127, 137):  # what docker and the shell in the container end with
            return ""
        for pattern, sentence in _EXPLANATIONS:
            if re.search(pattern, result.stderr, re.IGNORECASE):
                return sentence.format(place=self.place, on=self._from)
        return ""

    @contextmanager
    def forward(self, host: str, port: int, folder: Path) -> Iterator[Endpoint]:
        with relayed(self.wrap, host, port, folder) as endpoint:
            yield endpoint


class ComposeConnector(ContainerConnector):
    """The service of a Compose project. The file comes from the catalog, never from the working folder."""

    kind = "compose"

    def __init__(
        self,
        *,
        service: str,
        file: str,
        project: str = "",
        socket: str = "",
        expected_hostname: str = "",
        inner: Connector | None = None,
    ) -> None:
        super().__init__(container=service, socket=socket, expected_hostname=expected_hostname, inner=inner)
        self.file, self.project = file, project

    @property
    def place(self) -> str:
        return f"the service {self.container} of {self.file}{self._from}"

    def _vector(self) -> tuple[str, ...]:
        project = ("-p", self.project) if self.project else ()
        compose = ("sh", "-c", _COMPOSE, "compose", "-f", self.file, *project, "exec", "-T", self.container)
        return ("env", f"DOCKER_HOST=unix://{self.socket}", *compose) if self.socket else compose
