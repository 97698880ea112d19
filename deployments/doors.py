"""What the commands of deployments share: who asks, one JSON object as the answer, waiting for the end."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from django.db.models import Q
from django.utils import timezone

from core.exceptions import PortalError
from core.models import User
from deployments.api_rows import one_deployment, waits_for
from deployments.models import Deployment
from operations.doors import POLL_S, WAITED_TOO_LONG, OperationCommand, person
from operations.idempotency import BadKey


class DeploymentCommand(OperationCommand):
    """A command that asks for a deployment or a rollback, with the rights of the person whom `--as` names.

    Exit codes: 1 refused, or with `--wait` anything but live; 3 not ended within `--timeout` (it goes on).
    """

    permissions: tuple[str, ...] = ()
    """What the person needs. A shell on the host is not enough: whoever asks must not be who approves."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("service", help="slug of the service")
        parser.add_argument("environment", help="slug of the environment")

    def ask_for(self, request: Callable[[User, str | None], Deployment], **options: Any) -> None:
        """Ask, wait if told to, and answer."""
        try:
            by = entitled(options["person"], self.permissions)
            with transaction.atomic():
                key = self._key(options)
                demand_new(key)
                row = request(by, key)
        except PermissionDenied as error:
            raise self.refused(str(error) or may_not(options["person"]), **options) from error
        except PortalError as error:
            raise self.refused(error.message, **options) from error
        except DatabaseError as error:
            raise self.refused(f"The portal's database did not take it: {error}", **options) from error
        row = one_deployment(row.pk)
        if options["wait"]:
            row = wait_for(row, options["timeout"])
        self.tell(row, **options)

    def tell(self, row: Deployment, **options: Any) -> None:
        """Print it; leave with another code than 0 unless that is success."""
        kept = waits_for(row)
        self.stdout.write(json.dumps(report(row, kept)) if options["json"] else sentence(row, kept))
        if row.is_final and row.state != Deployment.State.LIVE:
            raise SystemExit(1)
        if options["wait"] and not row.is_final:
            raise SystemExit(WAITED_TOO_LONG)


def may_not(name: object) -> str:
    return f"{name} may not do this. Ask an administrator for a role that may."


def entitled(name: str, permissions: tuple[str, ...]) -> User:
    """The person of that name. Raises PortalError for nobody, and for somebody who may not."""
    found = person(name)
    if found is None:
        raise PortalError("Say with --as who asks: a person who may do this.")
    if not found.has_perms(permissions):
        raise PortalError(may_not(found))
    return found


def demand_new(key: str | None) -> None:
    """Raises BadKey where a deployment was asked for with the same word by another request: what comes before the last
    colon is the word's, what follows the request's."""
    if not key:
        return
    word = f"{key.rpartition(':')[0]}:"
    rows = Deployment.objects.filter(Q(request_key__startswith=word) | Q(stop_key__startswith=word))
    if rows.exclude(Q(request_key=key) | Q(stop_key=key)).exists():
        raise BadKey("This key was used for another request. Use a new key for each thing you ask for.")


def report(row: Deployment, kept: list[str]) -> dict[str, Any]:
    """One deployment for a program. `seconds` from its start, None before; `obstacles` is what it waits for."""
    ended = row.ended_at or timezone.now()
    return {
        "id": row.pk,
        "state": row.state,
        "seconds": round((ended - row.started_at).total_seconds(), 3) if row.started_at is not None else None,
        "message": row.message,
        "kind": row.kind,
        "service": row.environment.service.slug,
        "environment": row.environment.slug,
        "version": row.release.version,
        "operation": row.operation_id,
        "obstacles": kept,
    }


def sentence(row: Deployment, kept: list[str]) -> str:
    """One deployment in a line; what keeps it below."""
    message = f": {row.message}" if row.message and not kept else ""
    return "\n".join([f"#{row.pk} {row}: {row.state_word.lower()}{message}", *(f"  {each}" for each in kept)])


def wait_for(row: Deployment, timeout_s: float | None) -> Deployment:
    """Read the row until it has ended or the time is over; a database that is away meanwhile is waited for too."""
    give_up = time.monotonic() + timeout_s if timeout_s is not None else None
    while not row.is_final and (give_up is None or time.monotonic() < give_up):
        time.sleep(POLL_S)
        try:
            row = one_deployment(row.pk)
        except (OperationalError, InterfaceError):
            connection.close()
    return row
