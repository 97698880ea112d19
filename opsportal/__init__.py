"""The roof: settings, Celery application, URLs, home page, embedded stack. Wires the floors, owns no models."""

from opsportal.celery import app as celery_app

__all__ = ["celery_app"]
