"""Pages of on-call: who may look, who may stand in, who may edit; the month, the tile, the calendar link."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
import time_machine
from django.test import Client
from django.urls import reverse
from icalendar import Calendar

from contacts import ical, records
from contacts.actions import oncall as actions
from contacts.models import CalendarFeed, Layer, OnCallSchedule, Override
from contacts.oncall import Window
from core.links import detail_url, list_url, page_url
from core.roles import Role
from tests.contacts.factories import ContactFactory, OnCallScheduleFactory, OverrideFactory, layer_of
from tests.factories import PersonFactory, browser
from tests.pages import counted, page_of

pytestmark = pytest.mark.django_db
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MONDAY = datetime(2026, 3, 2, 8, tzinfo=UTC)  # 09:00 in Berlin
KEY = "6f1f7a4e-7a0e-4d55-8f6d-0c3b9a2c1d11"
EVIL = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def monday():
    with time_machine.travel(MONDAY + HOUR, tick=False):
        yield


@pytest.fixture
def people():
    return [
        ContactFactory(name=name, phone=f"+49 40 {number}", email=f"{name}@example.org")
        for number, name in enumerate(("Ann", "Ben", "Cleo"))
    ]


@pytest.fixture
def schedule(people):
    made = OnCallScheduleFactory(name="Shop")
    layer_of(made, people[0], people[1], starts_on=date(2026, 3, 2))
    return made


def client_of(role: Role | None, **values: object) -> Client:
    return browser(PersonFactory(role=role, **values))


def stand_in_data(contact, **values: object) -> dict[str, object]:
    data = {"level": 1, "contact": contact.pk, "starts_at": "2026-03-02T12:00", "ends_at": "2026-03-02T18:00"}
    return {**data, "reason": "Ill", "request_key": KEY, **values}


def layer_data(*layers: dict[str, object], initial: int = 0, **values: object) -> dict[str, object]:
    """What the form of a schedule sends."""
    data: dict[str, object] = {"name": "Shop", "time_zone": "Europe/Berlin", "alarm_gaps": "on", **values}
    data |= {"layers-TOTAL_FORMS": len(layers), "layers-INITIAL_FORMS": initial}
    usual = {
        "level": 1, "rank": 1, "starts_on": "2026-03-02", "handoff": "09:00:00", "shift_length": 1,
        "shift_unit": "weeks", "windows": "",
    }  # fmt: skip
    for number, layer in enumerate(layers):
        data |= {f"layers-{number}-{name}": value for name, value in {**usual, **layer}.items()}
    return data


# --- who may what ----------------------------------------------------------------------------------------------------


def test_a_manager_reads_everything_and_changes_nothing(schedule, people):
    override = OverrideFactory(schedule=schedule, contact=people[2])
    feed, _ = actions.make_feed(by=PersonFactory(), schedule=schedule)
    client = client_of(Role.MANAGER)
    for address in (
        list_url(OnCallSchedule), detail_url(schedule), reverse("oncall-month", args=[schedule.pk]),
        list_url(Override), detail_url(override), list_url(CalendarFeed), detail_url(feed),
        reverse("admin:contacts_oncallrecord_changelist"),
    ):  # fmt: skip
        assert client.get(address).status_code == 200, address
    page = page_of(client.get(detail_url(schedule)))
    assert not any(form.method == "post" and "/do/" in form.action for form in page.forms)
    assert "Make a calendar link" not in page.text
    for address, data in (
        (page_url(schedule, "do", "stand_in"), stand_in_data(people[2])),
        (page_url(override, "do", "end"), {"request_key": KEY}),
        (page_url(feed, "do", "revoke"), {"request_key": KEY}),
        (page_url(schedule, "feed"), {"shows": "schedule", "request_key": KEY}),
        (page_url(schedule, "change"), layer_data()),
        ("/contacts/oncallschedule/add/", layer_data()),
    ):
        assert client.post(address, data).status_code == 403, address
    assert (Override.objects.count(), CalendarFeed.objects.filter(revoked_at=None).count()) == (1, 1)


def test_strangers_see_nothing(schedule):
    month = reverse("oncall-month", args=[schedule.pk])
    assert Client().get(month).status_code == 302
    assert Client().get(detail_url(schedule)).status_code == 302
    assert client_of(None).get(month).status_code == 403


def test_a_responder_stands_in_and_ends_it_and_edits_no_layer(schedule, people):
    client = client_of(Role.RESPONDER)
    address = page_url(schedule, "do", "stand_in")
    assert "In your time zone, UTC." in page_of(client.get(address)).text
    assert client.post(address, stand_in_data(people[2])).status_code == 302
    override = Override.objects.get()
    assert (override.contact, override.starts_at, override.reason) == (people[2], MONDAY + 4 * HOUR, "Ill")
    assert override.made_by is not None
    text = page_of(client.get(detail_url(schedule))).text
    assert "Cleo stands in" in text
    assert client.post(page_url(override, "do", "end"), {"request_key": KEY}).status_code == 302
    assert not Override.objects.exists()
    assert client.post(page_url(schedule, "change"), layer_data()).status_code == 403


def test_standing_in_at_a_time_that_is_over_is_refused_on_the_page(schedule, people):
    data = stand_in_data(people[2], starts_at="2026-03-01T12:00", ends_at="2026-03-01T18:00")
    page = page_of(client_of(Role.RESPONDER).post(page_url(schedule, "do", "stand_in"), data))
    assert "This time is over" in page.text
    data = stand_in_data(people[2], ends_at="2026-03-02T11:00")
    page = page_of(client_of(Role.RESPONDER).post(page_url(schedule, "do", "stand_in"), data))
    assert "ends after it begins" in page.text


# --- the page of a schedule ------------------------------------------------------------------------------------------


def test_who_stands_in_and_cannot_be_reached_covers_nothing(schedule, people):
    client, nobody = client_of(Role.RESPONDER), ContactFactory(name="Nele", email="")
    assert "Covered" in page_of(client.get(list_url(OnCallSchedule))).text
    now = MONDAY + HOUR
    actions.add_override(schedule, level=1, contact=nobody, starts_at=now, ends_at=now + HOUR, by=None)
    listed, page = (page_of(client.get(address)).text for address in (list_url(OnCallSchedule), detail_url(schedule)))
    assert "Not reachable: Nele" in listed and "Covered" not in listed
    assert "On call, and no page arrives: Nele has no address. Let somebody else stand in." in page


def test_the_page_leads_with_who_answers_the_number_and_who_comes_next(schedule, people):
    response = client_of(Role.MANAGER).get(detail_url(schedule))
    page = page_of(response)
    assert 'href="tel:+49400"' in response.content.decode()
    assert "Covered" in page.text
    assert "Gaps in the next 30 days None" in page.text
    assert "Ben Mon 09 Mar 09:00 Mon 16 Mar 09:00" in page.text
    assert "every week at 09:00, first on Mon 02 Mar 2026" in page.text


def test_gaps_are_shown_with_a_word(schedule):
    layer = schedule.layers.get()
    layer.windows.create(weekday=0, begins=time(9), ends=time(18))
    text = page_of(client_of(Role.MANAGER).get(detail_url(schedule))).text
    assert "Primary Mon 02 Mar 18:00 Mon 09 Mar 09:00" in text
    assert "Mon 09:00-18:00" in text
    layer.delete()
    assert "No layers" in page_of(client_of(Role.MANAGER).get(detail_url(schedule))).text


def test_a_name_stays_text(people):
    schedule = OnCallScheduleFactory(name=EVIL)
    layer_of(schedule, ContactFactory(name=f"{EVIL} 2"), starts_on=date(2026, 3, 2))
    client = client_of(Role.MANAGER)
    for address in (detail_url(schedule), reverse("oncall-month", args=[schedule.pk]), "/"):
        assert EVIL not in client.get(address).content.decode()


def test_an_operator_writes_layers_with_turns_in_order_and_windows_as_text(people):
    ann, ben, cleo = people
    client = client_of(Role.OPERATOR)
    night = {"rank": 2, "members": [cleo.pk, "", ben.pk, cleo.pk], "windows": "mon-fri 18:00-08:00"}
    data = layer_data({"members": [ann.pk, "", ""]}, night)
    assert client.post("/contacts/oncallschedule/add/", data).status_code == 302
    schedule = OnCallSchedule.objects.get()
    assert schedule.recorded_until == MONDAY + HOUR
    day, nightly = schedule.layers.order_by("rank")
    assert [turn.contact for turn in day.members.all()] == [ann]
    assert [turn.contact for turn in nightly.members.all()] == [cleo, ben, cleo]
    assert nightly.windows.count() == 10
    form = client.get(page_url(schedule, "change")).content.decode()
    assert "Mon-Fri 18:00-08:00" in form
    assert form.count('name="layers-0-members"') == 6  # three turns, and three to fill in


def test_two_layers_change_places_and_one_goes(people):
    schedule = OnCallScheduleFactory(name="Shop")
    low = layer_of(schedule, people[0])
    high = layer_of(schedule, people[1], rank=2)
    client = client_of(Role.ADMINISTRATOR)
    first = {"id": low.pk, "schedule": schedule.pk, "rank": 2, "members": [people[0].pk]}
    second = {"id": high.pk, "schedule": schedule.pk, "rank": 1, "members": [people[1].pk]}
    change = page_url(schedule, "change")
    assert client.post(change, layer_data(first, second, {"starts_on": ""}, initial=2)).status_code == 302
    assert dict(schedule.layers.values_list("pk", "rank")) == {low.pk: 2, high.pk: 1}
    gone = layer_data({**first, "DELETE": "on"}, second, initial=2)
    assert client.post(change, gone).status_code == 302
    assert list(schedule.layers.all()) == [high]


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        ({"members": []}, "at least one person"),
        ({"windows": "at night"}, "is no window"),
        ({"members": ["999999"]}, "Choose people of the list"),
        ({"ends_on": "2026-03-01"}, "ends after it starts"),
        ({"shift_length": "0"}, "greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said_beside_the_field(people, layer, complaint):
    data = layer_data({"members": [people[0].pk], "name": "x", **layer})
    page = page_of(client_of(Role.OPERATOR).post("/contacts/oncallschedule/add/", data))
    assert complaint in page.text
    assert not Layer.objects.exists()


def test_two_layers_of_one_rank_are_refused(people):
    both = {"members": [people[0].pk]}
    page = page_of(client_of(Role.OPERATOR).post("/contacts/oncallschedule/add/", layer_data(both, both)))
    assert "Another layer of this level has this rank" in page.text


def test_ten_layers_cost_as_many_queries_as_two(people):
    def cost(count: int) -> int:
        schedule = OnCallScheduleFactory()
        for rank in range(1, count + 1):
            layer_of(schedule, *people, rank=rank).windows.create(weekday=0, begins=time(8), ends=time(9))
        client = client_of(Role.ADMINISTRATOR)
        seen = []
        for address in (detail_url(schedule), page_url(schedule, "change")):
            with counted() as queries:
                assert client.get(address).status_code == 200
            seen.append(len(queries))
        return seen

    cost(1)
    assert cost(2) == cost(10)


# --- the month -------------------------------------------------------------------------------------------------------


def test_a_month_shows_each_day_who_answers_from_when_and_gaps_with_a_word(schedule):
    schedule.layers.update(ends_on=date(2026, 3, 20))
    text = page_of(client_of(Role.MANAGER).get(reverse("oncall-month", args=[schedule.pk]) + "?month=2026-03")).text
    assert "Shop: March 2026" in text
    assert "Monday 2 today March Primary Nobody 09:00 Ann" in text
    assert "Monday 9 March Primary Ann 09:00 Ben" in text
    assert "Tuesday 10 March Primary Ben Wednesday" in text
    assert "Friday 20 March Primary Ann 09:00 Nobody" in text


def test_months_lead_to_the_ones_before_and_after(schedule):
    client = client_of(Role.MANAGER)
    address = reverse("oncall-month", args=[schedule.pk])
    links = page_of(client.get(address)).links
    assert any(link.endswith("?month=2026-02") for link in links)
    assert any(link.endswith("?month=2026-04") for link in links)
    for nonsense in ("2026-13", "soon", "1999-12", "2101-01"):
        assert client.get(address, {"month": nonsense}).status_code == 404
    assert client.post(address).status_code == 405


def test_a_month_costs_the_same_however_many_people_there_are(schedule):
    client = client_of(Role.MANAGER)
    address = reverse("oncall-month", args=[schedule.pk])

    def cost() -> int:
        with counted() as queries:
            client.get(address)
        return len(queries)

    cost()
    one = cost()
    layer_of(schedule, *(ContactFactory() for _ in range(9)), rank=2, shift_unit="hours", starts_on=date(2026, 3, 2))
    assert cost() == one


# --- the tile --------------------------------------------------------------------------------------------------------


def test_home_shows_who_is_on_call_with_a_number_one_click_away_and_gaps_first(schedule):
    layer_of(OnCallScheduleFactory(name="Empty"), ContactFactory(), starts_on=date(2026, 4, 1))
    html = client_of(Role.MANAGER).get("/").content.decode()
    tile = html[html.index('id="tile-on-call"') :].split("</section>")[0]
    assert 'href="tel:+49400"' in tile
    assert tile.index("Nobody") < tile.index("Ann")
    assert "No phone number" not in tile


def test_home_says_when_there_is_no_number_and_when_there_is_nobody():
    assert "Nobody is on call. Once" in client_of(Role.MANAGER).get("/").content.decode()
    layer_of(OnCallScheduleFactory(), ContactFactory(email="a@example.org"), starts_on=date(2026, 3, 2))
    assert "No phone number" in client_of(Role.MANAGER).get("/").content.decode()


# --- calendar links --------------------------------------------------------------------------------------------------


def link_of(page: str) -> str:
    return page.split('id="link"')[1].split(">")[1].split("<")[0]


def events_of(client: Client, link: str) -> list:
    response = client.get(link)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/calendar; charset=utf-8"
    return list(Calendar.from_ical(response.content).walk("VEVENT"))


def test_a_link_is_shown_once_read_signed_out_and_nothing_after_it_is_revoked(schedule):
    records.keep(schedule)
    person = PersonFactory(role=Role.RESPONDER)
    client = browser(person)
    address = page_url(schedule, "feed")
    assert client.get(address).status_code == 200
    page = client.post(address, {"shows": "schedule", "request_key": KEY}).content.decode()
    link = link_of(page)
    again = client.post(address, {"shows": "schedule", "request_key": KEY}).content.decode()
    assert "was sent already" in again
    feed = CalendarFeed.objects.get()
    assert feed.sha256 not in page
    assert link.rsplit("/", 1)[1].removesuffix(".ics") not in client.get(detail_url(feed)).content.decode()
    assert len(events_of(Client(), link)) == 13
    other = client_of(Role.RESPONDER)
    other.post(page_url(feed, "do", "revoke"), {"request_key": KEY})
    assert Client().get(link).status_code == 200, "somebody else's link is not theirs to revoke"
    client.post(page_url(feed, "do", "revoke"), {"request_key": KEY})
    assert Client().get(link).status_code == 404


def test_a_link_ends_with_the_account_of_its_maker(schedule):
    person = PersonFactory()
    _, secret = actions.make_feed(by=person, schedule=schedule)
    link = reverse("oncall-feed", args=[secret])
    assert Client().get(link).status_code == 200
    person.is_active = False
    person.save()
    assert Client().get(link).status_code == 404
    assert Client().get(reverse("oncall-feed", args=["nonsense"])).status_code == 404
    assert Client().post(link).status_code == 405


def test_a_calendar_has_facts_and_ninety_days_with_ids_that_stay(schedule, people):
    records.keep(schedule, MONDAY - DAY)
    records.keep(schedule, MONDAY + HOUR)
    feed, _ = actions.make_feed(by=PersonFactory(), schedule=schedule)

    def read(now: datetime) -> dict[str, tuple]:
        text = ical.of_feed(feed, now)
        assert b"+49" not in text
        found = Calendar.from_ical(text).walk("VEVENT")
        return {str(event["uid"]): (str(event["summary"]), event["dtstart"].dt, event["dtend"].dt) for event in found}

    first = read(MONDAY + HOUR)
    values = list(first.values())
    assert values[0][0] == "Nobody on call · Shop, primary"
    assert values[1] == ("Ann · Shop, primary", MONDAY, MONDAY + 7 * DAY)
    assert max(ends for _, _, ends in values) == MONDAY + HOUR + 90 * DAY
    records.keep(schedule, MONDAY + 8 * DAY)
    with time_machine.travel(MONDAY + 8 * DAY, tick=False):
        later = read(MONDAY + 8 * DAY)
    assert list(first)[:-1] == list(later)[: len(first) - 1]


def test_my_own_calendar_has_my_shifts_of_all_schedules(schedule, people):
    person = PersonFactory(role=Role.RESPONDER)
    people[1].user = person
    people[1].save()
    layer_of(OnCallScheduleFactory(name="Other"), people[1], starts_on=date(2026, 3, 2))
    client = browser(person)
    page = client.get(page_url(schedule, "feed")).content.decode()
    assert "Only the shifts of Ben" in page
    link = link_of(client.post(page_url(schedule, "feed"), {"shows": "mine", "request_key": KEY}).content.decode())
    found = {str(event["summary"]) for event in events_of(Client(), link)}
    assert found == {"Ben · Shop, primary", "Ben · Other, primary"}


def test_windows_of_the_layers_come_back_as_rows(schedule, people):
    """What the action takes and what the form sends are the same thing."""
    values = actions.LayerValues(None, 2, 1, date(2026, 3, 2), [people[0]], windows=[Window(6, time(0), time(0))])
    actions.save_layers(schedule, [values])
    assert str(schedule.layers.get().windows.get()) == "Sunday 00:00–00:00"
