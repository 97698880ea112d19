"""What an API token may be used for: one table, as for roles.

A scope narrows what a token may do and never widens it: the person behind the token still needs the permission.
"""

from django.core.exceptions import ValidationError

READ, CHECK, BACK_UP, RESTORE = "read", "check", "backup", "restore"
DEPLOY, CONTROL, RESPOND = "deploy", "control", "respond"

SCOPES: dict[str, str] = {
    READ: "read what its owner may see",
    CHECK: "ask probes",
    BACK_UP: "back up and verify",
    RESTORE: "restore, and undo a restore",
    DEPLOY: "create releases, deploy, approve and roll back",
    CONTROL: "cancel and retry operations",
    RESPOND: "declare, update, acknowledge and resolve incidents",
}
"""Word -> what it allows, as shown where a token is made."""


def validate_scopes(words: list[str]) -> None:
    """Raises ValidationError for an unknown word, and for no word at all."""
    if not words or not SCOPES.keys() >= set(words):
        raise ValidationError(f"Choose one or more of these scopes: {', '.join(SCOPES)}.")
