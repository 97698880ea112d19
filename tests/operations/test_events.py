"""News: written with what it reports, told to every listener, one for each end of an operation."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import DatabaseError, connection, transaction

from operations import actions, engine, events, scheduling
from operations.context import StepContext
from operations.exceptions import OperationError, Refused
from operations.models import Event, LogLine, Operation, Schedule, Slot
from tests.factories import OperationFactory, ScheduleFactory
from tests.operations.conftest import die_in, fresh, run
from tests.operations.samples import Script

NEWS = events.declare("tests.news", "A test tells something")


@pytest.fixture
def listeners(monkeypatch):
    heard = []
    monkeypatch.setattr(events, "_receivers", {heard.append: ()})
    return heard


class TestPublishing:
    def test_it_is_written_with_the_change_or_not_at_all(self, rows, listeners):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            events.publish(NEWS, "Something.")
            1 / 0  # noqa: B018
        assert not Event.objects.exists()
        with transaction.atomic():
            event = events.publish(NEWS, "Something.", data={"n": 1})
        assert (Event.objects.get(), Event.objects.get().data) == (event, {"n": 1}) and listeners[-1] == event

    def test_outside_of_a_transaction_it_is_refused(self, rows):
        with pytest.raises(RuntimeError, match="in the transaction"):
            events.publish(NEWS, "Something.")

    def test_so_is_what_nobody_has_declared(self, db):
        with pytest.raises(ValueError, match="not declared"):
            events.publish("tests.other", "Something.")

    def test_it_knows_what_it_is_about(self, db):
        schedule = ScheduleFactory()
        event = events.publish(NEWS, "Something.", subject=schedule)
        assert (event.subject_type, event.subject_id) == ("operations.schedule", schedule.pk)
        assert event.url == schedule.get_absolute_url()

    def test_who_names_news_hears_of_no_other(self, db, monkeypatch):
        heard = []
        monkeypatch.setattr(events, "_receivers", {heard.append: {NEWS}})
        events.publish(events.SLOTS_MISSED, "Something else.")
        wanted = events.publish(NEWS, "Something.")
        many = events.publish_all([events.News(events.SLOTS_MISSED, "Else."), events.News(NEWS, "Something.")])
        assert heard == [wanted, many[1]]

    @pytest.mark.parametrize("trouble", [ValueError, DatabaseError])
    def test_a_listener_that_fails_costs_nothing_else(self, rows, monkeypatch, caplog, trouble):
        heard = []

        def fails(event: Event) -> None:
            LogLine.objects.create(operation=operation, at=event.at, text="half done")
            if trouble is DatabaseError:
                connection.cursor().execute("SELECT 1/0")
            raise ValueError

        monkeypatch.setattr(events, "_receivers", {fails: (), heard.append: ()})
        operation = OperationFactory()
        with transaction.atomic():
            Operation.objects.filter(pk=operation.pk).update(title="changed")
            event = events.publish(NEWS, "Something.")
        assert fresh(operation).title == "changed" and heard == [event] and Event.objects.filter(pk=event.pk).exists()
        assert not LogLine.objects.filter(text="half done").exists()
        assert "could not take" in caplog.text

    def test_nor_does_one_whose_failure_would_only_show_at_the_commit(self, rows, monkeypatch, caplog):
        """A foreign key is looked at when the transaction ends: somebody may have deleted what a row refers to."""

        def refers_to_nothing(event: Event) -> None:
            Slot.objects.create(schedule_id=2**40, at=event.at, decision="started", decided_at=event.at)

        monkeypatch.setattr(events, "_receivers", {refers_to_nothing: ()})
        operation = OperationFactory()
        with transaction.atomic():
            Operation.objects.filter(pk=operation.pk).update(title="changed")
            events.publish(NEWS, "Something.")
        assert fresh(operation).title == "changed" and Event.objects.count() == 1
        assert not Slot.objects.exists() and "could not take" in caplog.text


def raising(trouble: Exception):
    def act(ctx: StepContext) -> None:
        raise trouble

    return act


class TestTheEndOfAnOperation:
    @pytest.mark.parametrize(
        ("trouble", "state"), [(None, "succeeded"), (OperationError("No."), "failed"), (KeyError("x"), "errored")]
    )
    def test_every_end_is_told_once(self, ask, script: Script, trouble, state):
        if trouble is not None:
            script.on("two", raising(trouble))
        operation = ask()
        engine.run(operation.pk, "worker-1")
        engine.run(operation.pk, "worker-2")  # a second message changes nothing
        event = Event.objects.get(operation=operation)
        assert (event.name, event.data["state"]) == (events.OPERATION_ENDED, state)
        assert event.data["seconds"] is not None
        assert event.data["id"] == operation.pk and event.data["procedure"] == operation.procedure
        assert fresh(operation).state == state

    def test_one_that_was_cancelled_before_it_began(self, ask, operator):
        operation = ask(by=operator)
        actions.cancel(operation, by=operator)
        assert Event.objects.get(operation=operation).data["state"] == "cancelled"

    def test_one_whose_worker_died_is_told_when_another_has_ended_it(self, ask, script: Script):
        operation = ask()
        die_in(operation, script, "two")
        assert not Event.objects.exists()
        run(operation, "worker-2")
        assert Event.objects.get(operation=operation).data["state"] == fresh(operation).state == "succeeded"

    def test_the_database_keeps_it_to_one(self, db):
        operation = OperationFactory()
        events.operation_ended(operation)
        with pytest.raises(DatabaseError), transaction.atomic():
            events.operation_ended(operation)


class TestSlotsThatPassed:
    @pytest.fixture
    def plan(self, rows, monkeypatch):
        """Hourly, with a handler that starts nothing."""

        def refuse(schedule: Schedule, at: datetime, key: str) -> Operation:
            raise Refused("The plan is switched off.")

        monkeypatch.setitem(scheduling._handlers, "tests.refusing", refuse)
        made = actions.set_schedule(
            None,
            cron="0 * * * *",
            time_zone="UTC",
            misfire="all",
            handler="tests.refusing",
            name="Hourly",
            enabled=True,
        )
        Schedule.objects.filter(pk=made.pk).update(decided_until=datetime(2026, 5, 1, 0, 30, tzinfo=UTC))
        made.refresh_from_db()
        return made

    def test_all_of_a_round_are_one_piece_of_news(self, plan):
        assert scheduling.decide_due(datetime(2026, 5, 1, 3, 30, tzinfo=UTC)) == 3
        event = Event.objects.get(name=events.SLOTS_MISSED)
        assert event.data["count"] == 3 and event.subject_id == plan.pk
        assert event.sentence == "3 due times of “Hourly” passed without a start. The plan is switched off."
        assert (event.data["from"], event.data["to"]) == ("2026-05-01T01:00:00Z", "2026-05-01T03:00:00Z")

    def test_a_round_told_twice_is_no_second_news(self, plan):
        for _ in range(2):
            scheduling.decide_due(datetime(2026, 5, 1, 3, 30, tzinfo=UTC))
        assert Event.objects.filter(name=events.SLOTS_MISSED).count() == 1

    def test_slots_that_started_are_none(self, plan, monkeypatch, ask):
        monkeypatch.setitem(scheduling._handlers, "tests.refusing", lambda schedule, at, key: ask(key=key))
        assert scheduling.decide_due(datetime(2026, 5, 1, 1, 30, tzinfo=UTC)) == 1
        assert Slot.objects.get().decision == Slot.Decision.STARTED and not Event.objects.exists()
