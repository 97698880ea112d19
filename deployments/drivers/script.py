"""The team's own deploy script: `deploy.sh status|deploy|rollback|cleanup`."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from django import forms

from deployments.drivers.base import Artefact, Check, Driver, Instance, Reality
from deployments.drivers.fields import PathField, UrlPatternField, VariableField, VersionInField
from deployments.drivers.hosts import Answer, Done, HostSide, failed
from deployments.exceptions import DeploymentError, NotReady
from operations.commands import Command

ASK_EVERY_S = 0.5
READY_WITHIN_S = 60.0


class ScriptForm(forms.Form):
    """Settings of the script driver."""

    script = PathField(
        max_length=500,
        help_text="Understands status, deploy, rollback and cleanup. What it leaves running must be detached from it, "
        "for example started with setsid or nohup, or by systemd or Docker.",
    )
    folder = PathField(
        label="Working folder", max_length=500, help_text="Also keeps the file that fences off an attempt that is late."
    )
    mode = forms.ChoiceField(
        choices=[("blue-green", "blue-green"), ("rolling", "rolling")], help_text="Its DEPLOYMENT_MODE."
    )
    version_variable = VariableField(max_length=80, help_text="Tells the script what to deploy, as in RELEASE_VERSION.")
    version_from = VersionInField(
        label="Version in the status",
        max_length=200,
        help_text=r"Regular expression with one group that finds the live version in what status says: live: (\S+)",
    )
    active_port_file = PathField(
        required=False, max_length=500, help_text="Where the script writes which port is live. Empty: it does not."
    )
    ready_url = UrlPatternField(
        label="Health check",
        required=False,
        max_length=500,
        help_text="Asked on the host itself, for example http://localhost:{port}/health/ready; {port} is the live one.",
    )
    log_file = PathField(required=False, max_length=500, help_text="Log of the application. Empty: not shown.")

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if "{port}" in (values.get("ready_url") or "") and not values.get("active_port_file"):
            self.add_error("active_port_file", "Say where the live port is written: the health check needs it.")
        return values


class ScriptDriver(Driver):
    """Starts the script that the team has already, and believes what it says is live.

    The script does everything in one go, so `prepare` and `drain` do nothing and `switch` is `deploy`. The portal can
    not look into a script that runs: a lock and a token in the working folder keep two attempts from running it at the
    same time and an earlier one from running it after a later one, on this host, by the portal. Who starts it by hand
    is not held up. The script finds the token in OPS_TOKEN (operation:attempt) and may compare it itself.
    """

    kind = "script"
    label = "The team's own deploy script"
    form = ScriptForm
    sources = frozenset({"folder", "archive", "image", "git"})

    def __init__(self, settings: Mapping[str, Any], around: Any) -> None:
        super().__init__(settings, around)
        self.script: str = settings["script"]
        self.name = PurePosixPath(self.script).name
        self.host = HostSide(around, f"{settings['folder']}/.ops-deploy-fence")
        self._within_s = READY_WITHIN_S
        self._said: list[str] = []
        self._notes: Mapping[str, Any] = {}

    # -- looking -----------------------------------------------------------------------------------------------------

    def _ask(self) -> list[list[str]]:
        url = self.settings.get("ready_url")
        return [[url, self.settings.get("active_port_file") or ""]] if url else []

    def _status(self) -> Answer:
        files = [self.settings["active_port_file"]] if self.settings.get("active_port_file") else []
        commands = [[self.script, "status"]]
        return self.host.look(
            commands=commands, cwd=self.settings["folder"], env=self._environment(), read=files, ask=self._ask()
        )

    def preflight(self, artefact: Artefact) -> list[Check]:
        folder = self.settings["folder"]
        seen = self.host.look(examine=[self.script, folder]).paths
        runs = seen[self.script]["kind"] == "file" and seen[self.script]["runs"]
        there = seen[folder]["kind"] == "folder"
        checks = [
            Check(
                "Script",
                runs,
                f"{self.script} can be started." if runs else f"{self.script} is missing or may not be started.",
                "Put it there and make it executable (chmod +x).",
            ),
            Check(
                "Working folder",
                there,
                f"{folder} is there." if there else f"There is no folder {folder}.",
                "Create it or correct the setting.",
            ),
        ]
        return [*checks, self._status_check()] if runs and there else checks

    def _status_check(self) -> Check:
        answer = self._status()
        done, live = answer.commands[0], self._version_in(answer.commands[0])
        if done.code:
            return Check("Status", False, failed(done, f"{self.name} status", ""), "Make it end with 0.")
        if live:
            return Check("Status", True, f"{self.name} status says that {live} is live.")
        sentence = f"{self.name} status names no live version. It said: {done.last_words() or 'nothing'}"
        return Check("Status", True, sentence, "Where one is live, correct “Version in the status”.")

    def _version_in(self, done: Done) -> str:
        found = re.search(self.settings["version_from"], done.out, re.MULTILINE)
        return (found[1] or "").strip() if found else ""

    def look(self) -> Reality:
        answer = self._status()
        done, self._notes = answer.commands[0], answer.notes
        live = self._version_in(done)
        if not live:
            words = done.last_words() or "nothing"
            return Reality("", sentence=f"{self.name} status names no live version. It said: {words}")
        asked = answer.answers[0] if answer.answers else None
        ready = not done.code and (asked is None or 200 <= asked["code"] < 300)
        port = (answer.read.get(self.settings.get("active_port_file") or "") or "").strip()
        instance = Instance(
            "live",
            live,
            running=done.code == 0,
            ready=ready,
            live=True,
            address=f"localhost:{port}" if port else "",
            answer_ms=round(asked["ms"], 1) if asked and asked["code"] else None,
            note=self._unready(asked) if asked and not ready else "",
        )
        back = self._previous_of(live)
        sentence = f"{live} is live{f' on port {port}' if port else ''}, says {self.name} status."
        return Reality(live, [instance], sentence, [back] if back else [])

    def _previous_of(self, live: str) -> str:
        """What was live before this version, if the portal brought it there."""
        return str(self._notes.get("previous", "")) if self._notes.get("live") == live else ""

    @staticmethod
    def _unready(asked: Mapping[str, Any]) -> str:
        how = f"answered with {asked['code']}" if asked["code"] else f"failed: {asked['problem']}"
        return f"Its health check {how}."

    def preview(self, artefact: Artefact) -> dict[str, list[str]]:
        env = {"DEPLOYMENT_MODE": self.settings["mode"], self.settings["version_variable"]: artefact.version}
        shown = Command((self.script, "deploy"), env=env).shown()
        return {
            "prepare": ["Nothing: the script does everything in one go."],
            "switch": [f"{shown}, or its rollback where {artefact.version} was live just before."],
            "drain": ["Nothing: the script does it."],
        }

    def logs(self, version: str, lines: int = 40) -> list[str]:
        """Of the application's log file where that is known, else what the script said last."""
        if not self.settings.get("log_file"):
            return self._said[-lines:]
        done = self.host.look(commands=[["tail", "-n", str(lines), "--", self.settings["log_file"]]]).commands[0]
        return (done.out or done.err).splitlines()[-lines:]

    # -- deploying ---------------------------------------------------------------------------------------------------

    def prepare(self, artefact: Artefact) -> None:
        self.around.log(f"{self.name} does everything in one go; nothing is prepared.")

    def wait_ready(self, artefact: Artefact, within_s: float) -> None:
        """Nothing of it runs yet; the time is kept for the health check after `deploy`."""
        self._within_s = within_s

    def switch(self, artefact: Artefact) -> None:
        before = self.look()
        done = self._notes.get("operation") == self.around.token.operation
        if before.live == artefact.version == self._notes.get("live") and done:
            self.around.log(f"An earlier attempt has deployed {artefact.version} already.")
            return self._wait_for(artefact.version)
        return self._bring(artefact, before)

    def revert(self, version: str) -> None:
        before = self.look()
        if before.live == version:
            self.around.log(f"{version} is live already.")
            return
        self._bring(Artefact(version, "", ""), before)

    def _bring(self, artefact: Artefact, before: Reality) -> None:
        """By `rollback` where the version was live just before, as the script itself would go back to; else `deploy`.

        A status that names no version leads to `deploy` as well: unlike `rollback` it says where to.
        """
        version = artefact.version
        if version in before.revisions:
            self._start("rollback", artefact, {"live": version, "previous": "", "operation": 0})
        else:
            previous = before.live if before.live != version else self._previous_of(version)
            self._start("deploy", artefact, {"live": version, "previous": previous, "operation": 0})
        self._wait_for(version)
        self.host.act(notes={"operation": self.around.token.operation})

    def _environment(self, artefact: Artefact | None = None) -> dict[str, str]:
        token = self.around.token
        env = {**self.around.environment, **self.around.secrets, "DEPLOYMENT_MODE": self.settings["mode"]}
        env["OPS_TOKEN"] = f"{token.operation}:{token.attempt}"
        if artefact is not None:
            env[self.settings["version_variable"]] = artefact.version
            if artefact.source:
                env.update(OPS_SOURCE=artefact.source, OPS_CHECKSUM=artefact.checksum)
        return env

    def _start(
        self,
        word: str,
        artefact: Artefact | None,
        notes: Mapping[str, Any],
        more: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Run the script with this word. Returns its lines; raises DeploymentError or Fenced."""
        self.around.check()
        version = f" with {self.settings['version_variable']}={artefact.version}" if artefact else ""
        self.around.log(f"{self.script} {word}{version}, DEPLOYMENT_MODE={self.settings['mode']}")
        env = {**self._environment(artefact), **(more or {})}
        answer = self.host.act(commands=[[self.script, word]], cwd=self.settings["folder"], env=env, notes=notes)
        done = answer.commands[0]
        self._said = [line for line in f"{done.out}{done.err}".splitlines() if line.strip()]
        if done.code:
            raise DeploymentError(failed(done, f"{self.name} {word}", "Mend what it complains about, then try again."))
        return self._said

    def _wait_for(self, version: str) -> None:
        """Until the status names this version and its health check is answered. Raises NotReady."""
        give_up = time.monotonic() + self._within_s
        while True:
            self.around.check()
            reality = self.look()
            live = reality.instance_of(version)
            if reality.live == version and live is not None and live.ready:
                return
            if time.monotonic() > give_up:
                break
            time.sleep(ASK_EVERY_S)
        if reality.live != version:
            raise NotReady(
                f"{self.name} ended well, but its status names {reality.live or 'no version'} and not {version}. "
                "Look at what it did; correct “Version in the status” if it names the version in another way."
            )
        note = live.note if live else ""
        raise NotReady(f"{version} did not become ready within {self._within_s:g} s. {note} Look at its log.")

    def drain(self, artefact: Artefact, within_s: float) -> None:
        """The script has done it, or lets go at once."""

    def discard(self, artefact: Artefact) -> None:
        """Nothing was started before the switch."""

    # -- looking after it --------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """`deploy` of what is live: the script has no word for a restart."""
        reality = self.look()
        if not reality.live:
            raise DeploymentError(f"Nothing is live that could be started again. {reality.sentence}")
        self._start("deploy", Artefact(reality.live, "", ""), {"operation": 0})
        self._wait_for(reality.live)

    def stop(self) -> None:
        raise DeploymentError(f"{self.name} has no word for stopping. Stop the application on its host.")

    def leftovers(self, keep: Sequence[str]) -> list[str]:
        return [f"{self.name} cleanup removes what it takes for left over; it does not say beforehand what that is."]

    def cleanup(self, keep: Sequence[str]) -> list[str]:
        """The script finds the versions that stay in OPS_KEEP, with spaces between them."""
        return self._start("cleanup", None, {}, {"OPS_KEEP": " ".join(keep)})
