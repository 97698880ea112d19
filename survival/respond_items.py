"""Whether people hear in time: escalations that fall behind, messages that do not go out."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Min
from django.utils import timezone

from contacts.models import Escalation, Notification
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
