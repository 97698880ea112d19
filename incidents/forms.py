"""Forms of incidents: the declaration, and what the confirm pages ask."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django import forms
from django.conf import settings
from django.db.models import QuerySet

from catalog.models import Component, Environment, Service, Severity
from contacts.actions import escalation as escalations
from contacts.models import Contact, Escalation, Rule, Step
from core.forms import DateTimeLocalInput
from core.templatetags.portal import human_duration
from incidents.actions.writing import quoted
from incidents.models import Incident, IncidentRole, Stage, TimelineEntry

NO_SERVICE = "none"
MB = 1_000_000
# What people write themselves; the rest is written by what they do.
NOTE_KINDS = [
    TimelineEntry.Kind.NOTE,
    TimelineEntry.Kind.DECISION,
    TimelineEntry.Kind.ROOT_CAUSE,
    TimelineEntry.Kind.FIX,
]


def place_choices(severities: list[Severity], services: list[Service]) -> list[Any]:
    """Service and severity as one question: a group for each service, its severities in it, the worst first."""
    of_service = {
        key: list(rows)
        for key, rows in groupby(sorted(severities, key=lambda s: (s.service_id, s.rank)), lambda s: s.service_id)
    }
    groups: list[Any] = [("", "Choose …")]
    for service in services:
        grades = [(f"severity-{s.pk}", f"{service}: {s.code} {s.name}") for s in of_service.get(service.pk, [])]
        groups.append((str(service), [*grades, (f"service-{service.pk}", f"{service}: severity not decided yet")]))
    return [*groups, ("Anything else", [(NO_SERVICE, "No service in particular")])]


class DeclareForm(forms.Form):
    """Two questions; what is folded away can be said later as well."""

    title = forms.CharField(
        label="What is wrong?",
        max_length=200,
        widget=forms.TextInput(
            attrs={"autofocus": True, "autocomplete": "off", "placeholder": "Orders cannot be saved"}
        ),
    )
    place = forms.ChoiceField(label="Service and severity")
    situation = forms.CharField(
        required=False,
        max_length=80,
        widget=forms.TextInput(attrs={"list": "situations", "autocomplete": "off"}),
        help_text="One of those in the escalation matrix, such as: data at risk.",
    )
    environment = forms.ModelChoiceField(Environment.objects.none(), required=False, empty_label="Not said")
    components = forms.ModelMultipleChoiceField(
        Component.objects.none(), required=False, help_text="Affected parts. Hold Ctrl to choose several."
    )
    description = forms.CharField(required=False, max_length=10_000, widget=forms.Textarea(attrs={"rows": 3}))
    started_at = forms.DateTimeField(
        label="Began",
        required=False,
        help_text="When it began, as far as known. Empty: now.",
        widget=DateTimeLocalInput,
    )
    confidential = forms.BooleanField(
        required=False, help_text="Only people named in it and administrators see it; messages give nothing away."
    )
    solo = forms.BooleanField(
        label="Solo mode",
        required=False,
        help_text="You work alone: you command, and may restore and roll back. It is looked at afterwards.",
    )

    FOLDED = ("situation", "environment", "components", "description", "started_at", "confidential", "solo")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.services = list(Service.objects.order_by("name"))
        self.severities = list(Severity.objects.select_related("service").order_by("service__name", "rank"))
        self.fields["place"].choices = place_choices(self.severities, self.services)  # type: ignore[attr-defined]
        self.fields["environment"].queryset = Environment.objects.named()  # type: ignore[attr-defined]
        self.fields["components"].queryset = Component.objects.named()  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """Adds `service` and `severity` as the chosen place says."""
        cleaned = super().clean() or self.cleaned_data
        kind, _, number = cleaned.get("place", "").partition("-")
        severity = next((s for s in self.severities if kind == "severity" and str(s.pk) == number), None)
        chosen = severity.service_id if severity else int(number) if kind == "service" else None
        cleaned["severity"] = severity
        cleaned["service"] = next((s for s in self.services if s.pk == chosen), None)
        environment, service = cleaned.get("environment"), cleaned["service"]
        if environment and service and environment.service_id != service.pk:
            self.add_error("environment", f"This environment belongs to another service than {service}.")
        return cleaned

    @property
    def folded(self) -> list[forms.BoundField]:
        return [self[name] for name in self.FOLDED]

    @property
    def is_unfolded(self) -> bool:
        """Something was typed there, or is wrong there."""
        return any(field.errors or (self.is_bound and field.value()) for field in self.folded)


def known_situations() -> QuerySet[Rule, str]:
    """The situations that any matrix tells apart, for suggestions."""
    rules = Rule.objects.exclude(situation="").order_by("situation")
    return rules.values_list("situation", flat=True).distinct()[:60]


class ResolveForm(forms.Form):
    text = forms.CharField(
        label="What solved it",
        required=False,
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Stands on the timeline and in the review.",
    )
    at = forms.DateTimeField(label="Solved at", required=False, help_text="Empty: now.", widget=DateTimeLocalInput)


class WhyForm(forms.Form):
    """Asks why. It stands on the timeline."""

    reason = forms.CharField(
        max_length=500, widget=forms.Textarea(attrs={"rows": 2}), help_text="Stands on the timeline."
    )


def severities_for(incident: Incident) -> list[Severity]:
    """Those of its service, the worst first; of every service while it has none."""
    grades = Severity.objects.named().order_by("service__name", "rank")
    return list(grades.filter(service=incident.service_id) if incident.service_id else grades)


class SeverityForm(WhyForm):
    severity = forms.ChoiceField(widget=forms.RadioSelect)
    field_order = ("severity", "reason")

    def __init__(self, *args: Any, incident: Incident, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = severities_for(incident)
        others = Severity.objects.named().exclude(pk__in=[s.pk for s in own]).order_by("service__name", "rank")
        self.severities = [*own, *others]
        field: Any = self.fields["severity"]
        field.choices = [
            (str(s.pk), str(s) if s.service_id == incident.service_id else f"{s.service}: {s}") for s in self.severities
        ]
        field.help_text = (
            "One of another service corrects the service too: environment and components of the wrong one go."
            if own
            else "The service has no severities yet. An administrator adds them."
        )
        self.initial["severity"] = str(incident.severity_id or "")

    def clean_severity(self) -> Severity:
        return next(s for s in self.severities if str(s.pk) == self.cleaned_data["severity"])


class SituationForm(forms.Form):
    situation = forms.CharField(
        required=False,
        max_length=80,
        widget=forms.TextInput(attrs={"list": "situations", "autocomplete": "off"}),
        help_text="One of those in the escalation matrix. Empty: none in particular.",
    )

    def __init__(self, *args: Any, incident: Incident, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["situation"] = incident.situation


class StageForm(forms.Form):
    stage = forms.ChoiceField()

    def __init__(self, *args: Any, incident: Incident, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        now = incident.stage
        self.stages = list(Stage.objects.filter(workflow=now.workflow_id).exclude(pk=now.pk) if now else ())
        field: Any = self.fields["stage"]
        field.choices = [(str(stage.pk), f"{stage.name} ({stage.get_core_state_display()})") for stage in self.stages]
        following = next((stage for stage in self.stages if now and stage.order > now.order), None)
        self.initial["stage"] = str(following.pk) if following else ""

    def clean_stage(self) -> Stage:
        return next(stage for stage in self.stages if str(stage.pk) == self.cleaned_data["stage"])


class AssignForm(forms.Form):
    role = forms.ChoiceField(choices=IncidentRole.choices)
    primary = forms.ModelChoiceField(Contact.objects.none(), required=False, empty_label="Nobody")
    backup = forms.ModelChoiceField(Contact.objects.none(), required=False, empty_label="Nobody")

    def __init__(self, *args: Any, incident: Incident, role: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("primary", "backup"):
            self.fields[name].queryset = Contact.objects.active()  # type: ignore[attr-defined]
        held = {each.role: each for each in incident.assignments.all()}
        role = role if role in IncidentRole.values else IncidentRole.COMMANDER.value
        self.initial["role"] = role
        if role in held:
            self.initial.update(primary=held[role].primary_id, backup=held[role].backup_id)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("backup") and cleaned.get("backup") == cleaned.get("primary"):
            self.add_error("backup", "The backup is another person than the primary.")
        return cleaned


class EscalateForm(forms.Form):
    """Which level is told now: those that were not told yet."""

    level = forms.ChoiceField(label="Who is told now")

    def __init__(self, *args: Any, escalation: Escalation | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["level"]
        left = escalations.levels_left(escalation) if escalation is not None else []
        field.choices = [(str(position), _level_words(position, step)) for position, step in left]
        if not left:
            field.help_text = "Every level was told already. Give it to somebody by name instead."

    def clean_level(self) -> int:
        return int(self.cleaned_data["level"])


def _level_words(position: int, step: Step) -> str:
    when = "by hand only" if step.after is None else f"planned after {human_duration(step.after)}"
    targets = ", ".join(str(target) for target in step.targets.all()) or "nobody"
    return f"Level {position + 1} ({when}): {targets}"


class ReassignForm(forms.Form):
    contact = forms.ModelChoiceField(Contact.objects.none(), label="Give it to", empty_label="Choose …")
    reason = forms.CharField(required=False, max_length=500, widget=forms.Textarea(attrs={"rows": 2}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["contact"].queryset = Contact.objects.active()  # type: ignore[attr-defined]


class OtherIncidentForm(forms.Form):
    """Another incident, by its number."""

    other = forms.CharField(
        label="Number of the other incident",
        max_length=120,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "INC-2026-01-31-001"}),
    )

    def __init__(self, *args: Any, visible: QuerySet[Incident], incident: Incident, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.visible, self.incident = visible, incident

    def clean_other(self) -> Incident:
        number = self.cleaned_data["other"].strip()
        found = self.visible.filter(number__iexact=number).first()
        if found is None:
            raise forms.ValidationError(f"There is no incident {number}. Copy its number from the list.")
        if found.pk == self.incident.pk:
            raise forms.ValidationError("This is the incident itself. Name another one.")
        return found


class MergeForm(OtherIncidentForm, WhyForm):
    field_order = ("other", "reason")


class ParentForm(OtherIncidentForm):
    """Empty takes the parent away."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["other"].required = False
        self.fields["other"].help_text = "Empty: it belongs to no other incident."
        parent = self.incident.parent
        self.initial["other"] = parent.number if parent else ""

    def clean_other(self) -> Incident | None:  # type: ignore[override]  # none is an answer here
        return super().clean_other() if self.cleaned_data["other"].strip() else None


class FactsForm(forms.ModelForm):
    """What is known about an incident. Each change is noted on the timeline.

    Several people write at once, so only what somebody has changed is saved (`cleaned_data` has nothing else). What was
    shown travels in hidden fields: when somebody else has changed the same field since, the form says so and keeps what
    was typed. Confirmed once more, it replaces what the other wrote.
    """

    impacts = forms.MultipleChoiceField(label="Impact", required=False, widget=forms.CheckboxSelectMultiple)
    field_order = ("title", "impacts", "impact_words", "users_affected", "workaround", "eta", "description")

    class Meta:
        model = Incident
        fields = (
            "title",
            "description",
            "service",
            "environment",
            "components",
            "started_at",
            "impact_words",
            "users_affected",
            "data_loss",
            "cost",
            "workaround",
            "eta",
            "root_cause",
            "resolution",
        )
        widgets = {
            "started_at": DateTimeLocalInput(attrs={"step": "1"}),
            **{
                name: forms.Textarea(attrs={"rows": 3})
                for name in ("description", "impact_words", "workaround", "root_cause", "resolution")
            },
        }
        field_classes = {"started_at": forms.DateTimeField}
        labels = {"impact_words": "Impact in words"}

    def __init__(self, *args: Any, offered: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ours = self.instance.impacts
        impacts: Any = self.fields["impacts"]
        impacts.choices = [(word, word) for word in dict.fromkeys([*offered, *ours])]
        self.initial["impacts"] = ours
        environments, components = Environment.objects.named(), Component.objects.named()
        if self.instance.service_id:
            environments = environments.filter(service=self.instance.service_id)
            components = components.filter(environment__service=self.instance.service_id)
        self.fields["environment"].queryset = environments  # type: ignore[attr-defined]
        self.fields["components"].queryset = components  # type: ignore[attr-defined]

        for field in self.fields.values():
            field.show_hidden_initial = True
        if self.is_bound:
            self._complete_shown()

    def _complete_shown(self) -> None:
        """A choice of several that was empty sends no hidden value; a program sends none at all, and is taken to know
        what is there now."""
        sent: Any = self.data  # a QueryDict, as it is bound
        data = sent.copy()
        from_page = any(name.startswith("initial-") for name in data)
        for bound in self:
            if bound.html_initial_name not in data:
                several = isinstance(bound.field.hidden_widget(), forms.MultipleHiddenInput)
                data.setlist(bound.html_initial_name, [] if from_page and several else self._as_hidden(bound))
        self.data = data

    def _as_hidden(self, bound: forms.BoundField) -> list[str]:
        """What is there now, as a hidden field sends it."""
        now = bound.field.prepare_value(bound.initial)
        return [str(each) for each in now] if isinstance(now, list | tuple) else ["" if now is None else str(now)]

    def clean(self) -> dict[str, Any]:
        """Only what was changed."""
        cleaned = super().clean() or self.cleaned_data
        changed = [name for name in cleaned if self._differs(self[name], self._shown(self[name]), self[name].data)]
        for name in changed:
            self._refuse_if_overtaken(self[name])
        return {name: cleaned[name] for name in changed if name in cleaned}

    def _shown(self, bound: forms.BoundField) -> Any:
        """What the page showed."""
        sent = bound.field.hidden_widget().value_from_datadict(self.data, self.files, bound.html_initial_name)
        if isinstance(bound.field, forms.ModelChoiceField | forms.MultipleChoiceField):
            return sent
        try:
            return bound.field.to_python(sent)
        except forms.ValidationError:
            return bound.initial

    def _differs(self, bound: forms.BoundField, one: Any, other: Any) -> bool:
        """Line ends do not count: a browser sends its own."""
        one, other = (each.replace("\r\n", "\n") if isinstance(each, str) else each for each in (one, other))
        return bound.field.has_changed(one, other)

    def _refuse_if_overtaken(self, bound: forms.BoundField) -> None:
        """Somebody else has changed the field since: say so, and take what is there now as shown."""
        now = bound.field.prepare_value(bound.initial)
        if not self._differs(bound, self._shown(bound), now) or not self._differs(bound, bound.initial, bound.data):
            return
        data: Any = self.data
        data.setlist(bound.html_initial_name, self._as_hidden(bound))
        value = getattr(self.instance, bound.name)
        words = quoted(list(value.all()) if bound.name == "components" else value)
        self.add_error(bound.name, f"Somebody else has changed this meanwhile: {words}. Confirm again to replace it.")

    def _post_clean(self) -> None:
        """The form only reads: the action writes. So the row at hand stays as it is."""


class NoteForm(forms.Form):
    text = forms.CharField(
        label="Add to the timeline",
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "What you see, did or decided"}),
    )
    kind = forms.ChoiceField(choices=[(kind.value, kind.label) for kind in NOTE_KINDS], initial="note", required=False)
    at = forms.DateTimeField(label="Happened at", required=False, help_text="Empty: now.", widget=DateTimeLocalInput)


class CorrectForm(forms.Form):
    text = forms.CharField(
        label="What is right",
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="The entry stays as it was written; the correction is shown with it.",
    )


def evidence_limit_mb() -> int:
    return int(getattr(settings, "EVIDENCE_MAX_MB", 10))


class EvidenceForm(forms.Form):
    file = forms.FileField(label="File", max_length=200)
    text = forms.CharField(label="What it shows", required=False, max_length=2000)

    def clean_file(self) -> Any:
        file, limit = self.cleaned_data["file"], evidence_limit_mb()
        if file.size > limit * MB:
            raise forms.ValidationError(f"The file is larger than {limit} MB. Shorten it, or link to it in a note.")
        return file
