"""What the confirm pages of environments, deployments and releases ask."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.utils import timezone

from core.forms import DateTimeLocalInput, ReasonForm
from core.models import User
from deployments import shown
from deployments.actions import releases
from deployments.drivers.base import PortHolder
from deployments.models import DeploymentProfile, LiveState, Release, Scan
from deployments.validators import validate_variables

WORDS = {"rows": 2}


class DeployForm(forms.Form):
    """Which release, why and when. What a person may not do is not asked."""

    release = forms.ChoiceField(help_text="Newest first, with where it is live or was verified.")
    reason = forms.CharField(
        max_length=500, required=False, widget=forms.Textarea(attrs=WORDS), help_text="Why now. Shown to who approves."
    )
    incident = forms.CharField(
        max_length=60,
        required=False,
        label="Incident that it fixes",
        help_text="Its number. The fix of an open incident passes the freeze which that incident makes.",
    )
    starts_itself = forms.BooleanField(
        required=False, label="Starts by itself", help_text="As soon as nothing keeps it: gates, approvals, its time."
    )
    not_before = forms.DateTimeField(
        required=False, widget=DateTimeLocalInput, label="Not before", help_text="Then it starts by itself."
    )
    not_after = forms.DateTimeField(
        required=False,
        widget=DateTimeLocalInput,
        label="Not after",
        help_text="What has not started by then is given up and reported.",
    )
    solo = forms.BooleanField(
        required=False,
        label="Solo mode",
        help_text="You work alone: no approval is waited for. Flagged for review.",
    )
    emergency = forms.BooleanField(
        required=False,
        label="Emergency",
        help_text="Past gates, approvals and freezes. Say in the reason why it cannot wait. Flagged for review.",
    )

    def __init__(
        self, *args: Any, live: LiveState, profile: DeploymentProfile | None, user: User, asked: str = "", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        choices = shown.release_choices(live.environment, profile)
        if asked and asked.isdecimal() and len(asked) < 10 and asked not in dict(choices):
            older = Release.objects.for_service(live.environment.service_id).usable().filter(pk=asked).first()
            choices += [(asked, older.version)] if older is not None else []
        field: Any = self.fields["release"]
        field.choices = choices
        if asked in dict(choices):
            self.initial["release"] = asked
        hidden = set()
        if not user.has_perm("deployments.run_deployment"):
            hidden |= {"starts_itself", "not_before", "not_after"}
        if not user.has_perm("deployments.emergency_deployment"):
            hidden.add("emergency")
        if profile is None or not profile.solo:
            hidden.add("solo")
        for name in hidden:
            del self.fields[name]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        opens, closes = values.get("not_before"), values.get("not_after")
        if closes is not None and closes <= (opens or timezone.now()):
            self.add_error("not_after", "The window closes before it opens, or has closed already.")
        if opens is not None and opens < timezone.now() - timedelta(minutes=1):
            self.add_error("not_before", "This has passed. Leave it empty to start as soon as it may.")
        if values.get("emergency") and not values.get("reason", "").strip():
            self.add_error("reason", "Say why this cannot wait for gates and approvals.")
        return values


class RollbackForm(ReasonForm):
    """To which release and why. With `database`, the name of the one that is restored too is typed by hand."""

    to = forms.ChoiceField(label="To release")
    typed_name = forms.CharField(
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    field_order = ("to", "reason", "typed_name")

    def __init__(self, *args: Any, live: LiveState, choose: bool, database: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.database = database
        if choose:
            field: Any = self.fields["to"]
            found = list(shown.earlier_releases(live)[: shown.MOST_RELEASES])
            if live.previous is not None and live.previous not in found:
                found.insert(0, live.previous)
            field.choices = [
                (str(each.pk), f"{each.version} · before this one" if each.pk == live.previous_id else each.version)
                for each in sorted(found, key=lambda each: each.pk != live.previous_id)
            ]
        else:
            del self.fields["to"]
        if database:
            self.fields["typed_name"].label = f"Type “{database}” to confirm the restore"
        else:
            del self.fields["typed_name"]
        self.fields["reason"].help_text = "Stands on the timeline and in the record of this rollback."

    def clean_typed_name(self) -> str:
        typed: str = self.cleaned_data["typed_name"]
        if typed != self.database:
            raise forms.ValidationError(f"This is not “{self.database}”. Type the name exactly as it is shown.")
        return typed


class RestartForm(ReasonForm):
    """Why, and what happens when nothing comes up again."""

    or_roll_back = forms.BooleanField(
        required=False,
        label="Roll back if it does not come up",
        help_text="Then the release before gets the traffic, by itself.",
    )

    def __init__(self, *args: Any, goes_back: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not goes_back:
            del self.fields["or_roll_back"]


class FreePortForm(ReasonForm):
    """Which of the programs that were found. The value names one process, and no later one with its number."""

    holder = forms.ChoiceField(label="Program", help_text="It is asked to end, and made to after some seconds.")
    field_order = ("holder", "reason")

    def __init__(self, *args: Any, holders: Sequence[PortHolder], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.holders = {f"{each.port}-{each.pid}-{each.started}": each for each in holders}
        field: Any = self.fields["holder"]
        field.choices = [(value, str(each)) for value, each in self.holders.items()]

    def clean_holder(self) -> PortHolder:
        return self.holders[self.cleaned_data["holder"]]


class ScaleForm(ReasonForm):
    count = forms.IntegerField(min_value=1, max_value=1000, label="Copies", help_text="How many run afterwards.")
    field_order = ("count", "reason")


class SettingForm(ReasonForm):
    """One environment variable of the application."""

    name = forms.CharField(max_length=80, help_text="Like an environment variable: letters, digits and “_”.")
    value = forms.CharField(
        max_length=2000,
        required=False,
        help_text="Empty takes it away. No passwords: secrets are references in the deployment profile.",
    )
    field_order = ("name", "value", "reason")


class GateForm(forms.Form):
    """What shows that an item is settled, or that it is not."""

    evidence = forms.CharField(
        max_length=2000,
        widget=forms.Textarea(attrs=WORDS),
        help_text="A link, an output, who looked. It stays with the deployment under your name.",
    )


class ApproveForm(forms.Form):
    note = forms.CharField(max_length=1000, required=False, widget=forms.Textarea(attrs=WORDS))


class RefuseForm(forms.Form):
    note = forms.CharField(
        max_length=1000, label="Why", widget=forms.Textarea(attrs=WORDS), help_text="What has to change first."
    )


class ReviewForm(forms.Form):
    note = forms.CharField(
        max_length=2000,
        label="What you found",
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="Was it right to pass gates or approvals, and what is done so that it need not happen again?",
    )


# -- releases ----------------------------------------------------------------------------------------------------------


class VariablesField(forms.CharField):
    """Names of environment variables, one a line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "autocapitalize": "none"})
        super().__init__(*args, **{"widget": widget, **kwargs})

    def to_python(self, value: Any) -> Any:
        found = [line.strip() for line in (super().to_python(value) or "").splitlines() if line.strip()]
        return list(dict.fromkeys(found))

    def validate(self, value: Any) -> None:
        super().validate(value)
        validate_variables(value)


class ReleaseForm(forms.ModelForm):
    """A new release. Whether it is one already is for the action to say: the same artefact twice is no mistake."""

    variables = VariablesField(
        label="Environment variables", required=False, help_text="What it needs, one name a line. No values."
    )

    class Meta:
        model = Release
        fields = ("service", "version", "source_kind", "source", "checksum", "notes", "changes_schema", "variables")
        widgets = {"notes": forms.Textarea(attrs={"rows": 4})}

    def validate_unique(self) -> None:
        """Left to the action."""

    def validate_constraints(self) -> None:
        """Left to `clean` and the action, which name the field."""

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        service, version = values.get("service"), values.get("version")
        if service is not None and version:
            sentence = releases.version_trouble(service, version)
            if sentence:
                self.add_error("version", sentence)
        needs_one = values.get("source_kind") not in (None, Release.Source.GIT)
        if needs_one and "checksum" in values and not values["checksum"]:
            self.add_error("checksum", "Give the checksum of the artefact; only a git revision needs none.")
        return values


class ScanForm(forms.Form):
    """Counts by severity, and where the report is."""

    kind = forms.ChoiceField(choices=Scan.Kind.choices)
    tool = forms.CharField(max_length=80, help_text="For example pip-audit.")
    critical = forms.IntegerField(min_value=0, max_value=10**6, initial=0)
    high = forms.IntegerField(min_value=0, max_value=10**6, initial=0)
    medium = forms.IntegerField(min_value=0, max_value=10**6, initial=0)
    low = forms.IntegerField(min_value=0, max_value=10**6, initial=0)
    report_url = forms.URLField(max_length=500, required=False, label="Link to the report", assume_scheme="https")


class MigrationForm(forms.Form):
    where = forms.CharField(
        max_length=200,
        label="Where it was tested",
        help_text="With which data and by whom, for example: copy of Monday.",
    )
