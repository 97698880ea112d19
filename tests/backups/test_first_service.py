"""From an empty portal to the first backup: one page, a dozen answers, and nothing half done when one is wrong."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from django.core.cache import cache

from backups.forms import FirstServiceForm
from backups.models import Archive, Plan, Storage
from catalog.models import Component, DatabaseTarget, Environment, Host, Service
from core.roles import Role
from operations import engine
from operations.models import Operation, Schedule
from tests import factories
from tests.factories import SampleDatabase
from tests.pages import page_of

ADDRESS = "/backups/plan/first/"
MOST_INPUTS = 12


@pytest.fixture
def database(transactional_db, target_server, settings, tmp_path) -> SampleDatabase:
    settings.DATA_DIR = tmp_path / "data"
    settings.SECRET_DIRS = [tmp_path / "secrets"]
    cache.clear()
    database = factories.sample_database(target_server)
    yield database
    factories.drop_databases(target_server, database.name)


@pytest.fixture
def ada(transactional_db):
    return factories.browser(factories.PersonFactory(username="ada", role=Role.ADMINISTRATOR))


def answers(sample: SampleDatabase, /, **changes: str) -> dict[str, str]:
    server = sample.server
    values = {"service": "Web shop", "kind": "production", "host": server.host, "port": "5432", "user": server.user}
    values |= {"database": sample.name, "password": server.password, "at": "03:15", "keep_days": "14"}
    return {**values, "rto": "30 min", "rpo": "24 h", **changes}


def send(client, values: dict[str, str]):
    form = page_of(client.get(ADDRESS)).post
    return client.post(ADDRESS, {**form.fields, **values})


def nothing_was_written() -> bool:
    models = (Service, Environment, Component, DatabaseTarget, Storage, Plan, Schedule, Operation)
    return not any(model.objects.exists() for model in models)


def test_there_are_at_most_a_dozen_questions(ada):
    assert len(FirstServiceForm().fields) <= MOST_INPUTS
    shown = [
        name for name in page_of(ada.get(ADDRESS)).post.fields if name not in ("csrfmiddlewaretoken", "request_key")
    ]
    assert len(shown) <= MOST_INPUTS + 1  # and the button that tests


def test_an_empty_portal_leads_there(ada):
    assert ADDRESS in page_of(ada.get("/")).links
    manager = factories.browser(factories.PersonFactory(role=Role.MANAGER))
    assert ADDRESS not in page_of(manager.get("/")).links
    assert manager.get(ADDRESS).status_code == 403
    assert manager.post(ADDRESS, {}).status_code == 403
    assert manager.post(f"{ADDRESS}test/", {}).status_code == 403


def test_everything_and_a_verified_backup(database, ada, settings):
    response = send(ada, answers(database))
    assert response.status_code == 302, page_of(response).text
    operation = Operation.objects.get()
    assert response["Location"] == f"/operations/operation/{operation.pk}/"
    engine.run(operation.pk, "worker-1")
    operation.refresh_from_db()
    assert operation.state == Operation.State.SUCCEEDED, operation.message
    assert Archive.objects.get().is_restore_point

    target = DatabaseTarget.objects.get()
    assert target.system_identifier and target.component.rto and target.component.rpo
    assert target.component.environment.kind == "production"
    plan = Plan.objects.get()
    assert (plan.keep_days, plan.schedule.crontab.hour, plan.schedule.crontab.minute) == (14, "3", "15")
    assert plan.storage.root == str(settings.DATA_DIR / "archives")
    assert Host.objects.get().kind == Host.Kind.LOCAL

    path = Path(target.password_ref.removeprefix("file:"))
    assert path.read_text() == database.server.password
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.parent == settings.SECRET_DIRS[0]
    page = ada.get(f"/catalog/databasetarget/{target.pk}/").content.decode()
    assert database.server.password not in page and target.password_ref in page


def test_a_double_click_makes_one(database, ada):
    form = page_of(ada.get(ADDRESS)).post
    values = {**form.fields, **answers(database)}
    assert ada.post(ADDRESS, values).status_code == 302
    again = ada.post(ADDRESS, values)
    assert again.status_code == 302 and again["Location"] == Operation.objects.get().get_absolute_url()
    assert Operation.objects.count() == Plan.objects.count() == 1


def test_a_second_database_of_a_service_joins_the_first(database, ada, settings):
    assert send(ada, answers(database)).status_code == 302
    other = factories.sample_database(database.server)
    try:
        response = send(ada, {**answers(database), "database": other.name})
        assert response.status_code == 302, page_of(response).text
        first, second = DatabaseTarget.objects.order_by("pk")
        assert second.component.environment == first.component.environment and second.component != first.component
        assert Service.objects.count() == 1 and Plan.objects.count() == 2
        again = send(ada, {**answers(database), "database": other.name})
        assert again.status_code == 200 and "has this database already" in page_of(again).text
    finally:
        factories.drop_databases(database.server, other.name)


def test_a_reference_is_taken_as_it_is(database, ada, settings, monkeypatch):
    monkeypatch.setenv("OPS_SECRET_FIRST", database.server.password)
    assert send(ada, answers(database, password="env:OPS_SECRET_FIRST")).status_code == 302
    assert DatabaseTarget.objects.get().password_ref == "env:OPS_SECRET_FIRST"
    assert not settings.SECRET_DIRS[0].exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "wrong"}, "refused the password"),
        ({"host": "127.0.0.1", "port": "1"}, "Nothing answers at 127.0.0.1:1"),
        ({"database": "nowhere_at_all"}, "has no database"),
        ({"folder": "/nowhere/at/all"}, "There is no folder /nowhere/at/all"),
        ({"folder": "relative"}, "absolute"),
        ({"host": "db;rm -rf /"}, "one host name"),
        ({"kind": "moon"}, "Select a valid choice"),
        ({"rto": "15"}, "number with its unit"),
        ({"password": "env:HOME"}, "not open to references"),
        ({"service": "\u202egnp.exe"}, "invisible control characters"),
        ({"at": "25:00"}, "Enter a valid time"),
    ],
)
def test_what_does_not_do_is_said_and_nothing_is_written(database, ada, settings, changes, words):
    response = send(ada, answers(database, **changes))
    assert response.status_code == 200
    page = page_of(response)
    assert words in page.text
    assert nothing_was_written()
    assert not list(settings.SECRET_DIRS[0].glob("*")) if settings.SECRET_DIRS[0].exists() else True
    assert page.post.fields["user"] == database.server.user
    assert database.server.password not in response.content.decode()


class TestTrying:
    """The connection is tested while the page is filled in, and by a button without JavaScript."""

    def test_as_you_type(self, database, ada):
        form = page_of(ada.get(ADDRESS)).post
        response = ada.post(f"{ADDRESS}test/", {**form.fields, **answers(database, service="")})
        assert "Connected: PostgreSQL" in response.content.decode()
        assert "2 tables" in response.content.decode()
        soon = ada.post(f"{ADDRESS}test/", {**form.fields, **answers(database)})
        assert "One moment" in soon.content.decode()
        cache.clear()
        wrong = ada.post(f"{ADDRESS}test/", {**form.fields, **answers(database, password="wrong")})
        assert "refused the password" in wrong.content.decode() and nothing_was_written()
        cache.clear()
        assert "Fill in host, user" in ada.post(f"{ADDRESS}test/", {"port": "5432", "database": "x"}).content.decode()
        assert ada.get(f"{ADDRESS}test/").status_code == 405

    def test_by_a_button(self, database, ada):
        page = page_of(send(ada, {**answers(database), "test": "1"}))
        assert "Connected: PostgreSQL" in page.text and nothing_was_written()
        assert page.post.fields["database"] == database.name
