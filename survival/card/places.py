"""Writing the card: to folders of this machine, of hosts in the catalog, and to buckets. Whole or not at all."""

from __future__ import annotations

import io
import json
import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from catalog.models import Host
from catalog.reach import connector_for
from core import outbound, s3
from core.addresses import parse_networks
from core.exceptions import PortalError
from operations.commands import Command, run_checked
from survival.card import content, page
from survival.exceptions import SurvivalError
from survival.models import CardCopy
from survival.place import write_whole

logger = logging.getLogger(__name__)

HTML, JSON = "offline-card.html", "offline-card.json"
# A card that says the same is written again so often, so that its date tells that the portal was alive.
WRITE_AGAIN = timedelta(hours=12)
TRY_AGAIN = timedelta(minutes=1)
TIMEOUT_S = 60
# Arguments: folder, file, bytes. The name changes only when every byte has arrived.
SCRIPT = (
    'cd "$1" && t=".$2.$$.new" && cat > "$t" && [ "$(wc -c < "$t")" -eq "$3" ] && chmod 644 "$t" && mv -f "$t" "$2"'
)


def write_due() -> int:
    """Write the card wherever it has changed or grown old. Returns how many copies were written."""
    found = content.gather()
    digest = content.fingerprint(found)
    now = timezone.now()
    written = 0
    for place in settings.OFFLINE_CARD_DIRS:
        copy, _ = CardCopy.objects.get_or_create(place=place)
        if not _is_due(copy, digest, now):
            continue
        error = _try(place, found, now)
        copy.tried_at, copy.error = now, error
        if not error:
            copy.content_sha256, copy.written_at = digest, now
            written += 1
        copy.save()
    return written


def _is_due(copy: CardCopy, digest: str, now: datetime) -> bool:
    if copy.error and copy.tried_at is not None and now - copy.tried_at < TRY_AGAIN:
        return False
    fresh = copy.written_at is not None and now - copy.written_at < WRITE_AGAIN
    return bool(copy.error) or copy.content_sha256 != digest or not fresh


def _try(place: str, found: dict[str, Any], now: datetime) -> str:
    """Write one copy; the sentence of what went wrong, or nothing."""
    try:
        write(place, found, now)
    except PortalError as error:
        logger.warning("offline card not written to %s: %s", place, error.message)
        return error.message
    return ""


def write(place: str, found: dict[str, Any], now: datetime) -> None:
    """Write both files to a folder, to `host:/folder`, or to `s3://bucket/folder`. Raises PortalError."""
    files = {
        HTML: page.as_html(found, now).encode(),
        JSON: json.dumps({"written_at": now.isoformat(timespec="seconds"), **found}, indent=1).encode(),
    }
    if place.startswith("/"):
        _write_here(Path(place), files)
        return
    if place.startswith("s3://"):
        _write_to_bucket(place, files)
        return
    name, _, folder = place.partition(":")
    host = Host.objects.filter(name=name).first()
    if host is None or not folder.startswith("/"):
        raise SurvivalError(
            f"“{place}” is neither a folder, nor host:/folder with a host of the catalog, nor s3://bucket/folder. "
            "Correct it."
        )
    connector = connector_for(host)
    for file, data in files.items():
        command = Command(("sh", "-c", SCRIPT, "sh", folder, file, str(len(data))), timeout_s=TIMEOUT_S)
        run_checked(connector.wrap(command), stdin=io.BytesIO(data))


def _write_to_bucket(place: str, files: dict[str, bytes]) -> None:
    bucket, _, folder = place.removeprefix("s3://").partition("/")
    if not (settings.S3_ENDPOINT and settings.S3_ACCESS_KEY and settings.S3_SECRET_KEY and bucket):
        raise SurvivalError(
            f"“{place}” needs the settings S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY, for the control worker."
        )
    try:
        allow = outbound.Allowed(parse_networks(settings.S3_NETWORKS))
    except ValueError as error:
        raise SurvivalError(f"S3_NETWORKS has something in it that is no network: {error}. Correct it.") from error
    access, secret = settings.S3_ACCESS_KEY, settings.S3_SECRET_KEY
    service = s3.Service(settings.S3_ENDPOINT, settings.S3_REGION, access, secret, allow)
    start = f"{folder.strip('/')}/" if folder.strip("/") else ""
    for name, data in files.items():
        service.put(bucket, f"{start}{name}", data, "text/html; charset=utf-8" if name == HTML else "application/json")


def _write_here(folder: Path, files: dict[str, bytes]) -> None:
    try:
        if folder == Path(settings.PORTAL_BACKUP_DIR) / "offline-card":
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, data in files.items():
            write_whole(folder / name, data, mode=0o644)
    except OSError as error:
        raise SurvivalError(
            f"The offline card cannot be written to {folder} ({error.strerror}). Create the folder or mount its disk."
        ) from error
