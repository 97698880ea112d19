"""Edit forms of how environments are deployed to. The driver's own form judges the driver's settings."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from catalog.forms import ArgumentVectorField, HumanDurationField
from catalog.validators import validate_argument_vector
from deployments.drivers import DRIVERS
from deployments.models import DeploymentProfile
from deployments.validators import validate_references

PREFIX = "settings"
DURATIONS = ("approval_lasts", "watch_for", "rollback_target", "backup_fresh_for")


class ReferencesField(forms.CharField):
    """Environment variables and where their values are: `NAME=env:OPS_SECRET_X`, one a line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "autocapitalize": "none"})
        super().__init__(*args, **{"widget": widget, **kwargs})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(f"{name}={ref}" for name, ref in value.items()) if isinstance(value, dict) else value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        found: dict[str, str] = {}
        for line in (super().to_python(value) or "").splitlines():
            name, equals, reference = (part.strip() for part in line.strip().partition("="))
            if not line.strip():
                continue
            if not equals:
                raise ValidationError("Write one NAME=reference a line, for example DB_PASSWORD=env:OPS_SECRET_ERP.")
            if name in found:
                raise ValidationError(f"{name} stands here twice. Remove one of the two.")
            found[name] = reference
        return found

    def validate(self, value: Any) -> None:
        super().validate(value)
        validate_references(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool((initial or {}) != self.to_python(data))
        except ValidationError:
            return True


class CommandField(ArgumentVectorField):
    """A command that may be left out, one argument a line."""

    def to_python(self, value: Any) -> Any:
        return super().to_python(value) or None

    def validate(self, value: Any) -> None:
        super().validate(value)
        if value:
            validate_argument_vector(value)


class ProfileFields(forms.ModelForm):
    """What every profile has; `profile_form` adds what its driver asks for, each field with the prefix `settings-`."""

    driver_kind = ""

    secrets = ReferencesField(
        required=False,
        help_text="Environment variables of the application and where their values are, one NAME=reference a line: "
        "DB_PASSWORD=env:OPS_SECRET_ERP or file:/run/secrets/erp.",
    )
    migrate = CommandField(
        label="Migrate command",
        required=False,
        help_text="One argument a line. {version} and {source} are filled in. Changes the schema before the new "
        "version starts, and must do no harm when it runs twice.",
    )
    smoke = CommandField(
        label="Smoke test command",
        required=False,
        help_text="One argument a line. {version} and {address} are filled in. Signs in, creates, reads, changes and "
        "deletes; ends with 0 when all is well.",
    )

    class Meta:
        model = DeploymentProfile
        fields = (
            "environment",
            "host",
            "secrets",
            "promotes_from",
            "checklist",
            "approvals",
            "approval_lasts",
            "solo",
            "freezes_on_rank",
            "migrate",
            "smoke",
            "command_timeout_s",
            "ready_within_s",
            "drain_within_s",
            "answers_within_ms",
            "most_log_errors",
            "watch_for",
            "most_errors_percent",
            "auto_rollback",
            "rollback_target",
            "backup_plan",
            "backup_fresh_for",
        )
        field_classes = dict.fromkeys(DURATIONS, HumanDurationField)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.driver == self.driver_kind:
            for name, value in (self.instance.settings or {}).items():
                self.initial[f"{PREFIX}-{name}"] = value

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        environment, source = values.get("environment"), values.get("promotes_from")
        if environment is not None and source is not None and environment.service_id != source.service_id:
            self.add_error("promotes_from", "This environment belongs to another service. Choose one of the same.")
        if self.driver_kind not in DRIVERS:
            return values
        judged = DRIVERS[self.driver_kind].form(self.data, prefix=PREFIX)
        if judged.is_valid():
            self.instance.driver, self.instance.settings = self.driver_kind, judged.cleaned_data
        for name, sentences in judged.errors.items():
            field = f"{PREFIX}-{name}" if name in judged.fields else None
            said = [str(sentence) for sentence in self.errors.get(field or "__all__", [])]
            for sentence in sentences:
                if sentence not in said:
                    self.add_error(field, sentence)
        return values


def driver_fields(kind: str) -> dict[str, forms.Field]:
    """The driver's own fields, in its order, under the names that the edit form has; none for an unknown driver."""
    found = DRIVERS[kind].form().fields if kind in DRIVERS else {}
    return {f"{PREFIX}-{name}": field for name, field in found.items()}


def profile_form(kind: str) -> type[ProfileFields]:
    """The form of a profile with this driver."""
    fields = {name: deepcopy(field) for name, field in driver_fields(kind).items()}
    for name, field in fields.items():
        field.label = field.label or name.partition("-")[2].replace("_", " ").capitalize()
    return type(f"{kind.title()}ProfileForm", (ProfileFields,), {**fields, "driver_kind": kind})
