"""A plan goes with what it owns, and not at all when archives name it."""

import pytest
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule

from backups import actions
from backups.exceptions import BackupError
from backups.models import Plan
from core.roles import Role
from operations.models import Operation, Schedule, Slot
from tests.factories import ArchiveFactory, OperationFactory, PersonFactory, PlanFactory, browser
from tests.pages import page_of

pytestmark = pytest.mark.django_db
DELETE = "/backups/plan/{}/delete/".format


@pytest.fixture
def administrator():
    return browser(PersonFactory(role=Role.ADMINISTRATOR))


def scheduled() -> Plan:
    plan = actions.save_plan(PlanFactory(), cron="0 2 * * *", misfire="latest", enabled=True)
    now = timezone.now()
    Slot.objects.create(schedule=plan.schedule, at=now, decided_at=now, decision="merged")
    return plan


def left() -> tuple[int, int, int, int]:
    return tuple(model.objects.count() for model in (Plan, Schedule, CrontabSchedule, Slot))


def test_the_schedule_and_its_crontab_go_with_the_plan(administrator):
    plan, other = scheduled(), scheduled()
    OperationFactory(state=Operation.State.SUCCEEDED, procedure="backups.prune", params={"plan": plan.pk})
    before = left()
    assert administrator.post(DELETE(plan.pk), {"post": "yes"}).status_code == 302
    assert left() == tuple(count - 1 for count in before)
    assert Schedule.objects.get() == other.schedule
    on_demand = PlanFactory()
    assert administrator.post(DELETE(on_demand.pk), {"post": "yes"}).status_code == 302
    assert Plan.objects.get() == other


def test_plans_marked_in_the_list_go_with_what_they_own(administrator):
    marked = [scheduled().pk, scheduled().pk]
    form = {"action": "delete_selected", "_selected_action": marked, "post": "yes"}
    response = administrator.post("/backups/plan/", form)
    assert response.status_code == 302, page_of(response).text
    assert left() == (0, 0, 0, 0)


def test_the_page_of_an_operation_outlives_its_plan(administrator):
    plan = scheduled()
    operation = OperationFactory(procedure="backups.prune", params={"plan": plan.pk})
    address = f"/operations/operation/{operation.pk}/"
    assert f'href="{plan.get_absolute_url()}"' in administrator.get(address).content.decode()
    actions.delete_plan(plan)
    for path in (address, f"{address}live/"):
        response = administrator.get(path)
        assert response.status_code in (200, 286)
        assert plan.get_absolute_url() not in response.content.decode()


def test_archives_keep_their_plan(administrator):
    plan = scheduled()
    ArchiveFactory(plan=plan, failed=True)
    before = left()
    page = page_of(administrator.post(DELETE(plan.pk), {"post": "yes"}))
    assert "archive" in page.text.lower()
    assert left() == before
    with pytest.raises(BackupError, match="has archives, so it stays"):
        actions.delete_plan(plan)


def test_a_plan_that_is_cleaned_up_waits():
    plan = scheduled()
    OperationFactory(state=Operation.State.QUEUED, procedure="backups.prune", params={"plan": plan.pk})
    with pytest.raises(BackupError, match="is being cleaned up"):
        actions.delete_plan(plan)


@pytest.mark.parametrize("way", ["page", "list"])
def test_what_came_between_the_question_and_the_answer_is_said(administrator, way):
    plan = scheduled()
    OperationFactory(state=Operation.State.QUEUED, procedure="backups.prune", params={"plan": plan.pk})
    form = {"post": "yes", "action": "delete_selected", "_selected_action": [plan.pk]}
    response = administrator.post(DELETE(plan.pk) if way == "page" else "/backups/plan/", form, follow=True)
    assert "is being cleaned up" in page_of(response).text
    assert left() == (1, 1, 1, 1)
