"""What can go wrong in operations, as sentences for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.exceptions import PortalError

if TYPE_CHECKING:
    from operations.commands import Result


class OperationError(PortalError):
    """An operation could not go on for a reason that was to be expected."""


class CommandFailed(OperationError):
    """A command could not be started, ended with a non-zero code, ran out of time or was stopped.

    ``result`` carries what is known about the run: for a program that never started its code is 127.
    """

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class Refused(OperationError):
    """A request was not accepted; nothing was changed."""
