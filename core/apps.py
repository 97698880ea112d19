"""Wires the shared floor: admin screens, home panels, checks and the roles that follow every migration."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules


class CoreConfig(AppConfig):
    name = "core"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from core import checks, roles  # noqa: F401  (importing registers the checks)
        from core.admin_site import site

        autodiscover_modules("admin", register_to=site)
        autodiscover_modules("panels")
        post_migrate.connect(roles.sync_after_migrate, dispatch_uid="core.roles.sync")
