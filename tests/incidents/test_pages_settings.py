"""Screens of how incidents are handled, the tiles of the situation room, and the line of a running maintenance."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from core.audit import is_tracked
from core.roles import Role
from incidents import banner
from incidents.models import CauseRule, IncidentProfile, Maintenance, Stage, Workflow
from tests.contacts.factories import EscalationFactory
from tests.factories import ComponentFactory, ServiceFactory
from tests.incidents.factories import (
    ActionItemFactory,
    CauseRuleFactory,
    IncidentFactory,
    MaintenanceFactory,
    ProfileFactory,
    PublicComponentFactory,
    StageFactory,
)
from tests.incidents.record import person
from tests.pages import page_of

pytestmark = pytest.mark.django_db


def form_of(client, address):
    """The edit form's fields as the page has them."""
    return next(form for form in page_of(client.get(address)).forms if form.method == "post" and len(form.fields) > 3)


class TestSettings:
    def test_a_profile_is_added_with_its_roles_and_gates(self):
        _, client = person(Role.ADMINISTRATOR)
        service = ServiceFactory()
        form = form_of(client, "/incidents/incidentprofile/add/")
        sent = client.post(
            "/incidents/incidentprofile/add/",
            {
                **form.fields,
                "service": service.pk,
                "gates": "Systems are normal\n\n Users were informed \nSystems are normal",
                "impacts": "Down\nSlow",
                "review_from_rank": "2",
            },
        )
        profile = IncidentProfile.objects.get()
        assert sent.status_code == 302, page_of(sent).text[-600:]
        assert profile.gates == ["Systems are normal", "Users were informed"] and profile.impacts == ["Down", "Slow"]
        text = page_of(client.get(f"/incidents/incidentprofile/{profile.pk}/")).text
        assert "Users were informed" in text and "needed up to rank 2" in text

    @pytest.mark.parametrize(
        ("field", "value", "words"),
        [
            ("number_pattern", "INC-{date}", "Write {n:03} once"),
            ("number_pattern", "INC-{n:01}", "at least three digits"),
            ("channel_pattern", "#inc-{nobody}", "cannot be filled in"),
            ("export_pattern", "{date", "cannot be filled in"),
            ("gates", "x" * 201, "longer than 200"),
        ],
    )
    def test_a_pattern_that_cannot_be_filled_in_is_refused(self, field, value, words):
        _, client = person(Role.ADMINISTRATOR)
        form = form_of(client, "/incidents/incidentprofile/add/")
        answer = client.post("/incidents/incidentprofile/add/", {**form.fields, field: value})
        assert words in page_of(answer).text and not IncidentProfile.objects.exists()

    def test_a_workflow_has_stages_with_time_boxes_in_words(self):
        _, client = person(Role.ADMINISTRATOR)
        form = form_of(client, "/incidents/workflow/add/")
        stage = {
            "stages-TOTAL_FORMS": "1",
            "stages-0-order": "1",
            "stages-0-name": "Detection",
            "stages-0-core_state": "open",
            "stages-0-limit": "2 min",
            "stages-0-checklist": "Look at the dashboard",
        }
        sent = client.post("/incidents/workflow/add/", {**form.fields, "name": "Emergency", **stage})
        assert sent.status_code == 302, page_of(sent).text[-600:]
        assert Stage.objects.get().limit == timedelta(minutes=2)
        text = page_of(client.get(f"/incidents/workflow/{Workflow.objects.get().pk}/")).text
        assert "2 min" in text and "Look at the dashboard" in text

    def test_a_rule_for_a_cause(self):
        _, client = person(Role.ADMINISTRATOR)
        form = form_of(client, "/incidents/causerule/add/")
        sent = client.post("/incidents/causerule/add/", {**form.fields, "cause": "rpo-breached", "quiet_for": "2 h"})
        assert sent.status_code == 302, page_of(sent).text[-600:]
        assert CauseRule.objects.get().quiet_for == timedelta(hours=2)

    def test_everybody_sees_them_and_administrators_alone_edit(self):
        rows = {
            "incidentprofile": ProfileFactory(),
            "workflow": StageFactory().workflow,
            "causerule": CauseRuleFactory(),
            "publiccomponent": PublicComponentFactory(component=ComponentFactory()),
            "maintenance": MaintenanceFactory(),
        }
        for role in (Role.MANAGER, Role.OPERATOR, Role.ADMINISTRATOR):
            _, client = person(role)
            for name, row in rows.items():
                assert client.get(f"/incidents/{name}/").status_code == 200
                assert client.get(f"/incidents/{name}/{row.pk}/").status_code == 200, (role, name)
                may = role == Role.ADMINISTRATOR
                assert (client.get(f"/incidents/{name}/add/").status_code == 200) == may, (role, name)
                assert (client.get(f"/incidents/{name}/{row.pk}/change/").status_code == 200) == may, (role, name)

    def test_their_changes_leave_a_trail(self):
        assert all(is_tracked(model) for model in (IncidentProfile, Workflow, Stage, CauseRule, Maintenance))


class TestMaintenance:
    def test_a_running_window_stands_on_every_page(self):
        _, client = person(Role.MANAGER)
        banner.lately.forget()
        window = MaintenanceFactory(title="New network cards", service=ServiceFactory(name="ERP"))
        MaintenanceFactory(
            title="Next week", starts_at=timezone.now() + timedelta(days=7), ends_at=timezone.now() + timedelta(days=8)
        )
        for path in ("/", "/incidents/incident/", "/backups/archive/"):
            page = page_of(client.get(path))
            assert "Maintenance of ERP" in page.text and f"/incidents/maintenance/{window.pk}/" in page.links
            assert "Next week" not in page.text

    def test_it_is_read_at_most_every_few_seconds(self, django_assert_num_queries):
        banner.lately.forget()
        MaintenanceFactory()
        with django_assert_num_queries(1):
            assert len(banner.running()) == len(banner.running()) == 1

    def test_a_window_that_is_saved_is_shown_at_once(self):
        _, client = person(Role.ADMINISTRATOR)
        assert "New racks" not in page_of(client.get("/")).text
        form = form_of(client, "/incidents/maintenance/add/")
        now = timezone.now()
        moments = {"starts_at": now - timedelta(minutes=1), "ends_at": now + timedelta(hours=1)}
        typed = {name: f"{at:%Y-%m-%dT%H:%M:%S}" for name, at in moments.items()}
        client.post("/incidents/maintenance/add/", {**form.fields, "title": "New racks", **typed})
        assert Maintenance.objects.exists() and "New racks" in page_of(client.get("/")).text
        address = f"/incidents/maintenance/{Maintenance.objects.get().pk}/"
        client.post(f"{address}delete/", {"post": "yes"})
        assert address not in page_of(client.get("/")).links

    def test_it_is_over_when_it_ends(self, time_machine):
        banner.lately.forget()
        MaintenanceFactory(starts_at=timezone.now(), ends_at=timezone.now() + timedelta(seconds=5))
        assert len(banner.running()) == 1
        time_machine.move_to(timezone.now() + timedelta(seconds=6))
        assert banner.running() == []


class TestTiles:
    def test_open_incidents_come_first_the_gravest_on_top(self):
        _, client = person(Role.MANAGER)
        mild, grave = IncidentFactory(title="Mild"), IncidentFactory(title="Grave")
        type(mild).objects.filter(pk=mild.pk).update(rank=4)
        type(mild).objects.filter(pk=grave.pk).update(rank=1, response_due_at=timezone.now() + timedelta(minutes=9))
        IncidentFactory(title="Over", resolved=True)
        html = client.get("/").content.decode()
        tile = html[html.index('id="tile-incidents-open"') :]
        assert html.index('id="tile-incidents-open"') == html.index('id="tile-')
        assert tile.index("Grave") < tile.index("Mild") and "min" in tile and "Over<" not in tile

    def test_nothing_is_wrong(self):
        _, client = person(Role.RESPONDER)
        assert "Nothing is wrong" in page_of(client.get("/")).text

    def test_what_nobody_answered_and_what_is_due(self):
        _, client = person(Role.MANAGER)
        EscalationFactory(title="The shop does not answer")
        EscalationFactory(title="Somebody has this", state="acknowledged", due_at=None, acknowledged_at=timezone.now())
        today = timezone.localdate()
        ActionItemFactory(text="Watch the free space", due_on=today - timedelta(days=1))
        ActionItemFactory(text="Far away", due_on=today + timedelta(days=60))
        secret = IncidentFactory(confidential=True)
        ActionItemFactory(text="Ask the lawyer", incident=secret, due_on=today)
        text = page_of(client.get("/")).text
        assert "The shop does not answer" in text and "Somebody has this" not in text
        assert "Watch the free space" in text and "Overdue" in text
        assert "Far away" not in text and "Ask the lawyer" not in text
