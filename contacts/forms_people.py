"""Forms of the directory of contacts, of channels and of providers."""

from __future__ import annotations

from typing import Any

from django import forms

from contacts.models import Channel, Contact, Provider, Way
from contacts.ways import cleaned
from core.models import time_zone_names


class ContactForm(forms.ModelForm):
    """Zones are chosen and not typed."""

    time_zone = forms.ChoiceField(help_text="Hours in messages are told in this zone.")

    class Meta:
        model = Contact
        fields = (
            "name",
            "kind",
            "title",
            "organisation",
            "support_tier",
            "user",
            "time_zone",
            "business_hours",
            "notes",
            "active",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["time_zone"].choices = [  # type: ignore[attr-defined]  # a choice field
            (name, name.replace("_", " ")) for name in sorted(time_zone_names())
        ]


class WayForm(forms.ModelForm):
    """Placeholders become what they mean: an address that is missing."""

    class Meta:
        model = Way
        fields = ("rank", "kind", "address", "label")

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        try:
            values["address"] = cleaned(values.get("kind", ""), values.get("address", ""))
        except forms.ValidationError as error:
            self.add_error("address", error)
        return values


class ChannelForm(forms.ModelForm):
    """What a channel is for is ticked."""

    purposes = forms.MultipleChoiceField(
        choices=Channel.Purpose.choices, required=False, widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = Channel
        fields = ("name", "kind", "service", "purposes", "address", "url_ref", "allowed_networks", "enabled")

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("kind") == Channel.Kind.EMAIL:
            try:
                values["address"] = cleaned(Way.Kind.EMAIL, values.get("address", ""))
            except forms.ValidationError as error:
                self.add_error("address", error)
        return values


class ProviderTestForm(forms.Form):
    """Where the test of a provider goes to."""

    address = forms.CharField(max_length=254, help_text="Your own number or name there: the test goes to it at once.")

    def __init__(self, *args: Any, provider: Provider, address: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["address"].initial = address
        self.fields["address"].label = provider.get_kind_display()


class FileForm(forms.Form):
    """The list that is brought in."""

    file = forms.FileField(
        label="CSV file",
        help_text="UTF-8, with the names of the columns in its first line; only “name” must be there.",
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,text/csv"}),
    )
