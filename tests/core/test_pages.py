import csv

import pytest
from django.contrib.auth.models import Group
from django.template.loader import render_to_string
from django.test import Client
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from core.models import User
from core.roles import Role
from tests.core.conftest import Page

pytestmark = pytest.mark.django_db


@pytest.fixture
def pages(root, person) -> list[str]:
    user = person(Role.MANAGER)
    group = Group.objects.first()
    crontab = CrontabSchedule.objects.create()
    task = PeriodicTask.objects.create(name="nightly", task="x", crontab=crontab)
    return [
        "/",
        "/me/",
        "/password_change/",
        "/core/user/",
        "/core/user/?q=nobody-like-this",
        "/core/user/?is_active__exact=1",
        "/core/user/add/",
        f"/core/user/{user.pk}/",
        f"/core/user/{user.pk}/change/",
        f"/core/user/{user.pk}/history/",
        f"/core/user/{user.pk}/password/",
        "/auth/group/",
        f"/auth/group/{group.pk}/",
        "/auditlog/logentry/",
        "/axes/accessattempt/",
        "/django_celery_beat/periodictask/",
        f"/django_celery_beat/periodictask/{task.pk}/",
        "/django_celery_beat/periodictask/add/",
        f"/django_celery_beat/periodictask/{task.pk}/change/",
        f"/django_celery_beat/periodictask/{task.pk}/delete/",
        f"/django_celery_beat/crontabschedule/{crontab.pk}/change/",
        "/django_celery_beat/clockedschedule/add/",
    ]


def test_no_page_needs_anything_that_the_strict_policy_forbids(root, pages):
    for path in pages:
        response = root.get(path)
        assert response.status_code == 200, path
        policy = response["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        page = Page(response.content.decode())
        assert page.inline == [], path
        assert not [source for source in page.sources if "//" in source or "jquery" in source], path


def test_sign_in_page_obeys_the_policy_too(client):
    response = client.get("/login/")
    assert "default-src 'self'" in response["Content-Security-Policy"]
    assert Page(response.content.decode()).inline == []


def test_error_pages_are_the_portals_own(client, root):
    missing = root.get("/core/user/12345/")
    assert missing.status_code == 404
    assert "Nothing here" in missing.content.decode()
    broken = Client(raise_request_exception=False, enforce_csrf_checks=True)
    stale = broken.post("/login/", {"username": "x", "password": "y"})
    assert stale.status_code == 403
    assert "nothing was done" in stale.content.decode()
    for name in ("400", "403", "404", "500", "403_csrf"):
        page = Page(render_to_string(f"{name}.html"))
        assert page.inline == []
        assert "/static/ops/ops.css" in page.sources


def test_the_500_page_needs_no_database(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert "Something broke" in render_to_string("500.html")


def test_the_band_names_the_environment_on_every_page_of_an_object(small_portal, signed_in, person):
    administrator = signed_in(Role.ADMINISTRATOR)
    user = person(None, "server", last_name="production")
    for page in ("", "change/", "history/", "do/poke/"):
        html = administrator.get(f"/core/user/{user.pk}/{page}").content.decode()
        assert "band-production" in html, page
        assert "PRODUCTION" in html
        assert "ERP Berlin" in html
    for path in ("/", "/core/user/"):
        html = administrator.get(path).content.decode()
        assert "band-production" not in html
        assert "All environments" in html


def test_rows_lead_to_the_detail_page_and_back_to_the_filtered_list(root, person):
    user = person(Role.MANAGER)
    html = root.get("/core/user/?is_active__exact=1").content.decode()
    link = next(s for s in Page(html).sources if s.startswith(f"/core/user/{user.pk}/"))
    assert "change" not in link.split("?")[0]
    assert "/core/user/?is_active__exact=1" in root.get(link.replace("&amp;", "&")).content.decode()


def test_the_navigation_shows_only_what_a_person_may_see(signed_in, root):
    manager, nobody = signed_in(Role.MANAGER), signed_in(None)
    html = manager.get("/").content.decode()
    assert 'href="/core/user/"' in html
    assert "periodictask" not in html
    assert "periodictask" in root.get("/").content.decode()
    assert 'id="nav-configure"' not in nobody.get("/").content.decode()


def test_csv_holds_exactly_the_filtered_rows(signed_in, person):
    manager = signed_in(Role.MANAGER)
    person(None, "=cmd", first_name="a, b")
    person(None, "off", is_active=False)
    response = manager.get("/core/user/export/?is_active__exact=1")
    text = b"".join(response.streaming_content).decode()
    rows = list(csv.reader(text.splitlines()))
    assert response["Content-Disposition"].startswith('attachment; filename="user-')
    assert rows[0] == ["Username", "Name", "Roles", "State", "Time zone", "Last sign-in"]
    assert [row[0] for row in rows[1:]] == ["'=cmd", "manager"]
    assert rows[1][1] == "a, b"
    assert rows[2][2:5] == ["Manager", "Active", "UTC"]


def test_deleting_many_lists_and_counts_before_it_deletes(small_portal, root):
    doomed = [Group.objects.create(name=name) for name in ("one", "two")]
    data = {"action": "delete_selected", "_selected_action": [g.pk for g in doomed]}
    html = root.post("/auth/group/", data).content.decode()
    assert "Delete 2 groups" in html
    assert "one" in html
    assert Group.objects.filter(pk__in=[g.pk for g in doomed]).count() == 2
    root.post("/auth/group/", {**data, "post": "yes"})
    assert not Group.objects.filter(pk__in=[g.pk for g in doomed]).exists()


def test_a_long_list_stops_counting(monkeypatch, root, person):
    monkeypatch.setattr("core.changelist.COUNT_CAP", 2)
    for index in range(4):
        person(None, f"p{index}")
    assert "more than 2 people" in root.get("/core/user/").content.decode()


def test_list_pages_ask_a_fixed_number_of_queries(root, person, django_assert_num_queries):
    for index in range(30):
        person(Role.MANAGER, f"p{index}")
    root.get("/core/user/")
    # session, user, count of filtered rows (pagination and foot), rows, groups of the rows, groups of the filter
    with django_assert_num_queries(6):
        root.get("/core/user/")
    assert User.objects.count() > 30
