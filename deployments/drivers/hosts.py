"""How a driver acts on a host: `at_host.py` is sent there with a request, and its answer is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.drivers.base import Surroundings
from deployments.exceptions import DeploymentError, Fenced
from operations.exceptions import CommandFailed
from operations.masking import mask

PROGRAM = Path(__file__).with_name("at_host.py")
LOCK_WAIT_S = 20.0
SLACK_S = 15.0


@dataclass(frozen=True)
class Done:
    """How one command ended there. `late`: it was ended because its time was over."""

    code: int
    out: str
    err: str
    late: bool = False

    def last_words(self, count: int = 3) -> str:
        """Its last lines, of standard error first: that is where programs complain."""
        lines = [line.strip() for line in f"{self.out}\n{self.err}".splitlines() if line.strip()]
        return " / ".join(lines[-count:])[-600:]


@dataclass(frozen=True)
class Answer:
    """What the host said. `answers` are health checks in the order they were asked for."""

    commands: Sequence[Done]
    notes: Mapping[str, Any]
    read: Mapping[str, str | None]
    paths: Mapping[str, Mapping[str, Any]]
    answers: Sequence[Mapping[str, Any]]
    connections: Mapping[str, int]


class HostSide:
    """One fence on one host. `fence` is the path of its file there; the folder has to exist."""

    def __init__(self, around: Surroundings, fence: str) -> None:
        self.around, self.fence = around, fence

    def look(self, **request: Any) -> Answer:
        """Changes nothing. Raises DeploymentError."""
        return self._send({**request, "token": None})

    def act(self, **request: Any) -> Answer:
        """Under the lock, as this token. Raises Fenced when a later one has acted, DeploymentError for trouble."""
        token = self.around.token
        return self._send({"wait_s": LOCK_WAIT_S, **request, "token": [token.operation, token.attempt]})

    def _send(self, request: Mapping[str, Any]) -> Answer:
        limit_s = self.around.timeout_s
        text = json.dumps({"limit_s": limit_s, **request, "fence": self.fence})
        source = f"{PROGRAM.read_text(encoding='utf-8')}\n\nmain(json.loads({text!a}))\n".encode()
        allowed_s = limit_s * max(1, len(request.get("commands", ()))) + LOCK_WAIT_S + SLACK_S
        try:
            result = self.around.there("python3", "-I", "-", stdin=source, timeout_s=allowed_s)
        except CommandFailed as error:
            raise DeploymentError(self._sentence(error)) from error
        try:
            said = json.loads(result.stdout)
        except ValueError:
            place = self.around.connector.place
            raise DeploymentError(f"{place} answered with something else than was asked. Try again.") from None
        return self._judged(said)

    def _sentence(self, error: CommandFailed) -> str:
        if error.result.code == 127:
            return f"There is no python3 on {self.around.connector.place}. Install it there (version 3.8 or later)."
        return error.message

    def _judged(self, said: dict[str, Any]) -> Answer:
        if said["trouble"]:
            raise DeploymentError(said["trouble"])
        if said["fenced"]:
            operation, attempt = said["fenced"]
            raise Fenced(
                f"Attempt {attempt} of operation {operation} has acted on {self.around.connector.place} since. "
                "Nothing was changed; see what that one did."
            )
        done = [self._done(each) for each in said["commands"]]
        return Answer(done, said["notes"], said["read"], said["paths"], said["answers"], said["connections"])

    def _done(self, said: Mapping[str, Any]) -> Done:
        """What a command said may hold a secret that it was given."""
        out, err = (mask(said[stream], tuple(self.around.secrets.values())) for stream in ("out", "err"))
        return Done(said["code"], out, err, said.get("late", False))


def failed(done: Done, what: str, fix: str) -> str:
    """A sentence on a command that did not end well."""
    words = done.last_words()
    said = f" It said: {words}" if words else " It said nothing."
    if done.late:
        return f"{what} took too long and was ended.{said} {fix}"
    how = f"signal {done.code - 128}" if done.code > 128 else f"exit code {done.code}"
    return f"{what} failed ({how}).{said} {fix}"
