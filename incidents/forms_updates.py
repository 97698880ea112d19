"""Forms of updates, reviews, action items and templates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.utils.html import format_html, format_html_join
from django.utils.timezone import localtime

from contacts.models import Channel, Contact
from core.forms import DateInput, DateTimeLocalInput
from incidents import updates
from incidents.actions import review as reviews
from incidents.actions.updates import LONGEST
from incidents.models import ActionItem, Audience, Incident, MessageTemplate, PublicStatus, Review

Purpose = Channel.Purpose
# Where an update for this audience goes unless somebody says otherwise.
USUAL = {Audience.INTERNAL: {Purpose.INCIDENT, Purpose.STAKEHOLDERS}, Audience.PUBLIC: {Purpose.PUBLIC}}


class ChannelsField(forms.ModelMultipleChoiceField):
    """Each with its kind, and whether its address is missing."""

    widget = forms.CheckboxSelectMultiple

    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.name} ({obj.get_kind_display()}{', address missing' if obj.is_missing else ''})"


class UpdateForm(forms.Form):
    """What is said, to whom, where."""

    audience = forms.ChoiceField(choices=Audience.choices, widget=forms.RadioSelect)
    text = forms.CharField(max_length=LONGEST, widget=forms.Textarea(attrs={"rows": 9}))
    channels = ChannelsField(Channel.objects.none(), required=False)
    public_status = forms.ChoiceField(
        choices=[("", "Not for the public"), *PublicStatus.choices],
        required=False,
        help_text="What the status page says. It may differ from the state inside.",
    )
    public_title = forms.CharField(
        max_length=200,
        required=False,
        help_text="For the public: the title on the status page. The incident's own one stays inside.",
    )
    template = forms.ModelChoiceField(MessageTemplate.objects.none(), required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, incident: Incident, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order_fields(["audience", "public_status", "public_title", "text", "channels"])
        self.incident = incident
        fields: dict[str, Any] = self.fields
        fields["channels"].queryset = channels_for(incident)
        fields["template"].queryset = updates.templates_for(incident)
        if not fields["channels"].queryset:
            fields["channels"].help_text = "There are no channels yet. An administrator adds them."
        if incident.confidential:
            fields["audience"].choices = [(Audience.INTERNAL.value, Audience.INTERNAL.label)]
            del fields["public_status"], fields["public_title"]
            fields["channels"].help_text = "Messages say that there is an update and not what it says."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("audience") == Audience.PUBLIC:
            if not cleaned.get("public_status"):
                self.add_error("public_status", "Choose what the status page says.")
            if not cleaned.get("public_title") and "public_title" not in self.errors:
                self.add_error("public_title", "Give a title that the public may read.")
        return cleaned


def channels_for(incident: Incident) -> QuerySet[Channel]:
    """The channels of its service and those for every service."""
    rows = Channel.objects.filter(enabled=True).filter(Q(service=incident.service_id) | Q(service=None))
    return rows.order_by("name")


def initial_for(incident: Incident, template: MessageTemplate | None) -> dict[str, Any]:
    """What the form begins with."""
    audience = Audience(template.audience) if template else Audience.INTERNAL
    usual = USUAL[audience]
    status = (template and template.public_status) or incident.public_status or PublicStatus.INVESTIGATING
    if incident.is_ended:
        status = PublicStatus.RESOLVED
    return {
        "template": template,
        "audience": audience.value,
        "text": updates.preview(template, incident) if template else "",
        "channels": [row.pk for row in channels_for(incident) if usual & set(row.purposes)],
        "public_status": status if audience == Audience.PUBLIC else "",
        "public_title": incident.public_title or updates.suggested_public_title(incident),
    }


class TemplateForm(forms.ModelForm):
    """A text with placeholders, tried when it is saved."""

    class Meta:
        model = MessageTemplate
        fields = ("name", "service", "audience", "public_status", "body")
        widgets = {"body": forms.Textarea(attrs={"rows": 10})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "body" in self.fields:
            self.fields["body"].help_text = placeholder_help()
            self.fields["public_status"].help_text = "What the status page says with this text."
            self.fields["service"].help_text = "Empty: for every service."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        public = cleaned.get("audience") == Audience.PUBLIC
        if cleaned.get("body") and (trouble := updates.trouble_with(cleaned["body"], public=public)):
            self.add_error("body", trouble)
        if public and not cleaned.get("public_status"):
            self.add_error("public_status", "A public text says a public status. Choose one.")
        if not public:
            cleaned["public_status"] = ""
        return cleaned


def placeholder_help() -> str:
    """The documented table, in short."""
    rows = [(name, words, "" if may else " (internal only)") for name, (words, may) in updates.PLACEHOLDERS.items()]
    listed = format_html_join("", "<li><code>{{{}}}</code> {}{}</li>", rows)
    return format_html(
        "<details><summary>Placeholders that are filled from the incident</summary><ul>{}</ul></details>", listed
    )


class ReviewForm(forms.ModelForm):
    """The prose and the follow-up of a review; figures and times come from the incident.

    It carries the version it was made from and what stood in it then, so that two who write at once lose nothing:
    whoever saves second is refused and shown both texts.
    """

    made_from = forms.IntegerField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = Review
        fields = (
            "title",
            "summary",
            "impact",
            "root_cause",
            "resolution",
            "lessons",
            "meeting_at",
            "attendees",
            "owner",
            "review_on",
        )
        widgets = {
            **{name: forms.Textarea(attrs={"rows": 5}) for name in ("summary", "impact", "root_cause", "resolution")},
            "lessons": forms.Textarea(attrs={"rows": 12}),
            "meeting_at": DateTimeLocalInput(),
            "review_on": DateInput(),
        }
        field_classes = {"meeting_at": forms.DateTimeField}
        help_texts = {
            "attendees": "Hold Ctrl to choose several.",
            "meeting_at": "When you come together.",
            "review_on": "When you look whether it has helped.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fields: dict[str, Any] = self.fields
        for name in ("attendees", "owner"):
            if name in fields:
                fields[name].queryset = Contact.objects.active()
        for field in fields.values():
            field.show_hidden_initial = True
        if "made_from" in fields:
            fields["made_from"].show_hidden_initial = False
            self.initial["made_from"] = self.instance.version

    def clean(self) -> dict[str, Any]:
        """Refuses what was made from an older version. Called in the transaction that saves: the row stays locked."""
        cleaned = super().clean() or self.cleaned_data
        now = reviews.locked(self.instance)
        if now.state == Review.State.PUBLISHED:
            raise forms.ValidationError(
                "This review was published since you opened it. What you wrote stands below and is not saved. Take it "
                "back to a draft in another window, then save again."
            )
        if cleaned.get("made_from") == now.version:
            return cleaned
        mine = set(self.changed_data)
        self.data: Any = self.data.copy()
        clashes = [name for name in self.fields if name != "made_from" and self._meets(name, now, mine=name in mine)]
        self.data[self.add_prefix("made_from")] = now.version
        advice = (
            "Where both of you wrote, both texts are shown: put them together, then save again."
            if clashes
            else "They wrote elsewhere than you did, and it is taken over. Look at it, then save again."
        )
        self.add_error(
            None,
            "Somebody else has changed this review since you opened it. What you wrote stands below and is not saved "
            f"yet. {advice}",
        )
        return self.cleaned_data

    def _meets(self, name: str, now: Review, *, mine: bool) -> bool:
        """Brings what the others wrote into the form. Returns whether both have written, and not the same."""
        field: Any = self.fields[name]
        stands = forms.model_to_dict(now, [name])[name]
        initial = self.add_initial_prefix(name)
        if not _differs(field, stands, field.hidden_widget().value_from_datadict(self.data, {}, initial)):
            return False
        self._show(initial, field.prepare_value(stands))
        if not mine:
            self._show(self.add_prefix(name), field.prepare_value(stands))
            return False
        if not _differs(field, stands, self[name].data):
            return False
        self.add_error(name, format_html('Now it says: <div class="message-text">{}</div>', _in_words(now, name)))
        return True

    def _show(self, key: str, value: Any) -> None:
        self.data.setlist(key, value if isinstance(value, list) else ["" if value is None else value])


def _differs(field: Any, stands: Any, given: Any) -> bool:
    if isinstance(stands, str):
        return not reviews.same(stands, given or "")
    return bool(field.has_changed(stands, given))


def _in_words(review: Review, name: str) -> str:
    if name == "attendees":
        return ", ".join(contact.name for contact in review.attendees.all()) or "nobody"
    value = getattr(review, name)
    if isinstance(value, datetime):
        return f"{localtime(value):%Y-%m-%d %H:%M %Z}"
    return str(value or "nothing")


class ActionItemForm(forms.ModelForm):
    """An item of an incident, which is named by its number."""

    number = forms.CharField(
        label="Incident",
        max_length=120,
        help_text="Its number, such as INC-2026-01-31-001.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    class Meta:
        model = ActionItem
        fields = ("text", "owner", "due_on")
        labels = {"text": "What is to be done"}
        widgets = {"due_on": DateInput()}

    field_order = ("number", "text", "owner", "due_on")
    visible: QuerySet[Incident]  # set by the admin for the person who asks
    preset = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fields: dict[str, Any] = self.fields
        if "owner" in fields:
            fields["owner"].queryset = Contact.objects.active()
        if self.instance.pk:
            fields.pop("number", None)
        else:
            self.initial.setdefault("number", self.preset)

    def clean_number(self) -> Incident:
        number = self.cleaned_data["number"].strip()
        found = self.visible.filter(number__iexact=number).first()
        if found is None:
            raise forms.ValidationError(f"There is no incident {number}. Copy its number from the list.")
        return found
