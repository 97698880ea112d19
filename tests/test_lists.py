"""Every list costs the same number of queries with one row and with thirty."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time, timedelta

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.utils import timezone

from catalog.models import ServiceControlCommands
from contacts.models import OnCallSchedule
from core.admin_site import site
from core.links import list_url
from core.roles import Role
from operations.models import Slot
from tests import factories
from tests.contacts import factories as contacts
from tests.deployments import factories as deployments
from tests.incidents import factories as incidents
from tests.pages import counted

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def slot(number: int) -> None:
    at = timezone.now() - number * HOUR
    operation = factories.OperationFactory()
    schedule = factories.ScheduleFactory()
    Slot.objects.create(schedule=schedule, at=at, decided_at=at, decision="started", operation=operation)


def service_control(number: int) -> None:
    ServiceControlCommands.objects.create(
        environment=factories.EnvironmentFactory(), start=["/bin/true"], stop=["/bin/true"], status=["/bin/true"]
    )


def attempt(number: int) -> None:
    apps.get_model("axes", "AccessAttempt").objects.create(
        username=f"u{number}", ip_address="127.0.0.1", failures_since_start=1, get_data="", post_data=""
    )


def working_node(number: int) -> None:
    """A worker with work, and a queue in which something waits."""
    node = factories.WorkerNodeFactory(queues=[f"queue-{number}"])
    factories.OperationFactory(state="running", worker=node.name)
    factories.OperationFactory(state="queued", queue=f"unserved-{number}")


def on_call(number: int) -> OnCallSchedule:
    """A schedule with people, windows and somebody who stands in."""
    schedule = contacts.OnCallScheduleFactory(service=factories.ServiceFactory())
    layer = contacts.layer_of(schedule, contacts.ContactFactory(), contacts.ContactFactory())
    layer.windows.create(weekday=0, begins=time(8), ends=time(18))
    contacts.OverrideFactory(schedule=schedule)
    return schedule


def on_call_record(number: int) -> None:
    at = timezone.now() - number * HOUR
    on_call(number).records.create(level=1, contact=contacts.ContactFactory(), starts_at=at, ends_at=at + HOUR)


def calendar_feed(number: int) -> None:
    on_call(number).feeds.create(sha256=f"{number:064x}", made_by=factories.PersonFactory())


def update(number: int) -> None:
    row = incidents.IncidentFactory().updates.create(audience="internal", text="A", by=factories.PersonFactory())
    row.channels.add(contacts.ChannelFactory(), contacts.ChannelFactory())


def board_line(number: int) -> None:
    """An environment in which something is live, something is at work, something waits, and one nobody has seen."""
    live = deployments.LiveFactory()
    operation = factories.OperationFactory(state="running")
    deployments.DeploymentFactory(environment=live.environment, state="running", operation=operation)
    deployments.DeploymentFactory(environment=live.environment, state="waiting")
    deployments.ProfileFactory()


# A row of each kind of list, every one with relations of its own.
MAKERS: dict[str, Callable[[int], object]] = {
    "auditlog.LogEntry": lambda n: factories.PlanFactory(),
    "auth.Group": lambda n: Group.objects.create(name=f"group {n}"),
    "axes.AccessAttempt": attempt,
    "backups.Archive": lambda n: factories.ArchiveFactory(),
    "backups.Plan": lambda n: factories.PlanFactory(schedule=factories.ScheduleFactory()),
    "backups.Restore": lambda n: factories.RestoreFactory(),
    "backups.Storage": lambda n: factories.StorageFactory(host=factories.HostFactory(name=f"host-{n}")),
    "catalog.BusinessHours": lambda n: contacts.office_hours(name=f"hours {n}"),
    "catalog.Component": lambda n: factories.ComponentFactory(),
    "catalog.DatabaseTarget": lambda n: factories.TargetFactory(),
    "catalog.Environment": lambda n: factories.EnvironmentFactory(),
    "catalog.Host": lambda n: factories.HostFactory(name=f"host-{n}"),
    "catalog.Probe": lambda n: factories.ProbeFactory(),
    "catalog.Service": lambda n: factories.EnvironmentFactory(),
    "catalog.ServiceControlCommands": service_control,
    "catalog.Severity": lambda n: factories.ServiceFactory().severities.create(rank=1, code="P1", name="Worst"),
    "contacts.CalendarFeed": calendar_feed,
    "contacts.OnCallRecord": on_call_record,
    "contacts.OnCallSchedule": on_call,
    "contacts.Override": lambda n: contacts.OverrideFactory(),
    "contacts.Channel": lambda n: contacts.ChannelFactory(service=factories.ServiceFactory()),
    "contacts.Contact": lambda n: contacts.ContactFactory(sms="", user=factories.PersonFactory()),
    "contacts.Notification": lambda n: contacts.NotificationFactory(),
    "contacts.Provider": lambda n: contacts.ProviderFactory(),
    "contacts.Queue": lambda n: contacts.QueueFactory(),
    "contacts.QueueEntry": lambda n: contacts.QueueFactory().entries.create(escalation=contacts.EscalationFactory()),
    "contacts.Role": lambda n: contacts.role_of(contacts.ContactFactory(), contacts.ContactFactory()),
    "contacts.Team": lambda n: contacts.team_of(contacts.ContactFactory(), contacts.ContactFactory()),
    "contacts.Escalation": lambda n: contacts.EscalationFactory(service=factories.ServiceFactory()),
    "contacts.EscalationPolicy": lambda n: contacts.version_of(
        contacts.PolicyFactory(fallback=contacts.ContactFactory())
    ),
    "core.ApiToken": lambda n: factories.ApiTokenFactory(),
    "core.User": lambda n: factories.PersonFactory(role=Role.OPERATOR),
    "deployments.ChecklistTemplate": lambda n: deployments.ProfileFactory().checklist,
    "deployments.ConfigurationChange": lambda n: deployments.ChangeFactory(operation=factories.OperationFactory()),
    "deployments.Deployment": lambda n: deployments.DeploymentFactory(),
    "deployments.DeploymentProfile": lambda n: deployments.ProfileFactory(
        host=factories.HostFactory(name=f"host-{n}"), backup_plan=factories.PlanFactory()
    ),
    "deployments.FreezeWindow": lambda n: deployments.FreezeFactory(service=factories.ServiceFactory()),
    "deployments.LiveState": board_line,
    "deployments.Release": lambda n: deployments.LiveFactory().release,
    "deployments.ReleaseRules": lambda n: deployments.ReleaseRulesFactory(),
    "incidents.ActionItem": lambda n: incidents.ActionItemFactory(owner=contacts.ContactFactory()),
    "incidents.CauseRule": lambda n: incidents.CauseRuleFactory(service=factories.ServiceFactory()),
    "incidents.Incident": lambda n: incidents.IncidentFactory(),
    "incidents.IncidentProfile": lambda n: incidents.ProfileFactory(
        service=factories.ServiceFactory(), workflow=incidents.WorkflowFactory()
    ),
    "incidents.Maintenance": lambda n: incidents.MaintenanceFactory(service=factories.ServiceFactory()),
    "incidents.MessageTemplate": lambda n: incidents.TemplateFactory(service=factories.ServiceFactory()),
    "incidents.PublicComponent": lambda n: incidents.PublicComponentFactory(),
    "incidents.Review": lambda n: incidents.ReviewFactory(owner=contacts.ContactFactory()),
    "incidents.Update": update,
    "incidents.Workflow": lambda n: incidents.StageFactory(),
    "operations.Event": lambda n: factories.EventFactory(),
    "operations.Operation": lambda n: factories.OperationFactory(requested_by=factories.PersonFactory()),
    "operations.Schedule": lambda n: factories.ScheduleFactory(),
    "operations.Slot": slot,
    "operations.WorkerNode": working_node,
    "survival.BreakGlass": lambda n: factories.BreakGlassFactory(),
    "survival.CardCopy": lambda n: factories.CardCopyFactory(),
    "survival.PortalBackup": lambda n: factories.PortalBackupFactory(),
    "webhooks.Delivery": lambda n: factories.DeliveryFactory(),
    "webhooks.Webhook": lambda n: factories.WebhookFactory(),
}
# The superuser's screens of django-celery-beat are not the portal's.
FOREIGN = "django_celery_beat."
# There is one row, and its list leads to it.
SINGLE = {"survival.SecondPlace"}


def test_no_list_is_forgotten():
    listed = {model._meta.label for model in site._registry if not model._meta.label.startswith(FOREIGN)}
    assert listed == set(MAKERS) | SINGLE


MOST_QUERIES = 10


@pytest.mark.parametrize("label", MAKERS)
def test_thirty_rows_cost_what_one_costs(label):
    client = factories.browser(factories.PersonFactory(is_superuser=True))
    address = list_url(apps.get_model(label))

    def cost() -> tuple[int, str]:
        with counted() as queries:
            response = client.get(address)
        assert response.status_code == 200
        seen.append(len(response.context["cl"].result_list))
        return len(queries), "\n".join(query["sql"][:200] for query in queries)

    seen: list[int] = []
    MAKERS[label](0)
    client.get(address)  # content types and the like are read once a process
    one, _ = cost()
    for number in range(1, 30):
        MAKERS[label](number)
    thirty, queries = cost()
    assert seen[1] >= seen[0] + 29 or seen[1] == 50, "the rows must be on the page"
    assert thirty == one, queries
    assert thirty <= MOST_QUERIES, queries
