"""`manage.py incidents verify [--digest FILE …]`: whether the timelines are what was written."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from incidents import digests
from incidents.models import ChainDigest, TimelineEntry


class Command(BaseCommand):
    help = "Look at the hash chains of all timelines and compare them with the digests, also those that have left."

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", required=True)
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
