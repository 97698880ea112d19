"""How long incident pages take in a portal that has run for years: many incidents, one with a long timeline."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice

from django.contrib.postgres.search import SearchVector
from django.utils import timezone

from catalog.models import Service, Severity
from core.links import detail_url
from incidents.actions.writing import SEARCHED
from incidents.models import Incident, TimelineEntry
from incidents.querysets import SEARCH_CONFIG
from opsportal.bench.clicks import Browser
from opsportal.bench.portal import Place, Portal, now
from opsportal.bench.report import Figure

GOAL_S = 0.2
BATCH = 5000
RARE = 9973
A_PAGE, FAR_BACK = 50, 150  # rows; a page that somebody may still turn to


def _questions(rows: int) -> dict[str, str]:
    """What people ask a long list for."""
    return {
        "newest": "",
        "all, far back": f"?state=all&p={min(FAR_BACK, max(1, rows // A_PAGE))}",
        "closed ones": "?state=closed",
        "search of incidents": "?q=turbine&state=all",
        "search without a hit": "?q=nowhere-to-be-found&state=all",
    }


def _history(severity: Severity, place: Place, rows: int) -> Iterator[Incident]:
    """Closed incidents, one every twenty minutes back from now, and a few open ones; some with a rare word."""
    end = timezone.now()
    for number in range(rows):
        declared = end - timedelta(minutes=20 * number)
        is_open = number < 20
        ended = None if is_open else declared + timedelta(minutes=15)
        yield Incident(
            number=f"INC-{declared:%Y-%m-%d}-{number:06}",
            title=f"{'The turbine' if number % RARE == 0 else 'The shop'} answers slowly, case {number}",
            service=severity.service,
            severity=severity,
            rank=severity.rank,
            state="open" if is_open else "closed",
            declared_by=place.by,
            declared_at=declared,
            started_at=declared,
            acknowledged_at=None if is_open else declared + timedelta(minutes=3),
            resolved_at=ended,
            closed_at=ended,
            description=f"Requests took {number % 90} seconds.",
        )


def _entries(incident: Incident, rows: int) -> Iterator[TimelineEntry]:
    before = ""
    for number in range(1, rows + 1):
        digest = hashlib.sha256(f"{before}{number}".encode()).hexdigest()
        yield TimelineEntry(
            incident=incident,
            sequence=number,
            at=incident.declared_at + timedelta(seconds=number),
            source="portal",
            actor="The portal",
            text=f"Measured again: {number} requests wait.",
            previous_hash=before,
            hash=digest,
        )
        before = digest


def _fill(place: Place, rows: int, entries: int) -> Incident:
    service = Service.objects.create(name="Measured shop", slug="measured-shop")
    severity = Severity.objects.create(service=service, code="P2", name="High", rank=2)
    history = _history(severity, place, rows)
    while batch := list(islice(history, BATCH)):
        Incident.objects.bulk_create(batch)
    Incident.objects.update(search=SearchVector(*SEARCHED, config=SEARCH_CONFIG))
    longest = Incident.objects.open().latest("pk")
    timeline = _entries(longest, entries)
    while part := list(islice(timeline, BATCH)):
        TimelineEntry.objects.bulk_create(part)
    return longest


def measure(portal: Portal, place: Place, rows: int, entries: int, rounds: int) -> dict[str, list[float]]:
    """Seconds until the whole page has come, for every question, `rounds` times in turn."""
    longest = _fill(place, rows, entries)
    paths = {name: f"/incidents/incident/{question}" for name, question in _questions(rows).items()}
    paths["page of the longest incident"] = detail_url(longest)
    browser = Browser(portal.port)
    browser.sign_in(place)
    found: dict[str, list[float]] = {name: [] for name in paths}
    for round_number in range(rounds + 1):
        for name, path in paths.items():
            began = now()
            browser.read(path)
            if round_number:  # the first round warms up
                found[name].append(now() - began)
    return found


def figures(found: dict[str, list[float]]) -> list[Figure]:
    """For the report."""
    together = [seconds for samples in found.values() for seconds in samples]
    return [
        Figure("Pages of incidents, all questions", "s", together, GOAL_S, "p95"),
        *(Figure(f"  {name}", "s", samples, GOAL_S, "p95") for name, samples in found.items()),
    ]
