from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "webhooks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Listens to the events, and sends from the control worker.
        from webhooks import outbox, sending  # noqa: F401
