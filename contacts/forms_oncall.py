"""Forms of on-call: layers with their members in order and their windows as text, standing in, calendar links."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import time
from typing import Any, cast

from django import forms
from django.forms.models import BaseInlineFormSet
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from contacts import oncall, windows
from contacts.actions.oncall import LayerValues
from contacts.models import Contact, Layer, Level, OnCallSchedule
from core.forms import DateInput, DateTimeLocalInput, TimeInput

MORE_TURNS = 3


class TurnsWidget(forms.Widget):
    """A select for each turn, in order, and some empty ones; those left empty do not count."""

    choices: Sequence[tuple[Any, str]] = ()
    use_fieldset = True

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        chosen = [*(value or []), *[""] * MORE_TURNS]
        identity = (attrs or {}).get("id", f"id_{name}")
        selects = [
            (
                forms.Select(choices=[("", "–"), *self.choices]).render(
                    name, turn, {"id": f"{identity}_{number}", "aria-label": f"Turn {number}"}
                ),
            )
            for number, turn in enumerate(chosen, start=1)
        ]
        return format_html('<ol class="turns">{}</ol>', format_html_join("", "<li>{}</li>", selects))

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        found = data.getlist(name) if hasattr(data, "getlist") else data.get(name) or []
        return [turn for turn in found if turn]

    def id_for_label(self, id_: str) -> str:
        return ""


class TurnsField(forms.Field):
    """People in the order of their turns; somebody may have several."""

    widget = TurnsWidget
    default_error_messages = {"required": "Choose who takes turns, at least one person."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.people: dict[str, Contact] = {}

    def offer(self, people: Sequence[Contact]) -> None:
        self.people = {str(person.pk): person for person in people}
        cast(TurnsWidget, self.widget).choices = [
            (person.pk, str(person) if person.active else f"{person} (switched off)") for person in people
        ]

    def to_python(self, value: Any) -> list[Contact]:
        try:
            return [self.people[str(turn)] for turn in value or []]
        except KeyError as error:
            raise forms.ValidationError("Choose people of the list.") from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        return [str(turn) for turn in initial or []] != [str(turn) for turn in data or []]


class LayerForm(forms.ModelForm):
    """A rotation, with its members and windows in it."""

    rank = forms.IntegerField(
        min_value=1, max_value=32000, initial=1, help_text="Where several layers apply, the highest counts."
    )
    shift_length = forms.IntegerField(min_value=1, max_value=10000, initial=1, label="A shift lasts")
    members = TurnsField(label="Turns, in order", help_text="Save for more empty places. Left empty: not counted.")
    windows = forms.CharField(
        required=False,
        label="Only at these times",
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "autocapitalize": "none"}),
        help_text="Such as Mon-Fri 18:00-08:00, a line for each. Empty: always.",
    )

    class Meta:
        model = Layer
        fields = ("level", "rank", "name", "starts_on", "ends_on", "handoff", "shift_length", "shift_unit")
        widgets = {"starts_on": DateInput, "ends_on": DateInput, "handoff": TimeInput}
        labels = {"starts_on": "First handoff on", "ends_on": "Ends on", "handoff": "Handoff at"}

    def __init__(self, *args: Any, people: Sequence[Contact] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast(TurnsField, self.fields["members"]).offer(people)
        if self.instance.pk:
            self.initial["members"] = [turn.contact_id for turn in self.instance.members.all()]
            rows = self.instance.windows.all()
            self.initial["windows"] = windows.written(oncall.Window(w.weekday, w.begins, w.ends) for w in rows)
        else:
            self.initial["handoff"] = time(9)

    def _get_validation_exclusions(self) -> set[str]:
        """Ranks are compared by the formset: two layers may change places."""
        return {*super()._get_validation_exclusions(), "rank"}  # type: ignore[misc]  # the stubs leave it out

    def clean_windows(self) -> list[oncall.Window]:
        try:
            return windows.parse(self.cleaned_data["windows"])
        except windows.WindowsError as error:
            raise forms.ValidationError(str(error)) from error

    @property
    def values(self) -> LayerValues:
        """What was typed, for the action."""
        typed = {name: self.cleaned_data[name] for name in (*LayerForm.Meta.fields, "members", "windows")}
        return LayerValues(number=self.instance.pk, **typed)


class LayerFormSet(BaseInlineFormSet):
    """The layers of a schedule."""

    @property
    def wanted(self) -> list[LayerForm]:
        """Those that shall be there."""
        gone, forms = self.deleted_forms, cast(list[LayerForm], self.forms)
        return [form for form in forms if form not in gone and (form.instance.pk or form.has_changed())]

    def clean(self) -> None:
        super().clean()
        seen: set[tuple[int | None, int | None]] = set()
        for form in self.wanted:
            place = form.cleaned_data.get("level"), form.cleaned_data.get("rank")
            if None not in place and place in seen:
                form.add_error("rank", "Another layer of this level has this rank. Give each its own.")
            seen.add(place)


class StandInForm(forms.Form):
    """Who stands in, and when."""

    level = forms.TypedChoiceField(coerce=int, choices=Level.choices, label="In place of")
    contact = forms.ModelChoiceField(Contact.objects.active(), label="Who stands in")
    starts_at = forms.DateTimeField(label="From", widget=DateTimeLocalInput)
    ends_at = forms.DateTimeField(label="Until", widget=DateTimeLocalInput)
    reason = forms.CharField(max_length=200, required=False, help_text="Such as: holiday, ill, training.")

    def __init__(self, *args: Any, me: Contact | None, zone: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["contact"].initial = me
        self.fields["starts_at"].help_text = f"In your time zone, {zone}."

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        starts_at, ends_at = values.get("starts_at"), values.get("ends_at")
        if starts_at and ends_at and ends_at <= starts_at:
            self.add_error("ends_at", "Standing in ends after it begins. Correct one of the two times.")
        return values


class FeedForm(forms.Form):
    """What the calendar shows."""

    WHOLE, MINE = "schedule", "mine"
    shows = forms.ChoiceField(label="The calendar shows", widget=forms.RadioSelect)

    def __init__(self, *args: Any, schedule: OnCallSchedule, me: Contact | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(self.WHOLE, f"Everybody on call for {schedule}")]
        if me is not None:
            choices.append((self.MINE, f"Only the shifts of {me}, in all schedules"))
        field = cast(forms.ChoiceField, self.fields["shows"])
        field.choices, field.initial = choices, self.WHOLE
