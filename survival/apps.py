from django.apps import AppConfig


class SurvivalConfig(AppConfig):
    name = "survival"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Survival of the portal"

    def ready(self) -> None:
        # Registers the checks and the health items, connects the worker's signals.
        from survival import checks, duties, health_items, respond_items  # noqa: F401
