"""Health pages on a real database: what they say, and what they must not depend on."""

import pytest
from django.core.management import call_command
from django.db import connections

from opsportal import health


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(health, "_migrated", False)


def test_live_needs_no_database(client):
    answer = client.get("/health/live")
    assert answer.status_code == 200
    assert answer.json() == {"status": "live"}
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.django_db
def test_ready_with_database_and_migrations_and_without_redis(client, settings):
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    answer = client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready"}
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.django_db
def test_nobody_signed_in_needs_no_session_and_gets_no_cookie(client):
    assert not client.get("/health/ready").cookies


@pytest.mark.django_db
def test_only_reading(client):
    assert client.post("/health/ready").status_code == 405


@pytest.mark.django_db
def test_migrations_are_asked_once(client, django_assert_num_queries):
    client.get("/health/ready")
    with django_assert_num_queries(1):
        assert client.get("/health/ready").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_missing_migration_is_not_ready_and_says_how_many(client):
    call_command("migrate", "sessions", "zero", verbosity=0)
    try:
        answer = client.get("/health/ready")
    finally:
        call_command("migrate", "sessions", verbosity=0)
    assert answer.status_code == 503
    assert answer.json()["reason"] == "The database lacks 1 migration: run manage.py migrate."
    assert client.get("/health/ready").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_database_that_does_not_answer_is_not_ready_and_gives_nothing_away(client):
    connection = connections["default"]
    connection.close()
    host = connection.settings_dict["OPTIONS"]["host"]
    connection.settings_dict["OPTIONS"]["host"] = "/nonexistent"
    try:
        answer = client.get("/health/ready")
    finally:
        connection.settings_dict["OPTIONS"]["host"] = host
        connection.close()
    assert answer.status_code == 503
    assert answer.json() == {"status": "not ready", "reason": "The database does not answer."}
    assert client.get("/health/ready").status_code == 200
