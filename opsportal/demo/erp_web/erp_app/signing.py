"""Who is signed in: a cookie with a name and an end, signed with a key that all versions share."""

from __future__ import annotations

import hashlib
import hmac
import time

COOKIE = "erp_session"
LASTS_S = 8 * 3600


class Accounts:
    """The one account of this demo, and the cookies that were given out for it."""

    def __init__(self, name: str, password: str, key: str) -> None:
        self.name, self._password, self._key = name, password.encode(), key.encode()

    def check(self, name: str, password: str) -> bool:
        right = hmac.compare_digest(password.encode(), self._password)
        return bool(self._password) and name == self.name and right

    def cookie(self) -> str:
        """For whoever has signed in just now."""
        end = str(int(time.time()) + LASTS_S)
        return f"{self.name}:{end}:{self._sign(end)}"

    def whose(self, cookie: str) -> str:
        """The name in a cookie; empty when it is not ours or has run out."""
        name, _, rest = cookie.partition(":")
        end, _, signature = rest.partition(":")
        if not (self._key and end.isdecimal() and name == self.name):
            return ""
        good = hmac.compare_digest(signature.encode(), self._sign(end).encode())
        return name if good and int(end) > time.time() else ""

    def _sign(self, end: str) -> str:
        return hmac.new(self._key, f"{self.name}:{end}".encode(), hashlib.sha256).hexdigest()
