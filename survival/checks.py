"""Settings with which the portal would not survive, or say nothing of it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from core.addresses import parse_networks
from core.exceptions import PortalError
from survival.keys import read_key
from survival.procedures import check_places


@register()
def check_key(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """survival.E001: backups of the portal could not be sealed."""
    if not settings.PORTAL_BACKUP_KEY:
        return []
    try:
        read_key(settings.PORTAL_BACKUP_KEY)
    except PortalError as error:
        hint = "PORTAL_BACKUP_KEY is what age-keygen prints: the public key (age1…), or the identity."
        return [Error(error.message, hint=hint, id="survival.E001")]
    return []


@register()
def check_second_place(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """survival.E002: one disaster would take the portal, its backups and their key together."""
    try:
        check_places()
    except PortalError as error:
        return [Error(error.message, hint="Keep data, backups and key in three places.", id="survival.E002")]
    return []


@register()
def check_heartbeat(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """survival.E003: the heartbeat would be refused for a typing error."""
    try:
        parse_networks(settings.HEARTBEAT_NETWORKS)
    except ValueError as error:
        hint = "Write networks as 10.1.0.0/16, separated by commas."
        return [Error(f"HEARTBEAT_NETWORKS: {error}", hint=hint, id="survival.E003")]
    return []
