from django.apps import AppConfig


class OpsportalConfig(AppConfig):
    name = "opsportal"
