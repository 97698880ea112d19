"""What is started from an incident, how it ended, and what happened around it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from auditlog.context import set_actor
from django.core.exceptions import PermissionDenied
from django.db import transaction

from backups.exceptions import BackupError
from backups.models import Restore
from incidents import chain, measures
from incidents.actions import joined, work
from incidents.actions.declare import declare
from incidents.around import around
from incidents.exceptions import IncidentError
from incidents.models import IncidentOperation
from operations import events
from operations.models import Operation, OperationLock
from tests.contacts.factories import SeverityFactory
from tests.factories import ArchiveFactory, OperationFactory, PlanFactory, RestoreFactory
from tests.incidents.factories import IncidentFactory

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def archive():
    return ArchiveFactory(age=3 * HOUR)


@pytest.fixture(autouse=True)
def no_database(monkeypatch):
    """What a restore would lose is asked of the live database, which these tests have not."""
    monkeypatch.setattr("backups.loss.preview", lambda archive: {})


def about(archive, by, **values):
    service = archive.target.component.environment.service
    return declare("Orders are gone", severity=SeverityFactory(service=service), by=by, **values)


def restore(incident, archive, by, **values):
    values = {"reason_kind": "deletion", "reason": "Somebody deleted them", **values}
    return joined.start_restore(incident, archive, by=by, typed_name=archive.target.database, **values)


def end(operation, state=Operation.State.SUCCEEDED, message="", **figures):
    Restore.objects.filter(operation=operation).update(**figures)
    Operation.objects.filter(pk=operation.pk).update(
        state=state, started_at=operation.requested_at, ended_at=operation.requested_at + MINUTE, message=message
    )
    OperationLock.objects.filter(operation=operation).delete()
    operation.refresh_from_db()
    with transaction.atomic():
        events.operation_ended(operation)


class TestStarting:
    def test_a_restore_says_for_which_incident(self, olga, archive):
        incident = about(archive, olga)
        operation = restore(incident, archive, olga)
        assert (operation.trigger, operation.requested_by) == ("incident", olga)
        assert operation.reason == f"Accidental deletion. Incident {incident.number}. Somebody deleted them"
        entry = incident.timeline.get(kind="operation")
        assert entry.url == operation.get_absolute_url() and entry.data == {"operation": operation.pk}
        assert IncidentOperation.objects.get().operation == operation

    def test_of_a_confidential_one_everybody_reads_the_number_alone(self, olga, archive):
        incident = about(archive, olga, confidential=True)
        assert restore(incident, archive, olga).reason == f"Accidental deletion. Incident {incident.number}."

    def test_a_second_click_is_no_second_restore(self, olga, archive):
        incident = about(archive, olga)
        assert restore(incident, archive, olga, key="k") == restore(incident, archive, olga, key="k")
        assert incident.timeline.filter(kind="operation").count() == 1

    def test_a_wrong_name_starts_nothing(self, olga, archive):
        incident = about(archive, olga)
        with pytest.raises(BackupError, match="not the database's"):
            joined.start_restore(incident, archive, by=olga, reason_kind="deletion", typed_name="other")
        assert not Operation.objects.filter(procedure="backups.restore").exists()
        assert not incident.timeline.filter(kind="operation").exists()

    def test_who_works_alone_restores_and_rolls_back_without_the_role(self, rene, archive):
        incident = about(archive, rene)
        with pytest.raises(PermissionDenied):
            restore(incident, archive, rene)
        incident = about(archive, rene, solo=True)
        end(restore(incident, archive, rene), safety_copy="kept", safety_database="before")
        undo = joined.undo_restore(incident, Restore.objects.get(), by=rene)
        assert undo.procedure == "backups.undo_restore" and undo.trigger == "incident"
        with pytest.raises(PermissionDenied):
            restore(incident, ArchiveFactory(), rene)

    def test_a_backup_before_anything_is_changed(self, olga, rene):
        plan = PlanFactory()
        incident = declare("Down", by=olga)
        operation = joined.take_backup(incident, plan, by=olga, reason="Does it work?")
        assert operation.archive.purpose == "emergency" and operation.trigger == "incident"
        with pytest.raises(PermissionDenied):
            joined.take_backup(incident, plan, by=rene)

    def test_nothing_is_started_from_one_that_is_over(self, olga, archive):
        incident = work.resolve(about(archive, olga), by=olga)
        with pytest.raises(IncidentError, match="is resolved"):
            restore(incident, archive, olga)


class TestEnding:
    def test_the_measured_times_stand_on_the_timeline(self, olga, archive):
        incident = about(archive, olga)
        end(restore(incident, archive, olga), measured=timedelta(seconds=42), message="shop is back.")
        entry = incident.timeline.filter(kind="operation").last()
        assert "succeeded. shop is back. Ready after 42 s, RTO 5 min met." in entry.text
        # The archive was taken three hours before the test came here.
        assert re.search(r"Its data is (3 h|2 h 59 min) older than the beginning, RPO 1 d met\.", entry.text)
        assert entry.data["measured_rto_s"] == 42 and entry.data["measured_rpo_s"] == pytest.approx(3 * 3600, abs=60)
        (found,) = measures.restores_of(incident)
        assert (found.measured, found.rto_met, found.rpo_met) == (timedelta(seconds=42), True, True)
        assert IncidentOperation.objects.get().noted and chain.verify(incident) == []

    def test_a_failed_one_says_so_without_figures(self, olga, archive):
        incident = about(archive, olga)
        end(restore(incident, archive, olga), state=Operation.State.FAILED, message="The disk is full.")
        text = incident.timeline.filter(kind="operation").last().text
        assert "failed. The disk is full." in text and "Ready" not in text

    def test_it_is_written_once_also_when_the_news_got_lost(self, olga, archive, monkeypatch):
        incident = about(archive, olga)
        operation = restore(incident, archive, olga)
        monkeypatch.setattr(events, "_receivers", {})
        end(operation)
        assert (joined.note_all_ended(), joined.note_all_ended()) == (1, 0)
        assert incident.timeline.filter(kind="operation").count() == 2


class TestAround:
    def test_what_ran_and_what_was_changed_near_its_beginning(self, olga, django_assert_num_queries):
        archive = ArchiveFactory()
        label = str(archive.target.component.environment)
        start = datetime(2026, 3, 6, 12, tzinfo=UTC)
        incident = IncidentFactory(
            severity=SeverityFactory(service=archive.target.component.environment.service), started_at=start
        )

        def ran(title, offset, procedure="backups.backup", environment=label):
            OperationFactory(
                title=title, requested_at=start + offset, procedure=procedure, environment_label=environment
            )

        ran("too early", -DAY - MINUTE)
        ran("nightly", -10 * HOUR)
        ran("restored", -HOUR, "backups.restore")
        ran("retried", 30 * MINUTE)
        ran("too late", 2 * HOUR)
        ran("elsewhere", -HOUR, environment="Other · production")
        with django_assert_num_queries(2):
            found = around(incident)
        assert [each.title for each in found.operations] == ["nightly", "restored", "retried"]
        assert [each.title for each in found.changed] == ["restored"]
        assert [each.kind for each in found.operations] == ["backup", "restore", "backup"]
        assert found.operations[1].offset == -HOUR and not found.cut

    def test_edits_of_the_catalog_and_of_plans_with_who_made_them(self, olga):
        with set_actor(olga):
            plan = PlanFactory()
            plan.keep_days = 3
            plan.save()
        found = around(IncidentFactory())
        titles = [each.title for each in found.changed if each.kind == "edit"]
        assert f"Plan {plan} changed" in titles and all(each.who == "olga" for each in found.changed)

    def test_more_than_fits_is_cut_and_says_so(self, olga):
        incident = IncidentFactory(severity=None)
        for number in range(55):
            OperationFactory(requested_at=incident.started_at - number * MINUTE)
        found = around(incident)
        assert found.cut and len(found.operations) == 50 and found.operations[-1].at == incident.started_at


def test_a_restore_beside_the_live_database_has_no_loss(db):
    row = RestoreFactory(into_database="beside")
    incident = IncidentFactory()
    IncidentOperation.objects.create(incident=incident, operation=row.operation)
    (found,) = measures.restores_of(incident)
    assert found.loss is None and found.rpo_met is None
