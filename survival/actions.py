"""The only write path into the portal's survival for people, schedules and commands."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from core.models import User
from operations import actions as operations
from operations.models import Operation
from survival.exceptions import SurvivalError
from survival.keys import Key
from survival.models import SecondPlace

BACKUP = "portal.backup_self"
BACKUP_LOCK = "portal-backup"
Trigger = Operation.Trigger


def request_backup(
    *,
    by: User | None,
    trigger: str = Trigger.CLICK,
    key: str | None = None,
    reason: str = "",
    retry_of: Operation | None = None,
) -> Operation:
    """Back up the portal itself into the second place."""

    def create() -> Operation:
        SecondPlace.objects.get_or_create(pk=1)
        return operations.request(
            BACKUP,
            title="Back up the portal",
            params={},
            by=by,
            trigger=trigger,
            reason=reason,
            lock_keys=[BACKUP_LOCK],
            wait_for_locks=trigger == Trigger.SCHEDULE,
            key=key,
            queue=settings.PORTAL_BACKUP_QUEUE,
            retry_of=retry_of,
        )

    return operations.request_once(key, create)


def use_key(key: Key, identity_path: str) -> SecondPlace:
    """Remember which key the backups are sealed to. Another key has to be confirmed again."""
    with transaction.atomic():
        SecondPlace.objects.get_or_create(pk=1)
        place = SecondPlace.objects.select_for_update().get(pk=1)
        if place.recipient != key.recipient:
            place.recipient, place.identity_path, place.key_since = key.recipient, identity_path, timezone.now()
            place.key_confirmed_at = place.key_confirmed_by = None
            place.key_kept_where = ""
            place.save()
    return place


def confirm_key(place: SecondPlace, *, where: str, by: User) -> SecondPlace:
    """An administrator says that the key was put away, and where; the name of the place, never the key itself."""
    where = " ".join(where.split())
    if not where:
        raise SurvivalError("Say where the key is kept, so that somebody finds it: “safe in the Berlin office”.")
    if "AGE-SECRET-KEY" in where.upper():
        raise SurvivalError("Name the place, not the key. What you typed was not kept; make a new key if it was real.")
    with transaction.atomic():
        row = SecondPlace.objects.select_for_update().get(pk=place.pk)
        if not row.recipient:
            raise SurvivalError("There is no key yet. It is made with the first backup of the portal.")
        row.key_kept_where, row.key_confirmed_at, row.key_confirmed_by = where, timezone.now(), by
        row.save()
    return row
