"""The list of incidents: what it shows, to whom, how it is found, what it costs."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from django.utils import timezone

from core.roles import Role
from incidents import gates
from incidents.actions import triage, work
from incidents.models import Assignment, Incident
from tests.contacts.factories import SeverityFactory
from tests.factories import PersonFactory
from tests.incidents.factories import IncidentFactory
from tests.incidents.record import commanded_by, declared, person, with_contact
from tests.pages import counted, page_of

pytestmark = pytest.mark.django_db
LIST = "/incidents/incident/"


def titles(client, query="") -> list[str]:
    return [row.title for row in client.get(LIST + query).context["cl"].result_list]


def exported(client, query="") -> list[dict[str, str]]:
    response = client.get(f"{LIST}export/{query}")
    return list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))


class TestWhatItShows:
    def test_one_line_says_it_all(self):
        user, client = person(Role.OPERATOR)
        severity = SeverityFactory(rank=1, name="System down", response_time=timedelta(minutes=15))
        incident = declared(user, service=severity.service, severity=severity)
        commanded_by(incident, user, by=user)
        text = page_of(client.get(LIST)).text
        for words in (
            incident.number,
            incident.title,
            "P1",
            str(severity.service),
            "left",
            f"Contact of {user.username}",
        ):
            assert words in text
        assert "Update due" in text and "not set" in text

    @pytest.mark.parametrize(
        ("minutes", "answered", "words"),
        [
            (10, None, "left"),
            (-10, None, "Overdue 10 min"),
            (10, 5, "Met"),
            (-10, 0, "Late by 10 min"),
            (None, None, "not set"),
        ],
    )
    def test_the_response_clock(self, minutes, answered, words):
        _, client = person(Role.MANAGER)
        now = timezone.now()
        IncidentFactory(
            state="open" if answered is None else "acknowledged",
            response_due_at=None if minutes is None else now + timedelta(minutes=minutes),
            acknowledged_at=None if answered is None else now,
        )
        assert words in page_of(client.get(LIST)).text

    def test_a_severity_carries_its_word_and_its_rank_colour(self):
        _, client = person(Role.MANAGER)
        IncidentFactory(severity=SeverityFactory(rank=2, code="HIGH"))
        IncidentFactory(severity=None)
        html = client.get(LIST).content.decode()
        assert 'class="chip sev sev-2"' in html and ">HIGH<" in html and ">Undecided<" in html


class TestFilters:
    def test_open_ones_are_shown_until_more_is_asked_for(self):
        _, client = person(Role.MANAGER)
        IncidentFactory(title="Now")
        IncidentFactory(title="Was", resolved=True)
        assert titles(client) == ["Now"]
        assert titles(client, "?state=resolved") == ["Was"]
        assert set(titles(client, "?state=all")) == {"Now", "Was"}
        assert titles(client, "?state=nonsense") == ["Now"]

    def test_by_service_rank_and_person(self):
        user, client = person(Role.RESPONDER)
        mine = IncidentFactory(title="Mine", severity=SeverityFactory(rank=1))
        theirs = IncidentFactory(title="Theirs", severity=SeverityFactory(rank=3))
        IncidentFactory(title="Undecided", severity=None)
        Assignment.objects.create(incident=mine, role="support", backup=with_contact(user))
        assert titles(client, f"?service__id__exact={theirs.service.pk}") == ["Theirs"]
        assert titles(client, "?rank=1") == ["Mine"] and titles(client, "?rank=none") == ["Undecided"]
        assert titles(client, "?rank=milder") == [] and len(titles(client, "?rank=x")) == 3
        assert titles(client, "?who=me") == ["Mine"]
        declared(user, "Declared by me")
        assert titles(client, "?who=me") == ["Declared by me", "Mine"]

    def test_what_was_worked_on_alone_whatever_its_state(self):
        user, client = person(Role.RESPONDER)
        for title, values in (("Done", {"resolved": True}), ("Now", {}), ("Seen", {"resolved": True})):
            row = IncidentFactory(title=title, solo_review=True, **values)
        work.tick(row, gates.LOOKED_AT, gate=True, by=user)
        IncidentFactory(title="Together")
        assert set(titles(client, "?alone=flagged")) == {"Done", "Now"}
        assert titles(client, "?alone=looked-at") == ["Seen"]
        assert titles(client, "?alone=flagged&state=resolved") == ["Done"]

    def test_by_date(self):
        _, client = person(Role.MANAGER)
        IncidentFactory(title="Old", declared_at=timezone.now() - timedelta(days=800))
        IncidentFactory(title="New")
        now = timezone.localdate()
        assert titles(client, f"?declared_at__year={now.year}") == ["New"]
        whole = f"?declared_at__year={now.year}&declared_at__month={now.month}&declared_at__day={now.day}"
        assert titles(client, whole) == ["New"]
        page = page_of(client.get(LIST))
        assert any(f"declared_at__year={(timezone.now() - timedelta(days=800)).year}" in link for link in page.links)
        for link in (link for link in page_of(client.get(LIST + whole)).links if "declared_at" in link):
            assert client.get(link).status_code == 200, link

    def test_a_filter_is_kept_on_the_way_to_an_incident_and_back(self):
        _, client = person(Role.MANAGER)
        incident = IncidentFactory(resolved=True)
        page = page_of(client.get(f"{LIST}?state=all&rank={incident.rank}"))
        link = next(link for link in page.links if link.startswith(f"{LIST}{incident.pk}/"))
        back = [link for link in page_of(client.get(link)).links if link.startswith(f"{LIST}?")]
        assert back and {"state=all", f"rank={incident.rank}"} <= set(back[0].partition("?")[2].split("&"))


class TestSearch:
    def test_by_number_and_by_words(self):
        user, client = person(Role.OPERATOR)
        found = declared(user, "Payment by card fails", description="The terminal prints an error.")
        declared(user, "Search is slow")
        for words in (
            found.number,
            found.number[:16].lower() + found.number[16:],
            "payments",
            "termin",
            "card payment",
        ):
            expected = ["Payment by card fails"]
            assert expected[0] in titles(client, f"?q={words}"), words
        assert titles(client, f"?q={found.number}") == ["Payment by card fails"]
        assert titles(client, "?q=slow+card") == [] and titles(client, "?q=%27%3A%2A+%26") == []

    def test_what_solved_it_is_found_too(self):
        user, client = person(Role.OPERATOR)
        incident = declared(user, "Search is slow")
        work.resolve(incident, by=user, text="An index was missing.")
        assert titles(client, "?state=all&q=index") == ["Search is slow"]

    def test_many_matches_are_all_found(self, monkeypatch):
        monkeypatch.setattr("incidents.admin.incidents.FEW", 2)
        user, client = person(Role.OPERATOR)
        for number in range(5):
            declared(user, f"Payment fails {number}")
        assert len(titles(client, "?q=payment")) == 5


class TestExport:
    def test_it_is_exactly_the_filter(self):
        _, client = person(Role.MANAGER)
        worst = IncidentFactory(title="Worst", severity=SeverityFactory(rank=1))
        IncidentFactory(title="Mild", severity=SeverityFactory(rank=4))
        IncidentFactory(title="Over", severity=SeverityFactory(rank=1), resolved=True)
        rows = exported(client, "?rank=1")
        assert [row["Incident"] for row in rows] == [f"{worst.number} Worst"]
        assert rows[0]["State"] == "Open" and rows[0]["Severity"] == "P1"
        assert (rows[0]["State code"], rows[0]["Severity code"], rows[0]["Rank"]) == ("open", worst.severity.code, "1")
        assert len(exported(client, "?state=all")) == 3


class TestConfidential:
    def test_others_do_not_learn_that_it_is_there(self):
        declarer, theirs = person(Role.RESPONDER)
        _, other = person(Role.OPERATOR)
        _, administrator = person(Role.ADMINISTRATOR)
        incident = declared(declarer, "Somebody took the customer list", confidential=True)
        for client, sees in ((theirs, True), (administrator, True), (other, False)):
            assert (titles(client) == [incident.title]) == sees
            assert (titles(client, f"?q={incident.number}") == [incident.title]) == sees
            assert (titles(client, "?q=customer") == [incident.title]) == sees
            assert bool(exported(client)) == sees
            home = page_of(client.get("/")).text
            assert (incident.title in home) == sees
            assert (incident.title in page_of(client.get("/incidents/declare/")).text) == sees
            for rest in ("", "live/", "beside/", "history/", "restore/", "evidence/", "do/resolve/", "change/"):
                status = client.get(f"{LIST}{incident.pk}/{rest}").status_code
                assert (status != 404) == sees, (rest, status)

    def test_somebody_named_in_it_sees_it(self):
        declarer, _ = person(Role.OPERATOR)
        colleague, client = person(Role.RESPONDER)
        incident = declared(declarer, confidential=True)
        assert titles(client) == []
        commanded_by(incident, colleague, by=declarer)
        assert titles(client) == [incident.title]

    def test_one_that_becomes_confidential_disappears(self):
        user, _ = person(Role.ADMINISTRATOR)
        _, other = person(Role.MANAGER)
        incident = declared(user)
        assert titles(other) == [incident.title]
        triage.set_confidential(incident, True, by=user, reason="Personal data.")
        assert titles(other) == []


def test_sixty_rows_cost_what_one_costs():
    user, client = person(Role.OPERATOR)
    contact = with_contact(user)

    def cost(query: str) -> tuple[int, str]:
        client.get(LIST)
        with counted() as queries:
            response = client.get(LIST + query)
        assert len(response.context["cl"].result_list) == min(Incident.objects.count(), 50)
        return len(queries), "\n".join(each["sql"][:150] for each in queries)

    def add() -> None:
        incident = IncidentFactory(declared_by=PersonFactory())
        Assignment.objects.create(incident=incident, role="commander", primary=contact)

    add()
    one, _ = cost("")
    for _ in range(59):
        add()
    sixty, queries = cost("")
    assert sixty == one <= 10, queries
