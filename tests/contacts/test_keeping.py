"""Old messages go, those that still wait stay."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from contacts.keeping import old_messages
from contacts.models import Attempt, Notification
from tests.contacts.factories import NotificationFactory

pytestmark = pytest.mark.django_db
LONG = timedelta(days=500)


def test_old_messages_go_with_their_log():
    long_ago = timezone.now() - LONG
    old = NotificationFactory(state="sent", due_at=None, sent_at=long_ago, created_at=long_ago)
    Attempt.objects.create(notification=old, through="mail server", taken=True, seconds=0.1)
    waiting = NotificationFactory(created_at=long_ago)
    new = NotificationFactory(state="cancelled", due_at=None)
    old_messages(timezone.now() - timedelta(days=400)).delete()
    assert set(Notification.objects.all()) == {waiting, new}
    assert not Attempt.objects.exists()
