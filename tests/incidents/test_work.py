"""Working on an incident: its states, clocks, gates, severity, people, and what it has to do with others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied

from contacts import results
from contacts.actions import escalation as escalations
from contacts.models import Escalation, Notification
from incidents import chain, duties, measures, rules
from incidents.actions import people, relate, triage, updates, work
from incidents.actions.declare import declare
from incidents.exceptions import IncidentError
from incidents.models import Assignment, Cause, Incident, IncidentOperation, Review
from operations.models import Event
from tests.contacts.factories import ChannelFactory, ContactFactory, PolicyFactory, SeverityFactory, rule
from tests.factories import ComponentFactory, OperationFactory, ServiceFactory, browser
from tests.incidents.factories import IncidentFactory, ProfileFactory, StageFactory, WorkflowFactory

pytestmark = pytest.mark.django_db
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NOON = datetime(2026, 3, 6, 12, 0, tzinfo=UTC)


def paged(by, ranks=(1, 2), **values):
    """An incident whose matrix has a row for each severity, and these severities."""
    service = ServiceFactory()
    policy = PolicyFactory(service=service)
    severities = [SeverityFactory(service=service, rank=rank) for rank in ranks]
    for severity in severities:
        rule(policy, (timedelta(0), [ContactFactory()]), (5 * MINUTE, [ContactFactory()]), severity=severity)
    return declare("Down", severity=severities[0], by=by, **values), severities


def commander(incident, user):
    contact = ContactFactory(user=user)
    Assignment.objects.update_or_create(incident=incident, role="commander", defaults={"primary": contact})
    return contact


def texts(incident):
    return list(incident.timeline.order_by("sequence").values_list("text", flat=True))


def news(name):
    return Event.objects.filter(name=name).count()


class TestAcknowledging:
    def test_it_answers_the_escalation_too(self, olga):
        incident, _ = paged(olga)
        incident = work.acknowledge(incident, by=olga)
        escalation = Escalation.objects.of(incident).get()
        assert (incident.state, escalation.state, escalation.acknowledged_by_user) == (
            "acknowledged",
            "acknowledged",
            olga,
        )
        assert measures.response_met(incident) is True and measures.time_to_acknowledge(incident) < MINUTE
        assert news("incident.acknowledged") == 1 and texts(incident).count("Acknowledged by olga.") == 1

    def test_answering_the_escalation_answers_the_incident(self, olga):
        """By the link in a message: the contact may have no account."""
        incident, _ = paged(olga)
        ann = ContactFactory(name="Ann Example")
        escalations.acknowledge(escalations.current(incident), contact=ann)
        incident.refresh_from_db()
        entry = incident.timeline.get(text="Acknowledged by Ann Example.")
        assert incident.state == "acknowledged" and (entry.source, entry.actor) == ("person", "Ann Example")
        assert news("incident.acknowledged") == 1 and chain.verify(incident) == []

    def test_a_second_time_changes_nothing(self, olga, ada):
        incident, _ = paged(olga)
        first = work.acknowledge(incident, by=olga)
        count = incident.timeline.count()
        assert work.acknowledge(incident, by=ada).acknowledged_at == first.acknowledged_at
        assert incident.timeline.count() == count and news("escalation.acknowledged") == 1

    def test_whoever_works_on_it_answers_its_escalation_too(self, olga, mona):
        incident, _ = paged(olga)
        commander(incident, mona)
        with pytest.raises(PermissionDenied):
            work.acknowledge(incident, by=mona)
        mona.user_permissions.add(Permission.objects.get(codename="respond_incident"))
        work.acknowledge(incident, by=type(mona).objects.get(pk=mona.pk))
        assert Escalation.objects.of(incident).get().state == "acknowledged"

    def test_one_that_is_over_is_not_answered(self, olga):
        with pytest.raises(IncidentError, match="is resolved"):
            work.acknowledge(IncidentFactory(resolved=True), by=olga)


class TestResolving:
    def test_it_ends_the_escalation_and_the_clocks_and_drafts_the_review(self, olga):
        incident, _ = paged(olga)
        incident = work.resolve(incident, by=olga, text="Cleared the disk.")
        assert (incident.state, incident.update_due_at, incident.resolution) == ("resolved", None, "Cleared the disk.")
        escalation = Escalation.objects.of(incident).get()
        assert (escalation.state, escalation.ending) == ("stopped", "resolved")
        assert Review.objects.get(incident=incident).state == "draft" and incident.acknowledged_at is not None
        assert not Notification.objects.filter(escalation=escalation, state="pending").exists()

    def test_in_the_past_and_neither_in_the_future_nor_before_it_began(self, olga):
        with time_machine.travel(NOON, tick=False):
            incident = declare("Down", by=olga, started_at=NOON - HOUR)
            with pytest.raises(IncidentError, match="future"):
                work.resolve(incident, by=olga, at=NOON + MINUTE)
            with pytest.raises(IncidentError, match="before it began"):
                work.resolve(incident, by=olga, at=NOON - 2 * HOUR)
            incident = work.resolve(incident, by=olga, at=NOON - 30 * MINUTE)
        assert measures.downtime(incident) == 30 * MINUTE

    def test_a_second_time_changes_nothing(self, olga):
        incident = work.resolve(IncidentFactory(), by=olga)
        again = work.resolve(incident, by=olga, text="Again")
        assert again.resolved_at == incident.resolved_at and incident.timeline.filter(kind="state").count() == 1

    def test_reopened_it_pages_again(self, olga):
        incident, _ = paged(olga)
        work.resolve(incident, by=olga)
        with pytest.raises(IncidentError, match="why"):
            work.reopen(incident, by=olga, reason=" ")
        incident = work.reopen(incident, by=olga, reason="It is back.")
        assert (incident.state, incident.resolved_at) == ("open", None)
        assert Escalation.objects.of(incident).filter(state="active").count() == 1

    def test_only_one_that_was_answered_in_time_has_met_its_response(self, olga):
        for late in (False, True):
            with time_machine.travel(NOON, tick=False) as clock:
                incident = declare("Down", severity=SeverityFactory(response_time=15 * MINUTE), by=olga)
                assert measures.response_met(incident) is None
                clock.shift(16 * MINUTE if late else 14 * MINUTE)
                assert measures.response_met(incident) is (False if late else None)
                assert measures.response_met(work.acknowledge(incident, by=olga)) is not late


class TestClosing:
    @pytest.fixture
    def incident(self, ada):
        severity = SeverityFactory(rank=2)
        ProfileFactory(
            service=severity.service,
            gates=["Root cause analysis completed", "Team retrospective scheduled"],
            review_from_rank=2,
        )
        return work.resolve(declare("Down", severity=severity, by=ada), by=ada)

    def test_every_gate_and_the_review_come_first(self, incident, ada):
        with pytest.raises(IncidentError, match="Root cause analysis completed; Team retrospective scheduled"):
            work.close(incident, by=ada)
        for gate in ("Root cause analysis completed", "Team retrospective scheduled"):
            work.tick(incident, gate, gate=True, by=ada)
        with pytest.raises(IncidentError, match="review"):
            work.close(incident, by=ada)
        Review.objects.update(state="published", published_at=incident.resolved_at)
        assert work.close(incident, by=ada).closed_at is not None and news("incident.closed") == 1

    def test_what_was_unticked_is_missing_again(self, incident, ada):
        work.tick(incident, "Root cause analysis completed", gate=True, by=ada)
        work.untick(incident, "Root cause analysis completed", gate=True, by=ada)
        with pytest.raises(IncidentError, match="Root cause"):
            work.close(incident, by=ada)
        assert "Not done after all: Root cause analysis completed" in texts(incident)

    def test_what_is_on_no_list_is_refused(self, incident, ada):
        with pytest.raises(IncidentError, match="not on the list"):
            work.tick(incident, "Cake", gate=True, by=ada)

    def test_an_open_one_is_not_closed_and_a_closed_one_is_not_reopened(self, ada):
        incident = IncidentFactory()
        with pytest.raises(IncidentError, match="Resolve it first"):
            work.close(incident, by=ada)
        work.close(work.resolve(incident, by=ada), by=ada)
        with pytest.raises(IncidentError, match="declare a new"):
            work.reopen(incident, by=ada, reason="x")
        assert work.note(incident, "A late insight", by=ada).sequence == 3

    def test_it_is_the_commanders(self, olga):
        incident = work.resolve(IncidentFactory(), by=olga)
        with pytest.raises(PermissionDenied):
            work.close(incident, by=olga)


class TestStages:
    @pytest.fixture
    def stages(self):
        workflow = WorkflowFactory()
        plan = [
            ("Detection", "open", 2),
            ("Response", "acknowledged", 5),
            ("Monitoring", "mitigated", None),
            ("Communication", "resolved", None),
        ]
        return [
            StageFactory(workflow=workflow, order=order, name=name, core_state=state, limit=limit and limit * MINUTE)
            for order, (name, state, limit) in enumerate(plan)
        ]

    def test_a_stage_brings_the_state_and_its_time_box(self, olga, stages):
        ProfileFactory(workflow=stages[0].workflow)
        with time_machine.travel(NOON, tick=False):
            incident = declare("Down", by=olga)
            incident = work.move_to_stage(incident, stages[1], by=olga)
        assert (incident.state, incident.stage, incident.stage_due_at) == ("acknowledged", stages[1], NOON + 5 * MINUTE)
        incident = work.move_to_stage(incident, stages[0], by=olga)
        assert (incident.state, incident.stage) == ("acknowledged", stages[0])
        incident = work.move_to_stage(incident, stages[3], by=olga)
        assert incident.state == "resolved" and incident.stage_due_at is None

    def test_a_state_brings_its_stage(self, olga, stages):
        ProfileFactory(workflow=stages[0].workflow)
        incident = work.mitigate(declare("Down", by=olga), by=olga)
        assert incident.stage == stages[2] and incident.acknowledged_at is not None
        assert work.reopen(work.resolve(incident, by=olga), by=olga, reason="x").stage == stages[2]

    def test_a_stage_of_another_workflow_is_refused(self, olga, stages):
        ProfileFactory(workflow=stages[0].workflow)
        with pytest.raises(IncidentError, match="no stage of"):
            work.move_to_stage(declare("Down", by=olga), StageFactory(), by=olga)

    def test_the_checklists_of_its_stages(self, olga, stages):
        stages[0].checklist = "Look at the alerts\n\n Ask the users \n"
        stages[0].save()
        ProfileFactory(workflow=stages[0].workflow)
        incident = declare("Down", by=olga)
        work.tick(incident, "Ask the users", gate=False, by=olga)
        work.tick(incident, "Ask the users", gate=False, by=olga)
        assert incident.ticks.get().by == olga and texts(incident).count("Done: Ask the users") == 1


class TestSeverity:
    def test_it_is_the_commanders_and_wants_a_reason(self, olga):
        incident, (worst, second) = paged(olga)
        with pytest.raises(PermissionDenied):
            triage.change_severity(incident, second, reason="x", by=olga)
        commander(incident, olga)
        with pytest.raises(IncidentError, match="why"):
            triage.change_severity(incident, second, reason="", by=olga)
        incident = triage.change_severity(incident, second, reason="Only reports are slow", by=olga)
        assert (incident.severity, incident.rank) == (second, 2)
        assert f"Severity {worst} → {second}: Only reports are slow" in texts(incident)

    def test_the_clock_counts_anew_from_the_declaration(self, ada):
        service = ServiceFactory()
        slow = SeverityFactory(service=service, rank=2, response_time=HOUR, update_every=HOUR)
        fast = SeverityFactory(service=service, rank=1, response_time=15 * MINUTE, update_every=timedelta(0))
        with time_machine.travel(NOON, tick=False) as clock:
            incident = declare("Down", severity=slow, by=ada)
            clock.shift(10 * MINUTE)
            incident = triage.change_severity(incident, fast, reason="Everything is down", by=ada)
        assert incident.response_due_at == NOON + 15 * MINUTE and incident.update_due_at == NOON

    def test_a_graver_row_begins_its_own_ladder_also_after_an_answer(self, ada):
        incident, (_, second) = paged(ada, ranks=(2, 1))
        work.acknowledge(incident, by=ada)
        triage.change_severity(incident, second, reason="Worse", by=ada)
        old, new = Escalation.objects.of(incident).order_by("pk")
        assert (old.ending, new.state, new.severity_rank) == ("replaced", "active", 1)
        escalations.acknowledge(new, by=ada)
        assert "The escalation was acknowledged by ada." in texts(incident)

    def test_a_milder_one_leaves_an_answered_escalation_alone(self, ada):
        incident, (_, second) = paged(ada)
        work.acknowledge(incident, by=ada)
        triage.change_severity(incident, second, reason="Not so bad", by=ada)
        assert Escalation.objects.of(incident).get().state == "acknowledged"

    def test_a_milder_one_replaces_an_open_ladder(self, ada):
        incident, (_, second) = paged(ada)
        triage.change_severity(incident, second, reason="Not so bad", by=ada)
        old, new = Escalation.objects.of(incident).order_by("pk")
        assert (old.ending, new.state, new.severity_rank) == ("replaced", "active", 2)

    def test_a_situation_with_a_row_of_its_own(self, ada):
        incident, (worst, _) = paged(ada)
        policy = worst.service.escalation_policy
        rule(policy, (timedelta(0), [ContactFactory()]), severity=worst, situation="Data at risk", response_time=MINUTE)
        incident = triage.change_situation(incident, "data at risk", by=ada)
        assert incident.response_due_at == incident.declared_at + MINUTE
        assert Escalation.objects.of(incident).get(state="active").rule.situation == "Data at risk"

    def test_one_of_another_service_corrects_the_service(self, ada):
        component = ComponentFactory()
        wrong = SeverityFactory(service=component.environment.service)
        incident = declare("Down", severity=wrong, components=[component], by=ada)
        right = SeverityFactory(rank=3)
        rule(PolicyFactory(service=right.service), (timedelta(0), [ContactFactory()]))
        incident = triage.change_severity(incident, right, reason="Wrong one", by=ada)
        assert (incident.service, incident.severity, incident.environment) == (right.service, right, None)
        assert not incident.components.exists()
        assert any(text.startswith("Service: ") and component.name in text for text in texts(incident))
        assert escalations.current(incident).service == right.service

    def test_what_was_answered_keeps_its_verdict(self, ada):
        service = ServiceFactory()
        first = SeverityFactory(service=service, rank=2, response_time=HOUR)
        milder = SeverityFactory(service=service, rank=3, response_time=MINUTE)
        graver = SeverityFactory(service=service, rank=1, response_time=15 * MINUTE)
        with time_machine.travel(NOON, tick=False) as clock:
            incident = declare("Down", severity=first, by=ada)
            clock.shift(10 * MINUTE)
            work.acknowledge(incident, by=ada)
            incident = triage.change_severity(incident, milder, reason="x", by=ada)
            assert incident.response_due_at == NOON + HOUR and measures.response_met(incident)
            clock.shift(10 * MINUTE)
            incident = triage.change_severity(incident, graver, reason="x", by=ada)
        assert incident.response_due_at == NOON + 35 * MINUTE

    def test_decided_for_the_first_time_it_names_the_room(self, ada):
        severity = SeverityFactory()
        ProfileFactory(service=severity.service, channel_pattern="#incident-{severity}")
        incident = declare("Down", service=severity.service, by=ada)
        assert incident.channel_name == "#incident"
        incident = triage.change_severity(incident, severity, reason="x", by=ada)
        assert incident.channel_name == f"#incident-{severity.code}"

    def test_without_a_service_the_severity_brings_it(self, ada):
        severity = SeverityFactory()
        incident = triage.change_severity(declare("Down", by=ada), severity, reason="Known now", by=ada)
        assert incident.service == severity.service


class TestWhatIsKnown:
    def test_every_change_stands_on_the_timeline(self, olga):
        incident = IncidentFactory()
        triage.edit(incident, by=olga, root_cause="The disk was full", users_affected=40, impacts=["Slow"])
        triage.edit(incident, by=olga, users_affected=60, resolution="Freed the disk")
        assert texts(incident) == [
            "Root cause: “The disk was full”",
            "Users affected: “40”",
            "Impacts: “Slow”",
            "Users affected: “40” → “60”",
            "Resolution actions: “Freed the disk”",
        ]
        kinds = list(incident.timeline.order_by("sequence").values_list("kind", flat=True))
        assert kinds == ["root-cause", "note", "note", "note", "fix"]
        assert list(Incident.objects.matching("full disk")) == [incident]

    def test_the_same_again_is_no_change(self, olga):
        incident = IncidentFactory()
        triage.edit(incident, by=olga, title=incident.title, workaround=" ")
        assert not incident.timeline.exists()

    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            ({"title": ""}, "Title"),
            ({"users_affected": -1}, "Users affected"),
            ({"number": "INC-1"}, "cannot be edited"),
            ({"state": "closed"}, "cannot be edited"),
            ({"started_at": NOON + timedelta(days=9999)}, "begun after it was declared"),
            ({"data_loss": "perhaps"}, "Data loss"),
        ],
    )
    def test_what_cannot_be_is_said_so(self, olga, fields, why):
        with pytest.raises(IncidentError, match=why):
            triage.edit(IncidentFactory(), by=olga, **fields)

    def test_components_are_of_its_service(self, olga):
        component = ComponentFactory()
        incident = IncidentFactory(severity=SeverityFactory(service=component.environment.service))
        triage.edit(incident, by=olga, components=[component])
        assert texts(incident) == ["Components: database."]
        with pytest.raises(IncidentError, match="another service"):
            triage.edit(incident, by=olga, components=[ComponentFactory()])

    def test_a_service_that_becomes_known_brings_its_matrix_clock_and_roles(self, ada):
        incident = declare("Down", by=ada)
        service = ServiceFactory()
        lead = ContactFactory()
        rule(PolicyFactory(service=service), (timedelta(0), [ContactFactory()]), response_time=MINUTE)
        ProfileFactory(service=service).roles.create(role="technical", primary=lead)
        incident = triage.edit(incident, by=ada, service=service)
        assert incident.response_due_at == incident.declared_at + MINUTE
        assert incident.assignments.get().primary == lead
        assert escalations.current(incident).service == service


class TestConfidential:
    def test_what_others_read_is_left_with_the_number(self, ada):
        incident, _ = paged(ada)
        Notification.objects.create(
            key="x", contact=ContactFactory(), subject="Down", escalation=Escalation.objects.of(incident).get()
        )
        incident = triage.set_confidential(incident, True, reason="Personal data", by=ada)
        said = f"Confidential incident {incident.number}"
        assert Escalation.objects.of(incident).get().title == said
        assert not Escalation.objects.get().severity_words
        assert not [event for event in Event.objects.all() if {"severity", "rank"} & event.data.keys()]
        assert not [event for event in Event.objects.all() if "Down" in f"{event.sentence} {event.data}"]
        assert Notification.objects.get(key="x").subject == said
        assert "Confidential now: Personal data" in texts(incident)
        work.resolve(incident, by=ada, text="Deleted the file")
        assert Event.objects.filter(name="incident.resolved").get().sentence == said

    def test_nothing_that_was_sent_tells_its_title(self, ada):
        """Updates, reminders, pages that were given up, and what operations say of it."""
        incident, _ = paged(ada)
        triage.edit(incident, by=ada, title="Salaries leaked")
        ladder = escalations.current(incident)
        Escalation.objects.update(title="Salaries leaked")
        page = Notification.objects.create(
            key="p", contact=ContactFactory(), subject="Salaries leaked", urgency="page", escalation=ladder
        )
        ContactFactory(user=ada)
        results._tell_of(page, "No answer.")
        update = updates.send(incident, audience="internal", text="Salaries leaked", channels=[], by=ada)
        channel = ChannelFactory()
        updates._tell(channel, update)
        Incident.objects.update(update_due_at=NOON)
        duties.remind()
        operation = OperationFactory(trigger="incident", reason=f"Incident {incident.number}. Salaries leaked")
        IncidentOperation.objects.create(incident=incident, operation=operation)
        assert Notification.objects.filter(subject__contains="Salaries").count() >= 3
        triage.set_confidential(incident, True, reason="Personal data", by=ada)
        for model in (Notification, Event, Escalation):
            for row in model.objects.all():
                assert "Salaries" not in str(vars(row)), (model, row.pk, getattr(row, "key", ""))
        operation.refresh_from_db()
        assert operation.reason == f"Incident {incident.number}."

    def test_reasons_and_the_situation_stay_inside(self, ada, mona):
        _, (worst, _) = paged(ada)
        row = rule(
            worst.service.escalation_policy, (timedelta(0), [ContactFactory()]), severity=worst, situation="Salaries"
        )
        secret = declare("x", severity=worst, situation="salaries", confidential=True, by=ada)
        ladder = escalations.current(secret)
        assert ladder.rule == row and ladder.situation == ""
        given = escalations.reassign(ladder, ContactFactory(), by=ada, reason="The salaries are out")
        said = [*Event.objects.all(), *Notification.objects.all()]
        assert not [each for each in said if "salaries are out" in str(vars(each))]
        assert given.is_open and any("The salaries are out" in text for text in texts(secret))
        page = browser(mona).get(f"/contacts/escalation/{ladder.pk}/").content.decode().lower()
        assert "salaries" not in page and str(worst).lower() not in page
        assert "salaries" in browser(ada).get(f"/contacts/escalation/{ladder.pk}/").content.decode().lower()

    def test_who_may_not_see_it_does_not_act_on_its_escalation(self, ada, olga):
        secret = declare("x", confidential=True, by=ada)
        ladder = escalations.current(secret)
        for attempt in (
            lambda: escalations.acknowledge(ladder, by=olga),
            lambda: escalations.escalate_now(ladder, by=olga),
            lambda: escalations.reassign(ladder, ContactFactory(), by=olga),
        ):
            with pytest.raises(PermissionDenied):
                attempt()
        assert escalations.acknowledge(ladder, by=ada).state == "acknowledged"

    def test_it_leaves_the_status_page(self, ada):
        incident = IncidentFactory(public=True, public_status="investigating")
        assert not triage.set_confidential(incident, True, reason="x", by=ada).public


class TestEscalating:
    @pytest.fixture
    def broken(self, monkeypatch):
        def breaks(*args, **options):
            raise ValueError("unexpected")

        with monkeypatch.context() as patch:
            patch.setattr(escalations, "begin_round", breaks)
            yield patch

    def test_one_that_cannot_start_tells_the_administrators_and_is_tried_again(self, ada, broken):
        ContactFactory(user=ada)
        incident, _ = paged(ada)
        assert not Escalation.objects.exists()
        told = Notification.objects.filter(key__startswith="escalation-not-started:")
        assert told.get().urgency == "page" and rules.page_the_uncovered() == 0
        broken.undo()
        assert (rules.page_the_uncovered(), rules.page_the_uncovered()) == (1, 0)
        assert escalations.current(incident).is_open and told.count() == 1
        assert len([text for text in texts(incident) if "could not be started" in text]) == 1

    def test_one_that_was_to_be_silent_stays_so(self, ada):
        declare("Down", by=ada, escalate=False)
        assert rules.page_the_uncovered() == 0 and not Escalation.objects.exists()

    def test_what_ran_goes_on_when_the_new_one_cannot_begin(self, ada, monkeypatch):
        incident, (_, second) = paged(ada, ranks=(2, 1))
        before = escalations.current(incident)
        monkeypatch.setattr(escalations, "begin_round", lambda *args: 1 / 0)
        triage.change_severity(incident, second, reason="Worse", by=ada)
        assert escalations.current(incident) == before


class TestPeople:
    def test_what_a_commander_has_ended_the_declarer_does_not_begin_again(self, ada, rene):
        incident = declare("Down", by=rene, solo=True)
        people.set_solo(incident, False, by=ada)
        with pytest.raises(IncidentError, match="has ended solo mode"):
            people.set_solo(incident, True, by=rene)
        assert people.set_solo(incident, True, by=ada).solo

    def test_rights_count_as_they_are_when_the_row_is_locked(self, olga, rene):
        """The page was loaded before somebody else took command."""
        incident = IncidentFactory()
        ContactFactory(user=rene)
        early = Incident.objects.prefetch_related("assignments__primary", "assignments__backup").get(pk=incident.pk)
        assert not early.assignments.all()
        commander(incident, olga)
        with pytest.raises(PermissionDenied):
            people.take_command(early, by=rene)

    def test_command_is_taken_where_there_is_none(self, olga, rene):
        incident = IncidentFactory()
        with pytest.raises(IncidentError, match="belongs to no contact"):
            people.take_command(incident, by=olga)
        me = ContactFactory(user=olga)
        assert people.take_command(incident, by=olga).primary == me
        ContactFactory(user=rene)
        with pytest.raises(PermissionDenied):
            people.take_command(incident, by=rene)

    def test_who_stands_in_takes_over_and_the_other_stands_in(self, olga, rene):
        incident = IncidentFactory()
        first, second = ContactFactory(user=olga), ContactFactory(user=rene)
        people.assign(incident, "commander", primary=first, backup=second, by=olga)
        row = people.take_command(incident, by=rene)
        assert (row.primary, row.backup) == (second, first)

    def test_roles_are_given_and_taken_away(self, olga):
        incident = IncidentFactory()
        ann = ContactFactory(name="Ann")
        people.assign(incident, "communications", primary=None, backup=ann, by=olga)
        people.assign(incident, "communications", primary=ann, by=olga)
        people.assign(incident, "communications", primary=None, by=olga)
        assert texts(incident) == ["Communications lead: Ann.", "Communications lead: nobody any more."]
        with pytest.raises(IncidentError, match="switched off"):
            people.assign(incident, "support", primary=ContactFactory(active=False), by=olga)


class TestRelations:
    def test_merged_it_is_closed_and_its_escalation_withdrawn(self, ada):
        incident, _ = paged(ada)
        into = IncidentFactory()
        cause = Cause.objects.create(key="x", incident=incident)
        incident = relate.merge(incident, into, reason="The same disk", by=ada)
        assert (incident.state, incident.merged_into, incident.state_word) == ("closed", into, "Merged")
        assert Escalation.objects.of(incident).get().ending == "withdrawn"
        assert f"Merged into {into.number}: The same disk" in texts(incident)
        assert f"{incident.number} was merged into this one: The same disk" in texts(into)
        cause.refresh_from_db()
        assert cause.incident == into
        for attempt in (
            lambda: work.acknowledge(incident, by=ada),
            lambda: relate.merge(incident, into, reason="x", by=ada),
            lambda: relate.merge(into, incident, reason="x", by=ada),
        ):
            with pytest.raises(IncidentError, match="was merged into"):
                attempt()

    def test_what_lasts_is_not_merged_into_what_is_over(self, ada):
        incident, _ = paged(ada)
        with pytest.raises(IncidentError, match="is resolved. Reopen it if it goes on"):
            relate.merge(incident, IncidentFactory(resolved=True), reason="Same", by=ada)
        assert Incident.objects.open().filter(pk=incident.pk).exists()
        assert Escalation.objects.of(incident).get().is_open

    def test_what_nobody_answered_keeps_its_gravity(self, ada, olga):
        graver, (worst, mild) = paged(ada)
        goal = declare("Slow", severity=mild, by=ada)
        work.acknowledge(goal, by=olga)
        relate.merge(graver, goal, reason="Same", by=ada)
        goal.refresh_from_db()
        assert (goal.severity, goal.rank) == (worst, worst.rank)
        ladder = Escalation.objects.of(goal).order_by("pk").last()
        assert ladder is not None and ladder.is_open and str(worst) in ladder.severity_words

    def test_the_reason_of_a_confidential_one_stays_inside(self, ada):
        hidden, goal = IncidentFactory(confidential=True), IncidentFactory()
        relate.merge(hidden, goal, reason="The thief is known", by=ada)
        assert f"{hidden.number} was merged into this one" in texts(goal)
        assert "thief" not in str(texts(goal)) and "thief" in str(texts(hidden))

    def test_ended_in_the_past_it_was_answered_then(self, olga):
        now = datetime.now(UTC)
        incident = declare("Down", service=ServiceFactory(), by=olga, started_at=now - HOUR)
        Incident.objects.update(declared_at=now - HOUR)
        incident.refresh_from_db()
        work.resolve(incident, by=olga, text="Over", at=now - 58 * MINUTE)
        incident.refresh_from_db()
        assert incident.acknowledged_at == incident.resolved_at == now - 58 * MINUTE

    def test_not_into_itself_and_not_without_a_reason(self, ada):
        incident = IncidentFactory()
        with pytest.raises(IncidentError, match="itself"):
            relate.merge(incident, incident, reason="x", by=ada)
        with pytest.raises(IncidentError, match="why"):
            relate.merge(incident, IncidentFactory(), reason="", by=ada)

    def test_parts_make_no_circle(self, olga):
        top, middle, bottom = IncidentFactory(), IncidentFactory(), IncidentFactory()
        relate.set_parent(middle, top, by=olga)
        relate.set_parent(bottom, Incident.objects.get(pk=middle.pk), by=olga)
        for parent in (top, Incident.objects.get(pk=bottom.pk)):
            with pytest.raises(IncidentError, match="a part of"):
                relate.set_parent(top, parent, by=olga)
        assert relate.set_parent(Incident.objects.get(pk=bottom.pk), None, by=olga).parent is None

    def test_related_both_ways_once(self, olga):
        one, other = IncidentFactory(), IncidentFactory()
        relate.relate(one, other, by=olga)
        relate.relate(other, one, by=olga)
        assert list(one.related.all()) == [other] and list(other.related.all()) == [one]
        assert one.timeline.count() == other.timeline.count() == 1


class TestTitle:
    def test_a_correction_reaches_the_running_escalation(self, olga):
        incident, _ = paged(olga)
        triage.edit(incident, by=olga, title="Only the search is down")
        assert escalations.current(incident).title == f"{incident.number} Only the search is down"


class TestTwoIncidents:
    def test_whoever_may_not_work_on_both_relates_none(self, olga, rene, mona):
        one, two = IncidentFactory(), IncidentFactory(confidential=True)
        Assignment.objects.create(incident=two, role="support", primary=ContactFactory(user=mona))
        mona.user_permissions.add(Permission.objects.get(codename="respond_incident"))
        for by in (olga, rene):
            for act in (
                lambda by=by: relate.relate(one, two, by=by),
                lambda by=by: relate.unrelate(one, two, by=by),
                lambda by=by: relate.set_parent(one, two, by=by),
                lambda by=by: relate.merge(one, two, reason="x", by=by),
            ):
                with pytest.raises(PermissionDenied):
                    act()
        relate.relate(one, two, by=type(mona).objects.get(pk=mona.pk))
        assert one.related.get() == two
