"""Rules that the database holds, also against code that skips every form."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError

from catalog.models import Component, DatabaseTarget, Environment, Host, Service, ServiceControlCommands, Severity
from core.environments import EnvironmentBand

pytestmark = pytest.mark.django_db


def refused(constraint: str, model, **values) -> None:
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        model.objects.create(**values)
    assert constraint in str(caught.value)


def test_names_say_where_things_are(target):
    assert str(target.component.environment) == "ERP · production"
    assert str(target.component) == "ERP · production · database"
    assert str(target) == "ERP · production · erp"
    band = EnvironmentBand(label="ERP · production", kind="production")
    assert target.environment_band == target.component.environment_band == band
    assert target.component.environment.environment_band == band
    assert ServiceControlCommands(environment=target.component.environment).environment_band == band


def test_every_kind_has_a_band(environment):
    for kind in Environment.Kind:
        assert Environment(service=environment.service, name="x", kind=kind).environment_band.kind == kind.value


def test_an_address_is_unmistakable(target):
    assert target.address == "db1.example.org:5432/erp"
    target.host = "::1"
    assert target.address == "[::1]:5432/erp"


def test_recovery_targets_are_not_invented(environment):
    component = Component.objects.create(environment=environment, name="api", kind="api")
    component.refresh_from_db()
    assert component.rto is None
    assert component.rpo is None


def test_an_rpo_of_zero_is_a_target_and_an_rto_of_zero_is_not(environment):
    values = {"environment": environment, "name": "frontend", "kind": "frontend"}
    refused("component_rto_positive", Component, **values, rto=timedelta(0))
    refused("component_rto_positive", Component, **values, rto=timedelta(seconds=-1))
    refused("component_rpo_not_negative", Component, **values, rpo=timedelta(seconds=-1))
    frontend = Component.objects.create(**values, rto=timedelta(minutes=5), rpo=timedelta(0))
    frontend.refresh_from_db()
    assert frontend.rpo == timedelta(0)


def test_kinds_are_known(environment):
    refused("component_kind_known", Component, environment=environment, name="x", kind="mainframe")
    refused("environment_kind_known", Environment, service=environment.service, name="x", slug="x", kind="prod")


def test_names_are_unique_where_they_are_used(component):
    environment = component.environment
    refused("unique", Service, name="ERP", slug="other")
    refused("unique", Service, name="Other", slug="erp")
    refused(
        "environment_slug_unique", Environment, service=environment.service, name="p", slug="production", kind="staging"
    )
    refused("component_name_unique", Component, environment=environment, name="database", kind="api")
    other = Service.objects.create(name="Shop", slug="shop")
    Environment.objects.create(service=other, name="production", slug="production", kind="production")


def test_names_are_not_empty(environment):
    refused("service_name_not_empty", Service, name="", slug="x")
    refused("service_slug_not_empty", Service, name="x", slug="")
    refused("component_name_not_empty", Component, environment=environment, name="", kind="api")
    refused("host_queue_not_empty", Host, name="x", address="x", queue="")


@pytest.mark.parametrize(
    ("constraint", "values"),
    [
        ("databasetarget_host_plain", {"host": ""}),
        ("databasetarget_host_plain", {"host": "-h"}),
        ("databasetarget_host_plain", {"host": "a b"}),
        ("databasetarget_host_plain", {"host": "a\nb"}),
        ("databasetarget_host_plain", {"host": "a,b"}),
        ("databasetarget_host_plain", {"host": "host=evil"}),
        ("databasetarget_port_range", {"port": 0}),
        ("databasetarget_port_range", {"port": 65536}),
        ("databasetarget_database_not_empty", {"database": ""}),
        ("databasetarget_user_not_empty", {"user": ""}),
        ("databasetarget_maintenance_database_not_empty", {"maintenance_database": ""}),
        ("databasetarget_maintenance_other", {"database": "postgres"}),
        ("databasetarget_engine_known", {"engine": "oracle"}),
        ("databasetarget_sslmode_known", {"sslmode": "maybe"}),
        ("databasetarget_system_identifier_number", {"system_identifier": "7; DROP"}),
    ],
)
def test_a_target_that_cannot_be_right_is_refused(component, constraint, values):
    refused(
        constraint,
        DatabaseTarget,
        **{"component": component, "name": "x", "host": "h", "database": "d", "user": "u"} | values,
    )


def test_one_database_has_one_entry(target, environment):
    same = {"host": "DB1.example.org", "database": "erp", "user": "other"}
    api = Component.objects.create(environment=environment, name="api", kind="api")
    refused("databasetarget_place_unique", DatabaseTarget, component=api, name="again", **same)
    DatabaseTarget.objects.create(component=api, name="other port", port=5433, **same)
    DatabaseTarget.objects.create(component=api, name="other database", **{**same, "database": "erp2"})


def test_severities_are_compared_by_rank(environment):
    shop = Service.objects.create(name="Shop", slug="shop")
    high = Severity.objects.create(service=environment.service, code="P1", name="High", rank=2)
    down = Severity.objects.create(service=shop, code="P2", name="System down", rank=1)
    assert down.is_worse_than(high)
    assert not high.is_worse_than(down)
    assert not high.is_worse_than(high)
    assert list(Severity.objects.all()) == [down, high]
    refused("severity_code_unique", Severity, service=shop, code="P2", name="x", rank=2)
    refused("severity_rank_unique", Severity, service=shop, code="P3", name="x", rank=1)
    refused("severity_rank_from_one", Severity, service=shop, code="P0", name="x", rank=0)
    refused(
        "severity_response_time_positive",
        Severity,
        service=shop,
        code="P9",
        name="x",
        rank=9,
        response_time=timedelta(0),
    )


@pytest.mark.parametrize("bad", [[], "systemctl stop erp", {"a": 1}, None, 5])
def test_commands_are_lists(environment, bad):
    for action in ("start", "stop", "status"):
        commands = {"start": ["true"], "stop": ["true"], "status": ["true"], action: bad}
        with pytest.raises(IntegrityError), transaction.atomic():
            ServiceControlCommands.objects.create(environment=environment, **commands)


def test_time_limits_have_bounds(environment):
    commands = {"environment": environment, "start": ["true"], "stop": ["true"], "status": ["true"]}
    refused("servicecontrol_timeouts_range", ServiceControlCommands, **commands, timeout_s=0)
    refused("servicecontrol_timeouts_range", ServiceControlCommands, **commands, ready_timeout_s=3601)


def test_what_is_in_use_is_not_deleted(target):
    for used in (target.component, target.component.environment, target.component.environment.service):
        with pytest.raises(ProtectedError):
            used.delete()


def test_full_clean_says_it_in_sentences(target):
    DatabaseTarget(
        component=target.component, name="ok", host="/run/postgresql", database="shop", user="backup"
    ).full_clean()
    with pytest.raises(ValidationError) as caught:
        DatabaseTarget(
            component=target.component, name="erp", host="DB1.example.org", database="erp", user="u", port=0
        ).full_clean()
    text = str(caught.value)
    assert "This component has a database with this name already" in text
    assert "port" in caught.value.message_dict
    with pytest.raises(ValidationError, match="maintenance database must be another one"):
        DatabaseTarget(component=target.component, name="x", host="h", database="postgres", user="u").full_clean()


def test_names_of_many_rows_cost_one_query(target, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert [str(row) for row in DatabaseTarget.objects.named()] == ["ERP · production · erp"]
    with django_assert_num_queries(1):
        assert [str(row) for row in Component.objects.named()] == ["ERP · production · database"]


def test_constraints_really_are_in_the_database(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_constraint WHERE conname LIKE 'servicecontrol_%_is_list'")
        assert cursor.fetchone() == (3,)
