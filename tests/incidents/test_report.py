"""The month report: its figures against figures counted by hand, who reads what, what it costs."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.test import Client
from django.urls import reverse

from core.roles import Role
from incidents import report as reports
from incidents.models import Cause, Incident, Update
from tests.contacts.factories import ContactFactory, SeverityFactory
from tests.factories import PersonFactory, RestoreFactory, ServiceFactory, browser
from tests.incidents.factories import ActionItemFactory, IncidentFactory
from tests.pages import counted, page_of

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 20, 12, 0, tzinfo=UTC)
MONTH = reports.Month(date(2026, 3, 1), ZoneInfo("UTC"))


def minutes(number: float | None) -> timedelta | None:
    return None if number is None else timedelta(minutes=number)


def incident(day: int = 5, *, ack=None, end=None, due=15, service=None, month: int = 3, **values):
    """Declared on that day at noon, answered, over and due so many minutes later."""
    declared = datetime(2026, month, day, 12, 0, tzinfo=UTC)
    rank = values.pop("rank", 1)
    if rank:
        service = service or ServiceFactory()
        found = service.severities.filter(rank=rank).first()
        values["severity"] = found or SeverityFactory(service=service, rank=rank)
    else:
        values |= {"severity": None, "service": service}
    return IncidentFactory(
        declared_at=declared,
        started_at=declared,
        acknowledged_at=declared + minutes(ack) if ack is not None else None,
        response_due_at=declared + minutes(due) if due is not None else None,
        resolved_at=declared + minutes(end) if end is not None else None,
        state="open" if end is None else "resolved",
        **values,
    )


def built(service=None, user=None, month=MONTH) -> reports.Report:
    return reports.build(month, service, user or PersonFactory(role=Role.MANAGER))


@time_machine.travel(NOW, tick=False)
def test_counts_and_response():
    shop, search = ServiceFactory(name="Shop"), ServiceFactory(name="Search")
    incident(service=shop, ack=5, end=60)  # met
    incident(service=shop, ack=16, end=60)  # late
    incident(service=shop, rank=2)  # nobody answered, long over
    incident(service=search, rank=2, due=None, ack=1, end=2)  # not set
    incident(20, rank=None, due=60)  # has time left
    incident(service=shop, end=10)  # over by itself, in time
    merged = incident(service=shop, ack=1, end=2)
    merged.state, merged.closed_at, merged.merged_into = "closed", NOW, incident(1, month=2)
    merged.save()
    found = built()
    assert (found.counts.total, found.counts.met, found.counts.late) == (6, 2, 2)
    assert (found.counts.running, found.counts.unset, found.counts.share) == (1, 1, 50)
    assert {rank: counts.total for rank, counts in found.by_rank.items()} == {1: 3, 2: 2, None: 1}
    assert found.by_service == {"Shop": {1: 3, 2: 1}, "Search": {2: 1}, "No service": {None: 1}}
    assert found.ranks == [1, 2, None]
    only = built(service=shop)
    assert (only.counts.total, only.counts.share) == (4, 50)


@time_machine.travel(NOW, tick=False)
def test_times_to_acknowledge_and_recover():
    shop = ServiceFactory()
    for ack, end in ((1, 10), (2, 20), (3, 30), (4, 40), (10, 100), (None, None)):
        incident(service=shop, ack=ack, end=end)
    found = built()
    assert found.overall.acknowledge == reports.Times(minutes(3), minutes(7.6), minutes(10))
    assert found.overall.recover == reports.Times(minutes(30), minutes(76), minutes(100))
    assert [speed.rank for speed in found.speeds] == [1]
    assert found.speeds[0].recover == found.overall.recover


@time_machine.travel(NOW, tick=False)
def test_updates_on_time():
    severity = SeverityFactory(rank=1, update_every=timedelta(hours=1))
    kept = incident(service=severity.service, end=90)  # told after 50 minutes, over 40 minutes later
    late = incident(service=severity.service, end=200)  # told after 30, then after 130; over 70 minutes later
    silent = incident(service=severity.service, end=61)
    quick = incident(service=severity.service, end=20)
    for row, after in ((kept, 50), (late, 30), (late, 130)):
        Update.objects.create(incident=row, audience="internal", text="A", at=row.declared_at + minutes(after))
    assert silent.pk
    assert quick.pk
    incident(rank=2, end=500)  # no cadence
    found = built()
    assert (found.updates_kept, found.updates_late, found.updates_share) == (2, 3, 40)


@time_machine.travel(NOW, tick=False)
def test_what_comes_back():
    hidden = incident(confidential=True, root_cause="SECRET")
    incident(confidential=True, root_cause="SECRET")
    incident(root_cause="Disk full")
    incident(10, month=1, root_cause=" disk full ")
    incident(root_cause="Only once")
    incident(10, month=1, root_cause="Long over")
    incident(11, month=1, root_cause="Long over")
    Cause.objects.create(key="a", sentence="Backup of shop failed", seen=4, last_at=NOW, incident=incident())
    Cause.objects.create(key="b", sentence="SECRET", seen=9, last_at=NOW, incident=hidden)
    Cause.objects.create(key="c", sentence="Once", seen=1, last_at=NOW)
    found = built()
    assert [(text.strip().lower(), times) for text, times in found.root_causes] == [("disk full", 2)]
    assert [cause.sentence for cause in found.causes] == ["Backup of shop failed"]


@time_machine.travel(NOW, tick=False)
def test_action_items_and_restores():
    for number in range(12):
        ActionItemFactory(text=f"Item {number}", due_on=date(2026, 3, 10 + number))
    ActionItemFactory(done_at=NOW)
    ActionItemFactory(incident=IncidentFactory(confidential=True), text="SECRET")
    RestoreFactory(requested_at=NOW)
    RestoreFactory(requested_at=NOW, measured=timedelta(hours=1))
    RestoreFactory(requested_at=NOW, rto=None)
    RestoreFactory(requested_at=NOW - timedelta(days=40))
    found = built()
    assert (found.open_items, found.overdue_items, len(found.items)) == (12, 10, 10)
    assert found.items[0].text == "Item 0"
    assert found.restores == {"total": 3, "met": 1, "missed": 1, "unset": 1}
    assert built(service=ServiceFactory()).restores["total"] == 0


@time_machine.travel(NOW, tick=False)
def test_twelve_months():
    incident(1, month=3)
    incident(1, month=1, rank=2)
    trend = built().trend
    assert len(trend) == 12
    assert (trend[0][0], trend[-1][0]) == ("Apr 25", "Mar 26")
    assert trend[-1][1] == {1: 1}
    assert trend[-3][1] == {2: 1}


def test_a_month_is_of_the_readers_zone():
    berlin = reports.Month.parse("2026-03", ZoneInfo("Europe/Berlin"))
    assert berlin.start == datetime(2026, 2, 28, 23, 0, tzinfo=UTC)
    assert berlin.end == datetime(2026, 3, 31, 22, 0, tzinfo=UTC)  # summer time has begun
    for text in ("", "2026-13", "x" * 40, "0000-00"):
        assert reports.Month.parse(text, ZoneInfo("UTC")).first.day == 1
    assert reports.Month.parse("0001-01", ZoneInfo("UTC")).moved(-12).first == date(1, 1, 1)
    assert reports.Month.parse("9999-12", ZoneInfo("UTC")).end


# -- page and CSV -----------------------------------------------------------------------------------------------------


@time_machine.travel(NOW, tick=False)
def test_the_page_says_it_in_words_and_pictures():
    shop = ServiceFactory(name="Shop")
    row = incident(service=shop, ack=5, end=60)
    client = browser(PersonFactory(role=Role.MANAGER))
    answer = client.get(reverse("incidents-report"), {"month": "2026-03", "service": shop.pk})
    page = page_of(answer)
    for words in ("Incidents in March 2026", "Rank 1", "100 %", "5 min", "1 h", row.number):
        assert words in page.text
    assert 'aria-label="Incidents a month: ' in answer.content.decode()
    assert row.get_absolute_url() in page.links
    assert "style=" not in answer.content.decode()
    empty = page_of(client.get(reverse("incidents-report"), {"month": "2020-01"})).text
    assert "No incident was declared." in empty
    for odd in ("9999-12", "0001-01", "x"):
        assert client.get(reverse("incidents-report"), {"month": odd, "service": odd}).status_code == 200


@time_machine.travel(NOW, tick=False)
def test_confidential_ones_are_counted_and_not_named():
    secret = incident(title="SECRET", confidential=True, ack=1, end=2, number="INC-2")
    incident(title="Open to all", number="INC-1")
    address = reverse("incidents-report")
    manager, named = PersonFactory(role=Role.MANAGER), PersonFactory(role=Role.MANAGER)
    secret.assignments.create(role="commander", primary=ContactFactory(user=named))
    for query in ({"month": "2026-03"}, {"month": "2026-03", "format": "csv"}):
        for person, sees in ((manager, False), (named, True), (secret.declared_by, None)):
            answer = browser(person).get(address, query)
            if sees is None:
                assert answer.status_code == 403
                continue
            text = (b"".join(answer.streaming_content) if answer.streaming else answer.content).decode()
            assert ("SECRET" in text) == sees
            assert "Open to all" in text
    assert built(user=manager).counts.total == 2


@time_machine.travel(NOW, tick=False)
def test_csv_has_every_incident_of_the_month():
    incident(ack=5, end=60, title="=1+1", number="INC-1")
    incident(title="Open", due=None, rank=None, number="INC-2")
    incident(1, month=2)
    client = browser(PersonFactory(role=Role.MANAGER))
    answer = client.get(reverse("incidents-report"), {"month": "2026-03", "format": "csv"})
    assert answer["Content-Disposition"] == 'attachment; filename="incidents-2026-03.csv"'
    head, first, second = csv.reader(io.StringIO(b"".join(answer.streaming_content).decode()))
    one, two = dict(zip(head, first, strict=True)), dict(zip(head, second, strict=True))
    assert one["Title"] == "'=1+1"
    assert (one["Time to acknowledge (s)"], one["Time to recover (s)"], one["Response met"]) == ("300", "3600", "yes")
    assert one["Declared"] == "2026-03-05T12:00:00Z"
    assert (two["Severity"], two["Response met"], two["Resolved"]) == ("not set", "not set", "")
    assert (one["State code"], one["Severity code"]) == ("resolved", Incident.objects.get(number="INC-1").severity.code)
    assert (two["State code"], two["Severity code"]) == ("open", "")


def test_only_for_those_who_see_incidents():
    address = reverse("incidents-report")
    assert browser(PersonFactory()).get(address).status_code == 403
    assert Client().get(address).status_code == 302
    assert browser(PersonFactory(role=Role.MANAGER)).post(address).status_code == 405


@time_machine.travel(NOW, tick=False)
def test_many_cost_what_one_costs():
    user = PersonFactory(role=Role.MANAGER)

    def furnish() -> None:
        row = incident(ack=1, end=2, root_cause="Disk full", confidential=False)
        ActionItemFactory(incident=row, owner=ContactFactory())
        Update.objects.create(incident=row, audience="internal", text="A")
        Cause.objects.create(key=row.number, seen=3, last_at=NOW, incident=row)
        RestoreFactory(requested_at=NOW)

    def cost() -> int:
        with counted() as queries:
            built(user=user)
        return len(queries)

    furnish()
    cost()
    one = cost()
    for _ in range(15):
        furnish()
    assert cost() == one <= 12


def test_what_was_over_before_it_was_declared_took_no_time():
    incident(end=-120)
    assert built().overall.recover == reports.Times(minutes(0), minutes(0), minutes(0))
