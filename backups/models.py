"""Plans say what is backed up when; archives are what came of it; restores put an archive back."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from backups.querysets import ArchiveQuerySet, PlanQuerySet, RestoreQuerySet
from backups.validators import validate_folder, validate_pattern_field, validate_storage_root
from catalog.models import DatabaseTarget, Host
from core.environments import EnvironmentBand
from core.templatetags.portal import human_duration
from operations.models import Operation, Schedule


class Storage(models.Model):
    """A place where archives are kept. A local one is a folder and names the host it is on."""

    class Kind(models.TextChoices):
        LOCAL = "local", "Folder on a host"

    name = models.CharField(max_length=80, unique=True)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.LOCAL)
    host = models.ForeignKey(Host, on_delete=models.PROTECT, related_name="+")
    root = models.CharField(max_length=500, validators=[validate_storage_root], help_text="Absolute folder.")

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("admin:backups_storage_detail", args=[self.pk])


class Plan(models.Model):
    """What is backed up, when, where to, under which name, and for how long it is kept.

    Empty retention values keep everything; an empty schedule means on demand.
    """

    name = models.CharField(max_length=120, unique=True)
    target = models.ForeignKey(DatabaseTarget, on_delete=models.PROTECT, related_name="plans")
    storage = models.ForeignKey(Storage, on_delete=models.PROTECT, related_name="plans")
    folder = models.CharField(
        max_length=200, validators=[validate_folder], help_text="Below the storage's folder, for example erp-postgres."
    )
    name_pattern = models.CharField(
        max_length=120,
        default="backup_%Y-%m-%d_%H%M",
        validators=[validate_pattern_field],
        help_text="Name of scheduled archives, with the date: erp_backup_%Y-%m-%d_%H00.",
    )
    on_demand_pattern = models.CharField(
        max_length=120,
        default="manual_%Y%m%d_%H%M%S",
        validators=[validate_pattern_field],
        help_text="Name of archives made by a click or before a change.",
    )
    schedule = models.OneToOneField(Schedule, null=True, blank=True, on_delete=models.PROTECT, related_name="plan")
    keep_days = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: age removes nothing.")
    keep_last = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: number removes nothing.")
    expected_min = models.DurationField(null=True, blank=True, help_text="A backup faster than this gets a warning.")
    expected_max = models.DurationField(null=True, blank=True, help_text="A backup slower than this gets a warning.")
    jobs = models.PositiveSmallIntegerField(default=2, help_text="Tables dumped and loaded at the same time.")

    objects = PlanQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        permissions = (
            ("run_plan", "Can back up now"),
            ("prune_plan", "Can clean up archives by retention"),
        )
        constraints = (
            models.CheckConstraint(
                name="plan_keep_days_positive",
                condition=Q(keep_days__isnull=True) | Q(keep_days__gte=1),
                violation_error_message="Keep archives for at least one day, or leave it empty to keep all.",
            ),
            models.CheckConstraint(
                name="plan_keep_last_positive",
                condition=Q(keep_last__isnull=True) | Q(keep_last__gte=1),
                violation_error_message="Keep at least one archive, or leave it empty to keep all.",
            ),
            models.CheckConstraint(
                name="plan_jobs_range",
                condition=Q(jobs__gte=1, jobs__lte=16),
                violation_error_message="Between 1 and 16 tables at the same time.",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("admin:backups_plan_detail", args=[self.pk])

    @property
    def environment_band(self) -> EnvironmentBand:
        return self.target.environment_band

    @property
    def time_zone(self) -> str:
        return self.target.component.environment.service.time_zone

    def warning_for(self, duration: timedelta | None) -> str:
        """Empty, or the sentence why a duration is outside what the team expects."""
        if duration is None:
            return ""
        if self.expected_max is not None and duration > self.expected_max:
            return f"Took {human_duration(duration)}, longer than the expected {human_duration(self.expected_max)}."
        if self.expected_min is not None and duration < self.expected_min:
            return f"Took {human_duration(duration)}, shorter than the expected {human_duration(self.expected_min)}."
        return ""


class Archive(models.Model):
    """One backup of one database.

    ::

        CREATING --> AVAILABLE --> PRUNED (by retention)
        CREATING --> FAILED
        AVAILABLE <--> MISSING (not where it should be; a disk may be mounted again)
        verification: UNVERIFIED --> VERIFIED | DAMAGED, and again

    A restore point is an archive that is available and verified.
    """

    class State(models.TextChoices):
        CREATING = "creating", "Being created"
        AVAILABLE = "available", "Available"
        FAILED = "failed", "Failed"
        PRUNED = "pruned", "Removed"
        MISSING = "missing", "Missing"

    READABLE = (State.AVAILABLE, State.MISSING)

    class Verification(models.TextChoices):
        UNVERIFIED = "unverified", "Not verified"
        VERIFIED = "verified", "Verified"
        DAMAGED = "damaged", "Damaged"

    class Purpose(models.TextChoices):
        SCHEDULED = "scheduled", "Scheduled"
        MANUAL = "manual", "On demand"
        EMERGENCY = "emergency", "Emergency"
        PRE_CHANGE = "pre_change", "Before a change"
        ADOPTED = "adopted", "Adopted"

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="archives")
    target = models.ForeignKey(DatabaseTarget, on_delete=models.PROTECT, related_name="archives")
    storage = models.ForeignKey(Storage, on_delete=models.PROTECT, related_name="archives")
    operation = models.OneToOneField(Operation, on_delete=models.PROTECT, related_name="archive")
    folder = models.CharField(max_length=200)
    name = models.CharField(max_length=200, blank=True, help_text="Folder name; empty until published.")
    state = models.CharField(max_length=10, choices=State, default=State.CREATING)
    verification = models.CharField(max_length=10, choices=Verification, default=Verification.UNVERIFIED)
    verified_at = models.DateTimeField(null=True, blank=True)
    verification_message = models.TextField(blank=True)
    purpose = models.CharField(max_length=10, choices=Purpose)
    reason = models.TextField(blank=True)
    requested_at = models.DateTimeField(default=timezone.now)
    snapshot_at = models.DateTimeField(null=True, blank=True, help_text="The moment whose data it holds.")
    duration = models.DurationField(null=True, blank=True)
    size_bytes = models.BigIntegerField(null=True, blank=True)
    database_bytes = models.BigIntegerField(null=True, blank=True)
    row_count = models.BigIntegerField(null=True, blank=True)
    sha256 = models.CharField(max_length=64, blank=True, help_text="Of manifest.json, which holds those of the files.")
    server_version = models.CharField(max_length=60, blank=True)
    manifest = models.JSONField(null=True, blank=True, encoder=DjangoJSONEncoder)
    keep = models.BooleanField(default=False, help_text="Retention never removes it.")
    removed_at = models.DateTimeField(null=True, blank=True)

    objects = ArchiveQuerySet.as_manager()

    class Meta:
        ordering = ("-requested_at", "-pk")
        permissions = (
            ("verify_archive", "Can verify archives"),
            ("restore_archive", "Can restore archives"),
            ("keep_archive", "Can keep archives from being removed"),
            ("adopt_archive", "Can make archives of backups that others have made"),
        )
        indexes = (
            models.Index(fields=("target", "state", "verification", "-snapshot_at"), name="archive_restore_points"),
            models.Index(fields=("-requested_at",), name="archive_requested"),
            models.Index(fields=("plan", "-snapshot_at"), name="archive_plan"),
        )
        constraints = (
            models.CheckConstraint(
                name="archive_available_is_whole",
                condition=~Q(state="available")
                | (~Q(name="") & Q(snapshot_at__isnull=False, size_bytes__isnull=False, manifest__isnull=False)),
                violation_error_message="An available archive has a name, a snapshot time, a size and a manifest.",
            ),
            models.CheckConstraint(
                name="archive_verified_has_time",
                condition=Q(verification="unverified") | Q(verified_at__isnull=False),
                violation_error_message="A verification has a time.",
            ),
            models.UniqueConstraint(
                fields=("storage", "folder", "name"),
                condition=Q(state="available"),
                name="archive_place_unique",
                violation_error_message="There is an archive at this place already.",
            ),
        )

    def __str__(self) -> str:
        return self.name or f"archive {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("admin:backups_archive_detail", args=[self.pk])

    @property
    def environment_band(self) -> EnvironmentBand:
        return self.target.environment_band

    @property
    def is_restore_point(self) -> bool:
        return self.state == self.State.AVAILABLE and self.verification == self.Verification.VERIFIED

    @property
    def status(self) -> str:
        """Status colour of state and verification together."""
        if self.state == self.State.CREATING:
            return "running"
        if self.state in (self.State.FAILED, self.State.MISSING) or self.verification == self.Verification.DAMAGED:
            return "bad"
        if self.state == self.State.PRUNED:
            return "neutral"
        return "ok" if self.verification == self.Verification.VERIFIED else "warn"

    @property
    def state_word(self) -> str:
        if self.state == self.State.AVAILABLE:
            return self.Verification(self.verification).label
        return self.State(self.state).label


class Restore(models.Model):
    """One restore of an archive: why, into what, what it replaced, how long it took against the target."""

    class Reason(models.TextChoices):
        CORRUPTION = "corruption", "Database corruption"
        DELETION = "deletion", "Accidental deletion"
        DISASTER = "disaster", "Disaster recovery"
        OTHER = "other", "Other"

    class SafetyCopy(models.TextChoices):
        NONE = "none", "None"
        KEPT = "kept", "Kept"
        PUT_BACK = "put_back", "Put back"
        DROPPED = "dropped", "Removed"

    archive = models.ForeignKey(Archive, on_delete=models.PROTECT, related_name="restores")
    target = models.ForeignKey(DatabaseTarget, on_delete=models.PROTECT, related_name="restores")
    operation = models.OneToOneField(Operation, on_delete=models.PROTECT, related_name="restore")
    into_database = models.CharField(max_length=63)
    reason_kind = models.CharField(max_length=12, choices=Reason)
    reason = models.TextField(blank=True)
    override_reason = models.TextField(blank=True, help_text="Why an unverified archive was restored.")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    requested_at = models.DateTimeField(default=timezone.now)
    expected_loss = models.JSONField(default=dict, help_text="Rows per table before the restore, live and archived.")
    rto = models.DurationField(null=True, blank=True, help_text="Target at the time of the request.")
    measured = models.DurationField(null=True, blank=True, help_text="From the request to ready and tested.")
    safety_copy = models.CharField(max_length=10, choices=SafetyCopy, default=SafetyCopy.NONE)
    safety_database = models.CharField(max_length=63, blank=True)
    undo_operation = models.OneToOneField(
        Operation, null=True, blank=True, on_delete=models.PROTECT, related_name="undone_restore"
    )

    objects = RestoreQuerySet.as_manager()

    class Meta:
        ordering = ("-requested_at", "-pk")
        permissions = (("undo_restore", "Can undo restores and remove their safety copies"),)
        constraints = (
            models.CheckConstraint(
                name="restore_other_has_reason",
                condition=~Q(reason_kind="other") | ~Q(reason=""),
                violation_error_message="Say why when the reason is another one.",
            ),
            models.CheckConstraint(
                name="restore_kept_copy_has_name",
                condition=~Q(safety_copy="kept") | ~Q(safety_database=""),
                violation_error_message="A kept safety copy has a name.",
            ),
        )

    def __str__(self) -> str:
        return f"Restore of {self.archive} into {self.into_database}"

    def get_absolute_url(self) -> str:
        return reverse("admin:backups_restore_detail", args=[self.pk])

    @property
    def environment_band(self) -> EnvironmentBand:
        return self.target.environment_band

    @property
    def in_place(self) -> bool:
        """True when it replaces the live database; False when it is put beside it under another name."""
        return self.into_database == self.target.database

    @property
    def rto_met(self) -> bool | None:
        """None while unknown or when no target is set."""
        if self.rto is None or self.measured is None:
            return None
        return self.measured <= self.rto

    @property
    def is_undone(self) -> bool:
        """The database from before is back; what had been restored is kept aside, or was removed since."""
        undo = self.undo_operation
        dropped = self.safety_copy == self.SafetyCopy.DROPPED
        return self.safety_copy == self.SafetyCopy.PUT_BACK or bool(
            dropped and undo and undo.state == Operation.State.SUCCEEDED
        )

    @property
    def status(self) -> str:
        return "warn" if self.is_undone else self.operation.status

    @property
    def state_word(self) -> str:
        return "Undone" if self.is_undone else self.operation.state_word
