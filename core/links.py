"""Addresses of the pages that the portal gives every model."""

from django.contrib.admin.utils import quote
from django.db.models import Model
from django.urls import reverse


def page_url(obj: Model, page: str = "detail", *args: str) -> str:
    """Address of a page of `obj`: detail, change, delete, history, live, or do (with the button's name)."""
    meta = obj._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{page}", args=(quote(obj.pk), *args))


def detail_url(obj: Model) -> str:
    """Address of the detail page of `obj`; what a model's `get_absolute_url` returns."""
    return page_url(obj)


def list_url(model: type[Model] | Model, query: str = "") -> str:
    """Address of a model's list, with an optional query string such as `state=running`."""
    meta = model._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist") + (f"?{query}" if query else "")
