from django.apps import AppConfig

# Makes this the application of every shared task. Here and not in the package, so that the supervisor, which is in the
# same package, starts without loading Django.
from opsportal.celery import app as celery_app

__all__ = ["OpsportalConfig", "celery_app"]


class OpsportalConfig(AppConfig):
    name = "opsportal"
