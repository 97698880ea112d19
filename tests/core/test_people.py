import pytest
from auditlog.models import LogEntry

from core.models import User
from core.roles import Role
from tests.core.conftest import PASSWORD

pytestmark = pytest.mark.django_db


def fields(user: User, **changes: object) -> dict[str, object]:
    """The edit form as it would be sent back: a role that is not sent is taken away."""
    roles = list(user.groups.values_list("pk", flat=True))
    return {"username": user.username, "time_zone": "UTC", "is_active": "on", "groups": roles, **changes}


def test_an_administrator_makes_a_person(signed_in):
    administrator = signed_in(Role.ADMINISTRATOR)
    new = {"username": "kim", "password1": PASSWORD, "password2": PASSWORD}
    assert administrator.post("/core/user/add/", new).status_code == 302
    kim = User.objects.get(username="kim")
    assert kim.check_password(PASSWORD)
    assert not kim.is_superuser


def test_an_administrator_cannot_become_or_take_over_a_superuser(signed_in, root):
    administrator = signed_in(Role.ADMINISTRATOR)
    me, boss = User.objects.get(username="administrator"), User.objects.get(username="root")
    administrator.post(f"/core/user/{me.pk}/change/", fields(me, is_superuser="on"))
    me.refresh_from_db()
    assert not me.is_superuser
    assert administrator.get(f"/core/user/{me.pk}/password/").status_code == 200
    assert administrator.get(f"/core/user/{boss.pk}/password/").status_code == 403
    assert administrator.post(f"/core/user/{boss.pk}/change/", fields(boss, username="x")).status_code == 403


def test_accounts_are_switched_off_and_not_deleted(root, person):
    user = person(Role.MANAGER)
    assert root.post(f"/core/user/{user.pk}/delete/", {"post": "yes"}).status_code == 403
    assert root.post(f"/core/user/{user.pk}/change/", fields(user, is_active="")).status_code == 302
    user.refresh_from_db()
    assert not user.is_active


def test_roles_are_read_only_even_for_a_superuser(root):
    assert root.get("/auth/group/add/").status_code == 403


def test_edits_leave_a_trail_with_author_and_without_the_password(signed_in, person):
    user = person(Role.MANAGER)
    administrator = signed_in(Role.ADMINISTRATOR)
    administrator.post(f"/core/user/{user.pk}/change/", fields(user, first_name="Lena"))
    administrator.post(
        f"/core/user/{user.pk}/password/",
        {"password1": "another-horse-7", "password2": "another-horse-7", "usable_password": "true"},
    )
    entries = list(LogEntry.objects.get_for_object(user).filter(actor__username="administrator"))
    assert any(entry.changes_dict.get("first_name") == ["", "Lena"] for entry in entries)
    password = next(entry for entry in entries if "password" in entry.changes_dict)
    user.refresh_from_db()
    assert user.check_password("another-horse-7")
    assert user.password not in str(password.changes_dict)
    assert "*" in password.changes_dict["password"][1]
    html = administrator.get(f"/core/user/{user.pk}/history/").content.decode()
    assert "first_name" in html
    assert "administrator" in html


def test_a_manager_reads_the_audit_trail(signed_in, person):
    manager = signed_in(Role.MANAGER)
    entry = LogEntry.objects.first()
    assert manager.get("/auditlog/logentry/").status_code == 200
    assert manager.get(f"/auditlog/logentry/{entry.pk}/").status_code == 200
    assert manager.post(f"/auditlog/logentry/{entry.pk}/delete/", {"post": "yes"}).status_code == 403


def test_the_tables_of_beat_are_for_superusers(signed_in, root):
    address = "/django_celery_beat/periodictask/"
    assert signed_in(Role.ADMINISTRATOR).get(address).status_code == 403
    assert root.get(address).status_code == 200


def test_an_unknown_time_zone_is_refused_and_an_outdated_one_falls_back(signed_in):
    from django.core.exceptions import ValidationError

    with pytest.raises(ValidationError, match="not a time zone"):
        User(username="x", password="y", time_zone="Mars/Olympus").full_clean()
    client = signed_in(Role.MANAGER, time_zone="US/Gone")
    assert client.get("/").status_code == 200
