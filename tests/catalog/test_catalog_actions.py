"""Pinning the identity of a server, and asking a real one."""

import psycopg
import pytest
from auditlog.models import LogEntry

from catalog import actions
from catalog.exceptions import CatalogError
from catalog.inspection import INSPECTORS, TargetFacts
from catalog.models import DatabaseTarget
from catalog.targets import connection_values
from core.roles import Role

pytestmark = pytest.mark.django_db
FIRST = TargetFacts(system_identifier="7381923847561029384", server_version="18.1")


def inspect(target: DatabaseTarget) -> TargetFacts:
    """As an engine does it: connect with the resolved values and ask."""
    values = connection_values(target, "opsportal/check")
    try:
        with psycopg.connect(
            host=values.host, port=values.port, dbname=values.maintenance_database, user=values.user,
            password=values.password, application_name=values.application_name, connect_timeout=5,
        ) as connection:  # fmt: skip
            query = "SELECT system_identifier::text, current_setting('server_version') FROM pg_control_system()"
            return TargetFacts(*connection.execute(query).fetchone())
    except psycopg.OperationalError:
        raise CatalogError(f"{target.address} does not answer. Check the host and the password.") from None


@pytest.fixture
def inspector(monkeypatch):
    monkeypatch.setitem(INSPECTORS, "postgresql", inspect)


@pytest.fixture
def real(target, target_server, monkeypatch):
    monkeypatch.setenv("OPS_SECRET_TARGET", target_server.password)
    target.host, target.user, target.password_ref = target_server.host, target_server.user, "env:OPS_SECRET_TARGET"
    target.save()
    return target


def test_first_contact_pins(target, person):
    admin = person(Role.ADMINISTRATOR)
    stored = actions.pin_identity(target, FIRST, by=admin)
    assert stored.system_identifier == target.system_identifier == FIRST.system_identifier
    target.refresh_from_db()
    assert (target.system_identifier, target.server_version) == ("7381923847561029384", "18.1")
    entry = LogEntry.objects.get_for_object(target).filter(action=LogEntry.Action.UPDATE).get()
    assert entry.actor == admin
    assert entry.changes_dict["system_identifier"] == ["", "7381923847561029384"]


def test_a_minor_upgrade_is_noted_and_the_same_answer_writes_nothing(target):
    actions.pin_identity(target, FIRST, by=None)
    actions.pin_identity(target, TargetFacts(FIRST.system_identifier, "18.2"), by=None)
    target.refresh_from_db()
    assert target.server_version == "18.2"
    before = LogEntry.objects.get_for_object(target).count()
    actions.pin_identity(target, TargetFacts(FIRST.system_identifier, "18.2"), by=None)
    assert LogEntry.objects.get_for_object(target).count() == before


def test_another_server_is_refused_and_nothing_is_written(target):
    stale = DatabaseTarget.objects.get(pk=target.pk)
    actions.pin_identity(target, FIRST, by=None)
    for seen in (target, stale):  # a page opened before the first contact must not pin again
        with pytest.raises(CatalogError) as caught:
            actions.pin_identity(seen, TargetFacts("1", "19.0"), by=None)
        assert "another server than before" in caught.value.message
        assert FIRST.system_identifier in caught.value.message
        assert "administrator" in caught.value.message
    target.refresh_from_db()
    assert (target.system_identifier, target.server_version) == (FIRST.system_identifier, "18.1")


def test_an_administrator_gives_a_replaced_server_a_new_start(target):
    actions.pin_identity(target, FIRST, by=None)
    DatabaseTarget.objects.update(system_identifier="")
    assert actions.pin_identity(target, TargetFacts("1", "19.0"), by=None).system_identifier == "1"


def test_a_server_without_identity(target):
    with pytest.raises(CatalogError, match="does not say which one it is"):
        actions.pin_identity(target, TargetFacts("", "18.1"), by=None)


def test_checking_a_real_server(real, inspector):
    first = actions.check_connection(real, by=None)
    assert first.startswith(f"Connected to {real.host}:5432/erp: PostgreSQL 18") and "pinned from now on" in first
    assert "known from before" in actions.check_connection(real, by=None)
    real.refresh_from_db()
    assert real.system_identifier.isdigit() and real.server_version.startswith("18")


def test_checking_with_a_wrong_password_pins_nothing(real, inspector, monkeypatch):
    monkeypatch.setenv("OPS_SECRET_TARGET", "wrong")
    with pytest.raises(CatalogError, match="does not answer"):
        actions.check_connection(real, by=None)
    real.refresh_from_db()
    assert real.system_identifier == ""


def test_checking_without_an_engine(target, monkeypatch):
    monkeypatch.delitem(INSPECTORS, "postgresql", raising=False)
    with pytest.raises(CatalogError, match="No installed engine"):
        actions.check_connection(target, by=None)
