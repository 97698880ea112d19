"""Old records go, and what is referred to stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from auditlog.models import LogEntry
from axes.models import AccessAttempt
from django.apps import apps
from django.contrib.sessions.models import Session
from django.utils import timezone

from core.roles import Role
from operations import engine, housekeeping, standing
from operations.models import LogLine, Operation, OperationLock, Schedule, Slot
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
LONG_AGO = timezone.now() - timedelta(days=3000)


@pytest.fixture(autouse=True)
def rows(transactional_db: None) -> None:
    """Committed, and emptied by the tables of this folder; what this room's tests make of others goes as well."""
    yield
    for label in ("backups.Restore", "backups.Archive", "backups.Plan", "backups.Storage", "catalog.DatabaseTarget"):
        apps.get_model(label).objects.all().delete()
    for model in (LogEntry, AccessAttempt, Session):
        model.objects.all().delete()


def old(**values: object) -> Operation:
    """An operation that ended years ago, with a log line of then."""
    operation = factories.OperationFactory(
        requested_at=LONG_AGO,
        started_at=LONG_AGO,
        ended_at=LONG_AGO,
        procedure=housekeeping.Housekeeping.name,
        **values,
    )
    LogLine.objects.filter(operation=operation).update(at=LONG_AGO)
    return operation


def keep_house() -> Operation:
    operation = housekeeping.request(by=None, trigger="schedule")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == "succeeded", operation.traceback or operation.message
    return operation


def left() -> set[int]:
    return set(Operation.objects.exclude(ended_at__gt=LONG_AGO + timedelta(days=1)).values_list("pk", flat=True))


def test_what_nothing_refers_to_goes_with_steps_and_log():
    gone, young = old(), factories.OperationFactory(procedure=housekeeping.Housekeeping.name)
    operation = keep_house()
    assert not Operation.objects.filter(pk=gone.pk).exists()
    assert not LogLine.objects.filter(operation_id=gone.pk).exists()
    assert Operation.objects.filter(pk=young.pk).exists() and LogLine.objects.filter(operation=young).exists()
    assert operation.message == "Removed 1 log lines, 1 operations."
    assert operation.result["removed"]["operations"] == 1


def test_archives_restores_locks_and_what_runs_hold_on_to_theirs():
    archive, restore, locked = old(), old(), old()
    factories.ArchiveFactory(operation=archive)
    factories.RestoreFactory(operation=restore, archive=factories.ArchiveFactory(operation=old()))
    OperationLock.objects.create(key="database:1", operation=locked)
    running = factories.OperationFactory(state="running", requested_at=LONG_AGO, started_at=LONG_AGO)
    slot = old()
    schedule = factories.ScheduleFactory()
    now = timezone.now()
    Slot.objects.create(schedule=schedule, at=now, decided_at=now, decision="started", operation=slot)
    keep_house()
    kept = {archive.pk, restore.pk, locked.pk, running.pk, slot.pk}
    assert kept <= set(Operation.objects.values_list("pk", flat=True))
    assert LogLine.objects.filter(operation=running).exists(), "what still runs keeps its log"


def test_the_page_of_an_operation_says_that_its_log_went():
    operation = old()
    factories.ArchiveFactory(operation=operation)
    client = factories.browser(factories.PersonFactory(role=Role.MANAGER))
    assert "older than the portal keeps" not in client.get(operation.get_absolute_url()).content.decode()
    keep_house()
    assert "The log is older than the portal keeps logs." in client.get(operation.get_absolute_url()).content.decode()


def test_parents_and_retries_go_after_those_that_name_them():
    parent = old()
    child = old(parent=parent)
    retry = old(retry_of=child)
    young = factories.OperationFactory(procedure=housekeeping.Housekeeping.name, retry_of=(kept := old()))
    keep_house()
    assert not Operation.objects.filter(pk__in=[parent.pk, child.pk, retry.pk]).exists()
    assert set(Operation.objects.filter(pk__in=[kept.pk, young.pk])) == {kept, young}


def test_the_trail_sessions_and_attempts_follow_their_own_days(settings):
    settings.KEEP_AUDIT_DAYS, settings.KEEP_ATTEMPTS_DAYS = 30, 30
    person = factories.PersonFactory()
    LogEntry.objects.log_create(person, force_log=True, action=1, changes={"x": ["1", "2"]})
    LogEntry.objects.all().update(timestamp=LONG_AGO)
    fresh = LogEntry.objects.log_create(person, force_log=True, action=1, changes={"x": ["2", "3"]})
    Session.objects.create(session_key="old", session_data="x", expire_date=LONG_AGO)
    Session.objects.create(session_key="new", session_data="x", expire_date=timezone.now() + timedelta(days=1))
    attempt = AccessAttempt.objects.create(username="u", ip_address="127.0.0.1", failures_since_start=1)
    AccessAttempt.objects.filter(pk=attempt.pk).update(attempt_time=LONG_AGO)
    message = keep_house().message
    assert list(LogEntry.objects.filter(object_pk=str(person.pk))) == [fresh]
    assert list(Session.objects.values_list("session_key", flat=True)) == ["new"]
    assert not AccessAttempt.objects.exists()
    assert "1 expired sessions" in message and "1 access attempts" in message


def test_zero_days_keep_for_ever_and_the_sentence_says_so(settings):
    settings.KEEP_OPERATIONS_DAYS = settings.KEEP_LOGS_DAYS = 0
    kept = old()
    assert keep_house().message == "Removed nothing. Kept for ever: log lines, operations."
    assert Operation.objects.filter(pk=kept.pk).exists()


def test_many_rows_go_in_batches(monkeypatch):
    monkeypatch.setattr(housekeeping, "BATCH", 7)
    for _ in range(20):
        old()
    assert housekeeping.preview().startswith("Would go now: 20 log lines, 20 operations.")
    assert keep_house().message == "Removed 20 log lines, 20 operations."


def test_a_run_is_bounded_and_the_next_takes_the_rest(monkeypatch, settings):
    monkeypatch.setattr(housekeeping, "BATCH", 5)
    monkeypatch.setattr(housekeeping, "MOST_AT_ONCE", 10)
    settings.KEEP_LOGS_DAYS = 0
    for _ in range(14):
        old()
    first = keep_house()
    assert first.result["removed"]["operations"] == 10
    assert "More operations are old; the next run takes them." in LogLine.objects.filter(operation=first).values_list(
        "text", flat=True
    )
    assert keep_house().result["removed"]["operations"] == 4


class TestStanding:
    def test_the_schedule_follows_the_settings(self, settings):
        standing.ensure()
        schedule = Schedule.objects.get(handler=housekeeping.Housekeeping.name)
        assert (schedule.crontab.hour, schedule.crontab.minute) == ("3", "10")
        decided = schedule.decided_until
        standing.ensure()
        schedule.refresh_from_db()
        assert schedule.decided_until == decided, "nothing changed, so no slot is forgotten"
        settings.HOUSEKEEPING_CRON = "45 4 * * *"
        standing.ensure()
        assert Schedule.objects.get(pk=schedule.pk).crontab.hour == "4"

    def test_an_administrator_runs_it_from_the_schedules_page_and_sees_beforehand_what_goes(self):
        standing.ensure()
        schedule = Schedule.objects.get(handler=housekeeping.Housekeeping.name)
        old()
        address = f"/operations/schedule/{schedule.pk}/do/run_now/"
        ada = factories.browser(factories.PersonFactory(username="ada", role=Role.ADMINISTRATOR))
        page = ada.get(address).content.decode()
        assert "Would go now: 1 log lines, 1 operations." in page
        key = "6b3c7a3e-6d05-4a3c-8f0a-0b6f3a3d9d11"
        assert ada.post(address, {"request_key": key}).status_code == 302
        assert Operation.objects.get(idempotency_key=key).requested_by.username == "ada"
        olga = factories.browser(factories.PersonFactory(username="olga", role=Role.OPERATOR))
        assert olga.get(address).status_code == 403
        assert olga.post(address, {"request_key": key}).status_code == 403
