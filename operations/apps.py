from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "operations"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.utils.module_loading import autodiscover_modules

        # Registers the checks and the housekeeping, connects the worker's signals.
        from operations import checks, duties, housekeeping, worker  # noqa: F401

        # Procedures and schedule handlers of every room register themselves on import.
        autodiscover_modules("procedures", "schedules")
