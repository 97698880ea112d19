"""`manage.py incidents declare|list|verify`: say that something is wrong, read what is, look at the timelines.

The authority is a shell on the portal's host; declaring needs a person who may, since somebody is called.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from catalog.models import Service, Severity
from core.exceptions import PortalError
from incidents import digests, news
from incidents.actions.declare import declare
from incidents.models import ChainDigest, Incident, TimelineEntry
from operations.doors import person


class Command(BaseCommand):
    help = "Declare an incident, list those that are open, or look at the hash chains of all timelines."

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", required=True)
        declare = what.add_parser("declare", help="say that something is wrong; those of the matrix are told")
        declare.add_argument("--title", required=True)
        declare.add_argument("--service", default="", metavar="SLUG")
        declare.add_argument("--severity", default="", metavar="CODE", help="as the service names it")
        declare.add_argument("--description", default="")
        declare.add_argument("--as", dest="person", required=True, metavar="USER", help="who declares, by user name")
        listing = what.add_parser("list", help="those that are open, the gravest first")
        listing.add_argument("--service", default="", metavar="SLUG")
        verify = what.add_parser("verify", help="name every timeline that is not what was written")
        verify.add_argument(
            "--digest",
            action="append",
            default=[],
            type=Path,
            metavar="FILE",
            help="a digest that was mailed or copied",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            {"declare": self.declare, "list": self.list, "verify": self.verify}[options["what"]](options)
        except PortalError as error:
            raise CommandError(error.message) from error

    def declare(self, options: dict[str, Any]) -> None:
        service, severity = _place(options["service"], options["severity"])
        by = person(options["person"])
        if by is None or not by.has_perm("incidents.declare_incident"):
            raise CommandError("Name with --as a person who may declare incidents.")
        what = {"service": service, "severity": severity, "description": options["description"]}
        incident = declare(options["title"], by=by, **what)
        self.stdout.write(f"{news.harmless(incident)}: declared. {settings.PORTAL_URL}{incident.get_absolute_url()}")

    def list(self, options: dict[str, Any]) -> None:
        """Of a confidential one, the number alone: a shell names nobody who may read more."""
        rows = Incident.objects.open().with_names().order_by("rank", "-pk")
        if options["service"]:
            rows = rows.filter(service=_service(options["service"]))
        for row in rows:
            facts = [
                row.state_word,
                row.severity.code if row.severity else "–",
                row.service.name if row.service else "–",
            ]
            self.stdout.write("  ".join([*facts, news.harmless(row)] if not row.confidential else [news.harmless(row)]))
        if not rows:
            self.stdout.write("Nothing is open.")

    def verify(self, options: dict[str, Any]) -> None:
        trouble = digests.verify_all()
        for path in options["digest"]:
            try:
                trouble += digests.verify_file(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise CommandError(f"{path} cannot be read as a digest: {error}") from error
        if trouble:
            raise CommandError("\n".join(trouble))
        entries, kept = TimelineEntry.objects.count(), ChainDigest.objects.count()
        given = len(options["digest"])
        also = f" and {given} given" if given else ""
        self.stdout.write(f"{entries} entries are what was written; they agree with {kept} digests kept here{also}.")


def _place(slug: str, code: str) -> tuple[Service | None, Severity | None]:
    """What the words name. Raises CommandError with what there is."""
    if not slug:
        if code:
            raise CommandError("Severities belong to a service: give --service too.")
        return None, None
    service = _service(slug)
    severity = service.severities.filter(code=code).first() if code else None
    if code and severity is None:
        there = ", ".join(service.severities.values_list("code", flat=True)) or "none yet"
        raise CommandError(f"{service} has no severity “{code}”. It has: {there}.")
    return service, severity


def _service(slug: str) -> Service:
    found = Service.objects.filter(slug=slug).first()
    if found is None:
        there = ", ".join(Service.objects.values_list("slug", flat=True)[:20]) or "none yet"
        raise CommandError(f"There is no service “{slug}”. Services: {there}.")
    return found
