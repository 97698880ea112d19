"""Edit forms of profiles, workflows and their stages."""

from __future__ import annotations

from django import forms

from catalog.forms import HumanDurationField
from incidents.form_fields import LinesField, check_pattern
from incidents.models import IncidentProfile, Stage, Workflow
from incidents.patterns import validate_number_pattern

CHANNEL = ("service", "yyyymmdd", "date", "severity", "number")
NAMES = ("date", "number", "service", "title")


class ProfileForm(forms.ModelForm):
    """Patterns are tried at once: one that cannot be filled in would be noticed in the middle of an incident."""

    impacts = LinesField(
        label="Impacts", required=False, longest=80, help_text="Boxes to tick on the incident, one a line."
    )
    gates = LinesField(
        label="Closing gates", required=False, help_text="What must be done before an incident is closed, one a line."
    )

    class Meta:
        model = IncidentProfile
        fields = (
            "service",
            "workflow",
            "number_pattern",
            "channel_pattern",
            "export_pattern",
            "review_title_pattern",
            "impacts",
            "gates",
            "review_from_rank",
        )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # handed on as they came
        if "service" in self.fields:
            self.fields["service"].empty_label = "All services without a profile of their own"  # type: ignore[attr-defined]
            self.fields["workflow"].empty_label = "No stages"  # type: ignore[attr-defined]

    def clean_number_pattern(self) -> str:
        pattern: str = self.cleaned_data["number_pattern"]
        validate_number_pattern(pattern)
        return pattern

    def clean_channel_pattern(self) -> str:
        return self._named("channel_pattern", CHANNEL)

    def clean_export_pattern(self) -> str:
        return self._named("export_pattern", NAMES)

    def clean_review_title_pattern(self) -> str:
        return self._named("review_title_pattern", NAMES)

    def _named(self, field: str, allowed: tuple[str, ...]) -> str:
        pattern: str = self.cleaned_data[field]
        check_pattern(pattern, allowed)
        return pattern


class WorkflowForm(forms.ModelForm):
    class Meta:
        model = Workflow
        fields = ("name",)


class StageForm(forms.ModelForm):
    limit = HumanDurationField(label="Time box", required=False, help_text="For example 15 min. Empty: not set.")

    class Meta:
        model = Stage
        fields = ("order", "name", "core_state", "limit", "checklist")
        widgets = {"checklist": forms.Textarea(attrs={"rows": 3})}
