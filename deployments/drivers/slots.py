"""What runs in slots on a host: the agent is sent there with a request, and its answer is read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from deployments.drivers import agent
from deployments.drivers.base import Artefact, Check, Instance, PortHolder, Reality, Sample, Surroundings
from deployments.exceptions import DeploymentError, Fenced, NotReady
from operations.exceptions import CommandFailed
from operations.masking import mask

PACKAGE = agent.__name__
FOLDER = Path(__file__).with_name("agent")
_KINDS: dict[str, type[DeploymentError]] = {"fenced": Fenced, "not_ready": NotReady}
_BEGIN = """
import json, sys, types
PACKAGE, ROOMS, WISH = json.loads({0!a})
house = sys.modules[PACKAGE] = types.ModuleType(PACKAGE)
for name, text in ROOMS.items():
    room = sys.modules[PACKAGE + "." + name] = types.ModuleType(PACKAGE + "." + name)
    exec(compile(text, name + ".py", "exec"), room.__dict__)
    setattr(house, name, room)
sys.modules[PACKAGE + ".requests"].main(WISH)
"""
"""Builds the rooms of the agent in their order, so that they find each other by the names they have here."""


@cache
def rooms() -> dict[str, str]:
    return {name: (FOLDER / f"{name}.py").read_text(encoding="utf-8") for name in agent.ROOMS}


class HostAgent:
    """Slots below one folder of a host. `kind` of driver; `settings`: root, argv, ready_path, proxy, access_log, ..."""

    def __init__(self, kind: str, settings: Mapping[str, Any], around: Surroundings) -> None:
        self.kind, self.settings, self.around = kind, settings, around

    def ask(self, do: str, **wish: Any) -> dict[str, Any]:
        """One request. Raises Fenced, NotReady or DeploymentError with the sentence that the agent gave."""
        token = self.around.token
        request = {
            **self.settings,
            "environment": dict(self.around.environment),
            "secrets": dict(self.around.secrets),
            "token": [token.operation, token.attempt],
            "kind": self.kind,
            "do": do,
            **wish,
        }
        source = _BEGIN.format(json.dumps([PACKAGE, rooms(), request])).encode()
        try:
            result = self.around.there(self.settings.get("python") or "python3", "-I", "-", stdin=source)
        except CommandFailed as error:
            place = self.around.connector.place
            if error.result.code == 127:
                raise DeploymentError(f"There is no python3 on {place}. Install it there (3.9 or later).") from error
            raise DeploymentError(error.message) from error
        try:
            answer: dict[str, Any] = self._masked(json.loads(result.stdout))
        except ValueError:
            raise DeploymentError(
                f"{self.around.connector.place} answered with something else than was asked. Try again."
            ) from None
        if "trouble" in answer:
            raise _KINDS.get(answer["trouble"], DeploymentError)(answer["sentence"])
        return answer

    def _masked(self, said: Any) -> Any:
        """What an application prints may hold a secret that it was given."""
        if isinstance(said, str):
            return mask(said, tuple(self.around.secrets.values()))
        if isinstance(said, dict):
            return {name: self._masked(value) for name, value in said.items()}
        return [self._masked(each) for each in said] if isinstance(said, list) else said

    # -- looking -----------------------------------------------------------------------------------------------------

    def look(self) -> Reality:
        answer = self.ask("look")
        instances = [
            Instance(**{**slot, "since": _moment(slot["since"]), "note": slot["note"] or ""})
            for slot in answer["slots"]
        ]
        return Reality(answer["live"], instances, answer["sentence"], answer["present"], answer.get("unsettled", ""))

    def preflight(self, artefact: Artefact) -> list[Check]:
        return [Check(**check) for check in self.ask("preflight", artefact=asdict(artefact))["checks"]]

    def logs(self, version: str, lines: int) -> list[str]:
        return list(self.ask("logs", version=version, lines=lines)["lines"])

    def sample(self) -> Sample | None:
        if not self.settings.get("access_log"):
            return None
        answer = self.ask("sample")
        return Sample(answer["requests"], answer["errors"])

    def port_holders(self) -> list[PortHolder]:
        return [PortHolder(**each) for each in self.ask("holders")["found"]]

    def end_port_holder(self, holder: PortHolder) -> None:
        self.ask("end_holder", holder=asdict(holder))

    def leftovers(self, keep: Sequence[str]) -> list[str]:
        return [_removed(each, "would be removed") for each in self.ask("leftovers", keep=list(keep))["found"]]

    def cleanup(self, keep: Sequence[str]) -> list[str]:
        return [_removed(each, "was removed") for each in self.ask("cleanup", keep=list(keep))["found"]]


class Slots(HostAgent):
    """Two slots, blue and green, and the file that says which of them is live."""

    def __init__(self, settings: Mapping[str, Any], around: Surroundings) -> None:
        super().__init__("blue_green", settings, around)

    def prepare(self, artefact: Artefact, *, anew: bool = False) -> None:
        """`anew`: also where it runs there already, as for a restart."""
        answer = self.ask("prepare", artefact=asdict(artefact), anew=anew)
        word = "is still warm" if answer["warm"] else "was started"
        self.around.log(f"{artefact.version} {word} in the {answer['slot']} slot.")

    def wait_ready(self, version: str, within_s: float) -> None:
        give_up = time.monotonic() + within_s
        while True:
            answer = self.ask("ready", artefact={"version": version})
            if answer["ready"]:
                self.around.log(f"{version} is ready in the {answer['slot']} slot, {answer['ms']:.0f} ms.")
                return
            if time.monotonic() > give_up:
                words = " / ".join(answer["lines"]) or "none"
                raise NotReady(
                    f"{version} was not ready within {within_s:g} s: {answer['note']}. Its last words: {words}"
                )
            self.around.check()

    def switch(self, version: str) -> None:
        answer = self.ask("switch", artefact={"version": version})
        self.around.log(f"Traffic goes to the {answer['slot']} slot.")

    def drain(self, within_s: float, say: Callable[[str], None]) -> None:
        give_up = time.monotonic() + within_s
        while left := self.ask("drain", within_s=max(0.0, give_up - time.monotonic()))["left"]:
            if time.monotonic() > give_up:
                say(f"{left} requests of the version before were still under way after {within_s:g} s.")
                return
            self.around.check()

    def discard(self, version: str) -> None:
        self.ask("discard", artefact={"version": version})


def _moment(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""


def _removed(found: dict[str, Any], verb: str) -> str:
    return f"{found['name']} {verb}: {found['bytes'] / 1e6:.1f} MB."
