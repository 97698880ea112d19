"""`manage.py cleanup SERVICE ENVIRONMENT [--yes --reason TEXT --as USER] [--wait] [--json]`: remove old versions."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from catalog.models import Environment
from core.exceptions import PortalError
from core.models import User
from deployments import reach
from deployments.actions import changing
from deployments.doors import entitled
from deployments.places import environment_called, service_called
from deployments.procedures.control import kept_versions
from operations.doors import OperationCommand
from operations.models import Operation


class Command(OperationCommand):
    help = "Say which old versions would go; with --yes remove them. What is live and the way back stay."
    asks_for = ("service", "environment", "reason")

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("service", help="slug of the service")
        parser.add_argument("environment", help="slug of the environment")
        parser.add_argument("--yes", action="store_true", help="remove them; wants --as and --reason")
        parser.add_argument("--reason", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["yes"]:
            self._preview(**options)
            return

        def request(by: User | None, key: str | None) -> Operation:
            return changing.request_cleanup(
                _place(options),
                by=entitled(options["person"], ("deployments.control_service",)),
                reason=options["reason"],
                trigger=Operation.Trigger.COMMAND,
                key=key,
            )

        self.ask(request, **options)

    def _preview(self, **options: Any) -> None:
        try:
            environment = _place(options)
            driver = reach.looking_driver(reach.profile_of(environment))
            found = driver.leftovers(kept_versions(environment.pk))
        except PortalError as error:
            raise self.refused(error.message, **options) from error
        if options["json"]:
            self.stdout.write(json.dumps({"state": "preview", "would_remove": found}))
            return
        for each in found or ["There is nothing to remove."]:
            self.stdout.write(each)
        if found:
            self.stdout.write("Nothing was removed. Say --yes to remove it.")


def _place(options: dict[str, Any]) -> Environment:
    return environment_called(service_called(options["service"]), options["environment"])
