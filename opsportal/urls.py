"""The portal is one admin site at the root, and beside it what has to work without signing in."""

from django.urls import include, path

from core.admin_site import site
from opsportal.api import api, nothing_here

urlpatterns = [
    path("health/", include("opsportal.health")),
    path("api/v1/", api.urls),
    path("api/<path:rest>", nothing_here),
    path("", include("survival.urls")),
    path("", include("contacts.urls")),
    path("", include("incidents.urls")),
    path("", include("deployments.urls")),
    path("hooks/ci/", include("deployments.ci_urls")),
    path("", site.urls),
]
