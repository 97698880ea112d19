"""Forms on the confirm pages of operations."""

from __future__ import annotations

from typing import Any

from django import forms

from core.forms import OptionalReasonForm, TypedNameForm


class CancelForm(OptionalReasonForm):
    """Why it is cancelled, if you like to say."""


class TakeOverForm(forms.Form):
    """Before which step the operation stops."""

    step = forms.ChoiceField(required=False, label="Stop before")

    def __init__(self, *args: Any, steps: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["step"].choices = [("", "The next step, whichever it is"), *steps]  # type: ignore[attr-defined]


class RetryForm(OptionalReasonForm, TypedNameForm):
    """Why it is tried again, if you like to say; and the name of what would be replaced, if there is one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.expected:
            del self.fields["typed_name"]


class EvidenceForm(forms.Form):
    """What shows that a step was done by hand."""

    step = forms.CharField(widget=forms.HiddenInput)
    evidence = forms.CharField(
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="What you ran and what it answered. It stays with the step.",
    )

    def __init__(self, *args: Any, step: str, title: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["step"] = step
        self.fields["evidence"].label = f"What shows that “{title}” is done?"
