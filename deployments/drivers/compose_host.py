"""What the Compose driver does on its host: its settings, its commands, and what it sees there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from django import forms

from deployments.drivers.base import Check, Surroundings
from deployments.drivers.fields import NameField, PathField, UrlPatternField, VariableField
from deployments.drivers.hosts import Answer, Done, HostSide, failed
from deployments.drivers.images import (
    LIST_CONTAINERS,
    LIST_IMAGES,
    Container,
    Engine,
    containers_in,
    images_in,
)
from deployments.exceptions import DeploymentError
from operations.commands import Command

SLOTS = ("blue", "green")
KEPT_VERSIONS = 20
# What Docker and Compose say -> what to do about it. The first match counts.
_FIXES = (
    (r"ContainerConfig", "This docker-compose is too old for the engine. Install the compose plugin of Docker there."),
    (r"Cannot connect to the Docker daemon|Couldn't connect to Docker", "Start the Docker engine there."),
    (r"permission denied.*(docker|daemon)", "Let the user of the connection use the engine's socket."),
    (r"port is already allocated|address already in use", "Stop what uses that port, or correct the compose file."),
    (r"manifest unknown|not found: manifest|manifest for .* not found", "Push the image, or correct the release."),
    (r"unauthorized|authentication required|denied: ", "Sign in to the registry there with docker login."),
    (r"no space left on device", "Make room on that disk: clean up old images."),
)


class ComposeForm(forms.Form):
    """Settings of the Compose driver."""

    file = PathField(label="Compose file", max_length=500, help_text="Always named with -f, wherever it is started.")
    project = NameField(max_length=80, help_text="Name of the project, as in -p.")
    service = NameField(max_length=80, help_text="Blue-green: without -blue and -green.")
    way = forms.ChoiceField(
        choices=[
            ("recreate", "Start the service anew (short interruption)"),
            ("blue_green", "Blue-green: two services behind a proxy"),
        ]
    )
    image_variable = VariableField(
        max_length=70,
        help_text="The image in the compose file, as in image: ${ERP_IMAGE}. Blue-green: ERP_IMAGE_BLUE and "
        "ERP_IMAGE_GREEN.",
    )
    env_file = PathField(
        label="Environment file",
        required=False,
        max_length=500,
        help_text="Where the variables are written; other lines in it stay. Empty: .env beside the compose file.",
    )
    ready_url = UrlPatternField(
        label="Health check",
        required=False,
        max_length=500,
        help_text="Asked on the host itself; {port} is the port of a slot. Empty: the container's own health check.",
    )
    port_file = PathField(
        required=False, max_length=500, help_text="Blue-green: where the proxy reads which port is live."
    )
    blue_port = forms.IntegerField(required=False, min_value=1, max_value=65535)
    green_port = forms.IntegerField(required=False, min_value=1, max_value=65535)
    socket = PathField(required=False, max_length=90, help_text="Of the Docker engine. Empty: the usual one.")

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("way") == "blue_green":
            for name in ("port_file", "blue_port", "green_port"):
                if not values.get(name) and name not in self.errors:
                    self.add_error(name, "Blue-green needs this.")
            if values.get("blue_port") and values.get("blue_port") == values.get("green_port"):
                self.add_error("green_port", "The slots need different ports.")
        elif "{port}" in (values.get("ready_url") or ""):
            self.add_error("ready_url", "Only slots have ports. Write the port itself.")
        return values


@dataclass(frozen=True)
class Seen:
    """What was seen there at one moment. `images` are versions and their images, newest last."""

    engine: Engine
    mine: Sequence[Container]
    live_service: str
    services: Sequence[str]
    ports: Mapping[str, int]
    answers: Mapping[str, Mapping[str, Any]]
    images: Sequence[tuple[str, str]]
    slots: Mapping[str, str]
    """Service -> version that was brought there last."""
    settings: Sequence[str]
    """Names of application settings that were written into the environment file."""

    def of(self, service: str) -> list[Container]:
        """The running ones first."""
        return sorted((each for each in self.mine if each.service == service), key=lambda each: not each.running)

    def port_of(self, service: str) -> int:
        return self.ports.get(service, 0)

    def asked(self, service: str) -> Mapping[str, Any] | None:
        return self.answers.get(service)

    @property
    def idle_service(self) -> str:
        return next(each for each in self.services if each != self.live_service or len(self.services) == 1)

    @property
    def live_image(self) -> str:
        return next((each.image for each in self.of(self.live_service)), "")

    @property
    def copies(self) -> int:
        return max(1, sum(each.running for each in self.of(self.live_service)))


class ComposeHost:
    """Commands of one project, and the files beside it. Every method raises DeploymentError; some also Fenced."""

    def __init__(self, settings: Mapping[str, Any], around: Surroundings) -> None:
        self.settings, self.around = settings, around
        folder = PurePosixPath(settings["file"]).parent
        self.env_file: str = settings.get("env_file") or str(folder / ".env")
        service = settings["service"]
        self.host = HostSide(around, str(folder / f".ops-{settings['project']}-{service}-fence"))
        if settings["way"] == "blue_green":
            self.services = tuple(f"{service}-{slot}" for slot in SLOTS)
            pairs = zip(self.services, (settings["blue_port"], settings["green_port"]), strict=True)
            self.ports: dict[str, int] = dict(pairs)
        else:
            self.services, self.ports = (service,), {}

    # -- looking -----------------------------------------------------------------------------------------------------

    @property
    def _env(self) -> dict[str, str]:
        """Secrets reach Compose in its environment and are written nowhere."""
        engine = {"DOCKER_HOST": f"unix://{self.settings['socket']}"} if self.settings.get("socket") else {}
        return {**engine, **self.around.environment, **self.around.secrets}

    @cached_property
    def _compose(self) -> tuple[str, ...]:
        """The plugin of docker today, a program of its own before."""
        done = self.host.look(commands=[["docker", "compose", "version"]], env=self._env).commands[0]
        program = ("docker", "compose") if done.code == 0 else ("docker-compose",)
        return (*program, "-f", self.settings["file"], "-p", self.settings["project"], "--env-file", self.env_file)

    def compose(self, *words: str) -> list[str]:
        return [*self._compose, *words]

    def shown(self, *words: str) -> str:
        return Command(tuple(self.compose(*words))).shown()

    def variable_of(self, service: str) -> str:
        name: str = self.settings["image_variable"]
        return name if len(self.services) == 1 else f"{name}_{service.rpartition('-')[2].upper()}"

    def look(self) -> Seen:
        url = self.settings.get("ready_url") or ""
        urls = {each: url.replace("{port}", str(self.ports.get(each, ""))) for each in self.services} if url else {}
        files = [self.settings["port_file"]] if self.ports else []
        answer = self.host.look(
            commands=[list(LIST_CONTAINERS), list(LIST_IMAGES)],
            env=self._env,
            read=files,
            ask=[[each, ""] for each in urls.values()],
        )
        for done in answer.commands:
            self._judge(done, "docker")
        return self._seen(answer, dict(zip(urls, answer.answers, strict=True)))

    def _seen(self, answer: Answer, answers: Mapping[str, Mapping[str, Any]]) -> Seen:
        engine = Engine(containers_in(answer.commands[0].out), images_in(answer.commands[1].out))
        project = self.settings["project"]
        mine = [each for each in engine.containers if each.project == project and each.service in self.services]
        live = self.services[0]
        if self.ports:
            port = (answer.read[self.settings["port_file"]] or "").strip()
            live = next((service for service, own in self.ports.items() if str(own) == port), "")
        images = [(version, image) for version, image in answer.notes.get("images", ())]
        names = answer.notes.get("settings", ())
        slots = {each: answer.notes.get(f"slot {each}", "") for each in self.services}
        return Seen(engine, mine, live, self.services, self.ports, answers, images, slots, names)

    @staticmethod
    def _judge(done: Done, what: str) -> None:
        if done.code:
            said = f"{done.out}\n{done.err}"
            fix = next((fix for pattern, fix in _FIXES if re.search(pattern, said, re.IGNORECASE)), "")
            raise DeploymentError(failed(done, what, fix or "Look at what it says, then try again."))

    def checks(self, image: str) -> list[Check]:
        """Engine, compose file and services. Stops at the first that is missing."""
        file = self.settings["file"]
        there = self.host.look(examine=[file]).paths[file]["kind"] == "file"
        found = [Check("Compose file", there, f"{file} is {'' if there else 'not '}there.", "Correct the setting.")]
        engine = self.host.look(commands=[["docker", "version"]], env=self._env).commands[0]
        try:
            self._judge(engine, "docker")
            found.append(Check("Docker engine", True, "The Docker engine answers."))
        except DeploymentError as error:
            return [*found, Check("Docker engine", False, error.message)]
        if not there:
            return found
        env = {**self._env, **{self.variable_of(each): image for each in self.services}}
        # Without the environment file: it does not exist before the first deployment.
        words = [word for word in self.compose("config", "--services") if word not in ("--env-file", self.env_file)]
        done = self.host.look(commands=[words], env=env).commands[0]
        if done.code:
            return [*found, Check("Compose", False, failed(done, "docker-compose config", "Mend the compose file."))]
        missing = [each for each in self.services if each not in done.out.split()]
        sentence = f"{file} has no service {' and no '.join(missing)}." if missing else "The compose file fits."
        return [*found, Check("Compose", not missing, sentence, "Add it there, or correct the setting.")]

    def logs(self, containers: Sequence[str], lines: int) -> list[str]:
        commands = [["docker", "logs", "--tail", str(lines), each] for each in containers]
        done = self.host.look(commands=commands, env=self._env, all=True).commands if commands else []
        return [line for each in done for line in f"{each.out}{each.err}".splitlines()][-lines:]

    def connections(self, port: int) -> int:
        return self.host.look(connections=[port]).connections[str(port)]

    # -- changing ----------------------------------------------------------------------------------------------------

    def _act(self, what: str, commands: Sequence[Sequence[str]], **request: Any) -> None:
        self.around.check()
        answer = self.host.act(commands=[list(each) for each in commands], env=self._env, **request)
        for done in answer.commands:
            self._judge(done, what)

    def pull(self, image: str) -> None:
        self._act("docker pull", [["docker", "pull", "--quiet", image]])

    def note_image(self, version: str, image: str, seen: Seen) -> None:
        kept = [[known, has] for known, has in seen.images if known != version]
        self.host.act(notes={"images": [*kept[1 - KEPT_VERSIONS :], [version, image]]})

    def up(self, seen: Seen, service: str, image: str, version: str, *, copies: int = 1, anew: bool = False) -> None:
        """Write the image and the application's settings into the environment file and start the service."""
        settings = {name: _quotable(name, value) for name, value in self.around.environment.items()}
        gone = {name: None for name in seen.settings if name not in settings}
        variables = {**gone, **settings, self.variable_of(service): image}
        words = ["up", "-d", "--no-deps", "--no-build", *(["--force-recreate"] if anew else [])]
        scale = ["--scale", f"{service}={copies}"] if copies > 1 or len(self.services) == 1 else []
        self._act(
            "docker-compose up",
            [self.compose(*words, *scale, service)],
            variables={self.env_file: variables},
            defaults={self.variable_of(each): image for each in self.services},
            notes={f"slot {service}": version, "settings": sorted(settings)},
        )

    def send_traffic_to(self, service: str) -> None:
        self.host.act(files={self.settings["port_file"]: str(self.ports[service])})

    def confirm(self) -> None:
        """Nothing to do; but a later token must not be overtaken by an earlier one."""
        self.host.act()

    def take_down(self, service: str) -> None:
        self._act("docker-compose rm", [self.compose("stop", service), self.compose("rm", "-f", service)])

    def stop(self) -> None:
        self._act("docker-compose stop", [self.compose("stop", *self.services)])

    def remove(self, containers: Sequence[tuple[str, str]], images: Sequence[str]) -> list[str]:
        """Returns what was removed, in sentences; what is in use stays and is named in the log."""
        commands = [["docker", "rm", each] for each, _ in containers]
        commands += [["docker", "rmi", each] for each in images]
        if not commands:
            return []
        self.around.check()
        answer = self.host.act(commands=commands, env=self._env, all=True)
        names = [f"The container {name}" for _, name in containers] + [f"The image {image}" for image in images]
        removed = []
        for name, done in zip(names, answer.commands, strict=True):
            if done.code:
                self.around.log(f"{name} stays: {done.last_words(1)}")
            else:
                removed.append(f"{name} was removed.")
        return removed


def _quotable(name: str, value: str) -> str:
    """A value that every Compose reads back as it is from between single quotes."""
    if re.search(r"['\\$\r\n\0]", value):
        raise DeploymentError(f"{name} has a quote, backslash, dollar or line break, which no .env can hold.")
    return value
