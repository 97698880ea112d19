"""`manage.py deploy SERVICE ENVIRONMENT VERSION --reason TEXT --as USER [--emergency] [--wait] [--json]`."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from core.models import User
from deployments.actions import requesting
from deployments.doors import DeploymentCommand
from deployments.models import Deployment
from deployments.places import environment_called, release_called, service_called
from operations.models import Operation


class Command(DeploymentCommand):
    help = "Ask for a release in an environment. It starts by itself as soon as no gate, approval or freeze keeps it."
    permissions = ("deployments.request_deployment", "deployments.run_deployment")
    asks_for = ("service", "environment", "release", "reason", "incident", "emergency", "solo")

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("release", metavar="version", help="version of the release, for example v1.4.0")
        parser.add_argument("--reason", default="")
        parser.add_argument("--incident", default="", metavar="NUMBER", help="the incident that it fixes")
        parser.add_argument("--emergency", action="store_true", help="past gates and approvals; is reviewed afterwards")
        parser.add_argument("--solo", action="store_true", help="without approvals; is reviewed afterwards")

    def handle(self, *args: Any, **options: Any) -> None:
        def request(by: User, key: str | None) -> Deployment:
            service = service_called(options["service"])
            return requesting.request_deployment(
                environment_called(service, options["environment"]),
                release_called(service, options["release"]),
                **{name: options[name] for name in ("reason", "emergency", "solo", "incident")},
                by=by,
                starts_itself=True,
                trigger=Operation.Trigger.COMMAND,
                key=key,
            )

        self.ask_for(request, **options)
