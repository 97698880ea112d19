"""What a driver is: it brings a version into one place and traffic onto it. It knows nothing of the portal's tables.

The portal asks a driver the same questions in the same order, whatever is behind it:

    preflight -> prepare -> wait_ready -> switch -> drain            a deployment
    prepare -> wait_ready -> switch                                  a rollback; `prepare` is quick where it is warm
    look                                                             what is live, at any time
    discard                                                          take away what was prepared and never went live
    revert                                                           traffic back to what was live before

Every call is idempotent: after a worker's death the next attempt asks the same again, and `look` says what is true.
A call that changes something there carries `around.token`; a place that has seen a later token refuses an earlier one,
so a worker that lost its lease cannot switch traffic any more. A new driver is one module and one line in
`deployments.drivers.DRIVERS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, BinaryIO, ClassVar, Protocol

from django import forms

from catalog.connectors import Connector
from operations.commands import Command, Result


@dataclass(frozen=True)
class Artefact:
    """What is deployed. `checksum` is `sha256:` and 64 hexadecimal digits, or empty for a git revision."""

    version: str
    kind: str
    """folder, archive, image or git."""
    source: str
    checksum: str = ""


@dataclass(frozen=True, order=True)
class Token:
    """Who acts: a later operation counts more than an earlier one, a later attempt more than the one before."""

    operation: int
    attempt: int


class Run(Protocol):
    """Runs a command to its end, logged and shown; raises `CommandFailed` unless it ends with 0."""

    def __call__(self, command: Command, *, stdin: BinaryIO | None = None) -> Result: ...


def nothing() -> None:
    """For callers that are never asked to stop."""


def unheard(text: str) -> None:
    """For callers that keep no log."""


@dataclass(frozen=True)
class Surroundings:
    """What a driver may use. `connector` reaches the place; `environment` and `secrets` are for the application only.

    `check` raises when this attempt has to end, and is called at least once a second while something is waited for.
    """

    connector: Connector
    run: Run
    token: Token
    log: Callable[[str], None] = unheard
    check: Callable[[], None] = nothing
    environment: Mapping[str, str] = field(default_factory=dict)
    """Settings of the application that are no secrets."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variable -> value. Handed over by standard input or files, never by argument."""
    timeout_s: float = 600

    def there(self, *argv: str, stdin: bytes | None = None, timeout_s: float | None = None) -> Result:
        """Run a program in that place."""
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        command = self.connector.wrap(Command(argv, secrets=tuple(self.secrets.values()), timeout_s=limit_s))
        return self.run(command, stdin=BytesIO(stdin)) if stdin is not None else self.run(command)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `fix` says what to do when it is not good."""

    name: str
    good: bool
    sentence: str
    fix: str = ""


@dataclass(frozen=True)
class Instance:
    """One running copy: a slot, a container, a pod. `warm`: it could take traffic at once."""

    name: str
    version: str = ""
    running: bool = False
    ready: bool = False
    live: bool = False
    address: str = ""
    """Where it listens, for people: `127.0.0.1:8001`."""
    since: str = ""
    answer_ms: float | None = None
    """How long its health check took, where it was asked."""
    note: str = ""

    @property
    def warm(self) -> bool:
        return self.running and self.ready and not self.live


@dataclass(frozen=True)
class Reality:
    """What is true there now. `live` is the version that gets traffic; empty: none, or it cannot be told."""

    live: str
    instances: Sequence[Instance] = ()
    sentence: str = ""
    revisions: Sequence[str] = ()
    """Versions that could be made live without being brought there again, newest first."""
    unsettled: str = ""
    """Why this is no whole state, such as two versions at once, where nobody is at work any more; empty: it is one."""

    def instance_of(self, version: str) -> Instance | None:
        """The copy that runs this version, the live one first."""
        found = [each for each in self.instances if each.version == version]
        return next((each for each in found if each.live), found[0] if found else None)

    def has(self, version: str) -> bool:
        return version in self.revisions or any(each.version == version for each in self.instances)


@dataclass(frozen=True)
class PortHolder:
    """A program of somebody else that listens where a slot is to listen."""

    port: int
    pid: int
    started: int
    """When it began, in the kernel's ticks: with `pid` it means this process and no later one."""
    program: str
    user: int

    def __str__(self) -> str:
        return f"{self.program} (process {self.pid} of user {self.user}) on port {self.port}"


@dataclass(frozen=True)
class Sample:
    """What the application answered since the last look, as far as it can be seen there."""

    requests: int
    errors: int
    """Answers with a code of 500 or more."""
    sentence: str = ""


class Driver(ABC):
    """One way to deploy. `form` describes its settings and judges them; `settings` are its cleaned values.

    Every method may raise `DeploymentError` with a sentence that says what to do, or `Fenced`.
    """

    kind: ClassVar[str]
    label: ClassVar[str]
    form: ClassVar[type[forms.Form]]
    sources: ClassVar[frozenset[str]]
    """Kinds of artefact it can deploy: folder, archive, image, git."""
    zero_downtime: ClassVar[bool] = False
    can_scale: ClassVar[bool] = False
    can_free_ports: ClassVar[bool] = False

    def __init__(self, settings: Mapping[str, Any], around: Surroundings) -> None:
        self.settings = settings
        self.around = around

    # -- looking -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def preflight(self, artefact: Artefact) -> list[Check]:
        """Ports, disk, permissions, programs, the artefact and its checksum. Changes nothing."""

    @abstractmethod
    def look(self) -> Reality:
        """What runs there and what gets the traffic. Changes nothing."""

    def preview(self, artefact: Artefact) -> dict[str, list[str]]:
        """For the dry run: what `prepare`, `switch`, `drain` would do, as masked commands or sentences."""
        return {}

    def logs(self, version: str, lines: int = 40) -> list[str]:
        """The last lines that this version wrote, for whoever has to find out why it does not work."""
        return []

    def sample(self) -> Sample | None:
        """Requests and errors since the last look, where the place counts them; None: it does not."""
        return None

    # -- deploying ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def prepare(self, artefact: Artefact) -> None:
        """Bring the artefact there and start it beside what is live. Nothing of it gets traffic yet."""

    @abstractmethod
    def wait_ready(self, artefact: Artefact, within_s: float) -> None:
        """Until it answers its health check. Raises NotReady, with its last words, when the time is over."""

    @abstractmethod
    def switch(self, artefact: Artefact) -> None:
        """All new requests go to this version from now on; returns when that is so. Raises Fenced."""

    @abstractmethod
    def drain(self, artefact: Artefact, within_s: float) -> None:
        """Let the requests that the version before has begun come to their end, at most so long. Ends nothing warm."""

    @abstractmethod
    def discard(self, artefact: Artefact) -> None:
        """Stop what `prepare` started. Nothing happens when it is live, or was never started."""

    def revert(self, version: str) -> None:
        """Traffic back to this version, which was live before and is still there. By default a switch."""
        self.switch(Artefact(version, "", ""))

    # -- looking after it --------------------------------------------------------------------------------------------

    @abstractmethod
    def restart(self) -> None:
        """Start the live version again, without interruption where that is possible; returns when it is ready."""

    def start(self) -> None:
        """Start the live version when it does not run."""
        self.restart()

    @abstractmethod
    def stop(self) -> None:
        """Stop the live version: nothing answers any more."""

    def scale(self, count: int) -> int:
        """So many copies. Returns how many there were."""
        from deployments.exceptions import DeploymentError

        raise DeploymentError(f"{self.label} runs a fixed number of copies. Change its settings instead.")

    def port_holders(self) -> list[PortHolder]:
        """Who else listens where its slots are to listen. Changes nothing."""
        return []

    def end_port_holder(self, holder: PortHolder) -> None:
        """End that program: it is asked to, then made to. Nothing happens to any other that has its number by now."""
        from deployments.exceptions import DeploymentError

        raise DeploymentError(f"{self.label} has no ports of its own.")

    @abstractmethod
    def leftovers(self, keep: Sequence[str]) -> list[str]:
        """What `cleanup` would remove, in sentences: old versions, stopped copies. `keep`: versions that stay."""

    @abstractmethod
    def cleanup(self, keep: Sequence[str]) -> list[str]:
        """Remove it and say what was removed. What is live or warm stays."""
