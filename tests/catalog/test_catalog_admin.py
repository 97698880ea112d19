"""The screens: who sees, who edits, and what an edit does."""

from datetime import timedelta

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from catalog.exceptions import CatalogError
from catalog.inspection import INSPECTORS, TargetFacts
from catalog.models import Component, DatabaseTarget, Environment, Host, Service, ServiceControlCommands, Severity
from core.links import detail_url, list_url, page_url
from core.roles import Role

pytestmark = pytest.mark.django_db
MODELS = (Service, Environment, Component, Host, DatabaseTarget, ServiceControlCommands, Severity)
READERS = (Role.MANAGER, Role.RESPONDER, Role.OPERATOR, Role.APPROVER)
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def inventory(target):
    """One row of every model."""
    environment = target.component.environment
    Component.objects.create(environment=environment, name="api", kind="api")
    Host.objects.create(name="db1", address="db1.example.org")
    ServiceControlCommands.objects.create(
        environment=environment, start=["systemctl", "start", "erp app"], stop=["true"], status=["true"]
    )
    Severity.objects.create(
        service=environment.service, code="P1", name="Critical", rank=1, response_time=timedelta(minutes=15)
    )
    return {model: model.objects.first() for model in MODELS}


def control_data(row: ServiceControlCommands, **changes) -> dict[str, object]:
    values = {"environment": row.environment_id, "start": "touch\n/tmp/x y", "stop": "true", "status": "true"}
    return {**values, "timeout_s": 60, "ready_timeout_s": 120, **changes}


def target_data(target: DatabaseTarget, **changes) -> dict[str, object]:
    names = ("name", "engine", "host", "port", "database", "maintenance_database", "sslmode", "user", "password_ref")
    values = {name: getattr(target, name) for name in (*names, "system_identifier", "smoke_test")}
    return {**values, "component": target.component_id, **changes}


@pytest.mark.parametrize("role", READERS)
def test_everybody_reads_and_only_administrators_edit(role, signed_in, inventory):
    client = signed_in(role)
    for model, row in inventory.items():
        assert client.get(list_url(model)).status_code == 200
        assert client.get(detail_url(row)).status_code == 200
        assert client.get(page_url(row, "history")).status_code == 200
        before = model.objects.filter(pk=row.pk).values().get()
        assert client.get(reverse(f"admin:catalog_{model._meta.model_name}_add")).status_code == 403
        assert client.post(reverse(f"admin:catalog_{model._meta.model_name}_add"), {}).status_code == 403
        assert client.post(page_url(row, "change"), {"name": "taken over"}).status_code == 403
        assert client.post(page_url(row, "delete"), {"post": "yes"}).status_code == 403
        assert model.objects.filter(pk=row.pk).values().get() == before


def test_nobody_reads_without_signing_in(client, inventory):
    for model, row in inventory.items():
        assert client.get(list_url(model)).status_code == 302
        assert client.get(detail_url(row)).status_code == 302


def test_an_operator_cannot_change_commands(signed_in, inventory):
    row = inventory[ServiceControlCommands]
    client = signed_in(Role.OPERATOR)
    assert client.post(page_url(row, "change"), control_data(row)).status_code == 403
    row.refresh_from_db()
    assert row.start == ["systemctl", "start", "erp app"]


def test_an_administrator_changes_commands_and_leaves_a_trail(signed_in, inventory):
    row = inventory[ServiceControlCommands]
    client = signed_in(Role.ADMINISTRATOR)
    page = client.get(page_url(row, "change")).content.decode()
    assert "systemctl\nstart\nerp app</textarea>" in page
    assert client.post(page_url(row, "change"), control_data(row)).status_code == 302
    row.refresh_from_db()
    assert (row.start, row.stop) == (["touch", "/tmp/x y"], ["true"])
    assert LogEntry.objects.get_for_object(row).latest("timestamp").actor.username == "some-administrator"
    response = client.post(page_url(row, "change"), control_data(row, start="-x"))
    assert response.status_code == 200
    assert "must be a program, not an option" in response.content.decode()


def test_an_administrator_opens_every_form(signed_in, inventory):
    client = signed_in(Role.ADMINISTRATOR)
    for model, row in inventory.items():
        assert client.get(page_url(row, "change")).status_code == 200
        assert client.get(reverse(f"admin:catalog_{model._meta.model_name}_add")).status_code == 200
        assert client.get(page_url(row, "delete")).status_code in (200, 403)


def test_a_service_with_its_environments_in_one_form(signed_in, db):
    data = {
        "name": "Shop", "slug": "", "description": "", "owner_team": "Shop team", "time_zone": "America/New_York",
        "environments-TOTAL_FORMS": 1, "environments-INITIAL_FORMS": 0,
        "environments-0-name": "Production EU", "environments-0-slug": "", "environments-0-kind": "production",
    }  # fmt: skip
    response = signed_in(Role.ADMINISTRATOR).post(reverse("admin:catalog_service_add"), data)
    assert response.status_code == 302
    environment = Environment.objects.get()
    assert (environment.slug, environment.service.slug) == ("production-eu", "shop")


def test_a_slug_that_cannot_be_made(signed_in, db):
    data = {
        "name": "東京",
        "slug": "",
        "time_zone": "UTC",
        "environments-TOTAL_FORMS": 0,
        "environments-INITIAL_FORMS": 0,
    }
    page = signed_in(Role.ADMINISTRATOR).post(reverse("admin:catalog_service_add"), data).content.decode()
    assert "no plain letters" in page


def test_recovery_targets_are_typed_with_units(signed_in, component):
    client = signed_in(Role.ADMINISTRATOR)
    data = {
        "environment": component.environment_id,
        "name": "database",
        "kind": "database",
        "rto": "1 h 30 min",
        "rpo": "",
    }
    assert client.post(page_url(component, "change"), data).status_code == 302
    component.refresh_from_db()
    assert (component.rto, component.rpo) == (timedelta(minutes=90), None)
    assert 'value="1 h 30 min"' in client.get(page_url(component, "change")).content.decode()
    page = client.post(page_url(component, "change"), {**data, "rto": "15"}).content.decode()
    assert "with its unit" in page
    page = client.post(page_url(component, "change"), {**data, "rto": "0"}).content.decode()
    assert "must be longer than zero" in page


def test_the_page_of_a_service_shows_it_whole(signed_in, inventory, django_assert_max_num_queries):
    client = signed_in(Role.MANAGER)
    page = client.get(detail_url(inventory[Service])).content.decode()
    for text in ("Orders team", "production", "30 min", "not set", ">erp</a>", "P1 Critical", "Europe/Berlin"):
        assert text in page
    assert "0 s" in page  # an RPO of zero is a target
    for number in range(5):
        Component.objects.create(environment=inventory[Environment], name=f"c{number}", kind="other")
    with django_assert_max_num_queries(14):
        client.get(detail_url(inventory[Service]))


@pytest.mark.parametrize("model", [Environment, Component, DatabaseTarget, ServiceControlCommands, Severity])
def test_a_list_costs_the_same_for_many_rows(model, signed_in, inventory):
    client = signed_in(Role.MANAGER)

    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(list_url(model)).status_code == 200
        return len(queries)

    count()
    one = count()
    for number in range(6):
        service = Service.objects.create(name=f"S{number}", slug=f"s{number}")
        environment = Environment.objects.create(service=service, name="e", slug="e", kind="staging")
        part = Component.objects.create(environment=environment, name="c", kind="api")
        DatabaseTarget.objects.create(component=part, name="d", host="h", database=f"d{number}", user="u")
        ServiceControlCommands.objects.create(environment=environment, start=["a"], stop=["b"], status=["c"])
        Severity.objects.create(service=service, code="P1", name="x", rank=1)
    assert count() == one


def test_the_page_of_a_database(signed_in, inventory):
    target = inventory[DatabaseTarget]
    DatabaseTarget.objects.update(
        smoke_test="SELECT count(*) > 0 FROM orders WHERE 1 < 2", password_ref="env:OPS_SECRET_ERP"
    )
    page = signed_in(Role.MANAGER).get(detail_url(target)).content.decode()
    for text in ("db1.example.org", "env:OPS_SECRET_ERP", "Never contacted", "WHERE 1 &lt; 2", "PRODUCTION", "30 min"):
        assert text in page
    assert 'id="do-check_connection"' not in page


def test_what_people_type_is_text(signed_in, inventory):
    Service.objects.update(name=EVIL, description=EVIL, owner_team=EVIL)
    Environment.objects.update(name=EVIL)
    for component in Component.objects.all():
        Component.objects.filter(pk=component.pk).update(name=f"{EVIL} {component.pk}")
    DatabaseTarget.objects.update(name=EVIL, smoke_test=EVIL)
    ServiceControlCommands.objects.update(start=[EVIL])
    Severity.objects.update(code="<b>", name=EVIL)
    client = signed_in(Role.MANAGER)
    for model, row in inventory.items():
        for url in (list_url(model), detail_url(row)):
            page = client.get(url).content.decode()
            assert EVIL not in page


def test_the_connection_check(signed_in, inventory, monkeypatch):
    target = inventory[DatabaseTarget]
    monkeypatch.setitem(INSPECTORS, "postgresql", lambda target: TargetFacts("7381923847561029384", "18.1"))
    url = page_url(target, "do", "check_connection")
    key = {"request_key": "5f0c6a52-7d0c-4d9e-9d3a-0b8a4c0f1a11"}
    client = signed_in(Role.ADMINISTRATOR)
    assert client.get(url).status_code == 405
    target.refresh_from_db()
    assert target.system_identifier == ""
    response = client.post(url, key)
    assert response.status_code == 302
    target.refresh_from_db()
    assert target.system_identifier == "7381923847561029384"
    page = client.get(detail_url(target)).content.decode()
    assert "Connected to db1.example.org:5432/erp: PostgreSQL 18.1." in page and "Identity pinned" in page

    monkeypatch.setitem(INSPECTORS, "postgresql", lambda target: TargetFacts("1", "18.1"))
    client.post(url, key)
    assert "is another server than before" in client.get(detail_url(target)).content.decode()


def test_the_connection_check_needs_its_permission(signed_in, person, inventory, monkeypatch):
    def forbidden(target):
        raise CatalogError("must not be called")

    monkeypatch.setitem(INSPECTORS, "postgresql", forbidden)
    url = page_url(inventory[DatabaseTarget], "do", "check_connection")
    client = signed_in(Role.MANAGER)
    assert client.post(url, {}).status_code == 403
    operator = person(Role.RESPONDER)
    operator.user_permissions.add(Permission.objects.get(codename="check_databasetarget"))
    client.force_login(operator)
    assert client.post(url, {"request_key": "5f0c6a52-7d0c-4d9e-9d3a-0b8a4c0f1a11"}).status_code == 302
    assert client.post(page_url(inventory[DatabaseTarget], "change"), {}).status_code == 403


def test_a_hostile_target_is_not_saved(signed_in, inventory):
    target = inventory[DatabaseTarget]
    client = signed_in(Role.ADMINISTRATOR)
    hostile = {
        "host": "db1 options=-csearch_path=x",
        "database": "host=evil",
        "password_ref": "env:SECRET_KEY",
        "port": "99999",
    }
    for name, value in hostile.items():
        response = client.post(page_url(target, "change"), target_data(target, **{name: value}))
        assert response.status_code == 200, name
        assert response.context["adminform"].form.errors[name]
    target.refresh_from_db()
    assert (target.host, target.database, target.password_ref) == ("db1.example.org", "erp", "")


def test_a_missing_password_is_said_at_once(signed_in, inventory, monkeypatch):
    target = inventory[DatabaseTarget]
    monkeypatch.delenv("OPS_SECRET_NEW", raising=False)
    response = signed_in(Role.ADMINISTRATOR).post(
        page_url(target, "change"), target_data(target, password_ref="env:OPS_SECRET_NEW")
    )
    assert response.status_code == 302
    assert any("OPS_SECRET_NEW is not set" in str(message) for message in get_messages(response.wsgi_request))
    target.refresh_from_db()
    assert target.password_ref == "env:OPS_SECRET_NEW"


def test_only_an_administrator_unpins(signed_in, inventory):
    target = inventory[DatabaseTarget]
    DatabaseTarget.objects.update(system_identifier="7381923847561029384")
    client = signed_in(Role.OPERATOR)
    assert client.post(page_url(target, "change"), target_data(target, system_identifier="")).status_code == 403
    target.refresh_from_db()
    assert target.system_identifier
    client.logout()
    client = signed_in(Role.ADMINISTRATOR)
    assert client.post(page_url(target, "change"), target_data(target, system_identifier="")).status_code == 302
    target.refresh_from_db()
    assert target.system_identifier == ""


def test_deleting_what_is_in_use_is_refused_with_what_uses_it(signed_in, inventory):
    service = inventory[Service]
    page = signed_in(Role.ADMINISTRATOR).post(page_url(service, "delete"), {"post": "yes"}).content.decode()
    assert Service.objects.filter(pk=service.pk).exists()
    assert "ERP · production" in page


def test_the_export_is_what_the_list_shows(signed_in, inventory):
    response = signed_in(Role.MANAGER).get(reverse("admin:catalog_component_export") + "?kind__exact=database")
    text = b"".join(response.streaming_content).decode() if response.streaming else response.content.decode()
    assert "30 min" in text and "database" in text
    assert len(text.strip().splitlines()) == 2
