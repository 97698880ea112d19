"""`manage.py rollback SERVICE ENVIRONMENT [--to VERSION] --reason TEXT --as USER [--restore] [--wait] [--json]`."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import PermissionDenied

from core.models import User
from deployments.actions import rollback
from deployments.doors import DeploymentCommand
from deployments.models import Deployment
from deployments.places import environment_called, release_called, service_called
from operations.models import Operation


class Command(DeploymentCommand):
    help = "Go back to the release before, or to one that was live earlier. It waits for no approval."
    permissions = ("deployments.rollback_deployment",)
    asks_for = ("service", "environment", "to", "reason", "incident", "restore")

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--to", metavar="VERSION", default="", help="left out: the release before")
        parser.add_argument("--reason", required=True)
        parser.add_argument("--incident", default="", metavar="NUMBER", help="the incident from which it is done")
        parser.add_argument(
            "--restore", action="store_true", help="also put the backup back that was taken before what is live"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        def request(by: User, key: str | None) -> Deployment:
            if options["restore"] and not by.has_perm("backups.restore_archive"):
                raise PermissionDenied(f"{by} may not restore backups. Roll back without it.")
            service = service_called(options["service"])
            return rollback.request_rollback(
                environment_called(service, options["environment"]),
                to=release_called(service, options["to"]) if options["to"] else None,
                reason=options["reason"],
                restores=options["restore"],
                incident=options["incident"],
                by=by,
                trigger=Operation.Trigger.COMMAND,
                key=key,
            )

        self.ask_for(request, **options)
