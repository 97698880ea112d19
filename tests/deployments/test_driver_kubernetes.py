"""The Kubernetes driver through a whole life: the installed kubectl and an API server that speaks its protocol."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from catalog.connectors import LocalConnector
from deployments.drivers.base import Artefact, Surroundings, Token
from deployments.drivers.images import by_digest
from deployments.drivers.kubectl import TOKEN as FENCE
from deployments.drivers.kubernetes import KubernetesDriver, KubernetesForm
from deployments.exceptions import DeploymentError, Fenced, NotReady
from operations.commands import Command, Result, run_checked
from tests.deployments.kube_cluster import NAMESPACE, Cluster, deployment
from tests.deployments.kube_server import Door, controlled, served
from tests.kubernetes import TOKEN

pytestmark = pytest.mark.needs("kubectl")

DIGITS = {"v1": "1", "v2": "2", "v3": "3", "bad": "b"}


@dataclass
class Place:
    cluster: Cluster
    door: Door
    logged: list[str] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        values = {"context": "production", "namespace": NAMESPACE, "deployment": "erp", "container": "api"}
        form = KubernetesForm(values)
        assert form.is_valid(), form.errors
        return form.cleaned_data

    def driver(self, operation: int = 1, attempt: int = 1, **more: Any) -> KubernetesDriver:
        def run(command: Command, *, stdin: BinaryIO | None = None) -> Result:
            self.commands.append(command)
            answer = bytearray()
            result = run_checked(command, stdin=stdin, on_stdout=answer.extend)
            return replace(result, stdout=bytes(answer))

        settings = {**self.settings, **more.pop("settings", {})}
        given = {"secrets": {"KUBECONFIG": self.door.kubeconfig()}, **more}
        token = Token(operation, attempt)
        around = Surroundings(LocalConnector(), run, token, log=self.logged.append, timeout_s=30, **given)
        return KubernetesDriver(settings, around)

    def deploy(self, version: str, operation: int = 1, within_s: float = 20, checked: bool = False) -> KubernetesDriver:
        driver, new = self.driver(operation), artefact(version)
        bad = [check for check in driver.preflight(new) if not check.good] if checked else []
        assert not bad, bad
        driver.prepare(new)
        driver.wait_ready(new, within_s)
        driver.switch(new)
        driver.drain(new, 1)
        return driver

    @property
    def images(self) -> set[str]:
        with self.cluster.lock:
            return {each["spec"]["containers"][0]["image"] for each in self.cluster.pods}

    def env(self) -> dict[str, str]:
        entries = self.cluster.deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        return {each["name"]: each["value"] for each in entries}

    def kubectl(self, folder: Path, *words: str) -> str:
        """As a person would, by hand."""
        (folder / "config").write_text(self.door.kubeconfig())
        argv = ["kubectl", "--kubeconfig", str(folder / "config"), "--context", "production", "-n", NAMESPACE, *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout


def artefact(version: str) -> Artefact:
    digit = DIGITS.get(version, "f")
    return Artefact(version, "image", f"registry.example.org/erp:{version}", f"sha256:{digit * 64}")


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with served() as pair:
        yield pair


@pytest.fixture
def place(server: Any) -> Iterator[Place]:
    handler, door = server
    cluster = Cluster(deployment("registry.example.org/erp:v0", 3))
    handler.cluster = cluster
    with controlled(cluster):
        give_up = time.monotonic() + 10
        while cluster.deployment["status"].get("readyReplicas") != 3:
            assert time.monotonic() < give_up
            time.sleep(0.02)
        yield Place(cluster, door)


def test_a_whole_life(place: Place) -> None:
    first = place.driver().look()
    assert (first.live, first.sentence) == ("v0", "v0 is live in revision 1, 3 of 3 copies are ready.")
    driver = place.deploy("v1", checked=True)
    reality = driver.look()
    (live,) = [each for each in reality.instances if each.live]
    assert (reality.live, live.version, live.running, live.ready) == ("v1", "v1", True, True)
    assert place.images == {by_digest(artefact("v1"))}
    driver = place.deploy("v2", operation=2)
    assert list(driver.look().revisions) == ["v1", "v0"]
    assert driver.logs("v2", 2)[-1] == "listening" and f"sha256:{'2' * 64}" in driver.logs("v2", 50)[0]
    cause = place.cluster.deployment["metadata"]["annotations"]["kubernetes.io/change-cause"]
    assert cause == "v2, operation 2 of the ops portal"

    place.driver(3).revert("v1")
    assert place.driver().look().live == "v1" and place.images == {by_digest(artefact("v1"))}
    assert place.driver().look().sentence.startswith("v1 is live in revision 4")
    place.driver(3).revert("v0")
    assert place.driver().look().live == "v0" and place.images == {"registry.example.org/erp:v0"}
    with pytest.raises(DeploymentError, match=r"No kept revision ran v9; there are: v1, v2"):
        place.driver(3).revert("v9")

    before = {pod["metadata"]["name"] for pod in place.cluster.pods}
    place.driver(4).restart()
    assert not before & {pod["metadata"]["name"] for pod in place.cluster.pods} and len(place.cluster.pods) == 3
    assert place.driver(4).scale(5) == 3 and len(place.cluster.pods) == 5
    place.driver(4).stop()
    assert place.driver().look().live == "" and "stopped" in place.driver().look().sentence
    place.driver(4).start()
    assert place.driver().look().live == "v0" and len(place.cluster.pods) == 5
    assert place.driver(4).leftovers([]) == place.driver(4).cleanup([]) == []


def test_the_manifest_before_is_kept_and_its_secrets_are_masked_in_the_log(place: Place) -> None:
    driver = place.driver()
    driver.prepare(artefact("v1"))
    assert driver.saved_manifest is not None
    assert driver.saved_manifest["spec"]["template"]["spec"]["containers"][0]["image"].endswith("erp:v0")
    text = "".join(place.logged[1:])
    assert json.loads(text)["kind"] == "Deployment"
    assert "in-the-manifest" not in text and "fast" in text


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("slow", "was not rolled out within 2 s"),
        ("missing", "ImagePullBackOff: Back-off pulling image"),
        ("crash", "CrashLoopBackOff: back-off 10s restarting. It said: FATAL: no table"),
    ],
)
def test_a_version_that_never_becomes_ready_is_taken_back(place: Place, how: str, words: str) -> None:
    place.deploy("v1")
    place.cluster.behaves[f"sha256:{'b' * 64}"] = how
    with pytest.raises(NotReady) as caught:
        place.deploy("bad", operation=2, within_s=2)
    assert words in caught.value.message and caught.value.message.endswith("v1 was brought back.")
    reality = place.driver().look()
    assert reality.live == "v1" and all(each.ready for each in reality.instances if each.live)
    assert place.images == {by_digest(artefact("v1"))}


def test_old_copies_serve_until_a_new_one_is_ready(place: Place) -> None:
    place.deploy("v1")
    place.cluster.behaves[f"sha256:{'b' * 64}"] = "slow"
    driver, new = place.driver(2), artefact("bad")
    place.cluster.deployment["spec"]["progressDeadlineSeconds"] = 1
    driver.wait_ready(new, 20)
    with pytest.raises(NotReady, match="has given up waiting"):
        driver.switch(new)
    ready = [pod for pod in place.cluster.pods if place.cluster.ready(pod)]
    assert len(ready) == 3


def test_an_attempt_that_finds_the_change_made_knows_what_was_before(place: Place) -> None:
    """The first attempt died while it waited; the second waits, gives up, and goes back to v1."""
    place.deploy("v1")
    place.cluster.behaves[f"sha256:{'b' * 64}"] = "slow"
    first = place.driver(2, 1)
    first._wait_for = lambda version: None  # type: ignore[method-assign]
    first.switch(artefact("bad"))
    half_way = place.driver(2, 2).look()
    assert half_way.live == "bad" and "is being rolled out" in half_way.sentence
    second = place.driver(2, 2)
    second.wait_ready(artefact("bad"), 1)
    with pytest.raises(NotReady, match="v1 was brought back"):
        second.switch(artefact("bad"))
    assert place.driver().look().live == "v1"


def test_a_later_token_fences_an_earlier_one(place: Place, tmp_path: Path) -> None:
    place.deploy("v1", operation=4)
    place.deploy("v2", operation=5)
    assert place.cluster.deployment["metadata"]["labels"][FENCE] == "5.1"
    late = [place.driver(4, 9), place.driver(5, 0)]
    for driver in late:
        for call in (lambda d=driver: d.switch(artefact("v3")), lambda d=driver: d.revert("v1"), driver.stop):
            with pytest.raises(Fenced, match="Attempt 1 of operation 5"):
                call()
    place.kubectl(tmp_path, "rollout", "undo", "deployment/erp")  # by hand: the annotations go back, the fence stays
    with pytest.raises(Fenced):
        place.driver(4, 9).switch(artefact("v3"))
    assert place.driver().look().live == "v1"


def test_a_late_change_is_refused_by_the_server(place: Place) -> None:
    """The later attempt comes between the look at the fence and the change: the resourceVersion tells."""
    place.deploy("v1")
    early, overtaken = place.driver(2, 1), []
    original = early.cluster._refuse_if_late

    def refuse_and_be_overtaken(workload: Any) -> None:
        original(workload)
        if not overtaken:
            overtaken.append(place.driver(2, 2).stop())

    early.cluster._refuse_if_late = refuse_and_be_overtaken  # type: ignore[method-assign]
    with pytest.raises(Fenced):
        early.switch(artefact("v2"))
    assert by_digest(artefact("v2")) not in str(place.cluster.deployment)


def test_changes_of_others_in_between_are_kept(place: Place) -> None:
    place.cluster.conflicts = 3
    place.deploy("v1")
    assert place.driver().look().live == "v1" and place.cluster.conflicts == 0
    place.cluster.conflicts = 100
    with pytest.raises(DeploymentError, match="all the time"):
        place.driver().switch(artefact("v2"))


def test_what_somebody_set_by_hand_is_seen(place: Place, tmp_path: Path) -> None:
    place.deploy("v1")
    with place.cluster.lock:
        template = json.loads(json.dumps(place.cluster.deployment["spec"]["template"]))
        template["spec"]["containers"][0]["image"] = "registry.example.org/erp:hotfix"
        new = {**place.cluster.deployment, "metadata": dict(place.cluster.deployment["metadata"])}
        assert place.cluster.replace({**new, "spec": {**new["spec"], "template": template}})
    place.kubectl(tmp_path, "rollout", "status", "deployment/erp", "--timeout=20s")
    assert place.driver().look().live == "hotfix"
    assert "v1" in place.kubectl(tmp_path, "rollout", "history", "deployment/erp")


def test_settings_reach_the_container_and_leave_it_again(place: Place) -> None:
    place.driver(1, environment={"COLOUR": "red; $(id)", "MODE": "slow"}).restart()
    assert place.env() == {"DB_PASSWORD": "in-the-manifest", "COLOUR": "red; $(id)", "MODE": "slow"}
    place.driver(2, environment={"MODE": "slow"}).restart()
    assert place.env() == {"DB_PASSWORD": "in-the-manifest", "MODE": "slow"}


@pytest.mark.parametrize("version", ["; rm -rf /", "--help", "$(id)", "é🙂", "a\"b'c", "x" * 300])
def test_hostile_versions_stay_data(place: Place, version: str) -> None:
    driver = place.driver()
    hostile = Artefact(version, "image", "registry.example.org/erp", f"sha256:{'c' * 64}")
    driver.wait_ready(hostile, 20)
    driver.switch(hostile)
    assert driver.look().live == version


def test_wrong_images_are_refused(place: Place) -> None:
    digest = f"sha256:{'a' * 64}"
    for source, checksum in (("-x", digest), ("a b", digest), ("erp:v1", ""), (f"erp@sha256:{'b' * 64}", digest)):
        with pytest.raises(DeploymentError):
            place.driver().switch(Artefact("v1", "image", source, checksum))
    assert not place.cluster.patches


def test_no_secret_on_a_command_line(place: Place) -> None:
    place.deploy("v1")
    shown = "".join(f"{each.argv}{each.env}{each.shown()}{each!r}" for each in place.commands)
    assert TOKEN not in shown and "in-the-manifest" not in shown and "KUBECONFIG=***" in place.commands[0].shown()


def test_preflight_names_what_is_missing(place: Place) -> None:
    def bad(**more: Any) -> list[str]:
        checks = place.driver(**more).preflight(artefact("v1"))
        return [check.sentence for check in checks if not check.good]

    place.cluster.forbidden = {"patch deployments", "get pods/log"}
    assert bad() == ["The account may not: patch deployments.apps, get pods --subresource=log."]
    place.cluster.forbidden = set()
    secrets = {"KUBECONFIG": place.door.kubeconfig(), "DB_PASSWORD": "x"}
    assert bad(secrets=secrets)[0].startswith("DB_PASSWORD cannot be handed over")
    place.cluster.deployment["spec"]["paused"] = True
    assert bad() == ["Rollouts of erp are paused."]
    for more, word in (
        ({"settings": {"deployment": "shop"}}, "has no such thing"),
        ({"settings": {"container": "web"}}, "no container web, only api, sidecar"),
        ({"settings": {"context": "staging"}}, "lacks that context"),
        ({"secrets": {"KUBECONFIG": place.door.kubeconfig("wrong")}}, "does not accept these credentials"),
        ({"secrets": {"KUBECONFIG": Door(1, place.door.certificate).kubeconfig()}}, "cluster does not answer"),
    ):
        with pytest.raises(DeploymentError, match=word):
            bad(**more)


def test_the_dry_run(place: Place) -> None:
    shown = place.driver().preview(artefact("v1"))
    assert f"set image deployment/erp api={by_digest(artefact('v1'))}" in shown["switch"][0]
    assert TOKEN not in str(shown) and not place.cluster.patches


@pytest.mark.parametrize(("name", "value"), [("namespace", "-x"), ("deployment", "a/b"), ("context", "--token=x")])
def test_the_form_refuses(name: str, value: str) -> None:
    form = KubernetesForm({"namespace": "shop", "deployment": "erp", "container": "api", "context": "", name: value})
    assert not form.is_valid() and name in form.errors
