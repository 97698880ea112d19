from django.apps import AppConfig


class BackupsConfig(AppConfig):
    name = "backups"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from backups import signals
        from backups.engines import ENGINES
        from backups.reach import inspect_target
        from catalog.inspection import INSPECTORS

        INSPECTORS.update(dict.fromkeys(ENGINES, inspect_target))
        signals.connect()
