"""Where CI says what it has built."""

from django.urls import URLPattern, path

from deployments import ci

urlpatterns: list[URLPattern] = [path("<str:service>/", ci.hook, name="ci-hook")]
