"""`manage.py status [SERVICE [ENVIRONMENT]] [--json]`: what is live where. Exits 3 where that is not what runs."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog.models import Environment
from core.exceptions import PortalError
from deployments.api_rows import live_row
from deployments.places import environment_called, service_called
from operations.doors import add_json

DIFFERS = 3


class Command(BaseCommand):
    help = "Say what is live in each environment. Exits 3 where what runs is not what the record says."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("service", nargs="?", default="", help="slug of a service; left out: all")
        parser.add_argument("environment", nargs="?", default="", help="slug of an environment; left out: all")
        add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            rows = [live_row(environment) for environment in _places(options["service"], options["environment"])]
        except PortalError as error:
            if options["json"]:
                self.stdout.write(json.dumps({"state": "refused", "message": error.message}))
            raise CommandError(error.message) from error
        differs = any(row["drift"] for row in rows)
        if options["json"]:
            state = "differs" if differs else "ok"
            self.stdout.write(json.dumps({"state": state, "environments": rows}, default=lambda at: at.isoformat()))
        else:
            for row in rows:
                self.stdout.write(_line(row))
            if not rows:
                self.stdout.write("No environment has a way to be deployed to yet.")
        if differs:
            raise SystemExit(DIFFERS)


def _places(service: str, environment: str) -> list[Environment]:
    """Those that are meant. Raises Missing for a name that none has."""
    if environment:
        return [environment_called(service_called(service), environment)]
    rows = Environment.objects.select_related("service").filter(deployment_profile__isnull=False)
    if service:
        rows = rows.filter(service=service_called(service))
    return list(rows.order_by("service__slug", "slug"))


def _line(row: dict[str, Any]) -> str:
    place = row["environment"]
    since = f" since {row['since']:%Y-%m-%d %H:%M} UTC" if row["since"] is not None else ""
    by = f" by {row['by']}" if row["by"] else ""
    differs = f"  DIFFERS: {row['drift']}" if row["drift"] else ""
    way = f"  Way back: {row['way_back']['sentence']}" if row["way_back"] else ""
    return f"{place['service']} {place['slug']}: {row['version'] or 'nothing deployed'}{since}{by}{differs}{way}"
