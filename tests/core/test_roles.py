import pytest
from django.contrib.auth.models import Group, Permission

from core import roles
from core.checks import check_role_table
from core.roles import Role, codes_of, declared_codes, sync_roles

pytestmark = pytest.mark.django_db


def held(role: Role) -> set[str]:
    rows = Group.objects.get(name=role.value).permissions.select_related("content_type")
    return {f"{row.content_type.app_label}.{row.codename}" for row in rows}


@pytest.mark.parametrize("role", list(Role))
def test_migrating_gives_each_role_exactly_the_table(role):
    assert held(role) == codes_of(role, declared_codes())


def test_a_manager_sees_everything_and_may_do_nothing():
    codes = held(Role.MANAGER)
    assert codes
    assert all(code.split(".")[1].startswith("view_") for code in codes)
    assert {"auditlog.view_logentry", "core.view_user", "auth.view_group", "axes.view_accessattempt"} <= codes


def test_an_administrator_holds_all_of_the_portal_but_not_the_tables_of_beat():
    codes = held(Role.ADMINISTRATOR)
    assert {"core.add_user", "core.change_user", "auditlog.view_logentry"} <= codes
    assert declared_codes(roles.PORTAL_APPS) <= codes
    assert not {code for code in codes if code.startswith("django_celery_beat.")}
    assert "auth.change_group" not in codes, "the table in code decides what a role may do"


def test_syncing_takes_back_what_somebody_added_and_gives_back_what_was_removed():
    group = Group.objects.get(name=Role.MANAGER.value)
    before = held(Role.MANAGER)
    group.permissions.remove(Permission.objects.get(codename="view_user"))
    group.permissions.add(Permission.objects.get(codename="delete_user"))
    sync_roles()
    assert held(Role.MANAGER) == before


def test_a_code_that_no_app_declares_is_a_configuration_error(monkeypatch):
    monkeypatch.setitem(roles.ROLES, Role.OPERATOR, ("core.view_user", "backup.run_plan", "nowhere.*"))
    errors = [e for e in check_role_table() if "Operator" in e.msg]
    assert [e.id for e in errors] == ["core.E001", "core.E001"]
    assert "backup.run_plan" in errors[0].msg
    assert "core/roles.py" in errors[0].hint
