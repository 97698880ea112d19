"""Which version of the portal this process runs."""

from functools import cache
from pathlib import Path

from django.conf import settings


@cache
def version() -> str:
    """`PORTAL_VERSION`, else the beginning of the checked-out commit, else “unknown”. Starts no program."""
    return settings.PORTAL_VERSION or _commit(Path(settings.BASE_DIR) / ".git")[:12] or "unknown"


def _commit(git: Path) -> str:
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).exists():
            return (git / name).read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")
