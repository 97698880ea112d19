"""`manage.py backup PLAN [--wait] [--json]`: back up now."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from backups import actions
from backups.exceptions import BackupError
from backups.models import Archive, Plan
from core.models import User
from operations.doors import OperationCommand, account
from operations.models import Operation

PURPOSES = (Archive.Purpose.MANUAL, Archive.Purpose.EMERGENCY, Archive.Purpose.PRE_CHANGE)


class Command(OperationCommand):
    help = "Back up what a plan says, now."
    asks_for = ("plan", "purpose", "reason")

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("plan", help="name or number of the plan")
        parser.add_argument("--reason", default="")
        parser.add_argument("--purpose", choices=[str(purpose) for purpose in PURPOSES], default="manual")

    def handle(self, *args: Any, **options: Any) -> None:
        def request(by: User | None, key: str | None) -> Operation:
            return actions.request_backup(
                _plan(options["plan"]),
                by=by,
                purpose=options["purpose"],
                reason=options["reason"] or f"Asked for by the account {account()}",
                trigger=Operation.Trigger.COMMAND,
                key=key,
            )

        self.ask(request, **options)


def _plan(word: str) -> Plan:
    plans = Plan.objects.with_place()
    found = plans.filter(name=word).first() or (plans.filter(pk=int(word)).first() if word.isdecimal() else None)
    if found is None:
        names = ", ".join(f"“{name}”" for name in plans.values_list("name", flat=True)[:20]) or "none yet"
        raise BackupError(f"There is no plan “{word}”. Plans: {names}.")
    return found
