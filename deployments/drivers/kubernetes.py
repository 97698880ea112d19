"""Kubernetes, by kubectl: one deployment, whose revisions Kubernetes keeps itself."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django import forms

from deployments.drivers.base import Artefact, Check, Driver, Instance, Reality
from deployments.drivers.fields import NameField, PlainField
from deployments.drivers.images import by_digest
from deployments.drivers.kubectl import (
    BEFORE,
    CAUSE,
    COPIES,
    HASH,
    IMAGE,
    SETTINGS,
    VERSION,
    Change,
    Kubectl,
    Stuck,
    Workload,
    masked,
)
from deployments.exceptions import DeploymentError, NotReady

SLICE_S = 5
READY_WITHIN_S = 120.0
LOG_CHARS = 3500
RESTARTED = "kubectl.kubernetes.io/restartedAt"
RIGHTS = (
    ("get", "deployments.apps"),
    ("list", "deployments.apps"),
    ("patch", "deployments.apps"),
    ("watch", "deployments.apps"),
    ("list", "replicasets.apps"),
    ("list", "pods"),
    ("get", "pods", "--subresource=log"),
)


class KubernetesForm(forms.Form):
    """Settings of the Kubernetes driver. The kubeconfig is the secret KUBECONFIG of the profile."""

    context = PlainField(
        required=False, max_length=200, help_text="Of the kubeconfig. Empty: the one that is set in it."
    )
    namespace = NameField(max_length=63)
    deployment = NameField(max_length=253)
    container = NameField(max_length=63, help_text="The one whose image is the release.")

    def clean_context(self) -> str:
        text: str = self.cleaned_data["context"]
        if text.startswith("-"):
            raise forms.ValidationError("A context does not begin with “-”.")
        return text


class KubernetesDriver(Driver):
    """Sets the image of a deployment by its digest and waits until Kubernetes has rolled it out.

    Setting an image starts the rollout, so `prepare` and `wait_ready` only look, and `switch` does it all: a copy gets
    traffic when its readiness probe is answered, and the old ones stay until then. A rollout that does not end well
    is taken back to the revision before, which is noted on the deployment. Going back is what `kubectl rollout undo
    --to-revision` does, the whole pod template of that revision, but as a change that an earlier attempt cannot make.
    """

    kind = "kubernetes"
    label = "Kubernetes"
    form = KubernetesForm
    sources = frozenset({"image"})
    zero_downtime = True
    can_scale = True

    def __init__(self, settings: Mapping[str, Any], around: Any) -> None:
        super().__init__(settings, around)
        self.cluster = Kubectl(settings, around)
        self.saved_manifest: dict[str, Any] | None = None
        """The deployment as it was when `prepare` was called; `kubectl apply --filename` takes it as JSON."""
        self._within_s = READY_WITHIN_S

    # -- looking -----------------------------------------------------------------------------------------------------

    def preflight(self, artefact: Artefact) -> list[Check]:
        image = by_digest(artefact)
        lacking = [" ".join(right) for right in RIGHTS if not self.cluster.may(*right)]
        sentence = f"The account may not: {', '.join(lacking)}." if lacking else "The account has the rights it needs."
        checks = [Check("Rights", not lacking, sentence, "Grant it these in the namespace.")]
        if lacking:
            return checks
        workload = self.cluster.workload()
        checks.append(Check("Deployment", True, f"{workload.name} runs {workload.image}; {image} would be set."))
        if paused := workload.raw["spec"].get("paused"):
            fix = "Resume it with kubectl rollout resume."
            checks.append(Check("Rollouts", not paused, f"Rollouts of {workload.name} are paused.", fix))
        if others := sorted(set(self.around.secrets) - {"KUBECONFIG"}):
            fix = "Put them into a Secret of the namespace and take them off here."
            sentence = f"{', '.join(others)} cannot be handed over: Kubernetes keeps the application's secrets."
            checks.append(Check("Secrets", False, sentence, fix))
        return checks

    def look(self) -> Reality:
        workload = self.cluster.workload()
        sets = self.cluster.revisions(workload)
        current = next((each for each in sets if each.revision == workload.revision), None)
        instances = [
            self._instance(each, workload, each is current)
            for each in sets
            if each is current or each.count("replicas") or each.copies
        ]
        older = [each.version for each in sets if each is not current]
        revisions = list(dict.fromkeys(each for each in older if each != workload.version))
        if not workload.copies:
            return Reality("", instances, f"{workload.name} is stopped: it has no copies.", revisions)
        ready, wanted = workload.count("updatedReplicas"), workload.copies
        sentence = f"{workload.version} is live in revision {workload.revision}, {self._ready_words(workload)}."
        if ready < wanted or workload.count("replicas") > ready:
            sentence = f"{workload.version} is being rolled out: {ready} of {wanted} copies are new."
        return Reality(workload.version, instances, sentence, revisions)

    @staticmethod
    def _ready_words(workload: Workload) -> str:
        return f"{workload.count('readyReplicas')} of {workload.copies} copies are ready"

    def _instance(self, each: Workload, workload: Workload, is_current: bool) -> Instance:
        ready = 0 < each.copies <= each.count("readyReplicas")
        done = workload.count("updatedReplicas") >= workload.copies <= workload.count("availableReplicas")
        return Instance(
            each.name,
            each.version if not is_current else workload.version,
            running=each.count("replicas") > 0,
            ready=ready and (done or not is_current),
            live=is_current and workload.copies > 0,
            since=str(each.raw["metadata"].get("creationTimestamp") or ""),
            note=f"Revision {each.revision}, {self._ready_words(each)}.",
        )

    def preview(self, artefact: Artefact) -> dict[str, list[str]]:
        image, name = by_digest(artefact), self.settings["deployment"]
        words = ("set", "image", f"deployment/{name}", f"{self.settings['container']}={image}")
        status = self.cluster.command("rollout", "status", f"deployment/{name}").shown()
        switch = [f"As {self.cluster.command(*words).shown()}, by a patch that carries the attempt", status]
        return {"prepare": [self.cluster.command("get", "deployment", name).shown()], "switch": switch, "drain": []}

    def logs(self, version: str, lines: int = 40) -> list[str]:
        found = self._set_of(version)
        if found is None:
            return []
        return self.cluster.logs(f"{HASH}={found.labels[HASH]}", lines)

    def _set_of(self, version: str, image: str = "") -> Workload | None:
        """The newest revision that ran this version."""
        sets = self.cluster.revisions(self.cluster.workload())
        return next((each for each in sets if each.version == version and image in ("", each.image)), None)

    # -- deploying ---------------------------------------------------------------------------------------------------

    def prepare(self, artefact: Artefact) -> None:
        """Keep the deployment as it is now, in the log; values that by their name are secrets are masked there."""
        workload = self.cluster.workload()
        self.saved_manifest = workload.manifest()
        text = json.dumps(masked(self.saved_manifest), indent=1, ensure_ascii=False)
        self.around.log(f"{workload.name} as it is now, revision {workload.revision}:")
        for at in range(0, len(text), LOG_CHARS):
            self.around.log(text[at : at + LOG_CHARS])

    def wait_ready(self, artefact: Artefact, within_s: float) -> None:
        """Nothing of it runs yet; the time is kept for the rollout."""
        self._within_s = within_s

    def switch(self, artefact: Artefact) -> None:
        """Where a kept revision ran exactly this image, its whole pod template is taken, as `rollout undo` does."""
        image, version = by_digest(artefact), artefact.version
        kept = self._set_of(version, image)
        self.around.log(f"{self.settings['deployment']} gets {image}.")
        self._bring(version, lambda workload: kept or workload.with_image(image))

    def revert(self, version: str) -> None:
        kept = self._set_of(version)
        if kept is None:
            known = ", ".join(self.look().revisions) or "none"
            raise DeploymentError(f"No kept revision ran {version}; there are: {known}. Deploy it from its release.")
        self.around.log(f"{self.settings['deployment']} goes back to revision {kept.revision}, {version}.")
        self._bring(version, lambda workload: kept, take_back=False)

    def _bring(self, version: str, source: Any, *, take_back: bool = True) -> None:
        """Change the pod template and wait. Raises NotReady, with the version before in place again where it was."""

        def make(workload: Workload) -> Change:
            wanted, before = source(workload), self._before(workload, version)
            return self._change(workload, wanted, {VERSION: version, IMAGE: wanted.image, BEFORE: before})

        before = self._before(self.cluster.change(make), version)
        try:
            self._wait_for(version)
        except NotReady as error:
            if not take_back or not before:
                raise
            self.around.log(f"{error.message} It goes back to {before}.")
            self.revert(before)
            raise NotReady(f"{error.message} {before} was brought back.") from error

    def _before(self, workload: Workload, version: str) -> str:
        """What was live before this version; an attempt before this one may have made the change and noted it."""
        if workload.version != version:
            return workload.version
        mine = workload.token.operation == self.around.token.operation
        return workload.annotations.get(BEFORE, "") if mine else ""

    def _change(self, workload: Workload, wanted: Workload, notes: Mapping[str, str | None]) -> Change:
        """The wanted template with the application's settings as they are recorded now."""
        settings = dict(self.around.environment)
        written = json.loads(workload.annotations.get(SETTINGS) or "[]")
        template = wanted.with_settings(settings, [name for name in written if name not in settings])
        token, version = self.around.token, notes.get(VERSION) or workload.version
        cause = f"{version}, operation {token.operation} of the ops portal"
        names = json.dumps(sorted(settings)) if settings else None
        return Change({CAUSE: cause, SETTINGS: names, **notes}, {"/spec/template": template})

    def _wait_for(self, version: str) -> None:
        """Until kubectl says that it is rolled out. Raises NotReady with reasons and last words."""
        give_up = time.monotonic() + self._within_s
        why = f"It was not rolled out within {self._within_s:g} s."
        try:
            while (left := give_up - time.monotonic()) > 0:
                self.around.check()
                if self.cluster.is_rolled_out(max(1, min(SLICE_S, int(left)))):
                    return
        except Stuck as error:
            why = error.message
        raise NotReady(f"{version} did not become ready. {why}{self._reasons(version)}")

    def _reasons(self, version: str) -> str:
        """Why its copies are not ready, in the cluster's words, and their last lines."""
        found = self._set_of(version)
        if found is None:
            return ""
        selector, reasons = f"{HASH}={found.labels[HASH]}", []
        for pod in self.cluster.pods(selector):
            for status in pod.get("status", {}).get("containerStatuses") or ():
                waiting = (status.get("state") or {}).get("waiting") or {}
                reasons.append(f"{waiting.get('reason', '')}: {waiting.get('message', '')}" if waiting else "")
        said = [f" {reason.strip(': ')}." for reason in dict.fromkeys(reasons) if reason]
        words = " / ".join(line.strip() for line in self.cluster.logs(selector, 3) if line.strip())[-400:]
        return "".join(said)[:400] + (f" It said: {words}" if words else "")

    def drain(self, artefact: Artefact, within_s: float) -> None:
        """The rollout has ended when the old copies are gone; each had its own grace period."""

    def discard(self, artefact: Artefact) -> None:
        """Nothing was started before the switch."""

    # -- looking after it --------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """As `kubectl rollout restart`: one copy after the other, with the settings as they are now."""

        def make(workload: Workload) -> Change:
            change = self._change(workload, workload, {})
            meta = change.values["/spec/template"].setdefault("metadata", {})
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            meta["annotations"] = {**(meta.get("annotations") or {}), RESTARTED: now}
            return change

        self._wait_for(self.cluster.change(make).version)

    def start(self) -> None:
        """With as many copies as there were when it was stopped."""

        def make(workload: Workload) -> Change:
            copies = workload.copies or int(workload.annotations.get(COPIES) or 1)
            return Change({COPIES: None}, {"/spec/replicas": copies})

        self._wait_for(self.cluster.change(make).version)

    def stop(self) -> None:
        def make(workload: Workload) -> Change:
            copies = str(workload.copies) if workload.copies else workload.annotations.get(COPIES)
            return Change({COPIES: copies}, {"/spec/replicas": 0})

        self.cluster.change(make)

    def scale(self, count: int) -> int:
        """An autoscaler, where there is one, changes it again."""
        if count < 1:
            raise DeploymentError("At least one copy has to run. Stop the service instead.")
        before = self.cluster.change(lambda workload: Change({}, {"/spec/replicas": count}))
        self._wait_for(before.version)
        return before.copies

    def leftovers(self, keep: Sequence[str]) -> list[str]:
        """None: Kubernetes removes old revisions itself (revisionHistoryLimit)."""
        return []

    def cleanup(self, keep: Sequence[str]) -> list[str]:
        self.around.log("Kubernetes removes old revisions itself, as revisionHistoryLimit of the deployment says.")
        return []
