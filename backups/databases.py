"""Names of the databases that a restore makes beside the live one."""

from __future__ import annotations

MAX_BYTES = 63  # PostgreSQL cuts longer identifiers silently, and two cut names could be one


def derived_name(database: str, suffix: str) -> str:
    """`database` with `suffix`, the first part shortened so that the whole is at most 63 bytes of UTF-8."""
    room = MAX_BYTES - len(suffix.encode())
    return database.encode()[:room].decode(errors="ignore") + suffix
