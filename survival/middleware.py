"""Ends break-glass sessions on time."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from survival import breakglass


class BreakGlassMiddleware:
    """The break-glass account is let in by an open link's session only; everybody else passes without a query."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if breakglass.enforce(request):
            return HttpResponseRedirect(reverse("admin:login"))
        return self.get_response(request)
