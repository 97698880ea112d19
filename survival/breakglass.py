"""Break-glass: an administrator's session for a short time, when nobody can sign in any more.

The authority is a shell on the portal's host. The link works once, and only by a button: a mail scanner that follows it
signs nobody in. Everything is written down, and everybody is told.
"""

from __future__ import annotations

import getpass
import hashlib
import logging
import secrets
from datetime import timedelta
from typing import Any

from django.contrib.auth import login, logout
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils import timezone

from core.models import User
from core.roles import Role, sync_roles
from operations.events import declare, publish
from survival.exceptions import SurvivalError
from survival.models import BreakGlass

logger = logging.getLogger(__name__)

BREAKGLASS_USED = declare("breakglass.used", "Somebody signed in by break-glass")

USERNAME = "break-glass"
LINK_MINUTES = 15
LONGEST_MINUTES = 240
SESSION_KEY = "breakglass"
BACKEND = "django.contrib.auth.backends.ModelBackend"


def issue(*, name: str, reason: str, minutes: int) -> tuple[BreakGlass, str]:
    """A new link's record and its secret, which is not kept. Raises SurvivalError."""
    name, reason = " ".join(name.split()), " ".join(reason.split())
    if not name or not reason:
        raise SurvivalError("Say who you are (--as) and why (--reason); both are shown to everybody.")
    if not 1 <= minutes <= LONGEST_MINUTES:
        raise SurvivalError(f"A break-glass session lasts between 1 and {LONGEST_MINUTES} minutes.")
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        row = BreakGlass.objects.create(
            name=name[:150],
            account=_account()[:150],
            reason=reason,
            minutes=minutes,
            token_sha256=_digest(token),
            link_expires_at=timezone.now() + timedelta(minutes=LINK_MINUTES),
        )
    logger.warning("Break-glass: a link for %s was issued by the account %s. Reason: %s", name, row.account, reason)
    return row, token


def find(token: str) -> BreakGlass | None:
    """The record of a link that still works."""
    return BreakGlass.objects.usable().filter(token_sha256=_digest(token)).first()


def sign_in(request: HttpRequest, token: str) -> BreakGlass:
    """Use the link: it is worthless afterwards. Raises SurvivalError when it is not usable."""
    now = timezone.now()
    with transaction.atomic():
        row = BreakGlass.objects.usable().select_for_update().filter(token_sha256=_digest(token)).first()
        if row is None:
            raise SurvivalError("This link was used before or has run out. Make a new one on the portal's host.")
        row.used_at, row.used_from = now, request.META.get("REMOTE_ADDR") or None
        row.expires_at = now + timedelta(minutes=row.minutes)
        row.save(update_fields=["used_at", "used_from", "expires_at"])
        user = _the_user()
        publish(BREAKGLASS_USED, f"{row.name} signed in by break-glass. {row.reason}", subject=row)
    login(request, user, backend=BACKEND)
    request.session[SESSION_KEY] = row.pk
    request.session.set_expiry(row.minutes * 60)
    logger.warning("Break-glass: %s signed in from %s until %s.", row.name, row.used_from, row.expires_at)
    return row


def end(row: BreakGlass) -> BreakGlass:
    """End the session, or make an unused link worthless."""
    if BreakGlass.objects.filter(pk=row.pk, ended_at__isnull=True).update(ended_at=timezone.now()):
        logger.warning("Break-glass: the access of %s was ended.", row.name)
    _switch_off_unless_open()
    row.refresh_from_db()
    return row


def close_expired() -> None:
    """Write down that sessions whose time is over have ended, and switch the account off."""
    for row in BreakGlass.objects.filter(ended_at__isnull=True, expires_at__lte=Now()):
        BreakGlass.objects.filter(pk=row.pk, ended_at__isnull=True).update(ended_at=row.expires_at)
        logger.warning("Break-glass: the time of %s is over.", row.name)
    _switch_off_unless_open()


def _switch_off_unless_open() -> None:
    """Between sessions the account is off, so that nothing made during one, such as a token, outlives it."""
    if not BreakGlass.objects.open_sessions().exists():
        User.objects.filter(username=USERNAME, is_active=True).update(is_active=False)


def session_of(request: HttpRequest) -> BreakGlass | None:
    """The open break-glass access of this session."""
    number = request.session.get(SESSION_KEY)
    return BreakGlass.objects.open_sessions().filter(pk=number).first() if isinstance(number, int) else None


def enforce(request: HttpRequest) -> bool:
    """The account works in a session that a link began, and no longer than its time. True when it was ended.

    A password that somebody sets for that account opens nothing.
    """
    if not request.user.is_authenticated or request.user.get_username() != USERNAME or session_of(request) is not None:
        return False
    logout(request)
    return True


def on_sign_out(request: HttpRequest | None, **kwargs: Any) -> None:
    """Signing out ends the access; the same session cannot come back."""
    number = request.session.get(SESSION_KEY) if request is not None and hasattr(request, "session") else None
    row = BreakGlass.objects.filter(pk=number).first() if isinstance(number, int) else None
    if row is not None:
        end(row)


def _the_user() -> User:
    """The dedicated account: an administrator without a password, made when it is first needed, on from now."""
    user, _ = User.objects.get_or_create(
        username=USERNAME, defaults={"first_name": "Break-glass", "last_name": "access"}
    )
    user.set_unusable_password()
    user.is_active = True
    user.save()
    sync_roles()
    user.groups.set(Group.objects.filter(name=Role.ADMINISTRATOR.value))
    return user


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
