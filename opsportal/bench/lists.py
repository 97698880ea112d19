"""How long the lists of a portal take that has run for years: 100,000 operations, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice

from django.utils import timezone

from core.changelist import COUNT_CAP
from operations.models import Operation
from opsportal.bench.clicks import Browser
from opsportal.bench.portal import Place, Portal, now
from opsportal.bench.report import Figure

GOAL_S = 0.15
BATCH = 5000
PER_PAGE = 50
# What people ask a long list for. Half of the pages are not the first one.
QUESTIONS = {
    "newest": "",
    "what went wrong": "?went_wrong=ever",
    "one state": "?state__exact=succeeded",
    "last page": "",  # of those that may be opened; which it is depends on how many there are
    "search": "?q=quarterly",
    "search without a hit": "?q=nowhere-to-be-found",
    "filtered and sorted": "?state__exact=failed&procedure=backups.restore&o=2",
}
ENDS = (Operation.State.SUCCEEDED,) * 17 + (Operation.State.FAILED,) * 2 + (Operation.State.CANCELLED,)
PROCEDURES = ("backups.backup",) * 6 + ("backups.prune",) * 3 + ("backups.restore",)


def _history(place: Place, rows: int) -> Iterator[Operation]:
    """Ended operations, one every ten minutes back from now; a few of them with a rare word to search for."""
    end = timezone.now()
    for number in range(rows):
        asked = end - timedelta(minutes=10 * number)
        yield Operation(
            procedure=PROCEDURES[number % len(PROCEDURES)],
            title=f"{'Quarterly' if number % 9973 == 0 else 'Nightly'} backup of {place.plan.name}, run {number}",
            state=ENDS[number % len(ENDS)],
            message=f"Archive {number:x} has 20 tables and {number * 37:,} rows; every byte was read back.",
            trigger=Operation.Trigger.CLICK if number % 5 == 0 else Operation.Trigger.SCHEDULE,
            requested_by=place.by if number % 5 == 0 else None,
            reason="Before the release" if number % 5 == 0 else "",
            requested_at=asked,
            started_at=asked + timedelta(seconds=1),
            ended_at=asked + timedelta(seconds=61),
            attempt=1,
            environment_label=str(place.plan.target.component.environment),
            environment_kind="staging",
        )


def measure(portal: Portal, place: Place, rows: int, rounds: int) -> dict[str, list[float]]:
    """Seconds until the whole page has come, for every question, `rounds` times in turn."""
    last = max(1, min(rows, COUNT_CAP) // PER_PAGE)
    questions = {**QUESTIONS, "last page": f"?p={last}"}
    history = _history(place, rows)
    while batch := list(islice(history, BATCH)):
        Operation.objects.bulk_create(batch)
    browser = Browser(portal.port)
    browser.sign_in(place)
    found: dict[str, list[float]] = {name: [] for name in QUESTIONS}
    for round_number in range(rounds + 1):
        for name, question in questions.items():
            began = now()
            browser.read(f"/operations/operation/{question}")
            if round_number:  # the first round warms up
                found[name].append(now() - began)
    return found


def figures(found: dict[str, list[float]]) -> list[Figure]:
    """For the report."""
    together = [seconds for samples in found.values() for seconds in samples]
    return [
        Figure("Lists of operations, all questions", "s", together, GOAL_S, "p95"),
        *(Figure(f"  {name}", "s", samples, GOAL_S, "p95") for name, samples in found.items()),
    ]
