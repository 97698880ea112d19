"""The write path of `core`."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.utils import timezone

from core.exceptions import PortalError
from core.models import ApiToken, User, time_zone_names
from core.scopes import validate_scopes

TOKEN_START = "ops_"  # noqa: S105  how secrets begin, so that scanners know one
LONGEST_DAYS = 366


def set_time_zone(user: User, *, time_zone: str) -> None:
    """Remember the zone in which this person wants to read times. Raises PortalError for an unknown zone."""
    if time_zone not in time_zone_names():
        raise PortalError(f"“{time_zone}” is not a time zone. Choose a name such as Europe/Berlin.")
    user.time_zone = time_zone
    user.save(update_fields=["time_zone"])


def issue_token(owner: User, *, name: str, scopes: Sequence[str], days: int, by: User | None) -> tuple[ApiToken, str]:
    """A new token for `owner` and its secret, which is not kept. Raises PortalError with a sentence."""
    if not 1 <= days <= LONGEST_DAYS:
        raise PortalError(f"A token lasts from 1 to {LONGEST_DAYS} days.")
    if not owner.is_active:
        raise PortalError(f"{owner} is switched off, and so is every token of theirs. Choose somebody else.")
    secret = TOKEN_START + secrets.token_urlsafe(32)
    now = timezone.now()
    token = ApiToken(
        owner=owner,
        name=" ".join(name.split()),
        scopes=list(dict.fromkeys(scopes)),
        hint=secret[:8],
        sha256=token_digest(secret),
        created_at=now,
        created_by=by,
        expires_at=now + timedelta(days=days),
    )
    try:
        validate_scopes(token.scopes)
        token.full_clean(exclude=["owner", "created_by"])
    except ValidationError as error:
        raise PortalError(" ".join(error.messages)) from error
    token.save()
    return token, secret


def revoke_token(token: ApiToken) -> ApiToken:
    """The token is worthless from now on. A second time changes nothing."""
    if token.revoked_at is None:
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])
    return token


def token_digest(secret: str) -> str:
    """What is kept of a token's secret: SHA-256, as 64 hexadecimal digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
