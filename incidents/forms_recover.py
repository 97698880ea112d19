"""What is asked before something is started from an incident."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet

from backups.models import Plan
from core.forms import OptionalReasonForm


class BackupForm(OptionalReasonForm):
    """Which plan says how. A plan that is the only one is chosen already."""

    plan = forms.ModelChoiceField(Plan.objects.none(), help_text="What is backed up, and where the archive is kept.")
    field_order = ("plan", "reason")

    def __init__(self, *args: Any, plans: QuerySet[Plan], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["plan"]
        field.queryset = plans
        found = list(plans[:2])
        if not found:
            field.help_text = "There is no backup plan for this service yet. An administrator adds one."
        elif len(found) == 1:
            field.initial = found[0]
