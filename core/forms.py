"""Forms that many confirm pages share, and the widgets of the admin."""

from typing import Any, cast

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.db import models

from core.models import time_zone_names


class ReasonForm(forms.Form):
    """Asks why. The reason stays with the operation."""

    reason = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Kept with the operation and shown to everybody who reads it.",
    )


class OptionalReasonForm(ReasonForm):
    """Asks why, and takes no for an answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = False


class TypedNameForm(ReasonForm):
    """Asks for the target's name, typed by hand, before something is replaced or destroyed.

    Give `expected` (the name) through the button's `form_kwargs`.
    """

    typed_name = forms.CharField(
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected
        self.fields["typed_name"].label = f"Type “{expected}” to confirm"

    def clean_typed_name(self) -> str:
        typed: str = self.cleaned_data["typed_name"]
        if typed != self.expected:
            raise forms.ValidationError(f"This is not “{self.expected}”. Type the name exactly as it is shown.")
        return typed


class SignInForm(AuthenticationForm):
    """Sign-in for every active account; no staff flag."""

    error_messages = {
        "invalid_login": "User name and password do not match. Check both; after five failures the account is locked "
        "for a while.",
        "inactive": "This account is switched off. Ask an administrator.",
    }


class TimeZoneForm(forms.Form):
    """A person's own zone. A list with suggestions; the name is checked by the action."""

    time_zone = forms.ChoiceField(help_text="Times are shown in this zone. Schedules keep the zone of their service.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = cast(forms.ChoiceField, self.fields["time_zone"])
        field.choices = [(name, name.replace("_", " ")) for name in sorted(time_zone_names())]


class DateTimeLocalInput(forms.DateTimeInput):
    """One native field for date and time, in the zone of the person."""

    input_type = "datetime-local"

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs={"step": "1", **(attrs or {})}, format="%Y-%m-%dT%H:%M:%S")


class DateInput(forms.DateInput):
    input_type = "date"

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs=attrs, format="%Y-%m-%d")


class TimeInput(forms.TimeInput):
    input_type = "time"

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs={"step": "1", **(attrs or {})}, format="%H:%M:%S")


# Native widgets instead of the stock ones, which bring jQuery, two inputs for one moment and labels nobody can read.
FIELD_OVERRIDES: dict[Any, dict[str, Any]] = {
    models.DateTimeField: {"form_class": forms.DateTimeField, "widget": DateTimeLocalInput},
    models.DateField: {"widget": DateInput},
    models.TimeField: {"widget": TimeInput},
    models.TextField: {"widget": forms.Textarea(attrs={"rows": 4})},
}
