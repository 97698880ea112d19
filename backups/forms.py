"""Forms of plans, backups and restores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings

from backups import foreign
from backups.models import Archive, Plan, Restore
from backups.reach import engine_for
from backups.validators import validate_cron, validate_storage_root
from catalog.forms import HumanDurationField
from catalog.models import DatabaseTarget, Environment
from catalog.validators import validate_database_host, validate_database_name, validate_role_name
from core.forms import OptionalReasonForm, TimeInput
from core.templatetags.portal import filesize_si
from operations.models import Schedule


class BackUpForm(OptionalReasonForm):
    """Why a backup is made outside its schedule."""

    purpose = forms.ChoiceField(
        choices=[
            (Archive.Purpose.MANUAL.value, "On demand"),
            (Archive.Purpose.EMERGENCY.value, "Emergency"),
            (Archive.Purpose.PRE_CHANGE.value, "Before a change"),
        ],
    )
    field_order = ("purpose", "reason")


class AdoptForm(forms.Form):
    """Which backups of others become archives. Those that this process sees can be ticked."""

    found = forms.MultipleChoiceField(label="Found in the folders", required=False, widget=forms.CheckboxSelectMultiple)
    other = forms.CharField(
        label="Or the path of another one",
        required=False,
        max_length=1000,
        help_text="As the worker of the plan's storage sees it, below one of the folders above.",
    )

    def __init__(self, *args: Any, plan: Plan, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.look = foreign.look(engine_for(plan.target), plan.storage)
        done = set(
            plan.archives.exclude(state=Archive.State.FAILED)
            .filter(purpose=Archive.Purpose.ADOPTED)
            .values_list("operation__params__source", flat=True)
        )
        found: Any = self.fields["found"]
        found.choices = [(str(each.path), _described(each, done)) for each in self.look.found]
        if not found.choices:
            del self.fields["found"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        other = cleaned.get("other", "").strip()
        cleaned["sources"] = [*cleaned.get("found", []), *([other] if other else [])]
        if other and not other.startswith("/"):
            raise forms.ValidationError("Write the whole path of the backup, beginning with “/”.")
        path = Path(os.path.normpath(other))
        if other and not any(path.is_relative_to(folder) and path != folder for folder in self.look.folders):
            raise forms.ValidationError("The path is not below one of the folders above. Move the backup there first.")
        if not cleaned["sources"] and not self.errors:
            raise forms.ValidationError("Tick one or more backups, or write the path of one.")
        return cleaned


def _described(found: foreign.Found, done: set[str]) -> str:
    words = [f"{found.made_at:%F %H:%M} UTC", str(found.path), found.kind, filesize_si(found.size)]
    return " · ".join([*words, "adopted already"] if str(found.path) in done else words)


class PlanForm(forms.ModelForm):
    """A plan together with the schedule it owns."""

    cron = forms.CharField(
        label="Schedule",
        required=False,
        max_length=200,
        validators=[validate_cron],
        help_text="Minute, hour, day of month, month, day of week, in the service's zone: 0 2 * * * is every night at "
        "two. Empty: on demand only.",
    )
    enabled = forms.BooleanField(label="Schedule switched on", required=False, initial=True)
    misfire = forms.ChoiceField(
        label="Missed slots", choices=Schedule.Misfire.choices, initial=Schedule.Misfire.LATEST, required=False
    )

    max_lateness = HumanDurationField(
        label="At most late by",
        required=False,
        help_text="A slot found later than this is recorded and not run, for example 12 h. Empty: 12 h.",
    )
    expected_min = HumanDurationField(label="Expected at least", required=False, help_text="For example 15 min.")
    expected_max = HumanDurationField(label="Expected at most", required=False, help_text="For example 30 min.")

    class Meta:
        model = Plan
        fields = (
            "name",
            "target",
            "storage",
            "folder",
            "cron",
            "enabled",
            "misfire",
            "max_lateness",
            "name_pattern",
            "on_demand_pattern",
            "keep_days",
            "keep_last",
            "expected_min",
            "expected_max",
            "jobs",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "target" in self.fields:  # not where the form only reads what is stored
            self.fields["target"].queryset = DatabaseTarget.objects.named()  # type: ignore[attr-defined]
        schedule = self.instance.schedule if self.instance.pk else None
        if schedule is not None:
            crontab = schedule.crontab
            self.initial["cron"] = " ".join(
                (crontab.minute, crontab.hour, crontab.day_of_month, crontab.month_of_year, crontab.day_of_week)
            )
            self.initial["enabled"] = schedule.enabled
            self.initial["misfire"] = schedule.misfire
            self.initial["max_lateness"] = schedule.max_lateness


class RestoreForm(forms.Form):
    """Everything a restore must be told. The name is typed by hand, so that nobody restores by a slip."""

    reason_kind = forms.ChoiceField(label="Why do you restore?", choices=[("", "Choose …"), *Restore.Reason.choices])
    reason = forms.CharField(
        label="In your words",
        required=False,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Needed when the reason is another one. Everybody who reads this restore sees it.",
    )
    override_reason = forms.CharField(
        label="Why it must be restored unverified",
        required=False,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="This archive has not been verified. Verify it first if there is time.",
    )
    into = forms.CharField(
        label="Into database",
        max_length=63,
        validators=[validate_database_name],
        help_text="The live database is replaced and kept aside. Another name restores beside it and replaces nothing.",
    )
    typed_name = forms.CharField(
        label="Type the name of that database to confirm",
        max_length=63,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, archive: Archive, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["into"] = archive.target.database
        if archive.is_restore_point:
            del self.fields["override_reason"]

    def clean(self) -> dict[str, Any]:
        """What the action refuses too, said beside the field and all at once."""
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("reason_kind") == Restore.Reason.OTHER and not cleaned.get("reason", "").strip():
            self.add_error("reason", "Say why you restore when the reason is none of the usual ones.")
        into, typed = cleaned.get("into"), cleaned.get("typed_name")
        if into and typed and into != typed:
            self.add_error("typed_name", f"The name you typed is not the database's. Type {into} exactly to confirm.")
        return cleaned


class FirstServiceForm(forms.Form):
    """At most a dozen questions between an empty portal and the first verified backup."""

    service = forms.CharField(
        max_length=80, help_text="What people call it, for example Web shop. One that is there already is used."
    )
    kind = forms.ChoiceField(label="Environment", choices=Environment.Kind.choices)
    host = forms.CharField(
        max_length=253,
        validators=[validate_database_host],
        help_text="Name, address, or folder of the server's Unix socket.",
    )
    port = forms.IntegerField(initial=5432, min_value=1, max_value=65535)
    database = forms.CharField(max_length=63, validators=[validate_database_name])
    user = forms.CharField(max_length=63, validators=[validate_role_name])
    password = forms.CharField(
        required=False,
        max_length=500,
        strip=False,
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "off"}),
        help_text="The password, which is kept in a file of the portal's and never shown again; or where it is: "
        "env:OPS_SECRET_NAME or file:/run/secrets/name.",
    )
    folder = forms.CharField(
        label="Folder for archives",
        max_length=500,
        validators=[validate_storage_root],
        help_text="On the worker's machine. It must be there, unless it lies in the portal's own data folder.",
    )
    at = forms.TimeField(
        label="Every day at",
        initial="02:00",
        widget=TimeInput,
        help_text="In the time zone of the service, which for a new one is yours.",
    )
    keep_days = forms.IntegerField(
        label="Keep archives (days)", required=False, initial=30, min_value=1, help_text="Empty: for ever."
    )
    rto = HumanDurationField(label="RTO", required=False, help_text="Longest outage, for example 30 min.")
    rpo = HumanDurationField(label="RPO", required=False, help_text="Most work that may be lost, for example 24 h.")

    GROUPS = (
        ("What it is", ("service", "kind"), False),
        ("Where the database is", ("host", "port", "database", "user", "password"), True),
        ("The backups", ("folder", "at", "keep_days", "rto", "rpo"), False),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault("folder", str(Path(settings.DATA_DIR) / "archives"))

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The fields as the page shows them."""
        return [
            {"title": title, "fields": [self[name] for name in names], "tested": tested}
            for title, names, tested in self.GROUPS
        ]
