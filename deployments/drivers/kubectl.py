"""How the Kubernetes driver asks and changes a cluster: with kubectl, behind a fence that lies in the cluster itself.

A change is one JSON patch that carries the `resourceVersion` it was made for, so the API server refuses it when
anything has happened in between; it is then made anew from what is there, after another look at the fence. The fence
is the label `ops-portal/token`. It is a label because going back to an earlier revision by hand (`kubectl rollout
undo`) puts that revision's annotations back, and an annotation would let an earlier attempt in again.
https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

from deployments.drivers.base import Surroundings, Token
from deployments.drivers.images import short
from deployments.exceptions import DeploymentError, Fenced
from operations.commands import Command
from operations.exceptions import CommandFailed
from operations.masking import MASK

TOKEN = "ops-portal/token"  # noqa: S105 - a name
VERSION, IMAGE, BEFORE, COPIES, SETTINGS = (
    f"ops-portal/{name}" for name in ("version", "image", "before", "copies", "settings")
)
CAUSE = "kubernetes.io/change-cause"
REVISION = "deployment.kubernetes.io/revision"
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
HASH = "pod-template-hash"
TRIES = 8
SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|DSN|_URL$", re.IGNORECASE)

# What kubectl says -> what to do about it. The first match counts.
_EXPLANATIONS = (
    (
        r"connection to the server .* was refused|Unable to connect to the server|no such host|i/o timeout",
        "The cluster does not answer. Check its address in the kubeconfig and the network.",
    ),
    (
        r"Unauthorized|must be logged in|x509:|certificate signed by",
        "The cluster does not accept these credentials. Correct the kubeconfig at the reference of KUBECONFIG.",
    ),
    (r"[Ff]orbidden", "The account in the kubeconfig may not do this. Grant it the rights on deployments and pods."),
    (r"NotFound|not found", "The cluster has no such thing. Create it, or correct name and namespace."),
    (r"context .* does not exist|invalid configuration", "The kubeconfig lacks that context. Correct either."),
)


class Kubectl:
    """One deployment in one namespace. Methods raise DeploymentError; those that change something also Fenced."""

    def __init__(self, settings: Mapping[str, Any], around: Surroundings) -> None:
        self.settings, self.around = settings, around
        self.name: str = settings["deployment"]
        context = ("--context", settings["context"]) if settings.get("context") else ()
        self._base = ("kubectl", *context, "--namespace", settings["namespace"])

    def command(self, *words: str, timeout_s: float | None = None) -> Command:
        """The kubeconfig is a file in memory where KUBECONFIG is given, else that of the user it runs as there."""
        kubeconfig = self.around.secrets.get("KUBECONFIG")
        command = Command(
            (*self._base, *words),
            secrets=tuple(self.around.secrets.values()),
            secret_files={"KUBECONFIG": kubeconfig} if kubeconfig else {},
            timeout_s=timeout_s or self.around.timeout_s,
        )
        return self.around.connector.wrap(command)

    def tried(self, *words: str, stdin: bytes | None = None, timeout_s: float | None = None) -> str:
        """What it printed. Raises CommandFailed."""
        command = self.command(*words, timeout_s=timeout_s)
        result = self.around.run(command, stdin=BytesIO(stdin)) if stdin is not None else self.around.run(command)
        return result.stdout.decode("utf-8", "replace")

    def run(self, *words: str) -> str:
        try:
            return self.tried(*words)
        except CommandFailed as error:
            raise DeploymentError(sentence(error)) from error

    def _parsed(self, *words: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self.run(*words, "--output", "json")))
        except ValueError:
            raise DeploymentError("kubectl answered with something else than JSON. Try again.") from None

    def may(self, verb: str, resource: str, *more: str) -> bool:
        try:
            return self.tried("auth", "can-i", verb, resource, *more).strip().startswith("yes")
        except CommandFailed as error:
            if error.result.code == 1 and not _explained(error):
                return False
            raise DeploymentError(sentence(error)) from error

    def workload(self) -> Workload:
        return Workload(self._parsed("get", "deployment", self.name), self.settings["container"])

    def revisions(self, workload: Workload) -> list[Workload]:
        """Its replica sets, newest first: what ran before and can be gone back to."""
        found = self._parsed("get", "replicasets", "--selector", workload.selector)["items"]
        mine = [each for each in found if workload.owns(each)]
        sets = [Workload(each, self.settings["container"]) for each in mine]
        return sorted(sets, key=lambda each: each.revision, reverse=True)

    def pods(self, selector: str) -> list[dict[str, Any]]:
        return list(self._parsed("get", "pods", "--selector", selector)["items"])

    def logs(self, selector: str, lines: int) -> list[str]:
        words = ("--selector", selector, "--container", self.settings["container"], "--tail", str(lines))
        try:
            return self.tried("logs", *words).splitlines()[-lines:]
        except CommandFailed as error:
            return [sentence(error)]

    def is_rolled_out(self, within_s: int) -> bool:
        """By kubectl's own judgement; False when it has not ended yet. Raises Stuck when the cluster has given up."""
        words = ("rollout", "status", f"deployment/{self.name}", f"--timeout={within_s}s")
        try:
            self.tried(*words, timeout_s=within_s + 30)
        except CommandFailed as error:
            said = error.result.stderr
            if "exceeded its progress deadline" in said:
                raise Stuck("The cluster has given up waiting for its new copies.") from error
            if "timed out waiting" in said:
                return False
            raise DeploymentError(sentence(error)) from error
        return True

    # -- changing ----------------------------------------------------------------------------------------------------

    def change(self, make: Callable[[Workload], Change]) -> Workload:
        """Make one change behind the fence. Returns what was there before it."""
        for _ in range(TRIES):
            self.around.check()
            workload = self.workload()
            self._refuse_if_late(workload)
            change = make(workload)
            labels = {**workload.labels, TOKEN: f"{self.around.token.operation}.{self.around.token.attempt}"}
            kept = {name: value for name, value in workload.annotations.items() if name not in change.annotations}
            new = {name: value for name, value in change.annotations.items() if value is not None}
            patch: list[dict[str, Any]] = [
                {"op": "replace", "path": "/metadata/resourceVersion", "value": workload.resource_version},
                {"op": "add", "path": "/metadata/labels", "value": labels},
                {"op": "add", "path": "/metadata/annotations", "value": {**kept, **new}},
                *({"op": "add", "path": path, "value": value} for path, value in change.values.items()),
            ]
            if self._patched(patch):
                return workload
        raise DeploymentError(f"Something else changes {self.name} all the time. Find out what, then try again.")

    def _refuse_if_late(self, workload: Workload) -> None:
        seen = workload.token
        if seen > self.around.token:
            raise Fenced(
                f"Attempt {seen.attempt} of operation {seen.operation} has changed {self.name} since. "
                "Nothing was changed; see what that one did."
            )

    def _patched(self, patch: Sequence[Mapping[str, Any]]) -> bool:
        """False when the API server has seen another change in between. The patch may hold values of settings."""
        words = ("patch", "deployment", self.name, "--type", "json", "--patch-file", "/dev/stdin")
        try:
            # kubectl reads it as YAML, which knows no surrogate pairs: characters stay as they are.
            self.tried(*words, stdin=json.dumps(patch, ensure_ascii=False).encode())
        except CommandFailed as error:
            if "(Conflict)" in error.result.stderr or "object has been modified" in error.result.stderr:
                return False
            raise DeploymentError(sentence(error)) from error
        return True


class Stuck(DeploymentError):
    """The cluster does not go on with a rollout."""


@dataclass(frozen=True)
class Change:
    """Annotations of the deployment (None: taken away), and values by their path."""

    annotations: Mapping[str, str | None]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Workload:
    """A deployment, or one of its replica sets, as the API server shows it."""

    raw: Mapping[str, Any]
    container: str

    @property
    def name(self) -> str:
        return str(self.raw["metadata"]["name"])

    @property
    def labels(self) -> dict[str, str]:
        return self.raw["metadata"].get("labels") or {}

    @property
    def annotations(self) -> dict[str, str]:
        return self.raw["metadata"].get("annotations") or {}

    @property
    def resource_version(self) -> str:
        return str(self.raw["metadata"]["resourceVersion"])

    @property
    def token(self) -> Token:
        found = re.fullmatch(r"(\d+)\.(\d+)", self.labels.get(TOKEN, ""))
        return Token(int(found[1]), int(found[2])) if found else Token(0, 0)

    @property
    def revision(self) -> int:
        return int(self.annotations.get(REVISION) or 0)

    @property
    def selector(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self.raw["spec"]["selector"]["matchLabels"].items())

    @property
    def copies(self) -> int:
        return int(self.raw["spec"].get("replicas", 1))

    def count(self, name: str) -> int:
        """A number in its status: replicas, readyReplicas, updatedReplicas."""
        return int((self.raw.get("status") or {}).get(name) or 0)

    def owns(self, other: Mapping[str, Any]) -> bool:
        owners = other["metadata"].get("ownerReferences") or ()
        return any(each.get("uid") == self.raw["metadata"]["uid"] for each in owners)

    @cached_property
    def template(self) -> dict[str, Any]:
        """A copy of the pod template, without the label that Kubernetes adds for a revision."""
        template: dict[str, Any] = json.loads(json.dumps(self.raw["spec"]["template"]))
        (template["metadata"].get("labels") or {}).pop(HASH, None)
        return template

    def _main(self, template: Mapping[str, Any]) -> dict[str, Any]:
        """The container that is deployed to. Raises DeploymentError."""
        containers: list[dict[str, Any]] = template["spec"]["containers"]
        found = next((each for each in containers if each["name"] == self.container), None)
        if found is None:
            names = ", ".join(each["name"] for each in containers)
            raise DeploymentError(f"{self.name} has no container {self.container}, only {names}. Correct the setting.")
        return found

    @property
    def image(self) -> str:
        return str(self._main(self.template)["image"])

    @property
    def version(self) -> str:
        """As it was brought there; for an image that somebody else has set, its tag or digest."""
        known = self.annotations.get(IMAGE) == self.image and self.annotations.get(VERSION)
        return known or short(self.image)

    def with_image(self, image: str) -> Workload:
        """The same with another image."""
        template = json.loads(json.dumps(self.template))
        self._main(template)["image"] = image
        raw = {**self.raw, "spec": {**self.raw["spec"], "template": template}}
        return dataclasses.replace(self, raw=raw)

    def with_settings(self, values: Mapping[str, str], gone: Sequence[str]) -> dict[str, Any]:
        """Its template with these variables set, and those that were set by an earlier change taken away."""
        template: dict[str, Any] = json.loads(json.dumps(self.template))
        if values or gone:
            main = self._main(template)
            kept = [entry for entry in main.get("env") or () if entry["name"] not in {*values, *gone}]
            main["env"] = [*kept, *({"name": name, "value": value} for name, value in values.items())]
        return template

    def manifest(self) -> dict[str, Any]:
        """To keep: what `kubectl apply` takes, without what the cluster adds."""
        meta = self.raw["metadata"]
        annotations = {name: value for name, value in self.annotations.items() if name != APPLIED}
        kept = {"name": self.name, "namespace": meta.get("namespace", ""), "labels": self.labels}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {**kept, "annotations": annotations},
            "spec": self.raw["spec"],
        }


def masked(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Without values of variables that by their name are secrets: for the log."""
    copy: dict[str, Any] = json.loads(json.dumps(manifest))
    pods = copy["spec"]["template"]["spec"]
    for container in (*pods["containers"], *(pods.get("initContainers") or ())):
        for entry in container.get("env") or ():
            if "value" in entry and SECRET_NAME.search(entry["name"]):
                entry["value"] = MASK
    return copy


def _explained(error: CommandFailed) -> str:
    found = (text for pattern, text in _EXPLANATIONS if re.search(pattern, error.result.stderr))
    return next(found, "")


def sentence(error: CommandFailed) -> str:
    """What kubectl meant."""
    last = [line.strip() for line in error.result.stderr.splitlines() if line.strip()][-1:]
    explained = _explained(error)
    return f"{explained} kubectl said: {' '.join(last)[:300]}" if explained else error.message
