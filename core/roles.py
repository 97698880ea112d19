"""Who may do what: one table. The groups of the database follow it after every migration.

A code is `app.codename`. Wildcards match whole permission codes of the apps in SCOPE: `*.view_*`, `backups.*`.
The tables of django_celery_beat are for superusers only: they are outside SCOPE, so no wildcard can grant them.
"""

import fnmatch
from collections.abc import Iterable
from typing import Any

from django.apps import AppConfig, apps
from django.contrib.auth.management import create_permissions
from django.db import models, transaction


class Role(models.TextChoices):
    MANAGER = "Manager"
    RESPONDER = "Responder"
    OPERATOR = "Operator"
    APPROVER = "Approver"
    ADMINISTRATOR = "Administrator"


PORTAL_APPS = (
    "core",
    "operations",
    "catalog",
    "backups",
    "deployments",
    "contacts",
    "webhooks",
    "survival",
    "incidents",
)
SCOPE = (*PORTAL_APPS, "auth", "auditlog", "axes")

SEE_EVERYTHING = ("*.view_*",)
# People, teams and rotations, with all that is edited inside their forms.
EDIT_DIRECTORY = tuple(
    f"contacts.{action}_{model}"
    for action in ("add", "change")
    for model in (
        "contact",
        "way",
        "team",
        "teammember",
        "role",
        "roleholder",
        "queue",
        "queueentry",
        "oncallschedule",
        "layer",
        "layermember",
        "layerwindow",
        "override",
    )
)
# Whoever is called at night: declares, answers, works on incidents, stands in for somebody on call.
RESPOND = (
    "contacts.answer_escalation",
    "contacts.add_override",
    "contacts.change_override",
    "contacts.confirm_contact",
    "contacts.test_pager",
    "incidents.declare_incident",
    "incidents.respond_incident",
    "incidents.publish_update",
    "incidents.add_actionitem",
    "incidents.change_actionitem",
    "incidents.change_review",
)
# Whoever brings releases out and back. Approving is another person's business, and another role's.
DEPLOY = (
    "deployments.add_release",
    "deployments.promote_release",
    "deployments.request_deployment",
    "deployments.run_deployment",
    "deployments.rollback_deployment",
    "deployments.emergency_deployment",
    "deployments.control_service",
    "deployments.look_livestate",
)
ROLES: dict[Role, tuple[str, ...]] = {
    Role.MANAGER: SEE_EVERYTHING,
    Role.RESPONDER: (*SEE_EVERYTHING, *RESPOND, "core.issue_apitoken", "catalog.run_probe"),
    Role.OPERATOR: (
        *SEE_EVERYTHING,
        *RESPOND,
        "core.issue_apitoken",
        *EDIT_DIRECTORY,
        "contacts.edit_matrix",
        "contacts.resend_notification",
        "operations.control_operation",
        "catalog.check_databasetarget",
        "catalog.check_host",
        "catalog.run_probe",
        "backups.run_plan",
        "backups.verify_archive",
        "backups.restore_archive",
        "backups.undo_restore",
        "backups.prune_plan",
        "backups.keep_archive",
        "backups.adopt_archive",
        "survival.back_up_portal",
        *DEPLOY,
    ),
    Role.APPROVER: (*SEE_EVERYTHING, "deployments.approve_deployment", "deployments.review_deployment"),
    Role.ADMINISTRATOR: (*SEE_EVERYTHING, *(f"{label}.*" for label in PORTAL_APPS)),
}


def declared_codes(labels: Iterable[str] = SCOPE) -> set[str]:
    """Every permission code that the models of these apps declare, read from the code and not from the database."""
    codes = set()
    for label in labels:
        if label not in apps.app_configs:
            continue
        for model in apps.get_app_config(label).get_models():
            meta = model._meta
            codes |= {f"{label}.{action}_{meta.model_name}" for action in meta.default_permissions}
            codes |= {f"{label}.{codename}" for codename, _ in meta.permissions}
    return codes


def codes_of(role: Role, known: Iterable[str]) -> set[str]:
    """The permission codes of `role` among `known`, wildcards resolved. Codes not in `known` are left out."""
    known = set(known)
    codes: set[str] = set()
    for pattern in ROLES[role]:
        codes |= set(fnmatch.filter(known, pattern))
    return codes


def unknown_codes() -> list[tuple[Role, str]]:
    """Entries of the table that match nothing any installed app declares: typing errors or a missing app."""
    known = declared_codes()
    return [(role, code) for role, table in ROLES.items() for code in table if not fnmatch.filter(known, code)]


@transaction.atomic
def sync_roles(using: str = "default") -> None:
    """Create a group for each role and give it exactly the table's permissions, no more and no fewer."""
    from django.contrib.auth.models import Group, Permission

    rows = Permission.objects.using(using).filter(content_type__app_label__in=SCOPE).select_related("content_type")
    by_code = {f"{row.content_type.app_label}.{row.codename}": row for row in rows}
    known = declared_codes() & by_code.keys()
    for role in Role:
        group, _ = Group.objects.using(using).get_or_create(name=role.value)
        group.permissions.set(by_code[code] for code in codes_of(role, known))


def sync_after_migrate(sender: AppConfig, using: str = "default", **kwargs: Any) -> None:
    """Receiver of post_migrate. Acts once a run, at the last app that has models, when all tables are there.

    Django creates an app's permissions in its own receiver of the same signal; whose turn comes first is not
    promised, so the missing ones are made here.
    """
    with_models = [config for config in apps.get_app_configs() if config.models_module is not None]
    if sender.name != with_models[-1].name:
        return
    for label in SCOPE:
        if label in apps.app_configs:
            create_permissions(apps.get_app_config(label), verbosity=0, using=using)
    sync_roles(using)
