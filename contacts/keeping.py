"""How long messages and their log are kept. Who was on call and who answered an escalation stays for good."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db.models import QuerySet

from contacts.models import Notification
from operations.housekeeping import Kind, add


def old_messages(before: datetime) -> QuerySet[Notification]:
    """Of long ago, and not still waiting to be sent."""
    return Notification.objects.filter(created_at__lt=before).exclude(state=Notification.State.PENDING)


add(Kind("messages", lambda: settings.KEEP_MESSAGES_DAYS, old_messages))
