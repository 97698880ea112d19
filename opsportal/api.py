"""The API under `/api/v1/`: the routes of every room, and one shape for all that goes wrong (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema

from backups.api import router as backups
from catalog.api import router as catalog
from contacts.api import router as contacts
from core.api import Denied
from core.api import router as tokens
from core.exceptions import PortalError
from deployments.api import router as deployments
from deployments.api_environments import router as environments
from incidents.api import router as incidents
from operations.api import router as operations
from operations.exceptions import Refused
from operations.idempotency import LONGEST_KEY, BadKey

logger = logging.getLogger(__name__)

PROBLEM = {
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong and what to do, in a sentence."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"at": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


class PortalAPI(NinjaAPI):
    """Its document says of every route how refusals look and which key it takes."""

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        document = super().get_openapi_schema(**options)
        document["components"]["schemas"]["Problem"] = PROBLEM
        refusal = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        for path, methods in document["paths"].items():
            for method, described in methods.items():
                described["responses"]["4XX"] = {"description": "Refused; `detail` says why.", "content": refusal}
                if method == "post" and not path.endswith("/cancel"):  # which changes an operation and makes none
                    described.setdefault("parameters", []).append(KEY)
        return document


KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
    "description": "Sent again with the same request, it gives what came of the first time.",
}

api = PortalAPI(
    title="Ops Portal",
    version="1",
    urls_namespace="api-v1",
    docs_url=None,
    openapi_url="/openapi.json",
    description="Send a token of yours: `Authorization: Bearer ops_…`. Times are UTC, ISO 8601. Whatever goes wrong "
    "comes as problem details (RFC 9457) with a sentence in `detail`. A POST that "
    "starts something may carry an `Idempotency-Key`: sent again, it gives what came of the first time.",
)
api.add_router("", tokens)
api.add_router("", catalog)
api.add_router("", contacts)
api.add_router("", backups)
api.add_router("", deployments)
api.add_router("", environments)
api.add_router("", incidents)
api.add_router("/operations", operations)


def _problem(request: HttpRequest, status: int, detail: str, **more: Any) -> HttpResponse:
    title = HTTPStatus(status).phrase
    answer = api.create_response(request, {"title": title, "status": status, "detail": detail, **more}, status=status)
    answer["Content-Type"] = "application/problem+json"
    if status == HTTPStatus.UNAUTHORIZED:
        answer["WWW-Authenticate"] = 'Bearer realm="Ops Portal"'
    return answer


@api.exception_handler(AuthenticationError)
def _nobody(request: HttpRequest, error: Exception) -> HttpResponse:
    return _problem(request, 401, "Send a usable token: Authorization: Bearer ops_…. It may have expired.")


@api.exception_handler(Denied)
def _denied(request: HttpRequest, error: Denied) -> HttpResponse:
    return _problem(request, 403, error.message)


@api.exception_handler(PermissionDenied)
def _forbidden(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    return _problem(request, 403, str(error) or "Your role does not allow this. Ask an administrator.")


@api.exception_handler(Http404)
def _missing(request: HttpRequest, error: Http404) -> HttpResponse:
    return _problem(request, 404, str(error))


@api.exception_handler(Refused)
def _refused(request: HttpRequest, error: Refused) -> HttpResponse:
    return _problem(request, 409, error.message)


@api.exception_handler(BadKey)
@api.exception_handler(PortalError)
def _not_possible(request: HttpRequest, error: PortalError) -> HttpResponse:
    return _problem(request, 422, error.message)


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    fields = [{"at": ".".join(map(str, each["loc"])), "message": each["msg"]} for each in error.errors]
    detail = "; ".join(f"{field['at']}: {field['message']}" for field in fields)
    return _problem(request, 422, detail, errors=fields)


@api.exception_handler(RequestDataTooBig)
def _too_big(request: HttpRequest, error: Exception) -> HttpResponse:
    return _problem(request, 413, "The request is too big.")


@api.exception_handler(SuspiciousOperation)
@api.exception_handler(UnreadablePostError)
def _suspicious(request: HttpRequest, error: Exception) -> HttpResponse:
    return _problem(request, 400, "The request cannot be read.")


@api.exception_handler(HttpError)
def _other(request: HttpRequest, error: HttpError) -> HttpResponse:
    return _problem(request, error.status_code, str(error))


@api.exception_handler(Exception)
def _unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.exception("Unexpected in %s %s", request.method, request.path)
    return _problem(request, 500, "Something unexpected went wrong. The portal's log says what.")


@csrf_exempt
def nothing_here(request: HttpRequest, rest: str) -> HttpResponse:
    """Every other address under `/api/`: no sign-in page for a program."""
    return _problem(request, 404, "There is no such address. /api/v1/openapi.json lists them.")
