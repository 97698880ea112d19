"""Files that show what was seen."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from core.templatetags.portal import filesize_si
from incidents import access, timeline
from incidents.actions.writing import check_fields, demand
from incidents.exceptions import IncidentError
from incidents.models import Evidence, EvidenceContent, Incident
from incidents.timeline import Kind, Source

if TYPE_CHECKING:
    from core.models import User

CONTENT_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")
UNKNOWN = "application/octet-stream"
MB = 1_000_000


def check_size(name: str, size_bytes: int) -> None:
    """Raises IncidentError for what is too big to be kept; asked before a file is read, too."""
    if size_bytes > settings.EVIDENCE_MAX_MB * MB:
        raise IncidentError(
            f"{name} has {filesize_si(size_bytes)}; the limit is {settings.EVIDENCE_MAX_MB} MB. Cut it, or keep it "
            "where it is and note its place."
        )


def add(
    incident: Incident,
    *,
    name: str,
    content_type: str,
    data: bytes,
    text: str = "",
    by: User,
    source: str = Source.PERSON,
) -> Evidence:
    """Keep a file with its SHA-256, and say so on the timeline."""
    demand(access.may_work(by, incident))
    name = "".join(letter for letter in re.split(r"[\\/]", name)[-1] if letter.isprintable()).strip()[-200:]
    if not name:
        raise IncidentError("The file has no name. Give it one.")
    if not data:
        raise IncidentError(f"{name} is empty. Choose another file.")
    check_size(name, len(data))
    digest = hashlib.sha256(data).hexdigest()
    with transaction.atomic():
        said = f"{text.strip()} " if text.strip() else ""
        entry = timeline.write(
            incident,
            f"{said}File {name}, {filesize_si(len(data))}, SHA-256 {digest}.".replace("\0", ""),
            kind=Kind.EVIDENCE,
            source=source,
            user=by,
            data={"name": name, "size_bytes": len(data), "sha256": digest},
        )
        row = Evidence(
            incident=incident,
            entry=entry,
            name=name,
            content_type=content_type if CONTENT_TYPE.fullmatch(content_type) and len(content_type) <= 120 else UNKNOWN,
            size_bytes=len(data),
            sha256=digest,
            added_by=by,
        )
        check_fields(row, {"name"})
        row.save(force_insert=True)
        EvidenceContent.objects.create(evidence=row, data=data)
    return row
