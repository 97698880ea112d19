"""Signatures after the Standard Webhooks specification, version 1 (https://www.standardwebhooks.com).

The secret is a text `whsec_` + base64, or any other text of 24 characters or more, which is then used as it is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from webhooks.exceptions import WebhookError

PREFIX = "whsec_"
SHORTEST = 24


def key_of(secret: str) -> bytes:
    """The key in a secret. Raises WebhookError when it is none."""
    if not secret.startswith(PREFIX):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise WebhookError("The signing secret begins with whsec_, and what follows is not base64.") from None
    if len(key) < SHORTEST:
        raise WebhookError(f"The signing secret is shorter than {SHORTEST} bytes. Make a longer one.")
    return key


def headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers; `timestamp` in seconds since 1970, of this try."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    mac = base64.b64encode(hmac.new(key_of(secret), signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{mac}"}
