"""Container images by their digest, and what a Docker engine has: containers and images as its listings tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from deployments.drivers.base import Artefact
from deployments.exceptions import DeploymentError

NONE = "<none>"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/-]{0,250}[A-Za-z0-9])?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_COLUMNS = (
    "{{.ID}}",
    '{{.Label "com.docker.compose.project"}}',
    '{{.Label "com.docker.compose.service"}}',
    "{{.Image}}",
    "{{.State}}",
    "{{.Status}}",
    "{{.Names}}",
)
LIST_CONTAINERS = ("docker", "ps", "--all", "--no-trunc", "--format", "\t".join(_COLUMNS))
LIST_IMAGES = (
    *("docker", "images", "--no-trunc", "--digests", "--format"),
    "{{.ID}}\t{{.Repository}}\t{{.Tag}}\t{{.Digest}}",
)


def repository(image: str) -> str:
    """The name without tag and digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def by_digest(artefact: Artefact) -> str:
    """How the image is named so that it cannot become another one: `registry/erp@sha256:…`. Raises DeploymentError."""
    name, _, digest = artefact.source.partition("@")
    if not _NAME.fullmatch(name):
        raise DeploymentError(f"“{artefact.source}” is no name of an image. Correct the source of the release.")
    if not _DIGEST.fullmatch(artefact.checksum):
        raise DeploymentError(f"{artefact.version} names no digest. Create the release with the digest of its image.")
    if digest and digest != artefact.checksum:
        raise DeploymentError(f"The source of {artefact.version} names another digest than its checksum. Correct it.")
    return f"{repository(name)}@{artefact.checksum}"


def short(image: str) -> str:
    """For people, where nobody has said which version an image is: its tag, or the beginning of its digest."""
    name, _, digest = image.rpartition("/")[2].partition("@")
    tag = name.partition(":")[2]
    if image.startswith("sha256:"):
        return image[:19]
    return digest[:19] if digest else tag or name


@dataclass(frozen=True)
class Container:
    """One line of `docker ps`. `image` is what it was started from: a name, or an id when the name has moved on."""

    id: str
    project: str
    service: str
    image: str
    state: str
    status: str
    name: str

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def healthy(self) -> bool:
        """By its own health check, where the image or the compose file has one."""
        return self.running and "(unhealthy)" not in self.status and "health: starting" not in self.status


@dataclass(frozen=True)
class Image:
    id: str
    repository: str
    tag: str
    digest: str

    @property
    def reference(self) -> str:
        """The name that can be removed without touching other names of the same image."""
        if self.tag != NONE:
            return f"{self.repository}:{self.tag}"
        return f"{self.repository}@{self.digest}" if self.digest != NONE else self.id

    def is_called(self, image: str) -> bool:
        by_hash = f"{self.repository}@{self.digest}"
        return image in (self.id, self.reference, by_hash) or image == self.id.removeprefix("sha256:")


def containers_in(listing: str) -> list[Container]:
    rows = (line.split("\t") for line in listing.splitlines())
    return [Container(*row) for row in rows if len(row) == len(_COLUMNS)]


def images_in(listing: str) -> list[Image]:
    rows = (line.split("\t") for line in listing.splitlines())
    return [Image(*row) for row in rows if len(row) == 4]


@dataclass(frozen=True)
class Engine:
    """What an engine has."""

    containers: Sequence[Container]
    images: Sequence[Image]

    def id_of(self, image: str) -> str:
        """Its id, or the name itself when the engine does not have it."""
        return next((each.id for each in self.images if each.is_called(image)), image)

    def has(self, image: str) -> bool:
        return any(each.is_called(image) for each in self.images)

    def same(self, one: str, other: str) -> bool:
        return bool(one and other) and self.id_of(one) == self.id_of(other)
