from django.apps import AppConfig


class SurvivalConfig(AppConfig):
    name = "survival"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Survival of the portal"

    def ready(self) -> None:
        from survival import duties, health_items  # noqa: F401  connects the worker's signals, registers the items
