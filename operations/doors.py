"""What the commands share: who asks, one JSON object as the answer, waiting for an operation to end."""

from __future__ import annotations

import getpass
import json
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from core.exceptions import PortalError
from core.models import User
from operations.idempotency import key_for
from operations.models import Operation
from operations.report import report

POLL_S = 0.5
WAITED_TOO_LONG = 3


class OperationCommand(BaseCommand):
    """A command that asks for an operation. Exits 0 only on success: asked for, or with `--wait`, succeeded.

    Exit codes: 1 refused, failed, errored or cancelled; 3 not ended within `--timeout` (it goes on).
    The authority is a shell on the portal's host: `--as` names a person for the record, without a check of rights.
    """

    asks_for: ClassVar[tuple[str, ...]] = ()
    """The options that say what is asked for; a `--key` stands for one set of their values."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--wait", action="store_true", help="wait until it has ended")
        parser.add_argument("--timeout", type=float, default=None, metavar="SECONDS", help="wait no longer than this")
        add_json(parser)
        parser.add_argument("--as", dest="person", default="", metavar="USER", help="who asks, by user name")
        parser.add_argument("--key", default=None, help="a key of your own: repeated, it gives the same operation")

    def ask(self, request: Callable[[User | None, str | None], Operation], **options: Any) -> None:
        """Ask for it, and wait if told to."""
        try:
            by = person(options["person"])
            with transaction.atomic():
                operation = request(by, self._key(options))
        except PortalError as error:
            raise self.refused(error.message, **options) from error
        except DatabaseError as error:
            raise self.refused(f"The portal's database did not take it: {error}", **options) from error
        if options["wait"]:
            wait_for(operation, options["timeout"])
        self.answer(operation, **options)

    def _key(self, options: dict[str, Any]) -> str | None:
        if options["key"] is None:
            return None
        asked = [type(self).__module__, options["person"], *(options[name] for name in self.asks_for)]
        return key_for("command", options["key"], json.dumps(asked).encode())

    def refused(self, message: str, **options: Any) -> CommandError:
        """The error to raise; with --json the answer is printed first."""
        if options["json"]:
            nothing = {"id": None, "state": "refused", "seconds": None, "bytes": None}
            self.stdout.write(json.dumps({**nothing, "message": message}))
        return CommandError(message)

    def answer(self, operation: Operation, **options: Any) -> None:
        """Print it; leave with another code than 0 unless that is success."""
        found = report(operation)
        if options["json"]:
            self.stdout.write(json.dumps(found))
        else:
            self.stdout.write(sentence(operation))
        if operation.is_final and operation.state != Operation.State.SUCCEEDED:
            raise SystemExit(1)
        if options["wait"] and not operation.is_final:
            raise SystemExit(WAITED_TOO_LONG)


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def sentence(operation: Operation) -> str:
    """An operation in a line."""
    took = f" after {operation.duration.total_seconds():.1f} s" if operation.duration is not None else ""
    message = f": {operation.message}" if operation.message else ""
    return f"#{operation.pk} {operation.title}: {operation.state_word.lower()}{took}{message}"


def person(name: str) -> User | None:
    """Who is named. Raises PortalError when there is none of that name."""
    if not name:
        return None
    found = User.objects.filter(username=name, is_active=True).first()
    if found is None:
        raise PortalError(f"There is no active person with the user name “{name}”.")
    return found


def account() -> str:
    """The account of the operating system, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def wait_for(operation: Operation, timeout_s: float | None) -> None:
    """Read the row until it has ended or the time is over; a database that is away meanwhile is waited for too."""
    give_up = time.monotonic() + timeout_s if timeout_s is not None else None
    _read(operation)
    while not operation.is_final and (give_up is None or time.monotonic() < give_up):
        time.sleep(POLL_S)
        _read(operation)


def _read(operation: Operation) -> None:
    try:
        operation.refresh_from_db()
    except (OperationalError, InterfaceError):
        connection.close()
