"""Several instances on a host behind one proxy, replaced one at a time while the others serve.

The proxy's list has one line for each instance, and the proxy reads it for each request: Caddy from files with ports,
as upstreams `tcp/127.0.0.1:{file./srv/erp/upstreams/1}`, `.../2` and so on, or nginx from symbolic links to sockets, as
`server unix:/srv/erp/upstreams/1.sock;` and so on. An instance that is taken out has its line name another one, so the
proxy is never reloaded and never tries an address where nobody listens. Keep-alive towards the instances has to be off
(`keepalive off` in Caddy's `transport http`; no `keepalive` in nginx's `upstream`): then a connection is a request, and
draining is exact.

The list, and which program runs where, is all there is to know: whoever dies on the way, the next attempt looks and
goes on, or back. `live` is the version that most of the serving instances run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from django import forms

from deployments.drivers.base import Artefact, Check, Driver, PortHolder, Reality, Sample, Surroundings
from deployments.drivers.fields import PortsField
from deployments.drivers.host_form import BEFORE_PROXY, HostForm
from deployments.drivers.slots import HostAgent
from deployments.exceptions import DeploymentError, Fenced, NotReady

PROXIES = (("port_file", "Caddy, by files with the ports"), ("socket_link", "nginx, by links to the sockets"))
STARTED, READY, DONE = ("starting", "ready", "done"), ("ready", "done"), ("done",)


class RollingForm(HostForm):
    """How many instances there are, how they are started, what the proxy reads."""

    proxy = forms.ChoiceField(
        label="Proxy",
        choices=PROXIES,
        help_text="It reads one upstream for each instance below the folder: upstreams/1, upstreams/2 and so on with "
        "Caddy, upstreams/1.sock and so on with nginx.",
    )
    instances = forms.IntegerField(
        label="Instances", initial=2, min_value=2, max_value=20, help_text="One of them is out while it is replaced."
    )
    ports = PortsField(
        label="Ports of the instances", required=False, max_length=200, help_text="With Caddy, one each: 8001 8002."
    )
    drain_s = forms.IntegerField(
        label="Drain each within (seconds)",
        initial=30,
        min_value=0,
        max_value=600,
        help_text="So long an instance that gets no new requests may finish those it has, before it is stopped.",
    )

    field_order = (*BEFORE_PROXY, "instances", "proxy", "ports", "drain_s")

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        instances, ports = values.get("instances"), values.get("ports")
        if values.get("proxy") == "port_file" and instances and ports is not None and len(ports) != instances:
            self.add_error("ports", f"There are {instances} instances, so {instances} ports are needed.")
        return values


class RollingDriver(Driver):
    """One instance after the other, behind a proxy that leaves out the one that changes.

    `prepare` replaces the first instance and keeps it out of the list; `switch` puts it in when it is ready and goes on
    with the others. A version that does not become ready makes room for the one before, everywhere, by itself.
    """

    kind = "rolling"
    label = "Rolling on a host"
    form = RollingForm
    sources = frozenset({"folder", "archive"})
    zero_downtime = True
    can_free_ports = True

    def __init__(self, settings: Mapping[str, Any], around: Surroundings) -> None:
        super().__init__(settings, around)
        self.host = HostAgent(self.kind, settings, around)
        self._within_s = around.timeout_s

    # -- looking -----------------------------------------------------------------------------------------------------

    def preflight(self, artefact: Artefact) -> list[Check]:
        if artefact.kind not in self.sources:
            sentence = f"{artefact.version} is neither a folder nor an archive on the host."
            return [Check("artefact", False, sentence, "Rolling on a host deploys folders and archives.")]
        return self.host.preflight(artefact)

    def look(self) -> Reality:
        return self.host.look()

    def preview(self, artefact: Artefact) -> dict[str, list[str]]:
        root, argv, count = self.settings["root"], " ".join(self.settings["argv"]), self.settings["instances"]
        each = f"is taken out of {root}/upstreams, drained, stopped and started anew:"
        return {
            "prepare": [f"{artefact.source} is brought to {root}/releases/{artefact.version}", f"1 {each}", argv],
            "switch": ["1 gets traffic when it is ready", *(f"{n} {each} {argv}" for n in range(2, count + 1))],
            "drain": ["Nothing: each instance was drained before it was stopped"],
        }

    def logs(self, version: str, lines: int = 40) -> list[str]:
        return self.host.logs(version, lines)

    def sample(self) -> Sample | None:
        return self.host.sample()

    # -- deploying ---------------------------------------------------------------------------------------------------

    def prepare(self, artefact: Artefact) -> None:
        self._begin(artefact, "deploy")
        self._walk(STARTED, hold=True)

    def wait_ready(self, artefact: Artefact, within_s: float) -> None:
        self._within_s = within_s
        self._walk(READY, hold=True)

    def switch(self, artefact: Artefact) -> None:
        before = self._begin(artefact, "deploy")
        try:
            self._walk(DONE)
        except Fenced:
            raise
        except DeploymentError as error:
            if before in ("", artefact.version):
                raise type(error)(f"{error.message} It gets no traffic.") from error
            self._go_back(before, error)

    def _go_back(self, before: str, error: DeploymentError) -> None:
        """All instances to the version before, and then the error, with what came of it."""
        self.around.log(f"{error.message} The instances that were replaced go back to {before}.")
        try:
            self.revert(before)
        except Fenced:
            raise
        except DeploymentError as trouble:
            raise DeploymentError(f"{error.message} Going back to {before} failed too. {trouble.message}") from error
        raise type(error)(f"{error.message} All instances run {before} again.") from error

    def drain(self, artefact: Artefact, within_s: float) -> None:
        """Each instance was drained, within a limit of its own, before it was stopped."""

    def discard(self, artefact: Artefact) -> None:
        """Back to what most of the serving instances run, wherever this version came to."""
        back = str(self.host.ask("discard", artefact=asdict(artefact))["back"])
        if back:
            self.revert(back)

    def revert(self, version: str) -> None:
        self._begin(Artefact(version, "", ""), "back")
        self._walk(DONE)

    def _begin(self, artefact: Artefact, mode: str) -> str:
        """Write down where the walk goes. Returns the version that was live before it."""
        return str(self.host.ask("begin", artefact=asdict(artefact), mode=mode)["from"])

    def _walk(self, enough: Sequence[str], *, hold: bool = False) -> None:
        """Until enough is done. Raises NotReady for an instance that does not answer for too long, Fenced, others."""
        waited_for: Any = None
        since = 0.0
        while True:
            answer = self.host.ask("advance", enough=list(enough), hold=hold)
            for sentence in answer["said"]:
                self.around.log(sentence)
            if answer["state"] in enough:
                return
            late = (answer.get("name"), answer.get("pid"))
            if late != waited_for:
                waited_for, since = late, time.monotonic()
            if answer["state"] == "starting" and time.monotonic() - since > self._within_s:
                words = " / ".join(answer["lines"]) or "none"
                raise NotReady(
                    f"Instance {answer['name']} was not ready within {self._within_s:g} s: {answer['note']}. "
                    f"Its last words: {words}"
                )
            self.around.check()

    # -- looking after it --------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """One instance after the other: nobody waits. Where none runs, all are started."""
        version = self.look().live
        if not version:
            self.start()
            return
        self._begin(Artefact(version, "", ""), "restart")
        self._walk(DONE)

    def start(self) -> None:
        self._begin(Artefact(str(self.host.ask("rest")["version"]), "", ""), "start")
        self._walk(DONE)

    def stop(self) -> None:
        self.host.ask("stop")

    def port_holders(self) -> list[PortHolder]:
        return self.host.port_holders()

    def end_port_holder(self, holder: PortHolder) -> None:
        self.host.end_port_holder(holder)

    def leftovers(self, keep: Sequence[str]) -> list[str]:
        return self.host.leftovers(keep)

    def cleanup(self, keep: Sequence[str]) -> list[str]:
        return self.host.cleanup(keep)
