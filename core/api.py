"""What every route of the API shares: who asks and whether they may, and pages of a list."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

from django.db.models import Model, QuerySet
from django.db.models.functions import Now
from django.http import Http404, HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema
from ninja.security import HttpBearer
from pydantic import AfterValidator, BaseModel

from core.actions import token_digest
from core.exceptions import PortalError
from core.models import ApiToken, User
from core.scopes import READ

USED_EVERY = timedelta(minutes=1)
BIGGEST_ID = 2**63 - 1

T = TypeVar("T", bound=Model)


class Denied(PortalError):
    """The token is good, and does not allow this."""


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("A text must not contain the NUL character.")
    return value


Text = Annotated[str, AfterValidator(_no_nul)]

FIRST_YEAR, LAST_YEAR = 2000, 2199


def _moment(value: datetime) -> datetime:
    """In UTC, for PostgreSQL takes no zone of more than 15 hours."""
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise ValueError(f"A time lies in the years {FIRST_YEAR} to {LAST_YEAR}.")
    return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(_moment), Field(description="With a zone; without one it is UTC.")]
"""A string as PostgreSQL can store it."""

Id = Annotated[int, Field(ge=1, le=BIGGEST_ID)]


class Input(BaseModel, extra="forbid"):
    """The body of a request: an object with these members and no others. ninja's own Schema takes anything."""


class BearerToken(HttpBearer):
    """The key of one route: its scope, and the permission that the token's owner needs.

    None asks for no permission, or for no scope in particular.
    """

    def __init__(self, permission: str | None, scope: str | None = READ) -> None:
        super().__init__()
        self.permission, self.scope = permission, scope

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        """None for a token that is unknown or worthless. Raises Denied when it does not allow this route."""
        found = ApiToken.objects.usable().select_related("owner").filter(sha256=token_digest(token)).first()
        if found is None:
            return None
        if self.scope is not None:
            _demand(found, self.scope)
        if self.permission is not None and not found.owner.has_perm(self.permission):
            raise Denied(f"{found.owner} may not do this. Ask an administrator for a role that may.")
        request.user = found.owner
        _note_use(found)
        return found


def _demand(token: ApiToken, scope: str) -> None:
    if scope not in token.scopes:
        raise Denied(f"This token lacks the scope “{scope}”. Make one that has it.")


def demand_scope(request: HttpRequest, scope: str) -> None:
    """For a route whose scope depends on what it is asked for. Raises Denied."""
    token = request.auth  # type: ignore[attr-defined]  # set by ninja
    assert isinstance(token, ApiToken)
    _demand(token, scope)


def _note_use(token: ApiToken) -> None:
    """Once a minute; the one thing that a reading request writes."""
    if token.last_used_at is None or timezone.now() - token.last_used_at > USED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=Now())


def caller(request: HttpRequest) -> User:
    """Whose token it is."""
    assert isinstance(request.user, User)
    return request.user


# -- lists -------------------------------------------------------------------------------------------------------------


class Slice(Schema):
    """Newest first; the next page is asked for with `before` = `next` of this one."""

    limit: int = Field(50, ge=1, le=200, description="How many at most.")
    before: Id | None = Field(None, description="Only those with a smaller id.")


Sliced = Query[Slice]


class Page(Schema):
    """A page of a list. `next` is null on the last one."""

    next: int | None = None


def page_of(rows: QuerySet[T], part: Slice, shown: Callable[[T], Any]) -> dict[str, Any]:
    """One page as `{"items": [...], "next": id or null}`."""
    if part.before is not None:
        rows = rows.filter(pk__lt=part.before)
    found = list(rows.order_by("-pk")[: part.limit + 1])
    more = len(found) > part.limit
    found = found[: part.limit]
    return {"items": [shown(row) for row in found], "next": found[-1].pk if more else None}


def one_of(rows: QuerySet[T], pk: int, what: str) -> T:
    """The row with this id. Raises Http404 with a sentence."""
    found = rows.filter(pk=pk).first()
    if found is None:
        raise Http404(f"There is no {what} with the id {pk}.")
    return found


# -- the token itself --------------------------------------------------------------------------------------------------

router = Router(tags=["Token"])


class Me(Schema):
    """Whose token it is and what it may be used for."""

    user: str
    roles: list[str]
    token: str
    scopes: list[str]
    expires_at: datetime


@router.get("/me", response=Me, auth=BearerToken(None, scope=None), summary="Who am I")
def me(request: HttpRequest) -> Any:
    token: ApiToken = request.auth  # type: ignore[attr-defined]  # set by ninja
    user = caller(request)
    return {
        "user": user.get_username(),
        "roles": sorted(user.groups.values_list("name", flat=True)),
        "token": token.name,
        "scopes": token.scopes,
        "expires_at": token.expires_at,
    }
