"""Business hours: zones, changes of clocks, holidays, and when somebody must have answered."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from catalog.business_time import Hours, after, business_days_after, is_open, response_due
from catalog.exceptions import CatalogError
from catalog.models import BusinessHours, Holiday, OpeningHours
from core.links import detail_url, list_url, page_url
from core.roles import Role
from tests.contacts.factories import SeverityFactory, office_hours
from tests.factories import PersonFactory, ServiceFactory, browser

pytestmark = pytest.mark.django_db
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
FRIDAY, MONDAY = "2026-03-06", "2026-03-09"


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"))


def calendar_of(zone: str, *openings: tuple[int, time, time]) -> BusinessHours:
    calendar = BusinessHours.objects.create(name=f"Hours in {zone}", time_zone=zone)
    for weekday, opens, closes in openings:
        OpeningHours.objects.create(calendar=calendar, weekday=weekday, opens=opens, closes=closes)
    return calendar


@pytest.mark.parametrize(
    ("at", "answer"),
    [
        ("2026-03-06T08:59:59", False),
        ("2026-03-06T09:00", True),
        ("2026-03-06T16:59:59", True),
        ("2026-03-06T17:00", False),
        ("2026-03-07T12:00", False),
    ],
)
def test_open_from_the_opening_up_to_the_closing(at, answer):
    assert is_open(office_hours(), berlin(at)) is answer


def test_a_holiday_is_closed():
    calendar = office_hours()
    Holiday.objects.create(calendar=calendar, date=date(2026, 3, 6), name="Works outing")
    assert not is_open(calendar, berlin("2026-03-06T12:00"))
    assert after(berlin("2026-03-05T16:00"), 2 * HOUR, calendar) == berlin("2026-03-09T10:00")


@pytest.mark.parametrize(
    ("start", "duration", "due"),
    [
        ("2026-03-06T10:00", HOUR, "2026-03-06T11:00"),
        ("2026-03-06T16:00", HOUR, "2026-03-06T17:00"),
        ("2026-03-06T16:30", HOUR, "2026-03-09T09:30"),
        ("2026-03-06T20:00", HOUR, "2026-03-09T10:00"),
        ("2026-03-07T12:00", 8 * HOUR, "2026-03-09T17:00"),
        ("2026-03-07T12:00", 40 * HOUR, "2026-03-13T17:00"),
        ("2026-03-06T10:00", timedelta(0), "2026-03-06T10:00"),
    ],
)
def test_business_time_stands_still_while_it_is_closed(start, duration, due):
    assert after(berlin(start), duration, office_hours()) == berlin(due)


def test_a_working_day_around_a_change_of_clocks_counts_elapsed_time():
    calendar = calendar_of("Europe/Berlin", (6, time(0), time(0)), (0, time(9), time(17)))
    assert after(berlin("2026-03-29T00:00"), 23 * HOUR, calendar) == berlin("2026-03-30T00:00")
    assert after(berlin("2026-03-29T00:00"), 24 * HOUR, calendar) == berlin("2026-03-30T10:00")
    assert after(berlin("2026-10-25T00:00"), 25 * HOUR, calendar) == berlin("2026-10-26T00:00")


def test_an_opening_that_the_clock_skips_comes_as_much_later():
    calendar = calendar_of("Europe/Berlin", (6, time(2, 30), time(6)))
    assert not is_open(calendar, berlin("2026-03-29T03:29"))
    assert is_open(calendar, berlin("2026-03-29T03:30"))
    assert after(berlin("2026-03-29T00:00"), HOUR, calendar) == berlin("2026-03-29T04:30")


def test_openings_that_overlap_count_once_and_nights_go_on_over_midnight():
    calendar = calendar_of(
        "UTC", (0, time(9), time(12)), (0, time(11), time(13)), (1, time(22), time(0)), (2, time(0), time(2))
    )
    monday = datetime(2026, 3, 9, tzinfo=UTC)
    assert after(monday, 4 * HOUR, calendar) == monday + 13 * HOUR
    assert after(monday + timedelta(days=1), 3 * HOUR, calendar) == monday + timedelta(days=2, hours=1)


def test_the_zone_of_the_calendar_counts_and_not_the_one_of_the_question():
    tokyo = calendar_of("Asia/Tokyo", *((day, time(9), time(17)) for day in range(5)))
    assert is_open(tokyo, datetime(2026, 3, 9, 0, 30, tzinfo=UTC))
    assert not is_open(tokyo, datetime(2026, 3, 9, 9, 0, tzinfo=UTC))


def test_a_calendar_that_never_opens_is_an_error_and_no_endless_loop():
    empty = calendar_of("UTC")
    assert not is_open(empty, datetime(2026, 3, 9, tzinfo=UTC))
    with pytest.raises(CatalogError, match="do not open within 400 days. Add opening hours"):
        after(datetime(2026, 3, 9, tzinfo=UTC), HOUR, empty)
    with pytest.raises(CatalogError):
        business_days_after(datetime(2026, 3, 9, tzinfo=UTC), 1, Hours.of(empty))


def test_a_long_time_goes_over_years():
    due = after(berlin("2026-03-09T09:00"), 8 * HOUR * 5 * 104, office_hours())
    assert due == berlin("2028-03-03T17:00")


@pytest.mark.parametrize(
    ("start", "days", "due"),
    [
        ("2026-03-06T12:00", 1, "2026-03-09T17:00"),
        ("2026-03-06T23:59", 1, "2026-03-09T17:00"),
        ("2026-03-07T12:00", 1, "2026-03-09T17:00"),
        ("2026-03-09T07:00", 1, "2026-03-10T17:00"),
        ("2026-03-06T12:00", 5, "2026-03-13T17:00"),
    ],
)
def test_business_days_end_with_the_closing(start, days, due):
    assert business_days_after(berlin(start), days, Hours.of(office_hours())) == berlin(due)


def test_p4_declared_on_friday_is_due_on_monday_and_after_a_holiday_on_tuesday():
    calendar = office_hours()
    service = ServiceFactory(business_hours=calendar)
    severity = SeverityFactory(service=service, code="P4", response_time=None, response_business_days=1)
    assert response_due(severity, berlin("2026-03-06T15:00")) == berlin("2026-03-09T17:00")
    Holiday.objects.create(calendar=calendar, date=date(2026, 3, 9))
    assert response_due(severity, berlin("2026-03-06T15:00")) == berlin("2026-03-10T17:00")


def test_business_days_without_a_calendar_are_monday_to_friday_in_the_zone_of_the_service():
    severity = SeverityFactory(response_time=None, response_business_days=1)
    assert response_due(severity, berlin("2026-03-06T15:00")) == berlin("2026-03-09T23:59:59")


def test_a_business_day_that_is_open_until_midnight_ends_on_that_day():
    calendar = BusinessHours.objects.create(name="Late", time_zone="Europe/Berlin")
    OpeningHours.objects.create(calendar=calendar, weekday=0, opens=time(8), closes=time(0))
    assert business_days_after(berlin("2026-03-06T15:00"), 1, Hours.of(calendar)) == berlin("2026-03-09T23:59:59")


def test_a_response_time_counts_by_the_clock_unless_business_hours_are_asked_for():
    start = berlin("2026-03-06T16:30")
    service = ServiceFactory(business_hours=office_hours())
    by_clock = SeverityFactory(service=service, response_time=HOUR)
    open_only = SeverityFactory(service=service, response_time=HOUR, response_in_business_hours=True)
    assert response_due(by_clock, start) == start + HOUR
    assert response_due(by_clock, start, in_business_hours=True) == berlin("2026-03-09T09:30")
    assert response_due(open_only, start) == berlin("2026-03-09T09:30")
    assert response_due(SeverityFactory(response_time=HOUR, response_in_business_hours=True), start) == start + HOUR


def test_the_time_of_a_rule_goes_before_the_severity():
    start = berlin("2026-03-06T16:30")
    service = ServiceFactory(business_hours=office_hours())
    severity = SeverityFactory(service=service, response_time=None, response_business_days=3)
    assert response_due(severity, start, rule_response=5 * MINUTE) == start + 5 * MINUTE
    assert response_due(severity, start, rule_response=HOUR, in_business_hours=True) == berlin("2026-03-09T09:30")
    assert response_due(None, start, rule_response=HOUR, in_business_hours=True) == start + HOUR


def test_while_the_severity_is_undecided_the_hours_of_the_service_count():
    start, service = berlin("2026-03-06T16:30"), ServiceFactory(business_hours=office_hours())
    asked = {"rule_response": HOUR, "in_business_hours": True}
    assert response_due(None, start, service=service, **asked) == berlin("2026-03-09T09:30")
    assert response_due(None, start, service=ServiceFactory(), **asked) == start + HOUR


def test_nothing_set_is_nothing_due():
    assert response_due(SeverityFactory(response_time=None), berlin("2026-03-06T16:30")) is None
    assert response_due(None, berlin("2026-03-06T16:30")) is None


# --- screens ---------------------------------------------------------------------------------------------------------


def client_of(role: Role):
    return browser(PersonFactory(role=role))


def test_an_administrator_writes_business_hours_with_holidays_in_one_form():
    data = {
        "name": "Office", "time_zone": "Europe/Berlin",
        "openings-TOTAL_FORMS": 1, "openings-INITIAL_FORMS": 0,
        "openings-0-weekday": 0, "openings-0-opens": "09:00:00", "openings-0-closes": "17:00:00",
        "holidays-TOTAL_FORMS": 1, "holidays-INITIAL_FORMS": 0,
        "holidays-0-date": "2026-12-25", "holidays-0-name": "Christmas",
    }  # fmt: skip
    client = client_of(Role.ADMINISTRATOR)
    assert client.post("/catalog/businesshours/add/", data).status_code == 302
    calendar = BusinessHours.objects.get()
    page = client.get(detail_url(calendar)).content.decode()
    assert "Monday 09:00–17:00" in page
    assert "2026-12-25 Christmas" in page
    refused = client.post("/catalog/businesshours/add/", {**data, "name": "Two", "openings-0-closes": "08:00:00"})
    assert "must be after the opening time" in refused.content.decode()


def test_a_manager_reads_business_hours_and_changes_nothing():
    calendar = office_hours()
    client = client_of(Role.MANAGER)
    assert client.get(list_url(BusinessHours)).status_code == 200
    assert client.get(detail_url(calendar)).status_code == 200
    assert client.post(page_url(calendar, "change"), {"name": "Mine"}).status_code == 403
    assert client.post("/catalog/businesshours/add/", {"name": "Mine"}).status_code == 403


def test_hours_without_openings_say_that_they_are_never_open():
    page = client_of(Role.MANAGER).get(detail_url(calendar_of("UTC"))).content.decode()
    assert "Never open" in page


def test_a_severity_says_its_response_and_its_updates_in_words():
    client = client_of(Role.MANAGER)

    def page(**values: object) -> str:
        return client.get(detail_url(SeverityFactory(**values))).content.decode()

    bare = page(response_time=None, definition="", examples="")
    assert bare.count("not set") >= 5
    assert "2 business days" in page(response_time=None, response_business_days=2)
    assert "1 h in business hours" in page(response_time=HOUR, response_in_business_hours=True)
    assert "at every change" in page(update_every=timedelta(0))
    assert "every 1 h, at sprint planning" in page(update_every=HOUR, update_words="at sprint planning")
    assert "All hands on deck" in page(team="All hands on deck")
    assert "<script>" not in page(definition="<script>alert(1)</script>").split("<main")[1]


def test_a_severity_has_a_time_or_days_and_not_both():
    severity = SeverityFactory()
    data = {
        "service": severity.service_id, "code": "P1", "name": "Critical", "rank": severity.rank,
        "response_time": "15 min", "response_business_days": "1", "update_every": "0",
    }  # fmt: skip
    client = client_of(Role.ADMINISTRATOR)
    refused = client.post(page_url(severity, "change"), data)
    assert "a response time or business days, not both" in refused.content.decode()
    assert client.post(page_url(severity, "change"), {**data, "response_time": ""}).status_code == 302
    severity.refresh_from_db()
    assert (severity.response_business_days, severity.update_every) == (1, timedelta(0))


def test_a_service_names_its_business_hours():
    calendar = office_hours()
    service = ServiceFactory(business_hours=calendar)
    page = client_of(Role.MANAGER).get(detail_url(service)).content.decode()
    assert detail_url(calendar) in page
    form = client_of(Role.ADMINISTRATOR).get(page_url(service, "change")).content.decode()
    assert "business_hours" in form
