"""`manage.py operations [ID] [--state STATE] [--procedure NAME] [--active] [--wait] [--json]`: what runs, what ran."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from operations.doors import OperationCommand, sentence, wait_for
from operations.models import Operation
from operations.report import report


class Command(OperationCommand):
    help = "List operations, newest first; or show one, wait for it with --wait, and exit 0 only if it succeeded."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("id", nargs="?", type=int, help="the number of one operation")
        parser.add_argument("--state", choices=Operation.State.values)
        parser.add_argument("--procedure", help="for example backups.backup")
        parser.add_argument("--active", action="store_true", help="only what has not ended")
        parser.add_argument("--limit", type=int, default=20)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["id"] is not None:
            self._one(**options)
        else:
            self._list(**options)

    def _one(self, **options: Any) -> None:
        operation = Operation.objects.filter(pk=options["id"]).first()
        if operation is None:
            raise self.refused(f"There is no operation with the number {options['id']}.", **options)
        if options["wait"]:
            wait_for(operation, options["timeout"])
        self.answer(operation, **options)

    def _list(self, **options: Any) -> None:
        if options["wait"]:
            raise CommandError("Name the operation to wait for.")
        rows = Operation.objects.active() if options["active"] else Operation.objects.all()
        for field in ("state", "procedure"):
            if options[field]:
                rows = rows.filter(**{field: options[field]})
        found = list(rows.order_by("-pk")[: max(1, options["limit"])])
        if options["json"]:
            titled = [{**report(row), "procedure": row.procedure, "title": row.title} for row in found]
            self.stdout.write(json.dumps({"operations": titled}))
            return
        for row in found:
            self.stdout.write(sentence(row))
