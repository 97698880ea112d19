from django.apps import AppConfig


class ContactsConfig(AppConfig):
    name = "contacts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Listens to the events, and works from the control worker."""
        from contacts import (  # noqa: F401
            confirming,
            engine,
            gaps,
            keeping,
            sending,
        )
