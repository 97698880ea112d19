"""Keys that make it safe to ask again: one key of one asker stands for one request.

See draft-ietf-httpapi-idempotency-key-header. Both the asker's word and the request are kept as digests only.
"""

from __future__ import annotations

import hashlib

from django.db import connection

from core.exceptions import PortalError
from operations.models import Operation

LONGEST_KEY = 255


class BadKey(PortalError):
    """The key cannot be used for this request."""


def key_for(asker: str, word: str, request: bytes) -> str:
    """What to store as the operation's key. Call it in the transaction that makes the operation.

    Two requests with one key wait for each other here. Raises BadKey for a word that is none, and for one that was used
    for another request.
    """
    if not word.strip() or len(word) > LONGEST_KEY:
        raise BadKey(f"The key has 1 to {LONGEST_KEY} characters, for example a UUID.")
    start = f"{asker}:{_digest(word.encode())}:"
    whole = start + _digest(request)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [start])
    before = Operation.objects.filter(idempotency_key__startswith=start).values_list("idempotency_key", flat=True)
    if any(used != whole for used in before):
        raise BadKey("This key was used for another request. Use a new key for each thing you ask for.")
    return whole


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:40]
