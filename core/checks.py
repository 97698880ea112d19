"""Configuration errors that a start must not hide."""

from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register

from core.audit import is_tracked
from core.roles import PORTAL_APPS, unknown_codes


@register()
def check_role_table(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """core.E001: the role table grants something that no installed app declares."""
    return [
        Error(
            f"The role {role.value} is given “{code}”, which no installed app declares.",
            hint="Declare it in Meta.permissions of its model, correct the code in core/roles.py, or install the app.",
            id="core.E001",
        )
        for role, code in unknown_codes()
    ]


@register()
def check_editable_models_are_audited(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """core.W001: a model of the portal can be edited on a page, and nobody would know who did it."""
    from core.admin_site import site
    from core.model_admin import ReadOnlyAdmin

    return [
        Warning(
            f"{model._meta.label} can be edited but its changes leave no trail.",
            hint="Call core.audit.track(Model) in the app's admin.py, or make its admin a ReadOnlyAdmin.",
            id="core.W001",
        )
        for model, model_admin in site._registry.items()
        if model._meta.app_label in PORTAL_APPS and not isinstance(model_admin, ReadOnlyAdmin) and not is_tracked(model)
    ]
