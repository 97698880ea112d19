"""Whether people hear in time: escalations that fall behind, messages that do not go out."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import Exists, Min, OuterRef
from django.utils import timezone

from contacts.models import Escalation, Notification, Way
from contacts.notifying import administrators
from core.words import counted
from survival.health import BAD, OK, WARN, Finding, item
from survival.health_items import age_s

STEP_LATE = timedelta(seconds=30)
MESSAGE_LATE = timedelta(minutes=2)
LATELY = timedelta(hours=24)


@item("escalation", title="Escalation", unit="seconds")
def escalation() -> Finding:
    """How late the most overdue step is."""
    late = Escalation.objects.due().aggregate(oldest=Min("due_at"))["oldest"]
    behind = age_s(late) if late else 0.0
    if late and timezone.now() - late > STEP_LATE:
        return Finding(BAD, behind, "A step of an escalation is overdue. Start the control worker.")
    unanswered = Escalation.objects.filter(state=Escalation.State.EXHAUSTED).count()
    if unanswered:
        return Finding(WARN, behind, f"{counted(unanswered, 'escalation')} came to an end and nobody answered.")
    return Finding(OK, behind, "Every step of every escalation is taken in time.")


@item("messages", title="Messages to people", unit="seconds")
def messages() -> Finding:
    """How late the most overdue message is."""
    late = Notification.objects.due().filter(tries=0).aggregate(oldest=Min("due_at"))["oldest"]
    behind = age_s(late) if late else 0.0
    if late and timezone.now() - late > MESSAGE_LATE:
        return Finding(BAD, behind, "Messages wait and nobody sends them. Start the control worker.")
    failed = Notification.objects.filter(state=Notification.State.FAILED, created_at__gt=timezone.now() - LATELY)
    if count := failed.count():
        return Finding(WARN, behind, f"{counted(count, 'message')} of the last 24 h reached nobody. See Messages.")
    return Finding(OK, behind, "Messages go out as they come.")


@item("fallback", title="Whom failures reach", unit="administrators")
def fallback() -> Finding:
    """Whether anybody hears of what reaches nobody, and can answer out of the message."""
    reachable = administrators().filter(Exists(Way.objects.filter(contact=OuterRef("pk")).exclude(address=""))).count()
    if not reachable:
        sentence = "No administrator has a contact with an address, so what reaches nobody is told to nobody. Add one."
        return Finding(WARN, 0, sentence)
    if not settings.PORTAL_URL:
        return Finding(WARN, reachable, "Messages carry no links. Set PORTAL_URL to the address of this portal.")
    return Finding(OK, reachable, f"{counted(reachable, 'administrator')} can be told of what reaches nobody.")
