"""One deployment of a cluster and its controller, as far as rollouts go: what `kube_server` answers from.

Behaviour: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/. A replica set for each pod template,
revisions, annotations copied from the deployment to its newest set, rolling update with maxSurge 1 and maxUnavailable
0, progress deadline, history limit, optimistic locking by resourceVersion.

Limits: one namespace; no scheduler, nodes or services; pods run nothing and become ready, or do not, as `behaves` says
of their image; no admission, no defaults, no server-side apply, no autoscaler.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

NAMESPACE = "shop"
REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"
SKIPPED = {REVISION, "kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/desired-replicas"}
TICK_S = 0.03

Object = dict[str, Any]


def template(image: str) -> Object:
    env = [{"name": "DB_PASSWORD", "value": "in-the-manifest"}, {"name": "MODE", "value": "fast"}]
    containers = [{"name": "api", "image": image, "env": env}, {"name": "sidecar", "image": "proxy:1"}]
    return {"metadata": {"labels": {"app": "erp"}}, "spec": {"containers": containers}}


def deployment(image: str, copies: int) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "erp",
            "namespace": NAMESPACE,
            "uid": "uid-of-erp",
            "generation": 1,
            "labels": {"app": "erp"},
            "annotations": {},
        },
        "spec": {
            "replicas": copies,
            "selector": {"matchLabels": {"app": "erp"}},
            "template": template(image),
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 60,
        },
        "status": {},
    }


@dataclass
class Cluster:
    """Objects under one lock; `behaves` maps a part of an image's name to slow, missing or crash."""

    deployment: Object
    behaves: dict[str, str] = field(default_factory=dict)
    sets: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    forbidden: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    patches: list[Any] = field(default_factory=list)
    conflicts: int = 0
    """So many changes of somebody else come in between, one before each change."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    version: int = 1
    born: int = 0
    progressed: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.touch(self.deployment)

    def touch(self, thing: Object) -> None:
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)

    def replace(self, new: Object) -> bool:
        """Optimistic locking: False when it was made for another version of the object."""
        with self.lock:
            old = self.deployment
            if self.conflicts:
                self.conflicts -= 1
                self.touch(old)
            if new["metadata"].get("resourceVersion") != old["metadata"]["resourceVersion"]:
                return False
            new["metadata"]["generation"] = old["metadata"]["generation"] + (new["spec"] != old["spec"])
            new["status"] = old["status"]
            self.deployment = new
            self.progressed = time.monotonic()
            self.touch(new)
            return True

    # -- the controller ----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        with self.lock:
            current = self._current()
            self._mirror(current)
            self._step(current)
            for each in self.sets:
                self._count(each)
            self._status(current)
            self._forget(current)

    def _current(self) -> Object:
        """The set of the template, made when there is none."""
        wanted = self.deployment["spec"]["template"]
        text = json.dumps(wanted, sort_keys=True)
        code = hashlib.sha256(text.encode()).hexdigest()[:10]
        for each in self.sets:
            if each["metadata"]["labels"][HASH] == code:
                return each
        copy = json.loads(text)
        copy["metadata"]["labels"][HASH] = code
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "erp", "uid": "uid-of-erp", "controller": True}
        meta = {"name": f"erp-{code}", "namespace": NAMESPACE, "uid": f"uid-{code}", "ownerReferences": [owner]}
        labels = dict(copy["metadata"]["labels"])
        new: Object = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {**meta, "labels": labels, "annotations": {}, "creationTimestamp": "2026-01-19T08:00:00Z"},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": copy},
            "status": {"replicas": 0},
        }
        self.sets.append(new)
        self.touch(new)
        return new

    def _mirror(self, current: Object) -> None:
        """Revision numbers go up; the newest set has the annotations of the deployment."""
        numbers = {id(each): int(each["metadata"]["annotations"].get(REVISION, 0)) for each in self.sets}
        highest = max(numbers.values())
        number = numbers[id(current)]
        if not number or number < highest:
            number = highest + 1
            self.progressed = time.monotonic()
        annotations = self.deployment["metadata"]["annotations"]
        copied = {name: value for name, value in annotations.items() if name not in SKIPPED}
        current["metadata"]["annotations"] = {**copied, REVISION: str(number)}
        if annotations.get(REVISION) != str(number):
            self.deployment["metadata"]["annotations"] = {**annotations, REVISION: str(number)}
            self.touch(self.deployment)

    def _of(self, each: Object) -> list[Object]:
        code = each["metadata"]["labels"][HASH]
        return [pod for pod in self.pods if pod["metadata"]["labels"][HASH] == code]

    @staticmethod
    def ready(pod: Object) -> bool:
        return bool(pod["status"]["containerStatuses"][0]["ready"])

    def _step(self, current: Object) -> None:
        """One thing a tick: a pod more, a pod less, or one that becomes ready."""
        wanted, mine = self.deployment["spec"]["replicas"], self._of(current)
        old = [pod for pod in self.pods if pod not in mine]
        for pod in mine:
            if not self.ready(pod) and pod["status"]["containerStatuses"][0].get("started") is not None:
                pod["status"]["containerStatuses"][0]["ready"] = True
                self.progressed = time.monotonic()
                return
        ready = sum(map(self.ready, self.pods))
        unready_old = [pod for pod in old if not self.ready(pod)]
        if len(mine) > wanted:
            self.pods.remove(mine[-1])
        elif unready_old or (old and ready > wanted) or (old and not wanted):
            self.pods.remove((unready_old or old)[0])
        elif len(mine) < wanted and len(self.pods) <= wanted:
            self.pods.append(self._pod(current))

    def _pod(self, current: Object) -> Object:
        self.born += 1
        image = current["spec"]["template"]["spec"]["containers"][0]["image"]
        how = next((how for part, how in self.behaves.items() if part in image), "")
        status: Object = {"name": "api", "ready": False, "image": image, "state": {"running": {}}}
        if how == "missing":
            status["state"] = {
                "waiting": {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'}
            }
        elif how == "crash":
            status["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}}
        elif how != "slow":
            status["started"] = True
        meta = {"name": f"{current['metadata']['name']}-{self.born}", "namespace": NAMESPACE, "uid": f"pod-{self.born}"}
        labels = dict(current["spec"]["template"]["metadata"]["labels"])
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**meta, "labels": labels, "resourceVersion": "1"},
            "spec": {"containers": [{"name": "api", "image": image}, {"name": "sidecar", "image": "proxy:1"}]},
            "status": {"phase": "Running", "containerStatuses": [status]},
        }

    def _count(self, each: Object) -> None:
        pods = self._of(each)
        ready = sum(map(self.ready, pods))
        status = {"replicas": len(pods), "readyReplicas": ready, "availableReplicas": ready}
        if status != each["status"]:
            each["spec"]["replicas"], each["status"] = len(pods), status
            self.touch(each)

    def _status(self, current: Object) -> None:
        spec, ready = self.deployment["spec"], sum(map(self.ready, self.pods))
        updated, wanted = len(self._of(current)), spec["replicas"]
        done = updated == wanted == ready == len(self.pods)
        late = not done and time.monotonic() - self.progressed > spec["progressDeadlineSeconds"]
        reason = "ProgressDeadlineExceeded" if late else "NewReplicaSetAvailable" if done else "ReplicaSetUpdated"
        progressing = {"type": "Progressing", "status": "False" if late else "True", "reason": reason}
        status = {
            "observedGeneration": self.deployment["metadata"]["generation"],
            "replicas": len(self.pods),
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": [progressing],
        }
        if status != self.deployment["status"]:
            self.deployment["status"] = status
            self.touch(self.deployment)

    def _forget(self, current: Object) -> None:
        old = [each for each in self.sets if each is not current and not each["status"]["replicas"]]
        old.sort(key=lambda each: int(each["metadata"]["annotations"][REVISION]))
        for each in old[: max(0, len(old) - self.deployment["spec"]["revisionHistoryLimit"])]:
            self.sets.remove(each)
