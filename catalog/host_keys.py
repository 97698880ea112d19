"""Public keys of machines: their fingerprints, and what a machine shows."""

from __future__ import annotations

import base64
import binascii
import hashlib

from catalog.validators import HOST_KEY


def fingerprint(line: str) -> str:
    """The fingerprint of "type base64" as OpenSSH prints it (RFC 4648 base64 of the SHA-256, without padding)."""
    try:
        blob = base64.b64decode(line.split()[1], validate=True)
    except (IndexError, binascii.Error):
        return "unreadable"
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def scanned(text: str) -> list[str]:
    """The keys in what ssh-keyscan prints, each as "type base64"; the names before them are left out."""
    keys = []
    for line in text.splitlines():
        _, _, key = line.partition(" ")
        if not line.startswith("#") and HOST_KEY.fullmatch(key.strip()):
            keys.append(key.strip())
    return sorted(set(keys))
