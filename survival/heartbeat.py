"""A heartbeat to an address outside, only while the portal keeps its promises: silence there is the alarm."""

from __future__ import annotations

import logging

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from core import outbound
from core.addresses import parse_networks
from core.exceptions import PortalError
from survival import health
from survival.models import Heartbeat

logger = logging.getLogger(__name__)

INVARIANTS = ("database", "workers", "queues", "control-loop", "schedules", "portal-backup")
TIMEOUT_S = 10.0
LONGEST_REASON = 2000


def beat() -> bool:
    """Look at the invariants and send what they say. True when a good heartbeat arrived."""
    broken = _broken()
    try:
        _send("/fail" if broken else "", broken)
        trouble = broken
    except PortalError as error:
        trouble = f"{broken} {_masked(error.message)}".strip()
    if trouble:
        logger.warning("heartbeat: %s", trouble)
    _write_down(trouble)
    return not trouble


def _broken() -> str:
    """Why no good heartbeat may go out; empty when every invariant holds."""
    wrong = [each for each in health.look(INVARIANTS) if each.finding.state == health.BAD]
    if not wrong and not _write_down(None):
        return "The portal's database takes no writes."
    return " ".join(f"{each.title}: {each.finding.sentence}" for each in wrong)[:LONGEST_REASON]


def _write_down(trouble: str | None) -> bool:
    """Record a try (None) or how it ended. False when the database takes no writes."""
    now = timezone.now()
    values: dict[str, object] = {"tried_at": now}
    if trouble is not None:
        values["trouble"] = trouble
    if trouble == "":
        values["sent_at"] = now
    try:
        Heartbeat.objects.update_or_create(pk=1, defaults=values)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("heartbeat: the database takes no writes: %s", error)
        return False
    return True


def _send(suffix: str, reason: str) -> None:
    allow = outbound.Allowed(networks=parse_networks(settings.HEARTBEAT_NETWORKS))
    url = f"{settings.HEARTBEAT_URL.rstrip('/')}{suffix}"
    answer = outbound.fetch("POST", url, allow=allow, body=reason.encode(), timeout_s=TIMEOUT_S, max_bytes=10_000)
    if answer.status >= 300:
        raise PortalError(f"The address of the heartbeat answered {answer.status}. Look whether it still exists.")


def _masked(text: str) -> str:
    """The address is often all the password there is."""
    return text.replace(settings.HEARTBEAT_URL, "the address of the heartbeat")
