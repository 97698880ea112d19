"""The duties of this room: the offline card, the end of break-glass sessions, the heartbeat."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.signals import user_logged_out

from operations.duties import declare
from survival import breakglass, heartbeat
from survival.card import places

CARD_EVERY_S = 15.0
BREAKGLASS_EVERY_S = 15.0

declare("breakglass", lambda: BREAKGLASS_EVERY_S, breakglass.close_expired)
declare("card", lambda: CARD_EVERY_S if settings.OFFLINE_CARD_DIRS else None, places.write_due)
declare("heartbeat", lambda: settings.HEARTBEAT_EVERY_S if settings.HEARTBEAT_URL else None, lambda: heartbeat.beat())

user_logged_out.connect(breakglass.on_sign_out, dispatch_uid="survival.breakglass")
