"""The service control port: start, stop and ask for the service of an environment.

Rooms that restore a database or switch a release call `control_for(environment, run=ctx.run)` and need not know how a
service is controlled. Built in are the commands an administrator wrote down; a room that knows more about a service
registers a factory of its own with `register`.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from catalog.connectors import LocalConnector
from catalog.exceptions import CatalogError
from catalog.models import Environment, ServiceControlCommands
from catalog.reach import connector_for
from operations.commands import Command, Result
from operations.commands import run as run_directly
from operations.exceptions import CommandFailed

STOPPED = 3  # exit code of `systemctl status` and of LSB init scripts for "not running"
FIRST_POLL_S = 0.2
LONGEST_POLL_S = 2.0
MAX_MESSAGE_CHARS = 300

Run = Callable[[Command], Result]


@dataclass(frozen=True)
class ServiceStatus:
    """What is known about a service. None: it could not be found out, and the message says why."""

    running: bool | None
    ready: bool | None
    message: str = ""


class ServiceControl(ABC):
    """Start, stop and status of the service of one environment. Each call is idempotent."""

    ready_timeout_s: float = 120
    """How long `wait_ready` waits when the caller does not say."""

    @abstractmethod
    def start(self) -> None:
        """Start the service; it need not be ready yet. Raises CatalogError with a sentence."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the service and return when it has stopped. Raises CatalogError with a sentence."""

    @abstractmethod
    def status(self) -> ServiceStatus:
        """Ask for the service. Not being able to find out is an answer, not an error."""

    def commands(self) -> Mapping[str, Command]:
        """The commands behind "start", "stop" and "status", for a dry run, as far as there are any. Runs nothing."""
        return {}

    def wait_ready(self, timeout_s: float | None = None) -> ServiceStatus:
        """Ask until the service is ready and return that status. Raises CatalogError when the time is over."""
        limit_s = self.ready_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        pause_s = FIRST_POLL_S
        while True:
            status = self.status()
            if status.ready:
                return status
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                last = f" The last answer was: {status.message}" if status.message else ""
                raise CatalogError(
                    f"The service was not ready within {limit_s:g} s.{last} "
                    "Look at the service's own log, then start it again."
                )
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 2, LONGEST_POLL_S)


class CommandServiceControl(ServiceControl):
    """Runs the argument vectors of `ServiceControlCommands` where they belong, through the caller's `run`."""

    def __init__(self, config: ServiceControlCommands, run: Run) -> None:
        self._connector = connector_for(config.host)
        self._commands = {
            action: Command(argv=tuple(argv), timeout_s=config.timeout_s)
            for action, argv in (("start", config.start), ("stop", config.stop), ("status", config.status))
        }
        self._run = run
        self.ready_timeout_s = config.ready_timeout_s

    def commands(self) -> Mapping[str, Command]:
        if self._connector.kind == LocalConnector.kind:
            return dict(self._commands)  # the machine that shows them need not be the one that runs them
        return {action: self._connector.wrap(command) for action, command in self._commands.items()}

    def start(self) -> None:
        self._demand("start")

    def stop(self) -> None:
        self._demand("stop")

    def status(self) -> ServiceStatus:
        result, unreached = self._result("status")
        if unreached:
            return ServiceStatus(None, None, unreached)
        said = last_line(result)
        if result.timed_out:
            limit_s = self._commands["status"].timeout_s
            return ServiceStatus(None, None, f"The status command did not answer within {limit_s:g} s.")
        if result.code == 0:
            return ServiceStatus(True, True, said)
        if result.code == STOPPED:
            return ServiceStatus(False, False, said)
        return ServiceStatus(None, None, f"The status command ended with code {result.code}: {said or 'no output'}")

    def _demand(self, action: str) -> None:
        """Run start or stop. Raises CatalogError unless it ends with 0."""
        result, unreached = self._result(action)
        if unreached:
            raise CatalogError(unreached)
        if result.timed_out:
            raise CatalogError(
                f"The {action} command did not end within {self._commands[action].timeout_s:g} s and was stopped. "
                "It has to return at once; leave waiting to the status command."
            )
        if result.code != 0:
            raise CatalogError(
                f"The {action} command ended with code {result.code}: {last_line(result) or 'no output'}. "
                f"Repair the service or the command, then try again."
            )

    def _result(self, action: str) -> tuple[Result, str]:
        """How one command ended, whether the caller's `run` raises for a failure or not; and why it was not reached."""
        command = self._connector.wrap(self._commands[action])
        try:
            result = self._run(command)
        except CommandFailed as failure:
            result = failure.result
        if result.cancelled:
            raise CatalogError(f"The {action} command was stopped before its end: {result.stop_reason or 'cancelled'}.")
        explained = command.explain(result) if command.explain and result.code and not result.timed_out else ""
        return result, explained


def last_line(result: Result) -> str:
    """The last line a command said, errors first, short enough for a sentence."""
    for output in (result.stderr, result.stdout.decode(errors="replace")):
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        if lines:
            return lines[-1][:MAX_MESSAGE_CHARS].rstrip(".")
    return ""


class Factory(Protocol):
    """Makes the control of an environment, or returns None when it does not know that environment."""

    def __call__(self, environment: Environment, run: Run) -> ServiceControl | None: ...


_factories: dict[str, Factory] = {}


def register(name: str, factory: Factory) -> None:
    """Offer another way to control services; the latest registered is asked first. A known name is replaced."""
    _factories.pop(name, None)
    _factories[name] = factory


def unregister(name: str) -> None:
    """Take back what `register` offered."""
    _factories.pop(name, None)


def control_for(environment: Environment, *, run: Run = run_directly) -> ServiceControl | None:
    """The control of the service in this environment, or None when nobody has said how to control it.

    `run` executes one command; an operation passes `ctx.run`, which logs and records it.
    """
    for factory in reversed(_factories.values()):
        control = factory(environment, run)
        if control is not None:
            return control
    return None


def _from_commands(environment: Environment, run: Run) -> ServiceControl | None:
    config = ServiceControlCommands.objects.select_related("host__via").filter(environment=environment).first()
    return CommandServiceControl(config, run) if config else None


register("commands", _from_commands)
