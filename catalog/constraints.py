"""Database constraints that several models of the catalog share."""

from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.lookups import Exact


def not_empty(model: str, field: str) -> models.CheckConstraint:
    """The rule that a text is there, also for code that skips the form."""
    return models.CheckConstraint(
        condition=~Q(**{field: ""}),
        name=f"{model}_{field}_not_empty",
        violation_error_message=f"The {field.replace('_', ' ')} must not be empty.",
    )


def is_list(field: str) -> models.CheckConstraint:
    """The rule that an argument vector is a list with at least one argument."""
    kind = Func(F(field), function="jsonb_typeof", output_field=models.TextField())
    return models.CheckConstraint(
        condition=Exact(kind, Value("array")) & ~Q(**{field: []}),
        name=f"servicecontrol_{field}_is_list",
        violation_error_message=f"Write the {field} command as a program and its arguments.",
    )
