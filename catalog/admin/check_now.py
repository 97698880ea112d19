"""The button that asks probes: those of a service, of an environment, or one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from catalog import actions
from catalog.models import Environment, Probe, Service
from core.buttons import Button, signed_in
from operations.models import Operation


def check_button(of: Callable[[Any], QuerySet[Probe]]) -> Button:
    """*Check now*: asks the probes that `of(obj)` names, as an operation, so that no page waits for them."""

    def run(request: HttpRequest, obj: Any, data: dict[str, Any], key: str) -> Operation:
        probes = of(obj).select_related("environment__service")
        return actions.request_check(list(probes), by=signed_in(request), key=key)

    return Button(
        "check_probes",
        "Check now",
        "catalog.run_probe",
        run=run,
        visible=lambda request, obj: of(obj).exists(),
        confirm=False,
        icon="zap",
    )


def probes_of_environment(environment: Environment) -> QuerySet[Probe]:
    return Probe.objects.filter(environment=environment)


def probes_of_service(service: Service) -> QuerySet[Probe]:
    return Probe.objects.filter(environment__service=service)
