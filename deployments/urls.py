"""Pages beside the admin site."""

from django.urls import URLPattern, path

from core.admin_site import site
from deployments import views

urlpatterns: list[URLPattern] = [
    path("deployments/calendar/", site.admin_view(views.calendar_page), name="deployments-calendar"),
]
