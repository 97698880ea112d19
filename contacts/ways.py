"""What an address of each kind looks like, and what is no address but a gap that somebody means to fill in."""

from __future__ import annotations

import re

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from contacts.models import Way

NUMBERS = (Way.Kind.SMS, Way.Kind.PHONE)
_NUMBER = re.compile(r"\+?[0-9][0-9 ()./-]*(\s*(ext\.?|x)\s*[0-9]+)?", re.IGNORECASE)
_GAP = re.compile(
    r"""
    \[[^\]]*\] | <[^>]*> | \{[^}]*\} |                        # [contact info], <number>
    \(?x{2,}\)?([\s./-]*\(?x{2,}\)?)* |                       # xxx-xxxx
    \(?[0-9]{3}\)?[\s./-]*x{3}[\s./-]*x{4} |
    \+?0{3,} | [?._-]+ | …+ |
    tbd | tba | todo | to\ be\ (defined|done|announced|confirmed) |
    n/?a | none | unknown | missing | not\ set | placeholder |
    (insert|enter|add|your)\ .*
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_gap(text: str) -> bool:
    """Whether somebody wrote that an address is still missing: `[Insert phone number]`, `xxx-xxxx`, `TBD`, `n/a`."""
    return bool(_GAP.fullmatch(text.strip()))


def cleaned(kind: str, text: str) -> str:
    """The address as it is kept; empty for a gap. Raises ValidationError with a sentence."""
    text = " ".join(text.split())
    if not text or is_gap(text):
        return ""
    if kind == Way.Kind.EMAIL:
        try:
            validate_email(text)
        except ValidationError:
            raise ValidationError(f"“{text}” is not an email address such as ann@example.org.") from None
    if kind in NUMBERS and (not _NUMBER.fullmatch(text) or len(compact(text)) < 3):
        raise ValidationError(f"“{text}” is not a number such as +49 40 123456.")
    return text


def compact(number: str) -> str:
    """A number as programs dial it: `+4940123456`."""
    number = re.split(r"ext|x", number, flags=re.IGNORECASE)[0]
    digits = re.sub(r"[^0-9]", "", number.replace("(0)", "") if number.strip().startswith("+") else number)
    return f"+{digits}" if number.strip().startswith("+") else digits


def dialled(kind: str, address: str) -> str:
    """What a service is given to reach it."""
    return compact(address) if kind in NUMBERS else address
