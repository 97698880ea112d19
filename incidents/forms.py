"""Forms of incidents: the declaration, and what the confirm pages ask."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django import forms
from django.db.models import QuerySet

from catalog.models import Component, Environment, Service, Severity
from contacts.actions import escalation as escalations
from contacts.models import Contact, Escalation, Step
from core.forms import DateTimeLocalInput
from core.templatetags.portal import human_duration
from incidents import access
from incidents.actions import evidence, work
from incidents.exceptions import IncidentError
from incidents.models import Incident, IncidentRole, Stage

NO_SERVICE = "none"
MB = 1_000_000


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


def components_by_service(parts: list[Component]) -> list[Any]:
    """A group for each service. A service without components has none, and nothing is asked of it."""
    groups = groupby(parts, lambda part: part.environment.service)
    return [(str(service), [(part.pk, str(part)) for part in rows]) for service, rows in groups]


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
        Component.objects.none(),
        required=False,
        help_text="Affected parts, if known. Hold Ctrl to choose several.",
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
        parts = list(Component.objects.named().order_by("environment__service__name", "name"))
        if parts:
            field: Any = self.fields["components"]
            field.queryset = Component.objects.named()
            field.choices = components_by_service(parts)
        else:
            del self.fields["components"]

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
        return [self[name] for name in self.FOLDED if name in self.fields]

    @property
    def is_unfolded(self) -> bool:
        """Something was typed there, or is wrong there."""
        return any(field.errors or (self.is_bound and field.value()) for field in self.folded)


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
    """It carries the stage and the state it was made in: what has moved meanwhile is looked at again first."""

    stage = forms.ChoiceField()
    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, incident: Incident, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        now = incident.stage
        self.stages = list(Stage.objects.filter(workflow=now.workflow_id).exclude(pk=now.pk) if now else ())
        field: Any = self.fields["stage"]
        field.choices = [(str(stage.pk), f"{stage.name} ({stage.get_core_state_display()})") for stage in self.stages]
        following = next((stage for stage in self.stages if now and stage.order > now.order), None)
        self.initial["stage"] = str(following.pk) if following else ""
        self.incident, self.initial["seen"] = incident, work.place_of(incident)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        now = work.place_of(self.incident)
        if cleaned.get("seen") != now:
            self.data: Any = {**dict(self.data.items()), self.add_prefix("seen"): now}
            raise forms.ValidationError(work.moved_meanwhile(self.incident))
        return cleaned

    def clean_stage(self) -> Stage:
        return next(stage for stage in self.stages if str(stage.pk) == self.cleaned_data["stage"])


class AssignForm(forms.Form):
    role = forms.ChoiceField(choices=IncidentRole.choices)
    primary = forms.ModelChoiceField(Contact.objects.none(), required=False, empty_label="Nobody")
    backup = forms.ModelChoiceField(Contact.objects.none(), required=False, empty_label="Nobody")

    def __init__(self, *args: Any, incident: Incident, role: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("primary", "backup"):
            self.fields[name].queryset = access.who_may_have_roles()  # type: ignore[attr-defined]
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


class UnrelateForm(forms.Form):
    other = forms.ModelChoiceField(Incident.objects.none(), label="Which one", empty_label="Choose …")

    def __init__(self, *args: Any, visible: QuerySet[Incident], incident: Incident, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["other"].queryset = visible.filter(related=incident)  # type: ignore[attr-defined]


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


class NoteForm(forms.Form):
    text = forms.CharField(
        label="Add to the timeline",
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "What you see, did or decided"}),
    )
    kind = forms.ChoiceField(
        choices=[(kind.value, kind.label) for kind in work.NOTE_KINDS], initial="note", required=False
    )
    at = forms.DateTimeField(label="Happened at", required=False, help_text="Empty: now.", widget=DateTimeLocalInput)


class CorrectForm(forms.Form):
    text = forms.CharField(
        label="What is right",
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="The entry stays as it was written; the correction is shown with it.",
    )


class EvidenceForm(forms.Form):
    file = forms.FileField(label="File", max_length=200)
    text = forms.CharField(label="What it shows", required=False, max_length=2000)

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        try:
            evidence.check_size(file.name, file.size)
        except IncidentError as error:
            raise forms.ValidationError(error.message) from None
        return file
