"""Two slots on a host behind one proxy: the new version starts beside the old one, and traffic goes over at once.

The proxy is never reloaded. It reads for each request which slot is live: Caddy from a file with the port, as upstream
`tcp/127.0.0.1:{file./srv/erp/active_port}`, or nginx from a symbolic link to a socket, as upstream
`unix:/srv/erp/active.sock`. Keep-alive towards the slots has to be off (`keepalive off` in Caddy's `transport http`; no
`keepalive` in nginx's `upstream`): then a connection is a request, and draining is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms

from deployments.drivers.base import Artefact, Check, Driver, PortHolder, Reality, Sample, Surroundings
from deployments.drivers.fields import PathField
from deployments.drivers.host_form import BEFORE_PROXY, HostForm
from deployments.drivers.slots import Slots

PROXIES = (("port_file", "Caddy, by a file with the port"), ("socket_link", "nginx, by a link to the socket"))


class BlueGreenForm(HostForm):
    """Where the slots are, how the program is started, what the proxy reads."""

    proxy = forms.ChoiceField(label="Proxy", choices=PROXIES)
    blue = forms.IntegerField(label="Port of blue", required=False, min_value=1, max_value=65535)
    green = forms.IntegerField(label="Port of green", required=False, min_value=1, max_value=65535)
    file = PathField(
        label="File that the proxy reads",
        required=False,
        max_length=300,
        help_text="Empty: active_port or active.sock in the folder.",
    )

    field_order = (*BEFORE_PROXY, "proxy", "blue", "green", "file")

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if values.get("proxy") == "port_file":
            for slot in ("blue", "green"):
                if not values.get(slot) and slot not in self.errors:
                    self.add_error(slot, "Each slot needs a port of its own.")
            if values.get("blue") and values.get("blue") == values.get("green"):
                self.add_error("green", "The slots need different ports.")
        return values


class BlueGreenDriver(Driver):
    """Two slots on one host: the new version starts beside the old one, then the proxy sends it the traffic."""

    kind = "blue_green"
    label = "Blue-green on a host"
    form = BlueGreenForm
    sources = frozenset({"folder", "archive"})
    zero_downtime = True
    can_free_ports = True

    def __init__(self, settings: Mapping[str, Any], around: Surroundings) -> None:
        super().__init__(settings, around)
        self.slots = Slots(settings, around)

    def preflight(self, artefact: Artefact) -> list[Check]:
        if artefact.kind not in self.sources:
            sentence = f"{artefact.version} is neither a folder nor an archive on the host."
            return [Check("artefact", False, sentence, "Blue-green on a host deploys folders and archives.")]
        return self.slots.preflight(artefact)

    def look(self) -> Reality:
        return self.slots.look()

    def preview(self, artefact: Artefact) -> dict[str, list[str]]:
        root, argv = self.settings["root"], " ".join(self.settings["argv"])
        file = self.settings.get("file") or f"{root}/active_{'port' if self._by_port else 'sock'}"
        return {
            "prepare": [f"{artefact.source} is brought to {root}/releases/{artefact.version}", argv],
            "switch": [f"{file} names the slot of {artefact.version}"],
            "drain": ["Requests that the version before has begun come to their end; it stays warm"],
        }

    @property
    def _by_port(self) -> bool:
        return self.settings.get("proxy") != "socket_link"

    def logs(self, version: str, lines: int = 40) -> list[str]:
        return self.slots.logs(version, lines)

    def sample(self) -> Sample | None:
        return self.slots.sample()

    def prepare(self, artefact: Artefact) -> None:
        self.slots.prepare(artefact)

    def wait_ready(self, artefact: Artefact, within_s: float) -> None:
        self.slots.wait_ready(artefact.version, within_s)

    def switch(self, artefact: Artefact) -> None:
        self.slots.switch(artefact.version)

    def drain(self, artefact: Artefact, within_s: float) -> None:
        self.slots.drain(within_s, self.around.log)

    def discard(self, artefact: Artefact) -> None:
        self.slots.discard(artefact.version)

    def restart(self) -> None:
        """The same version in the other slot, then traffic goes over: nobody waits. One that has ended is started."""
        version = self.look().live
        if not version:
            self.start()
            return
        self.slots.prepare(Artefact(version, "folder", ""), anew=True)
        self.slots.wait_ready(version, self.around.timeout_s)
        self.slots.switch(version)

    def start(self) -> None:
        version = str(self.slots.ask("start")["version"])
        self.slots.wait_ready(version, self.around.timeout_s)

    def stop(self) -> None:
        self.slots.ask("stop")

    def port_holders(self) -> list[PortHolder]:
        return self.slots.port_holders()

    def end_port_holder(self, holder: PortHolder) -> None:
        self.slots.end_port_holder(holder)

    def leftovers(self, keep: Sequence[str]) -> list[str]:
        return self.slots.leftovers(keep)

    def cleanup(self, keep: Sequence[str]) -> list[str]:
        return self.slots.cleanup(keep)
