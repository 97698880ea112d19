"""Docker Compose: one service started anew, or two beside each other behind a proxy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deployments.drivers.base import Artefact, Check, Driver, Instance, Reality
from deployments.drivers.compose_host import ComposeForm, ComposeHost, Seen
from deployments.drivers.images import Container, by_digest, repository, short
from deployments.exceptions import DeploymentError, NotReady

ASK_EVERY_S = 0.5
READY_WITHIN_S = 60.0


class ComposeDriver(Driver):
    """Brings an image by its digest into a service of a Compose project.

    Started anew (`recreate`): `switch` starts the service with the new image, which interrupts it; when it does not
    become ready, the image before is started again. Blue-green: `<service>-blue` and `<service>-green`, of which the
    one behind the port in the port file is live; the proxy reads that file at each request. Which image a service
    has is written into the environment file of the project, so that whoever starts it by hand gets the same.
    """

    kind = "compose"
    label = "Docker Compose"
    form = ComposeForm
    sources = frozenset({"image"})
    can_scale = True

    def __init__(self, settings: Mapping[str, Any], around: Any) -> None:
        super().__init__(settings, around)
        self.host = ComposeHost(settings, around)
        self.blue_green = settings["way"] == "blue_green"
        self._within_s = READY_WITHIN_S

    # -- looking -----------------------------------------------------------------------------------------------------

    def preflight(self, artefact: Artefact) -> list[Check]:
        image = by_digest(artefact)
        checks = self.host.checks(image)
        if not all(check.good for check in checks):
            return checks
        seen = self.host.look()
        reference = self._reference(artefact, seen)
        here = seen.engine.has(reference)
        sentence = f"{reference} is there." if here else f"{image} will be pulled."
        return [*checks, Check("Image", True, sentence)]

    def look(self) -> Reality:
        seen = self.host.look()
        instances = [self._instance(each, seen) for each in seen.mine]
        live = next((each for each in instances if each.live), None)
        revisions = [version for version, image in reversed(seen.images) if seen.engine.has(image)]
        if live is None:
            what = "no port file names a slot that runs" if self.blue_green else "the service does not run"
            return Reality("", instances, f"Nothing is live: {what}.", revisions)
        copies = [each for each in instances if each.live]
        mixed = {each.version for each in copies} - {live.version}
        more = f" Some copies run {', '.join(sorted(mixed))}." if mixed else ""
        return Reality(live.version, instances, f"{live.version} is live in {live.name}.{more}", revisions)

    def _instance(self, container: Container, seen: Seen) -> Instance:
        asked = seen.asked(container.service)
        answered = asked is None or 200 <= asked["code"] < 300
        note = "" if container.running else container.status
        if asked and not answered and container.running:
            how = f"answered with {asked['code']}" if asked["code"] else f"failed: {asked['problem']}"
            note = f"Its health check {how}."
        port = seen.port_of(container.service)
        return Instance(
            container.name,
            self._version_of(container, seen),
            running=container.running,
            ready=container.healthy and answered,
            live=container.running and container.service == seen.live_service,
            address=f"127.0.0.1:{port}" if port else "",
            since=container.status,
            answer_ms=round(asked["ms"], 1) if asked and asked["code"] else None,
            note=note or ("" if container.healthy else container.status),
        )

    @staticmethod
    def _version_of(container: Container, seen: Seen) -> str:
        """As it was brought there; for an image that somebody else has started, its tag or digest."""
        brought = [seen.slots.get(container.service, ""), *(version for version, _ in reversed(seen.images))]
        known = dict(seen.images)
        found = (each for each in brought if each in known and seen.engine.same(known[each], container.image))
        return next(found, short(container.image))

    def preview(self, artefact: Artefact) -> dict[str, list[str]]:
        image = by_digest(artefact)
        seen = self.host.look()
        reference = self._reference(artefact, seen)
        pull = [] if seen.engine.has(reference) else [f"docker pull {image}"]
        if not self.blue_green:
            service = self.settings["service"]
            lines = [f"{self.settings['image_variable']}={reference} in {self.host.env_file}"]
            return {"prepare": pull, "switch": [*lines, self.host.shown("up", "-d", "--no-deps", service)], "drain": []}
        slot = seen.idle_service
        start = [f"{self.host.variable_of(slot)}={reference} in {self.host.env_file}"]
        start.append(self.host.shown("up", "-d", "--no-deps", slot))
        switch = [f"{seen.port_of(slot)} into {self.settings['port_file']}"]
        return {"prepare": [*pull, *start], "switch": switch, "drain": ["Wait until the old slot has no connections."]}

    def logs(self, version: str, lines: int = 40) -> list[str]:
        seen = self.host.look()
        wanted = [each.id for each in seen.mine if self._version_of(each, seen) == version]
        return self.host.logs(wanted, lines)

    # -- deploying ---------------------------------------------------------------------------------------------------

    def _reference(self, artefact: Artefact, seen: Seen) -> str:
        """By digest; an image that was built there and came from no registry has only its id."""
        is_id = any(each.id == artefact.checksum for each in seen.engine.images)
        image = by_digest(artefact)
        return artefact.checksum if is_id and not seen.engine.has(image) else image

    def prepare(self, artefact: Artefact) -> None:
        seen = self.host.look()
        image = self._reference(artefact, seen)
        if not seen.engine.has(image):
            self.around.log(f"docker pull {image}")
            self.host.pull(image)
        self.host.note_image(artefact.version, image, seen)
        if self.blue_green:
            self._start_beside(artefact.version, image, self.host.look())

    def _start_beside(self, version: str, image: str, seen: Seen) -> str:
        """In the slot that is not live. Returns the service."""
        slot = seen.idle_service
        running = [each for each in seen.of(slot) if each.healthy and self._version_of(each, seen) == version]
        if running:
            self.around.log(f"{version} runs in {slot} already.")
            return slot
        self.around.log(f"{version} starts in {slot}.")
        self.host.up(seen, slot, image, version)
        return slot

    def wait_ready(self, artefact: Artefact, within_s: float) -> None:
        """Where the service is started anew nothing of it runs yet; the time is kept for the switch."""
        self._within_s = within_s
        if self.blue_green:
            self._wait_for(artefact.version, self._services_of(artefact.version))

    def _services_of(self, version: str) -> set[str]:
        seen = self.host.look()
        return {each.service for each in seen.mine if self._version_of(each, seen) == version}

    def _wait_for(self, version: str, services: set[str]) -> None:
        """Until every copy of it is ready. Raises NotReady with its last words."""

        def ready(reality: Reality, seen: Seen) -> bool:
            copies = [
                each
                for each, container in zip(reality.instances, seen.mine, strict=True)
                if container.service in services
            ]
            return bool(copies) and all(each.ready and each.version == version for each in copies)

        self._until(version, ready)

    def _until(self, version: str, ready: Callable[[Reality, Seen], bool]) -> None:
        give_up = time.monotonic() + self._within_s
        while True:
            self.around.check()
            seen = self.host.look()
            instances = [self._instance(each, seen) for each in seen.mine]
            if ready(Reality("", instances), seen):
                return
            if time.monotonic() > give_up:
                break
            time.sleep(ASK_EVERY_S)
        mine = [each for each in instances if each.version == version]
        note = next((each.note for each in mine if each.note), "It does not run.") if mine else "It does not run."
        words = " / ".join(line.strip() for line in self.logs(version, 3) if line.strip())[-400:]
        said = f" It said: {words}" if words else ""
        raise NotReady(f"{version} did not become ready within {self._within_s:g} s. {note}{said}")

    def switch(self, artefact: Artefact) -> None:
        self._switch_to(artefact.version)

    def _switch_to(self, version: str) -> None:
        if not self.blue_green:
            return self._start_anew(version)
        seen = self.host.look()
        running = [each for each in seen.mine if each.running and self._version_of(each, seen) == version]
        slot = next((each.service for each in running if each.service != seen.live_service), "")
        if not slot and running:
            self.around.log(f"{version} is live already.")
            return self.host.confirm()
        if not slot:
            raise DeploymentError(f"{version} runs in no slot, so it can get no traffic. Deploy it again.")
        if not all(self._instance(each, seen).ready for each in running if each.service == slot):
            self._wait_for(version, {slot})
        return self.host.send_traffic_to(slot)

    def _start_anew(self, version: str) -> None:
        """With the image of this version; with the one before when it does not become ready."""
        seen = self.host.look()
        image, service = self._image_of(version, seen), self.settings["service"]
        before = seen.live_image
        before_version = self._version_of(seen.of(service)[0], seen) if seen.of(service) else ""
        try:
            self.host.up(seen, service, image, version, copies=seen.copies)
            self._wait_for(version, {service})
        except DeploymentError as error:
            if not before or seen.engine.same(before, image):
                raise
            self.around.log(f"{error.message} {before_version} is started again.")
            self.host.up(seen, service, before, before_version, copies=seen.copies)
            self._wait_for(before_version, {service})
            raise NotReady(f"{error.message} {before_version} was started again.") from error

    def _image_of(self, version: str, seen: Seen) -> str:
        image = dict(seen.images).get(version, "")
        if not image:
            raise DeploymentError(f"No image of {version} was brought there. Deploy it again from its release.")
        return image

    def drain(self, artefact: Artefact, within_s: float) -> None:
        """Blue-green: until nobody is connected to the port of the slot before."""
        seen = self.host.look()
        port = seen.port_of(seen.idle_service) if self.blue_green else 0
        give_up = time.monotonic() + within_s
        while port and (count := self.host.connections(port)):
            if time.monotonic() > give_up:
                self.around.log(f"After {within_s:g} s {count} connections to port {port} were still open.")
                return
            self.around.check()
            time.sleep(ASK_EVERY_S)

    def discard(self, artefact: Artefact) -> None:
        seen = self.host.look()
        if not self.blue_green:
            return
        slots = {each.service for each in seen.mine if self._version_of(each, seen) == artefact.version}
        for slot in slots - {seen.live_service}:
            self.host.take_down(slot)

    def revert(self, version: str) -> None:
        seen = self.host.look()
        if self.blue_green and not self._services_of(version):
            image = self._image_of(version, seen)
            if not seen.engine.has(image):
                self.host.pull(image)
            self._wait_for(version, {self._start_beside(version, image, seen)})
        self._switch_to(version)

    # -- looking after it --------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Blue-green: in the other slot, then traffic goes there; what was warm in it is gone."""
        seen = self.host.look()
        service, image, version = self._live(seen)
        if not self.blue_green:
            self.host.up(seen, service, image, version, copies=seen.copies, anew=True)
            return self._wait_for(version, {service})
        slot = seen.idle_service
        self.host.up(seen, slot, image, version, anew=True)
        self._wait_for(version, {slot})
        return self.host.send_traffic_to(slot)

    def _live(self, seen: Seen) -> tuple[str, str, str]:
        """Service, image and version. Raises DeploymentError when nothing is live."""
        container = next(iter(seen.of(seen.live_service)), None)
        if container is None:
            raise DeploymentError("Nothing is live that could be started again. Deploy a release first.")
        version = self._version_of(container, seen)
        return container.service, dict(seen.images).get(version, container.image), version

    def start(self) -> None:
        seen = self.host.look()
        service, image, version = self._live(seen)
        self.host.up(seen, service, image, version, copies=seen.copies)
        self._wait_for(version, {service})

    def stop(self) -> None:
        self.host.stop()

    def scale(self, count: int) -> int:
        if self.blue_green:
            raise DeploymentError("A slot has one port, so it has one copy. Start more behind another proxy.")
        if count < 1:
            raise DeploymentError("At least one copy has to run. Stop the service instead.")
        seen = self.host.look()
        service, image, version = self._live(seen)
        self.host.up(seen, service, image, version, copies=count)
        self._wait_for(version, {service})
        return seen.copies

    def leftovers(self, keep: Sequence[str]) -> list[str]:
        containers, images = self._removable(keep)
        lines = [f"The stopped container {each.name} ({each.status})" for each in containers]
        return [*lines, *(f"The image {reference}" for reference in images)]

    def _removable(self, keep: Sequence[str]) -> tuple[list[Container], list[str]]:
        """Stopped containers of the service that are not its only ones, and images of it that nothing uses."""
        seen = self.host.look()
        live = [each.service for each in seen.mine if each.running]
        gone = [each for each in seen.mine if not each.running and (live and each.service != seen.live_service)]
        gone += [each for each in seen.of(seen.live_service) if not each.running and each.service in live]
        stays = {seen.engine.id_of(image) for version, image in seen.images if version in keep}
        stays |= {seen.engine.id_of(each.image) for each in seen.engine.containers if each not in gone}
        ours = {repository(image) for _, image in seen.images} | {repository(each.image) for each in seen.mine}
        unused = [each for each in seen.engine.images if each.repository in ours and each.id not in stays]
        return gone, [each.reference for each in unused]

    def cleanup(self, keep: Sequence[str]) -> list[str]:
        containers, images = self._removable(keep)
        return self.host.remove([(each.id, each.name) for each in containers], images)
