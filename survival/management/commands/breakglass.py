"""`manage.py breakglass --as NAME --reason TEXT [--minutes 60]`: a link for when nobody can sign in any more."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from core.exceptions import PortalError
from survival import breakglass


class Command(BaseCommand):
    help = "Print a link that signs you in as an administrator for a short time. It works once and is announced."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--as", dest="name", required=True, help="who you are; everybody sees it")
        parser.add_argument("--reason", required=True, help="why; everybody sees it")
        parser.add_argument("--minutes", type=int, default=60, help="how long the session lasts (60)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            row, token = breakglass.issue(name=options["name"], reason=options["reason"], minutes=options["minutes"])
        except PortalError as error:
            raise CommandError(error.message) from error
        address = f"{settings.PORTAL_URL}{reverse('breakglass', args=[token])}"
        where = "" if settings.PORTAL_URL else " (after the portal's own address)"
        self.stderr.write(
            f"Open this within {breakglass.LINK_MINUTES} minutes{where} and press the button. It works once; the "
            f"session ends after {row.minutes} minutes. It is shown in the situation room for a week."
        )
        self.stdout.write(address)
