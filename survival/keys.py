"""The key of the portal's backups, in the format of age (https://age-encryption.org/v1). Knows no tables.

Workers need the recipient (age1…) only. The identity (AGE-SECRET-KEY-1…) opens the backups and is kept apart.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import pyrage

from survival.exceptions import CopyDamaged, SurvivalError

SECRET_PREFIX = "AGE-SECRET-KEY-1"  # noqa: S105  how every identity begins
HEADER = b"age-encryption.org/v1\n-> X25519 "
IDENTITY_NAME = "portal-backup-key.txt"


@dataclass(frozen=True)
class Key:
    """The recipient, and the identity when it is at hand."""

    recipient: str
    identity: pyrage.x25519.Identity | None = None


def read_key(text: str) -> Key:
    """A key from a recipient, an identity, or the file that age-keygen writes. Raises SurvivalError."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise SurvivalError("The key of the portal's backups is one line: age1… or AGE-SECRET-KEY-1…. Correct it.")
    try:
        if lines[0].upper().startswith(SECRET_PREFIX):
            identity = pyrage.x25519.Identity.from_str(lines[0])
            return Key(str(identity.to_public()), identity)
        return Key(str(pyrage.x25519.Recipient.from_str(lines[0])))
    except (pyrage.IdentityError, pyrage.RecipientError):
        raise SurvivalError(
            "The key of the portal's backups is neither an age recipient (age1…) nor an identity. Correct it."
        ) from None


def make_identity(folder: Path, now: datetime) -> tuple[Key, Path]:
    """A new identity, written once to a file that only we can read. One that is there already is used, not replaced."""
    path = folder / IDENTITY_NAME
    try:
        folder.mkdir(mode=0o700, parents=False, exist_ok=True)
        identity = pyrage.x25519.Identity.generate()
        text = f"# created: {now:%Y-%m-%dT%H:%M:%SZ}\n# public key: {identity.to_public()}\n{identity}\n"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return read_key(path.read_text()), path
    except OSError as error:
        raise SurvivalError(
            f"The key of the portal's backups cannot be written to {path} ({error.strerror}). Create the folder, set "
            "PORTAL_KEY_DIR to another, or give PORTAL_BACKUP_KEY."
        ) from error
    return Key(str(identity.to_public()), identity), path


def seal(source: BinaryIO, target: BinaryIO, recipient: str) -> None:
    """Encrypt to the recipient; memory use does not grow with the size."""
    pyrage.encrypt_io(source, target, [pyrage.x25519.Recipient.from_str(recipient)])


def open_sealed(source: BinaryIO, target: BinaryIO, identity: pyrage.x25519.Identity) -> None:
    """Decrypt; every byte is authenticated. Raises CopyDamaged when it is another key's or was changed."""
    try:
        pyrage.decrypt_io(source, target, [identity])
    except (pyrage.DecryptError, OSError) as error:
        raise CopyDamaged(
            f"The file cannot be opened with the key at hand ({error}). It is damaged, or sealed to another key."
        ) from error


def looks_sealed(start: bytes) -> bool:
    """Whether a file begins as age files do. Says nothing about the rest."""
    return start.startswith(HEADER)
