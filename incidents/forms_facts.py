"""The form of what is known about an incident, which several people fill in at once."""

from __future__ import annotations

from typing import Any

from django import forms

from catalog.models import Component, Environment
from core.forms import DateTimeLocalInput
from incidents.actions.writing import quoted
from incidents.models import Incident


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
