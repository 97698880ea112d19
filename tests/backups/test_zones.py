"""The schedules of plans are read in the time zone of the service they protect, also when that one changes."""

import logging
from datetime import timedelta

import pytest
from django.utils import timezone

from backups import actions
from core.roles import Role
from operations.models import Schedule
from tests.factories import EnvironmentFactory, PersonFactory, PlanFactory, ServiceFactory, browser
from tests.pages import page_of

pytestmark = pytest.mark.django_db
LONG_AGO = timezone.now() - timedelta(days=3)


def scheduled():
    """A plan whose slots have been decided up to three days ago."""
    plan = actions.save_plan(PlanFactory(), cron="15 2 * * 1-5", misfire="all", enabled=True)
    Schedule.objects.filter(pk=plan.schedule.pk).update(decided_until=LONG_AGO)
    return plan


def zone_of(plan) -> tuple[str, bool]:
    """The zone its schedule is read in, and whether its slots are decided anew."""
    schedule = Schedule.objects.get(plan=plan)
    return str(schedule.crontab.timezone), schedule.decided_until > timezone.now() - timedelta(minutes=1)


def service_of(plan):
    return plan.target.component.environment.service


def test_a_new_zone_of_the_service_moves_its_schedules_and_no_others():
    plan, other = scheduled(), scheduled()
    service = service_of(plan)
    service.time_zone = "America/New_York"
    service.save()
    assert zone_of(plan) == ("America/New_York", True)
    assert zone_of(other) == ("Europe/Berlin", False)
    schedule = Schedule.objects.get(plan=plan)
    crontab = schedule.crontab
    assert f"{crontab.minute} {crontab.hour} {crontab.day_of_week}" == "15 2 1-5"
    assert (schedule.misfire, schedule.enabled, schedule.handler) == ("all", True, actions.SCHEDULE_HANDLER)


def test_and_back():
    plan = scheduled()
    service = service_of(plan)
    for zone in ("UTC", "Europe/Berlin"):
        Schedule.objects.update(decided_until=LONG_AGO)
        service.time_zone = zone
        service.save()
        assert zone_of(plan) == (zone, True)


def test_other_edits_of_the_service_leave_the_missed_slots():
    plan = scheduled()
    service = service_of(plan)
    service.owner_team = "Others"
    service.save()
    assert zone_of(plan) == ("Europe/Berlin", False)


def test_a_schedule_that_is_off_stays_off_and_plans_on_demand_do_not_matter():
    plan = scheduled()
    Schedule.objects.update(enabled=False)
    on_demand = PlanFactory(target=plan.target)
    service = service_of(plan)
    service.time_zone = "UTC"
    service.save()
    assert zone_of(plan) == ("UTC", True)
    assert not Schedule.objects.get(plan=plan).enabled
    on_demand.refresh_from_db()
    assert on_demand.schedule is None


def test_what_moves_to_another_service_takes_over_its_zone():
    plan = scheduled()
    component = plan.target.component
    component.environment = EnvironmentFactory(service=ServiceFactory(time_zone="Asia/Tokyo"))
    component.save()
    assert zone_of(plan) == ("Asia/Tokyo", True)


def test_a_broken_schedule_does_not_keep_a_service_from_being_edited(caplog):
    plan = scheduled()
    crontab = plan.schedule.crontab
    type(crontab).objects.filter(pk=crontab.pk).update(minute="99")
    service = service_of(plan)
    service.time_zone = "UTC"
    with caplog.at_level(logging.WARNING):
        service.save()
    assert zone_of(plan) == ("Europe/Berlin", False)
    assert "keeps its time zone" in caplog.text


def test_the_edit_form_of_the_service_does_it():
    plan = scheduled()
    service = service_of(plan)
    administrator = browser(PersonFactory(role=Role.ADMINISTRATOR))
    address = f"/catalog/service/{service.pk}/change/"
    fields = page_of(administrator.get(address)).post.fields | {"time_zone": "Asia/Tokyo"}
    response = administrator.post(address, fields)
    assert response.status_code == 302, page_of(response).text
    assert zone_of(plan) == ("Asia/Tokyo", True)
