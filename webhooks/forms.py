"""The form of a webhook."""

from __future__ import annotations

from typing import Any

from django import forms

from operations.events import NAMES
from webhooks.models import Webhook
from webhooks.outbox import TEST


class WebhookForm(forms.ModelForm):
    events = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, help_text="Nothing chosen: it is told of everything."
    )

    class Meta:
        model = Webhook
        fields = ("name", "url", "secret_ref", "events", "allowed_networks", "enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["events"].choices = [  # type: ignore[attr-defined]  # a choice field
            (name, f"{name}: {when}") for name, when in sorted(NAMES.items()) if name != TEST
        ]
