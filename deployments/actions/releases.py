"""Releases: made once, never changed; what CI and scanners report about them is added."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog.models import Service
from deployments.exceptions import DeploymentError
from deployments.models import Release, ReleaseRules, Scan
from deployments.models.settings import DEFAULT_PATTERN

if TYPE_CHECKING:
    from core.models import User

ARTEFACT = ("source_kind", "source", "checksum")
WORDS = {
    "source_kind": "source kind",
    "notes": "text of its notes",
    "changes_schema": "word on whether it changes the schema",
    "variables": "list of variables",
}


def pattern_of(service: Service) -> str:
    """The regular expression that versions of this service match as a whole."""
    rules = ReleaseRules.objects.filter(service=service).first()
    return rules.version_pattern if rules is not None else DEFAULT_PATTERN


def version_trouble(service: Service, version: str) -> str:
    """Why this is no version of the service, in a sentence; empty: it is one."""
    pattern = pattern_of(service)
    if re.fullmatch(pattern, version):
        return ""
    example = ", for example v1.4.0" if pattern == DEFAULT_PATTERN else ""
    return f"“{version}” is no version of {service}: versions match {pattern}{example}."


def create_release(
    service: Service,
    version: str,
    *,
    source_kind: str,
    source: str,
    checksum: str = "",
    notes: str | None = None,
    changes_schema: bool | None = None,
    migrations_tested: str = "",
    variables: Sequence[str] | None = None,
    ci: str = Release.Ci.UNKNOWN,
    ci_url: str = "",
    by: User | None,
) -> Release:
    """A new release. Asking again for the same gives the one there is; what is None then stays as it is known.

    `migrations_tested`, `ci` and `ci_url` are what is known at first: later reports have actions of their own, and
    asking again takes none of them back. Raises DeploymentError for the same version with something else in it.
    """
    if trouble := version_trouble(service, version):
        raise DeploymentError(trouble)
    release = Release(
        service=service,
        version=version,
        source_kind=source_kind,
        source=source,
        checksum=checksum,
        notes=notes or "",
        changes_schema=bool(changes_schema),
        migrations_tested=migrations_tested,
        variables=list(variables or ()),
        ci=ci,
        ci_url=ci_url,
        created_by=by,
    )
    said = {"notes": notes, "changes_schema": changes_schema, "variables": variables}
    asked = [*ARTEFACT, *(name for name, value in said.items() if value is not None)]
    known = Release.objects.filter(service=service, version=version)
    if (there := known.first()) is not None:
        return _same(there, release, asked)
    try:
        release.full_clean()
        with transaction.atomic():
            release.save(force_insert=True)
    except (ValidationError, IntegrityError) as error:
        if (there := known.first()) is not None:  # somebody asked for it at the same time
            return _same(there, release, asked)
        if isinstance(error, ValidationError):
            raise DeploymentError(" ".join(error.messages)) from error
        raise
    return release


def _same(known: Release, asked: Release, fields: Sequence[str]) -> Release:
    """The release there is, when those fields are the same. Raises DeploymentError with those that are not."""
    differ = [WORDS.get(name, name) for name in fields if _value(known, name) != _value(asked, name)]
    if differ:
        raise DeploymentError(
            f"There is a release {known} already, with another {' and another '.join(differ)}. A release never "
            "changes: give what has changed another version."
        )
    if asked.migrations_tested and not known.migrations_tested:
        note_migrations_tested(known, where=asked.migrations_tested, by=asked.created_by)
    return known


def _value(release: Release, name: str) -> Any:
    """As it is compared: in which order variables are named means nothing."""
    value = getattr(release, name)
    return sorted(value) if name == "variables" else value


def withdraw_release(release: Release, *, reason: str, by: User | None) -> Release:
    """Nothing deploys it any more, also where that was asked for already. What is live stays live."""
    if not reason.strip():
        raise DeploymentError("Say why it is withdrawn.")
    with transaction.atomic():
        row = Release.objects.select_for_update(of=("self",)).get(pk=release.pk)
        if row.withdrawn_at is None:
            row.withdrawn_at, row.withdrawn_by, row.withdrawn_reason = timezone.now(), by, reason.strip()
            row.save(update_fields=["withdrawn_at", "withdrawn_by", "withdrawn_reason"])
    return row


def report_ci(release: Release, *, ci: str, url: str = "", by: User | None) -> Release:
    """What CI says of this release. Raises DeploymentError for a word or an address that is none."""
    release.ci, release.ci_url = ci, url or release.ci_url
    try:
        release.clean_fields(
            exclude=[field.name for field in Release._meta.fields if field.name not in ("ci", "ci_url")]
        )
    except ValidationError as error:
        raise DeploymentError(" ".join(error.messages)) from error
    release.save(update_fields=["ci", "ci_url"])
    return release


def note_migrations_tested(release: Release, *, where: str, by: User | None) -> Release:
    """Where and by whom the migration of this release was tested."""
    release.migrations_tested = " ".join(where.split())[:200]
    if not release.migrations_tested:
        raise DeploymentError("Say where the migration was tested, and with which data.")
    release.save(update_fields=["migrations_tested"])
    return release


def attach_scan(release: Release, *, kind: str, tool: str, by: User | None, **found: Any) -> Scan:
    """What a tool found in this release: counts by severity, a link, the report. Raises DeploymentError.

    The same again, as a program sends that did not hear the answer, gives the one there is.
    """
    scan = Scan(release=release, kind=kind, tool=tool, by=by, **found)
    newest = Scan.objects.filter(release=release, kind=kind, tool=tool).first()
    same = ("critical", "high", "medium", "low", "report_url", "report")
    if newest is not None and all(getattr(newest, name) == getattr(scan, name) for name in same):
        return newest
    try:
        scan.full_clean()
    except ValidationError as error:
        raise DeploymentError(" ".join(error.messages)) from error
    scan.save()
    return scan
