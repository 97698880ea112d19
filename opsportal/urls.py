"""The portal is one admin site at the root, and beside it what has to work without signing in."""

from django.urls import include, path

from core.admin_site import site

urlpatterns = [
    path("health/", include("opsportal.health")),
    path("", include("survival.urls")),
    path("", site.urls),
]
