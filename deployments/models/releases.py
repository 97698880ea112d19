"""Releases: one artefact of one version, the same wherever it runs."""

from __future__ import annotations

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.utils import timezone

from catalog.constraints import not_empty
from catalog.models import Service
from catalog.validators import validate_printable
from core.links import detail_url
from deployments import querysets
from deployments.validators import (
    validate_checksum,
    validate_revision,
    validate_source,
    validate_variables,
    validate_version,
)


class Release(models.Model):
    """One version of a service. What it consists of never changes: another artefact is another release.

    `checksum` is `sha256:` and 64 hexadecimal digits, of the archive, of the folder (see `deployments.artefacts`) or of
    the image; for a git revision the revision itself is what cannot change. Approvals are bound to `fingerprint`.
    """

    class Source(models.TextChoices):
        FOLDER = "folder", "Folder on the host"
        ARCHIVE = "archive", "Archive on the host"
        IMAGE = "image", "Container image"
        GIT = "git", "Git revision"

    class Ci(models.TextChoices):
        UNKNOWN = "unknown", "Not reported"
        RUNNING = "running", "Running"
        PASSED = "passed", "Passed"
        FAILED = "failed", "Failed"

    service = models.ForeignKey(Service, on_delete=models.PROTECT, related_name="releases")
    version = models.CharField(max_length=64, validators=[validate_version])
    source_kind = models.CharField(max_length=8, choices=Source)
    source = models.CharField(
        max_length=500,
        validators=[validate_source],
        help_text="Absolute path on the host, image name, or repository and revision.",
    )
    checksum = models.CharField(
        max_length=71,
        blank=True,
        validators=[validate_checksum],
        help_text="sha256: and 64 hexadecimal digits. A git revision needs none.",
    )
    notes = models.TextField(blank=True)
    changes_schema = models.BooleanField(
        default=False, help_text="It comes with a migration: going back may need the backup taken before."
    )
    migrations_tested = models.CharField(
        max_length=200, blank=True, validators=[validate_printable], help_text="Where and by whom; empty: not tested."
    )
    variables = models.JSONField(
        default=list, blank=True, validators=[validate_variables], help_text="Environment variables that it needs."
    )
    ci = models.CharField("CI", max_length=8, choices=Ci, default=Ci.UNKNOWN)
    ci_url = models.URLField("CI run", max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    withdrawn_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    withdrawn_reason = models.TextField(blank=True)

    objects = querysets.ReleaseQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-pk")
        permissions = [("promote_release", "Can attach scans and CI results to releases")]
        indexes = [models.Index(fields=["service", "-created_at"], name="release_newest")]
        constraints = [
            models.UniqueConstraint(
                fields=["service", "version"],
                name="release_version_unique",
                violation_error_message="This service has a release with this version already. Choose another version.",
            ),
            models.CheckConstraint(
                condition=Q(source_kind__in=["folder", "archive", "image", "git"]), name="release_source_known"
            ),
            models.CheckConstraint(
                condition=Q(source_kind="git") | ~Q(checksum=""),
                name="release_has_checksum",
                violation_error_message="Give the checksum of the artefact.",
            ),
            models.CheckConstraint(
                condition=Q(ci__in=["unknown", "running", "passed", "failed"]), name="release_ci_known"
            ),
            models.CheckConstraint(
                condition=Q(withdrawn_at__isnull=True, withdrawn_by__isnull=True, withdrawn_reason="")
                | (Q(withdrawn_at__isnull=False) & ~Q(withdrawn_reason="")),
                name="release_withdrawn_has_reason",
                violation_error_message="Say why it is withdrawn.",
            ),
            not_empty("release", "version"),
            not_empty("release", "source"),
        ]

    def __str__(self) -> str:
        return f"{self.service} {self.version}"

    def get_absolute_url(self) -> str:
        return detail_url(self)

    def clean(self) -> None:
        if self.source_kind == self.Source.GIT and not self.checksum:
            validate_revision(self.source)

    @property
    def fingerprint(self) -> str:
        """What an approval is bound to: the checksum, or the repository with its revision."""
        return self.checksum or self.source

    @property
    def status(self) -> str:
        if self.withdrawn_at is not None or self.ci == self.Ci.FAILED:
            return "bad"
        return {"passed": "ok", "running": "running"}.get(self.ci, "neutral")

    @property
    def state_word(self) -> str:
        return "Withdrawn" if self.withdrawn_at is not None else f"CI: {self.Ci(self.ci).label.lower()}"


class Scan(models.Model):
    """What a tool found in a release. The newest of each kind and tool counts."""

    class Kind(models.TextChoices):
        SECURITY = "security", "Security"
        DEPENDENCIES = "dependencies", "Dependencies"
        SBOM = "sbom", "Bill of materials"
        OTHER = "other", "Other"

    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="scans")
    kind = models.CharField(max_length=12, choices=Kind)
    tool = models.CharField(max_length=80, validators=[validate_printable])
    critical = models.PositiveIntegerField(default=0)
    high = models.PositiveIntegerField(default=0)
    medium = models.PositiveIntegerField(default=0)
    low = models.PositiveIntegerField(default=0)
    report_url = models.URLField(max_length=500, blank=True)
    report = models.JSONField(null=True, blank=True, encoder=DjangoJSONEncoder)
    at = models.DateTimeField(default=timezone.now)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ("-at", "-pk")
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["security", "dependencies", "sbom", "other"]), name="scan_kind_known"
            ),
            not_empty("scan", "tool"),
        ]

    def __str__(self) -> str:
        return f"{self.tool} on {self.release}"

    @property
    def is_clean(self) -> bool:
        return self.critical == 0 and self.high == 0
