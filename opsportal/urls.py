"""The portal is one admin site at the root, and two health pages beside it."""

from django.urls import include, path

from core.admin_site import site

urlpatterns = [
    path("health/", include("opsportal.health")),
    path("", site.urls),
]
