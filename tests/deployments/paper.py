"""A driver whose place is a file, for tests of everything around drivers. It fences, and fails where it is told to."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django import forms

from deployments.drivers.base import Artefact, Check, Driver, Instance, PortHolder, Reality, Sample
from deployments.exceptions import DeploymentError, Fenced, NotReady


class PaperForm(forms.Form):
    file = forms.CharField()


class PaperDriver(Driver):
    """`{"live": version, "running": [...], "fence": [operation, attempt], "errors": share of answers}` in a file."""

    kind = "blue_green"  # the profile's choices are fixed; it stands in for the first of them
    label = "Paper"
    form = PaperForm
    sources = frozenset({"folder", "archive", "image", "git"})
    zero_downtime = True
    can_scale = True
    can_free_ports = True

    acts: dict[str, Callable[[PaperDriver], None]] = {}
    """What happens at the beginning of a call, by its name: tests raise from there."""
    calls: list[str] = []

    @property
    def file(self) -> Path:
        return Path(self.settings["file"])

    def read(self) -> dict[str, Any]:
        known = {"live": "", "running": [], "present": [], "fence": [0, 0], "requests": 0, "errors": 0, "copies": 1}
        return {**known, **(json.loads(self.file.read_text()) if self.file.exists() else {})}

    def write(self, **values: Any) -> None:
        state, token = self.read(), [self.around.token.operation, self.around.token.attempt]
        if token < state["fence"]:
            raise Fenced("A later attempt has acted here.")
        self.file.write_text(json.dumps({**state, "fence": token, **values}))

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if act := self.acts.get(name):
            act(self)

    def preflight(self, artefact: Artefact) -> list[Check]:
        self._called("preflight")
        return [Check("disk", True, "Space enough.")]

    def look(self) -> Reality:
        self._called("look")
        state = self.read()
        copies = [
            Instance(version, version, True, True, version == state["live"], answer_ms=12.0)
            for version in state["running"]
        ]
        return Reality(state["live"], copies, f"Live is {state['live'] or 'nothing'}.", state["present"])

    def sample(self) -> Sample | None:
        self._called("sample")
        state = self.read()
        return Sample(state["requests"], state["errors"])

    def port_holders(self) -> list[PortHolder]:
        self._called("port_holders")
        return [PortHolder(**each) for each in self.read().get("holders", [])]

    def end_port_holder(self, holder: PortHolder) -> None:
        self._called("end_port_holder")
        self.write(holders=[each for each in self.read()["holders"] if each != asdict(holder)])

    def prepare(self, artefact: Artefact) -> None:
        self._called("prepare")
        state = self.read()
        running = [each for each in state["running"] if each == state["live"]]
        version = artefact.version
        self.write(
            running=[*dict.fromkeys([*running, version])], present=[*dict.fromkeys([version, *state["present"]])]
        )

    def wait_ready(self, artefact: Artefact, within_s: float) -> None:
        self._called("wait_ready")
        if artefact.version not in self.read()["running"]:
            raise NotReady(f"{artefact.version} does not run.")

    def switch(self, artefact: Artefact) -> None:
        self._called("switch")
        if artefact.version not in self.read()["running"]:
            raise DeploymentError(f"{artefact.version} does not run.")
        self.write(live=artefact.version)
        self._called("switched")

    def drain(self, artefact: Artefact, within_s: float) -> None:
        self._called("drain")

    def discard(self, artefact: Artefact) -> None:
        self._called("discard")
        state = self.read()
        if state["live"] != artefact.version:
            self.write(running=[each for each in state["running"] if each != artefact.version])

    def restart(self) -> None:
        self._called("restart")
        self.write()

    def stop(self) -> None:
        self._called("stop")
        self.write(live="", running=[])

    def scale(self, count: int) -> int:
        self._called("scale")
        before = int(self.read()["copies"])
        self.write(copies=count)
        return before

    def leftovers(self, keep: Sequence[str]) -> list[str]:
        return [f"{version} would be removed." for version in self.read()["present"] if version not in keep]

    def cleanup(self, keep: Sequence[str]) -> list[str]:
        state = self.read()
        gone = [version for version in state["present"] if version not in keep and version != state["live"]]
        self.write(present=[version for version in state["present"] if version not in gone])
        return [f"{version} was removed." for version in gone]
