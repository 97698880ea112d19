"""The webhook of CI: a signed message makes a release, says what CI and scanners found, and asks for deployments.

Signed as Standard Webhooks says (`webhooks.signing`), with the secret of the service's release rules. A file of the
secret may hold two lines, the new secret and the one that is being replaced. A message is taken once: its id stands in
the news that it makes, and a second time it is answered with what came of the first. Whoever has no secret learns
nothing, not even which services there are.
"""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import pydantic
from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from catalog.models import Service
from catalog.secrets import SecretReference
from core.exceptions import PortalError
from deployments import news
from deployments.actions import releases, requesting
from deployments.api_rows import one_deployment, waits_for
from deployments.api_shapes import CiMessage
from deployments.models import Deployment, Release, ReleaseRules
from deployments.places import environment_called
from operations import events
from operations.idempotency import BadKey, key_for
from operations.models import Event, Operation
from webhooks import signing

logger = logging.getLogger(__name__)
MOST_BYTES = 1024 * 1024
TOLERANCE_S = 300
LONGEST_ID = 255
TIMESTAMP = re.compile(r"[0-9]{1,12}")
NOT_TAKEN = (
    "The signature is not right, or no webhook is taken here. Sign webhook-id, webhook-timestamp and the body with the "
    "secret of the service, as docs/webhooks.md says."
)
NOBODY = token_hex(32)
"""Signs nothing: what is compared with where there is no secret, so that nobody can tell the difference."""


class Unsigned(PortalError):
    """The message is from nobody who may send it."""


@dataclass(frozen=True)
class Signed:
    """A message whose signature is right."""

    service: Service
    id: str
    body: bytes


# No session comes with it and no cookie is read: the signature says who sends it, so there is no form to forge.
@csrf_exempt
@require_POST
def hook(request: HttpRequest, service: str) -> HttpResponse:
    """Takes one message. Answers 200 with the release and its deployments, else a problem with a sentence."""
    try:
        signed = _signed(request, service)
        message = CiMessage.model_validate_json(signed.body)
        with transaction.atomic():
            return JsonResponse(_take(signed, message))
    except Unsigned as error:
        logger.warning("A message of CI for %r was not taken: %s", service[:80], error.diagnostics or error.message)
        return _problem(401, error.message)
    except RequestDataTooBig:
        return _problem(413, f"A message has at most {MOST_BYTES} bytes.")
    except UnreadablePostError:
        return _problem(400, "The request cannot be read.")
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        fields = [{"at": ".".join(map(str, each["loc"])) or "body", "message": each["msg"]} for each in found]
        return _problem(422, "; ".join(f"{field['at']}: {field['message']}" for field in fields), errors=fields)
    except BadKey:
        return _problem(422, "This webhook-id was used for another message. Give each message an id of its own.")
    except PortalError as error:
        return _problem(422, error.message)


def _problem(status: int, detail: str, **more: Any) -> HttpResponse:
    body = {"title": "Not taken", "status": status, "detail": detail, **more}
    return JsonResponse(body, status=status, content_type="application/problem+json")


# -- who sends it ------------------------------------------------------------------------------------------------------


def _signed(request: HttpRequest, slug: str) -> Signed:
    """The message, when its signature is right and its time is now. Raises Unsigned, RequestDataTooBig."""
    body = request.body
    if len(body) > MOST_BYTES:
        raise RequestDataTooBig
    service = Service.objects.filter(slug=slug).first() if "\0" not in slug else None
    message_id, moment = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
    given = request.headers.get("webhook-signature", "")
    right = False
    for secret in _secrets(service):
        right |= _is_right(secret, message_id, moment, given, body)
    if service is None or not right:
        raise Unsigned(NOT_TAKEN)
    if abs(time.time() - int(moment)) > TOLERANCE_S:
        raise Unsigned(
            f"The message is more than {TOLERANCE_S // 60} minutes old or early. Sign it anew; set the clock."
        )
    return Signed(service, message_id, body)


def _secrets(service: Service | None) -> Iterator[str]:
    """Those that count, or one that nobody has."""
    rules = ReleaseRules.objects.filter(service=service).first() if service is not None else None
    usable = []
    if rules is not None and rules.ci_secret_ref:
        try:
            usable = SecretReference.parse(rules.ci_secret_ref).resolve().split("\n")
            usable = [line.strip() for line in usable if line.strip()]
            for line in usable:
                signing.key_of(line)
        except PortalError as error:
            logger.warning("The secret of the CI of %s cannot be used: %s", service, error.message)
            usable = []
    yield from usable or [NOBODY]


def _is_right(secret: str, message_id: str, moment: str, given: str, body: bytes) -> bool:
    """Whether one of the signatures given is that of this secret."""
    if not 0 < len(message_id) <= LONGEST_ID or not message_id.isprintable() or not TIMESTAMP.fullmatch(moment):
        return False
    expected = signing.headers(secret, message_id, int(moment), body)["webhook-signature"].encode()
    return any(hmac.compare_digest(expected, each.encode()) for each in given.split()[:10])


# -- what it says ------------------------------------------------------------------------------------------------------


def _take(signed: Signed, message: CiMessage) -> dict[str, Any]:
    """Carry it out once. Call inside a transaction. Raises PortalError with a sentence; then nothing of it was done."""
    key = key_for(f"ci:{signed.service.pk}", signed.id, signed.body)
    word = f"{key.rpartition(':')[0]}:"
    before = Event.objects.filter(name=news.REPORTED, data__message__startswith=word).first()
    if before is not None:
        if before.data["message"] != key:
            raise BadKey("The id was used before.")
        return _answer(Release.objects.get(pk=before.subject_id or 0), before.data["deployments"])
    release = _reported(signed.service, message)
    asked = [_ask(release, slug, f"{key}:{slug}") for slug in dict.fromkeys(message.deploy_to)]
    numbers = [deployment.pk for deployment in asked]
    events.publish(
        news.REPORTED,
        f"CI reported {release}: {release.get_ci_display().lower()}.",
        subject=release,
        data={
            "service": signed.service.slug,
            "version": release.version,
            "ci": release.ci,
            "ci_url": release.ci_url,
            "deployments": numbers,
            "message": key,
        },
    )
    return _answer(release, numbers)


def _reported(service: Service, message: CiMessage) -> Release:
    """The release, with what CI and its scanners say. What a later message leaves out stays as it is known."""
    apart = {"event", "version", "ci", "ci_url", "scans", "deploy_to"}
    given = message.model_dump(exclude=apart, exclude_unset=True)
    release = releases.create_release(service, message.version, **given, by=None)
    if message.ci != Release.Ci.UNKNOWN or message.ci_url:
        known = Release.Ci(release.ci) if message.ci == Release.Ci.UNKNOWN else message.ci
        release = releases.report_ci(release, ci=known, url=message.ci_url, by=None)
    for scan in message.scans:
        releases.attach_scan(release, **scan.model_dump(), by=None)
    return release


def _ask(release: Release, slug: str, key: str) -> Deployment:
    """A deployment that starts by itself as soon as nothing keeps it. One that is on its way already is enough."""
    environment = environment_called(release.service, slug)
    same = Deployment.objects.to(environment).filter(release=release, kind=Deployment.Kind.DEPLOY)
    on_its_way = same.active().first() or same.waiting().filter(starts_itself=True).first()
    return on_its_way or requesting.request_deployment(
        environment,
        release,
        by=None,
        reason=f"CI reported {release.version}. {release.ci_url}".strip(),
        starts_itself=True,
        trigger=Operation.Trigger.API,
        key=key,
    )


def _answer(release: Release, numbers: list[int]) -> dict[str, Any]:
    rows = [one_deployment(pk) for pk in numbers]
    return {
        "release": {"id": release.pk, "version": release.version, "ci": release.ci, "url": release.get_absolute_url()},
        "deployments": [
            {
                "id": row.pk,
                "environment": row.environment.slug,
                "state": row.state,
                "obstacles": waits_for(row),
                "url": row.get_absolute_url(),
            }
            for row in rows
        ],
    }
