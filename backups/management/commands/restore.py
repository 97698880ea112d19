"""`manage.py restore ARCHIVE --into DATABASE --reason TEXT [--wait] [--json]`: put an archive back."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from backups import actions
from backups.exceptions import BackupError
from backups.models import Archive, Restore
from core.models import User
from operations.doors import OperationCommand
from operations.models import Operation


class Command(OperationCommand):
    help = "Restore an archive: over the live database, which is kept aside for undo, or beside it under a new name."
    asks_for = ("archive", "into", "reason", "override")

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("archive", help="number or name of the archive")
        parser.add_argument("--into", required=True, metavar="DATABASE", help="the database it becomes; replaces it")
        parser.add_argument("--reason", required=True)
        parser.add_argument("--override", default="", metavar="TEXT", help="why, if the archive is not verified")

    def handle(self, *args: Any, **options: Any) -> None:
        def request(by: User | None, key: str | None) -> Operation:
            return actions.request_restore(
                _archive(options["archive"]),
                by=by,
                reason_kind=Restore.Reason.OTHER,
                reason=options["reason"],
                into=options["into"],
                typed_name=options["into"],
                override_reason=options["override"],
                trigger=Operation.Trigger.COMMAND,
                key=key,
            )

        self.ask(request, **options)


def _archive(word: str) -> Archive:
    archives = Archive.objects.with_place()
    named = list(archives.filter(name=word).order_by("-pk")[:10])
    if not named and word.isdecimal():
        found = archives.filter(pk=int(word)).first() if len(word) < 19 else None
        if found is None:
            raise BackupError(f"There is no archive with the number {word}.")
        return found
    if not named:
        raise BackupError(f"There is no archive “{word}”. The list of archives shows names and numbers.")
    if len(named) > 1:
        numbers = ", ".join(f"{archive.pk} of {archive.plan}" for archive in named)
        raise BackupError(f"Several archives are called “{word}”. Name one by its number: {numbers}.")
    return named[0]
