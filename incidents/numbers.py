"""Numbers of incidents and names of their chat rooms, by the pattern of the service.

The counter is one row for everything in a number but the count. It is taken in the transaction that declares the
incident and stays locked until that ends, so numbers are unique, and consecutive even when a declaration is given up.
"""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

from django.db import connection

from catalog.models import Service
from incidents.exceptions import IncidentError
from incidents.models import Incident, NumberCounter
from incidents.patterns import number_of, room_of, scope_of

NO_SERVICE = "general"
# Numbers that others have given, such as by an import; one at a time is stepped over.
MOST_TAKEN = 1000


def take(pattern: str, service: Service | None, at: datetime) -> str:
    """The next number. Call it in the transaction that declares."""
    if not connection.in_atomic_block:
        raise RuntimeError("A number is taken in the transaction that declares the incident.")
    scope = scope_of(pattern, local_day(service, at), service.slug if service else NO_SERVICE)
    for _ in range(MOST_TAKEN):
        number = number_of(pattern, scope, _count(scope))
        if not Incident.objects.filter(number=number).exists():
            return number
    raise IncidentError(f"No number is free for the pattern “{pattern}”. Change it in the profile of the service.")


def _count(scope: str) -> int:
    table = connection.ops.quote_name(NumberCounter._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} AS counter (scope, last) VALUES (%s, 1) "  # noqa: S608  the name of a model's table
            "ON CONFLICT (scope) DO UPDATE SET last = counter.last + 1 RETURNING last",
            [scope],
        )
        (count,) = cursor.fetchone()
    return int(count)


def local_day(service: Service | None, at: datetime) -> date:
    """The day in the zone of the service."""
    return at.astimezone(ZoneInfo(service.time_zone if service else "UTC")).date()


def room(pattern: str, incident: Incident) -> str:
    """The name of the chat room of an incident; empty for an empty pattern."""
    service, severity = incident.service, incident.severity
    slug = service.slug if service else NO_SERVICE
    day = local_day(service, incident.declared_at)
    return room_of(pattern, day, slug, severity.code if severity else "", incident.number)
