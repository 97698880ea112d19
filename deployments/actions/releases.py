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
    notes: str = "",
    changes_schema: bool = False,
    migrations_tested: str = "",
    variables: Sequence[str] = (),
    ci: str = Release.Ci.UNKNOWN,
    ci_url: str = "",
    by: User | None,
) -> Release:
    """A new release. Asking again for the same artefact gives the one there is. Raises DeploymentError."""
    if trouble := version_trouble(service, version):
        raise DeploymentError(trouble)
    release = Release(
        service=service,
        version=version,
        source_kind=source_kind,
        source=source,
        checksum=checksum,
        notes=notes,
        changes_schema=changes_schema,
        migrations_tested=migrations_tested,
        variables=list(variables),
        ci=ci,
        ci_url=ci_url,
        created_by=by,
    )
    known = Release.objects.filter(service=service, version=version).first()
    if known is not None:
        return _same(known, release)
    try:
        release.full_clean()
    except ValidationError as error:
        raise DeploymentError(" ".join(error.messages)) from error
    try:
        with transaction.atomic():
            release.save(force_insert=True)
    except IntegrityError:
        return _same(Release.objects.get(service=service, version=version), release)
    return release


def _same(known: Release, asked: Release) -> Release:
    """The release there is, when it is the same artefact. Raises DeploymentError when it is another one."""
    for field in ("source_kind", "source", "checksum"):
        if getattr(known, field) != getattr(asked, field):
            raise DeploymentError(
                f"There is a release {known} already, with another {field.replace('_', ' ')}. A release never changes: "
                "give what has changed another version."
            )
    return known


def withdraw_release(release: Release, *, reason: str, by: User | None) -> Release:
    """Nothing deploys it any more, also where that was asked for already. What is live stays live."""
    if not reason.strip():
        raise DeploymentError("Say why it is withdrawn.")
    with transaction.atomic():
        row = Release.objects.select_for_update().get(pk=release.pk)
        if row.withdrawn_at is None:
            row.withdrawn_at, row.withdrawn_reason = timezone.now(), reason.strip()
            row.save(update_fields=["withdrawn_at", "withdrawn_reason"])
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
