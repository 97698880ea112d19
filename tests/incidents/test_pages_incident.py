"""The page of an incident: what it shows, what each person is offered, what every button does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from contacts.actions import escalation as escalations
from contacts.engine import climb_due
from contacts.models import Escalation
from core.roles import Role
from incidents import page as page_module
from incidents.actions import escalating, people, relate, triage, work
from incidents.acts import ACTS
from incidents.exceptions import IncidentError
from incidents.models import Assignment, Incident, IncidentRole, TimelineEntry
from tests.contacts.factories import ContactFactory
from tests.factories import OperationFactory
from tests.incidents.factories import IncidentFactory, StageFactory
from tests.incidents.record import (
    CHECKLIST,
    GATES,
    commanded_by,
    declared,
    person,
    press,
    press_now,
    read,
    service_with_everything,
    url,
    with_contact,
)
from tests.pages import counted, page_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator():
    return person(Role.OPERATOR, username="olive")


@pytest.fixture
def incident(operator) -> Incident:
    severity = service_with_everything()
    return declared(operator[0], service=severity.service, severity=severity)


def fresh(incident: Incident) -> Incident:
    return Incident.objects.get(pk=incident.pk)


def acts_of(client, incident: Incident) -> set[str]:
    return set(client.get(url(incident)).context["acts"])


class TestWhatItShows:
    def test_state_clocks_stages_roles_and_escalation(self, operator, incident):
        climb_due()
        page = read(operator[1], incident)
        for words in (
            incident.number,
            "Orders cannot be saved",
            "Open",
            "P1",
            "Response",
            "left",
            "Stage: Detection",
            "Assessment",
            "Incident commander",
            "nobody yet",
            "Escalation",
            "Level 1",
            f"Olga of {incident.service}",
            "No runbooks are connected yet",
        ):
            assert words in page.text, words

    def test_the_number_to_call_is_one_click_away(self, operator, incident):
        page = read(operator[1], incident)
        assert url(incident, "beside/") in page.links
        for headers in ({}, {"HX-Request": "true"}):
            html = operator[1].get(url(incident, "beside/"), headers=headers).content.decode()
            assert 'href="tel:+4940123456"' in html and "mailto:olga@example.org" in html

    def test_the_next_action_comes_first(self, operator, incident):
        def first() -> str:
            return operator[1].get(url(incident)).context["buttons"][0].name

        assert first() == "acknowledge"
        press_now(operator[1], incident, "acknowledge")
        assert first() == "mitigate"
        press_now(operator[1], incident, "mitigate")
        assert first() == "resolve"
        commanded_by(incident, operator[0], by=operator[0])
        press(operator[1], incident, "resolve", text="The table is back.")
        assert first() == "close"

    def test_an_overdue_stage_says_so(self, operator, incident):
        Incident.objects.filter(pk=incident.pk).update(stage_due_at=timezone.now() - timedelta(minutes=3))
        assert "Overdue 3 min" in read(operator[1], incident).text

    def test_without_a_workflow_the_core_states_are_the_stages(self, operator):
        page = read(operator[1], IncidentFactory(state="mitigated"))
        assert "Stages" in page.text and "Mitigated" in page.text and "Resolved" in page.text

    def test_what_changed_before_it_began(self, operator, incident):
        OperationFactory(
            title="Restore the orders",
            procedure="backups.restore",
            requested_at=incident.started_at - timedelta(hours=2),
            environment_label=f"{incident.service.name} · production",
        )
        text = read(operator[1], incident, "beside/").text
        assert "Restore the orders" in text and "−2 h" in text

    def test_banners(self, operator, incident):
        assert "Confidential." not in read(operator[1], incident).text
        people.set_solo(incident, True, by=operator[0])
        Incident.objects.filter(pk=incident.pk).update(confidential=True)
        text = read(operator[1], incident).text
        assert "Confidential." in text and "Solo mode." in text

    def test_other_incidents_are_named_where_they_may_be_seen(self, operator, incident):
        other = declared(operator[0], "Payment fails")
        hidden = IncidentFactory(title="Somebody took a list", confidential=True)
        relate.relate(incident, other, by=operator[0])
        incident.related.add(hidden)
        Incident.objects.filter(pk=incident.pk).update(parent=hidden)
        page = read(operator[1], incident)
        assert url(other) in page.links and hidden.number not in page.text and hidden.title not in page.text

    def test_the_live_part_carries_the_cards_along(self, operator, incident):
        live = operator[1].get(url(incident, "live/"), headers={"HX-Request": "true"})
        html = live.content.decode()
        assert live.status_code == 200
        for card in ("timeline", "card-known", "card-escalation", "card-roles", "card-updates", "card-operations"):
            assert f'id="{card}" hx-swap-oob="morph"' in html, card

    def test_the_live_part_leaves_out_a_timeline_that_is_known(self, operator, incident):
        seen = operator[1].get(url(incident)).context["timeline"].seen
        with counted() as queries:
            again = operator[1].get(f"{url(incident, 'live/')}?seen={seen}", headers={"HX-Request": "true"})
        assert again.context["timeline"].seen != seen or 'id="timeline"' not in again.content.decode()
        work.note(incident, "Something new.", by=operator[0])
        news = operator[1].get(f"{url(incident, 'live/')}?seen={seen}", headers={"HX-Request": "true"})
        assert "Something new." in news.content.decode() and len(queries) <= 10

    def test_polling_ends_with_the_incident(self, operator, incident):
        Incident.objects.filter(pk=incident.pk).update(
            state="closed", resolved_at=timezone.now(), closed_at=timezone.now(), update_due_at=None
        )
        assert operator[1].get(url(incident, "live/")).status_code == 286
        assert 'hx-trigger="every' not in operator[1].get(url(incident)).content.decode()


class TestManagers:
    def test_they_see_everything_and_are_offered_nothing(self, incident):
        _, client = person(Role.MANAGER)
        page = read(client, incident)
        assert incident.title in page.text and acts_of(client, incident) == set()
        assert [form.action for form in page.forms if form.method == "post"] == ["/logout/"]
        leads_to = (
            url(incident, "do/"),
            url(incident, "evidence/"),
            url(incident, "restore/"),
            url(incident, "entry/"),
        )
        offered = [link for link in page.links if link.startswith(leads_to)]
        assert offered == [] and url(incident, "beside/") in page.links

    def test_whatever_they_send_is_refused(self, operator, incident):
        _, client = person(Role.MANAGER)
        entry = work.note(incident, "A note.", by=operator[0])
        before = TimelineEntry.objects.count()
        for name in [act.name for act in ACTS]:
            assert client.get(url(incident, f"do/{name}/")).status_code == 403, name
            assert client.post(url(incident, f"do/{name}/"), {"request_key": "x"}).status_code == 403, name
        for rest, fields in {
            "note/": {"text": "I was here."},
            "tick/": {"text": "Open the chat room"},
            f"entry/{entry.pk}/pin/": {},
            f"entry/{entry.pk}/correct/": {"text": "No."},
            "evidence/": {},
            "restore/": {},
        }.items():
            assert client.post(url(incident, rest), fields).status_code == 403, rest
        assert TimelineEntry.objects.count() == before and fresh(incident).state == "open"

    def test_a_manager_with_a_role_in_it_is_offered_nothing_all_the_same(self, incident):
        manager, client = person(Role.MANAGER)
        Assignment.objects.create(incident=incident, role="commander", primary=with_contact(manager))
        assert acts_of(client, incident) == set()


class TestButtons:
    def test_each_says_what_it_needs(self, incident):
        """What only a commander may is not offered to a responder, and refused when sent all the same."""
        _, client = person(Role.RESPONDER)
        commander, _ = person(Role.OPERATOR)
        commanded_by(incident, commander, by=incident.declared_by)
        offered = acts_of(client, incident)
        assert {"acknowledge", "mitigate", "resolve", "edit", "relate", "stage", "escalate", "reassign"} <= offered
        refused = {"severity", "situation", "confidential", "merge", "take_command", "solo"}
        assert offered.isdisjoint(refused)
        for name in refused:
            assert client.post(url(incident, f"do/{name}/")).status_code == 403, name

    def test_acknowledge(self, operator, incident):
        press_now(operator[1], incident, "acknowledge")
        assert fresh(incident).state == "acknowledged"
        assert escalations.current(incident).state == Escalation.State.ACKNOWLEDGED
        assert operator[1].get(url(incident, "do/acknowledge/")).status_code == 405  # GET never writes

    def test_resolve_says_when_and_what(self, operator, incident):
        press(operator[1], incident, "resolve", text="The table is back.", at="")
        row = fresh(incident)
        assert row.state == "resolved" and row.resolution == "The table is back."
        assert "The table is back." in read(operator[1], incident).text

    def test_resolve_in_the_future_keeps_what_was_typed(self, operator, incident):
        later = (timezone.now() + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%S")
        response = press(operator[1], incident, "resolve", text="The table is back.", at=later)
        page = page_of(response)
        assert "cannot be resolved in the future" in page.text
        assert page.post.fields["text"] == "The table is back." and fresh(incident).state == "open"

    def test_close_shows_its_gates_and_what_is_missing(self, operator, incident):
        commanded_by(incident, operator[0], by=operator[0])
        press(operator[1], incident, "resolve", text="", at="")
        text = read(operator[1], incident, "do/close/").text
        assert all(gate in text for gate in GATES) and "Tick every gate first" in text
        key = "123e4567-e89b-12d3-a456-426614174000"
        refused = operator[1].post(url(incident, "do/close/"), {"request_key": key})
        assert "Before it is closed" in page_of(refused).text and fresh(incident).state == "resolved"
        for gate in GATES:
            sent = operator[1].post(url(incident, "tick/"), {"text": gate, "gate": "1"})
            assert sent["Location"] == url(incident, "do/close/")
        assert "Tick every gate first" not in read(operator[1], incident, "do/close/").text
        operator[1].post(url(incident, "do/close/"), {"request_key": key})
        assert fresh(incident).state == "closed"

    def test_reopen(self, operator, incident):
        press(operator[1], incident, "resolve", text="", at="")
        press(operator[1], incident, "reopen", reason="It is back.")
        assert fresh(incident).state == "open" and "It is back." in read(operator[1], incident).text

    def test_severity_shows_definitions(self, operator, incident):
        commanded_by(incident, operator[0], by=operator[0])
        text = read(operator[1], incident, "do/severity/").text
        assert "Nobody can order." in text and "The site is silent." in text
        milder = incident.service.severities.get(rank=2)
        press(operator[1], incident, "severity", severity=milder.pk, reason="A few only.")
        assert fresh(incident).severity == milder
        page = page_of(press(operator[1], incident, "severity", severity=milder.pk, reason=""))
        assert "This field is required" in page.text

    def test_situation(self, operator, incident):
        commanded_by(incident, operator[0], by=operator[0])
        press(operator[1], incident, "situation", situation="data at risk")
        assert fresh(incident).situation == "data at risk"

    def test_stage_and_its_checklist(self, operator, incident):
        press_now(operator[1], incident, "acknowledge")
        first, second = CHECKLIST.splitlines()
        assert first in read(operator[1], incident).text
        operator[1].post(url(incident, "tick/"), {"text": first})
        assert [tick.text for tick in incident.ticks.all()] == [first]
        operator[1].post(url(incident, "tick/"), {"text": first, "untick": "1"})
        assert not incident.ticks.exists()
        gone = operator[1].post(url(incident, "tick/"), {"text": "Never asked for"}, follow=True)
        assert "is not on the list" in page_of(gone).text and not incident.ticks.exists()
        last = incident.stage.workflow.stages.get(name="Recovery")
        press(operator[1], incident, "stage", stage=last.pk)
        assert fresh(incident).stage == last and second not in read(operator[1], incident).text
        stranger = StageFactory()
        assert "Select a valid choice" in page_of(press(operator[1], incident, "stage", stage=stranger.pk)).text

    def test_a_stage_chosen_on_an_old_page_is_refused(self, operator, incident):
        stages = {stage.name: stage for stage in incident.stage.workflow.stages.all()}
        old = page_of(operator[1].get(url(incident, "do/stage/"))).post.fields
        work.resolve(incident, by=operator[0])
        answer = page_of(operator[1].post(url(incident, "do/stage/"), {**old, "stage": stages["Assessment"].pk}))
        assert "it is in the stage “Looking back” and resolved now. Nothing was changed." in answer.text
        assert fresh(incident).stage == stages["Looking back"]
        again = {**answer.post.fields, "stage": stages["Recovery"].pk}
        assert operator[1].post(url(incident, "do/stage/"), again).status_code == 302
        assert fresh(incident).stage == stages["Recovery"]

    def test_the_action_itself_refuses_an_old_choice(self, operator, incident):
        stage, seen = incident.stage.workflow.stages.get(name="Recovery"), work.place_of(incident)
        work.acknowledge(incident, by=operator[0])
        with pytest.raises(IncidentError, match="has moved since you opened this page"):
            work.move_to_stage(incident, stage, by=operator[0], seen=seen)

    def test_once_resolved_it_says_who_may_close_it(self, operator, incident):
        assert "closes it." not in read(operator[1], incident).text
        work.resolve(incident, by=operator[0])
        text = "An administrator closes it. Whoever takes the role of commander may as well."
        incident.assignments.all().delete()
        assert text in read(operator[1], incident).text
        commander = commanded_by(incident, operator[0], by=operator[0])
        assert f"Its commander ({commander.name}) or an administrator closes it." in read(operator[1], incident).text

    def test_edit_notes_every_change(self, operator, incident):
        form = read(operator[1], incident, "do/edit/").post.fields
        press(
            operator[1],
            incident,
            "edit",
            **{**form, "users_affected": "1400", "workaround": "By phone.", "impacts": ["System down completely"]},
        )
        row = fresh(incident)
        assert (row.users_affected, row.workaround, row.impacts) == (1400, "By phone.", ["System down completely"])
        text = read(operator[1], incident).text
        assert "1,400" in text and "Workaround: “By phone.”" in text
        wrong = press(operator[1], incident, "edit", **{**form, "title": "", "workaround": "By post."})
        assert wrong.status_code == 200 and page_of(wrong).post.fields["workaround"] == "By post."
        assert fresh(incident).workaround == "By phone."

    def test_edit_saves_only_what_was_changed(self, operator, incident):
        """Somebody else has written meanwhile: that stays, and what both have changed is asked about."""
        form = read(operator[1], incident, "do/edit/").post.fields
        before = incident.timeline.count()
        triage.edit(incident, by=operator[0], workaround="By phone.", eta="Soon")
        response = press(operator[1], incident, "edit", **{**form, "cost": "Much"})
        row = fresh(incident)
        assert response.status_code == 302 and (row.cost, row.workaround, row.eta) == ("Much", "By phone.", "Soon")
        assert incident.timeline.count() == before + 3
        again = page_of(press(operator[1], incident, "edit", **{**form, "workaround": "By post."}))
        assert "Somebody else has changed this meanwhile: “By phone.”" in again.text
        assert fresh(incident).workaround == "By phone." and again.post.fields["workaround"] == "By post."
        press(operator[1], incident, "edit", **again.post.fields)
        assert fresh(incident).workaround == "By post."

    def test_acknowledge_is_offered_again_when_it_became_graver(self, operator, incident):
        work.acknowledge(incident, by=operator[0])
        assert "acknowledge" not in acts_of(operator[1], incident)
        escalating.start(incident, by=None)
        press_now(operator[1], incident, "acknowledge")
        assert escalations.current(incident).state == Escalation.State.ACKNOWLEDGED

    def test_take_command_and_assign(self, operator, incident):
        refused = press_now(operator[1], incident, "take_command")
        assert "belongs to no contact" in page_of(operator[1].get(refused["Location"])).text
        contact = with_contact(operator[0])
        press_now(operator[1], incident, "take_command")
        assert incident.assignments.get(role=IncidentRole.COMMANDER).primary == contact
        assert "take_command" not in acts_of(operator[1], incident)
        other = ContactFactory()
        press(operator[1], incident, "assign", role="communications", primary=other.pk, backup="")
        assert incident.assignments.get(role="communications").primary == other
        both = press(operator[1], incident, "assign", role="support", primary=other.pk, backup=other.pk)
        assert "another person than the primary" in page_of(both).text

    def test_escalate_and_give_to_somebody(self, operator, incident):
        climb_due()
        text = read(operator[1], incident, "do/escalate/").text
        assert "Level 2" in text and f"Second of {incident.service}" in text
        press(operator[1], incident, "escalate", level="1")
        assert f"Second of {incident.service}" in read(operator[1], incident).text
        other = ContactFactory(name="Kim Vendor")
        press(operator[1], incident, "reassign", contact=other.pk, reason="Knows the database.")
        assert "Kim Vendor" in read(operator[1], incident).text

    def test_solo_and_confidential(self, operator, incident):
        press(operator[1], incident, "solo")
        assert fresh(incident).solo and "not_solo" in acts_of(operator[1], incident)
        press(operator[1], incident, "confidential", reason="Personal data.")
        assert fresh(incident).confidential
        press(operator[1], incident, "not_confidential", reason="It was none.")
        press(operator[1], incident, "not_solo")
        assert not fresh(incident).confidential and not fresh(incident).solo

    def test_relate_parent_and_merge(self, operator, incident):
        commanded_by(incident, operator[0], by=operator[0])
        other = declared(operator[0], "Payment fails")
        hidden = IncidentFactory(confidential=True)
        press(operator[1], incident, "relate", other=other.number.lower())
        assert list(incident.related.all()) == [other]
        for number in (hidden.number, "INC-0", incident.number):
            answer = page_of(press(operator[1], incident, "relate", other=number)).text
            assert "There is no incident" in answer or "incident itself" in answer
        press(operator[1], incident, "unrelate", other=hidden.pk)
        press(operator[1], incident, "unrelate", other=other.pk)
        assert not incident.related.exists() and "unrelate" not in acts_of(operator[1], incident)
        assert [entry.text for entry in other.timeline.all()][-1] == f"Not related: {incident.number}."
        press(operator[1], incident, "parent", other=other.number)
        assert fresh(incident).parent == other
        press(operator[1], incident, "parent", other="")
        assert fresh(incident).parent is None
        press(operator[1], incident, "merge", other=other.number, reason="The same cause.")
        assert fresh(incident).merged_into == other
        assert "Go on there" in read(operator[1], incident).text and "merge" not in acts_of(operator[1], incident)

    def test_a_double_click_acts_once(self, operator, incident):
        page = page_of(operator[1].get(url(incident)))
        form = next(form for form in page.forms if form.action.endswith("/do/acknowledge/"))
        for _ in range(2):
            operator[1].post(form.action, form.fields)
        assert incident.timeline.filter(text__startswith="Acknowledged").count() == 1


def test_ten_thousand_entries_cost_what_ten_do():
    user, client = person(Role.OPERATOR)
    severity = service_with_everything()
    incident = declared(user, service=severity.service, severity=severity)
    commanded_by(incident, user, by=user)
    client.get(url(incident))

    def cost(query: str = "") -> int:
        with counted() as queries:
            response = client.get(url(incident) + query)
        assert response.status_code == 200
        return len(queries)

    few = cost()
    last = incident.timeline.order_by("-sequence").first().sequence
    TimelineEntry.objects.bulk_create(
        TimelineEntry(
            incident=incident,
            sequence=last + n,
            at=timezone.now(),
            source="person",
            actor="Ann",
            text=f"Entry {n}",
            hash="0" * 64,
        )
        for n in range(1, 10_001)
    )
    incident.related.add(*(IncidentFactory(title=f"Other {number}") for number in range(60)))
    assert cost() == few <= 10
    assert cost("?page=200") <= few and cost("?page=99999999") <= few
    text = page_of(client.get(url(incident))).text
    assert (
        f"Page 1 of {-(-TimelineEntry.objects.filter(incident=incident).count() // page_module.ENTRIES_A_PAGE)}" in text
    )
