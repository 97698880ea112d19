"""Hosts: where commands run, the way there, and the key by which a machine is known."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest

from catalog import actions
from catalog.admin.inventory import CatalogAdmin
from catalog.forms import PinKeyForm
from catalog.host_keys import fingerprint
from catalog.models import Host
from core.admin_site import Headline, register
from core.audit import track
from core.buttons import Button, signed_in
from core.exceptions import PortalError

track(Host)

Kind = Host.Kind
FIELDS: dict[str, tuple[str, ...]] = {
    Kind.LOCAL: (),
    Kind.SSH: ("address", "port", "user", "key_ref", "via"),
    Kind.DOCKER: ("container", "docker_socket", "via"),
    Kind.COMPOSE: ("compose_file", "compose_project", "container", "docker_socket", "via"),
    Kind.KUBECTL: ("context", "namespace", "container", "pod_container", "kubeconfig_ref", "via"),
}


def _check(request: HttpRequest, host: Host, data: dict[str, Any], key: str) -> None:
    messages.success(request, actions.check_host(host))


def _pin(request: HttpRequest, host: Host, data: dict[str, Any], key: str) -> None:
    actions.pin_host_key(host, data["key"], by=signed_in(request))
    messages.success(request, f"Pinned {fingerprint(data['key'])}. Check the host now.")


def _keys(request: HttpRequest, host: Host) -> dict[str, Any]:
    try:
        lines = actions.offered_host_keys(host)
    except PortalError as error:
        messages.error(request, error.message)
        lines = []
    return {"keys": [(line, f"{line.split()[0]}: {fingerprint(line)}") for line in lines]}


@register(Host)
class HostAdmin(CatalogAdmin):
    """A place where commands run, and how it is reached."""

    nav, nav_label, nav_icon = ("Configure", 40), "Hosts", "server"
    list_empty = "Add the machines, containers and pods in which commands run."
    list_display = ("name", "kind", "way", "queue", "expected_hostname")
    phone_columns = ("name", "kind", "way")
    list_filter = ("kind",)
    list_select_related = ("via",)
    search_fields = ("name", "address", "container", "queue")
    list_help = "Machines, containers and pods in which commands run, and the way to each."
    fieldsets = (
        (None, {"fields": ("name", "kind", "expected_hostname", "queue", "via")}),
        ("Machine over SSH", {"fields": ("address", "port", "user", "key_ref", "host_keys")}),
        ("Container or Compose service", {"fields": ("container", "compose_file", "compose_project", "docker_socket")}),
        ("Pod: name it under “container”", {"fields": ("context", "namespace", "pod_container", "kubeconfig_ref")}),
    )
    buttons = [
        Button("check", "Check host", "catalog.check_host", run=_check, confirm=False, icon="zap"),
        Button(
            "pin_key",
            "Pin host key …",
            "catalog.pin_host",
            run=_pin,
            form=PinKeyForm,
            form_kwargs=_keys,
            consequence=(
                "From now on the portal talks to a machine with this key only. Compare the fingerprint with its "
                "own: whoever answers at the address now could be somebody else."
            ),
            visible=lambda request, host: host.kind == Kind.SSH,
            icon="lock",
        ),
    ]

    def way(self, host: Host) -> str:
        return host.way

    way.short_description = "Way"  # type: ignore[attr-defined]

    def headline(self, request: HttpRequest, obj: Host) -> Headline | None:
        if obj.kind == Kind.SSH and not obj.host_key_lines:
            return Headline("warn", "No key pinned", "Nothing runs there until its host key was compared and pinned.")
        return Headline("ok", obj.get_kind_display(), obj.way)

    def facts(self, request: HttpRequest, obj: Host) -> list[tuple[str, Any]]:
        shown = ("name", "kind", *FIELDS[obj.kind], "queue", "expected_hostname")
        labels = {field.name: field.verbose_name for field in obj._meta.concrete_fields}
        facts: list[tuple[str, Any]] = [
            (
                str(labels[name]).capitalize(),
                obj.get_kind_display() if name == "kind" else getattr(obj, name) or "not set",
            )
            for name in shown
        ]
        return [*facts, *(("Pinned key", fingerprint(line)) for line in obj.host_key_lines)]
