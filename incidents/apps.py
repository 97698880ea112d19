from django.apps import AppConfig


class IncidentsConfig(AppConfig):
    name = "incidents"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Listens to the events, and works from the control worker."""
        from incidents import duties, freezing, hearing, news  # noqa: F401
