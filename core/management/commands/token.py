"""`manage.py token USER --scope SCOPE ... [--name TEXT] [--days N] [--json]`: a new API token, printed once."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from core.actions import LONGEST_DAYS, issue_token
from core.exceptions import PortalError
from core.models import User
from core.scopes import SCOPES

NOTHING = {"seconds": None, "bytes": None}  # which the other commands tell of an operation


class Command(BaseCommand):
    help = "Make an API token that acts for a person. It is printed this once; the portal keeps only a digest."

    def add_arguments(self, parser: ArgumentParser) -> None:
        allows = "; ".join(f"{word}: {what}" for word, what in SCOPES.items())
        parser.add_argument("user", help="user name of the person it acts for")
        parser.add_argument("--scope", dest="scopes", nargs="+", action="extend", required=True, help=allows)
        parser.add_argument("--name", default="Made on the command line", help="what uses it")
        parser.add_argument("--days", type=int, default=90, help=f"how long it lasts, 1 to {LONGEST_DAYS} (90)")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = User.objects.filter(username=options["user"]).first()
        try:
            if owner is None:
                raise PortalError(f"There is no person with the user name “{options['user']}”.")
            token, secret = issue_token(
                owner, name=options["name"], scopes=options["scopes"], days=options["days"], by=None
            )
        except PortalError as error:
            if options["json"]:
                self.stdout.write(json.dumps({**NOTHING, "id": None, "state": "refused", "message": error.message}))
            raise CommandError(error.message) from error
        said = f"It acts for {owner} until {token.expires_at:%F %H:%M} UTC and is not shown again."
        if options["json"]:
            found: dict[str, Any] = {
                **NOTHING,
                "id": token.pk,
                "state": "issued",
                "message": said,
                "user": owner.get_username(),
            }
            found |= {"scopes": token.scopes, "expires_at": token.expires_at.isoformat(), "token": secret}
            self.stdout.write(json.dumps(found))
        else:
            self.stderr.write(said)
            self.stdout.write(secret)
