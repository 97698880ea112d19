"""The screens of deployments, by Django's client: who sees what, who may press what, what wrong input gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from core.links import list_url, page_url
from core.roles import Role
from deployments.actions import requesting
from deployments.board import Line
from deployments.models import (
    ChecklistItem,
    ChecklistTemplate,
    ConfigurationChange,
    Deployment,
    DeploymentProfile,
    FreezeWindow,
    LiveState,
    Release,
)
from operations import engine
from operations.models import Operation
from tests.deployments import factories
from tests.deployments.conftest import Stage
from tests.factories import PersonFactory, browser
from tests.pages import page_of


def press(client: Client, obj: Any, name: str, /, **data: Any) -> Any:
    """Open the confirm page and confirm it."""
    url = page_url(obj, "do", name)
    page = client.get(url)
    assert page.status_code == 200, page.content[:2000]
    return client.post(url, {**data, "request_key": page.context["request_key"]})


@pytest.fixture
def rows(stage: Stage) -> dict[str, Any]:
    """Something on every page."""
    template = ChecklistTemplate.objects.create(name="Before production")
    ChecklistItem.objects.create(template=template, text="Plan written", kind="manual")
    ChecklistItem.objects.create(template=template, text="CI", kind="ci", optional=True)
    first = stage.deploy("v1.0.0")
    stage.deploy("v1.1.0")
    stage.change(checklist=template, approvals=1)
    waiting = stage.ask("v1.2.0", reason="New prices")
    return {"live": stage.live, "done": first, "waiting": waiting, "release": waiting.release, "checklist": template}


def test_every_page_opens_for_everybody_who_reads(stage: Stage, rows: dict[str, Any]) -> None:
    factories.FreezeFactory()
    change = factories.ChangeFactory(environment=stage.production)
    for role in (Role.MANAGER, Role.OPERATOR, Role.APPROVER, Role.ADMINISTRATOR):
        client = browser(PersonFactory(role=role))
        for row in (*rows.values(), change, stage.profile):
            assert client.get(row.get_absolute_url()).status_code == 200
            assert client.get(page_url(row, "live")).status_code in (200, 286, 404)
        for model in (Release, Deployment, LiveState, DeploymentProfile, ChecklistTemplate, FreezeWindow):
            assert client.get(list_url(model)).status_code == 200
        assert client.get("/deployments/calendar/").status_code == 200
        assert b"What is live where" in client.get("/").content


def test_a_manager_presses_nothing(stage: Stage, rows: dict[str, Any]) -> None:
    client = browser(PersonFactory(role=Role.MANAGER))
    gate = rows["waiting"].gates.get(kind="manual")
    names = {
        rows["live"]: ("deploy", "look", "roll_back", "restart", "set", "free_port", "clean_up"),
        rows["waiting"]: ("start", "approve", "refuse", "withdraw", "roll_back", "review", f"confirm-{gate.pk}"),
        rows["release"]: ("withdraw", "attach_scan"),
    }
    for row, buttons in names.items():
        page = client.get(row.get_absolute_url()).content.decode()
        for name in buttons:
            assert client.post(page_url(row, "do", name), {}).status_code in (403, 404)
            assert f'id="do-{name}"' not in page
    assert Deployment.objects.get(pk=rows["waiting"].pk).state == "waiting"


def test_from_asking_to_live_and_back_by_clicks(stage: Stage, rows: dict[str, Any]) -> None:
    olga, ana = browser(stage.olga), browser(stage.ana)
    waiting = rows["waiting"]
    page = page_of(olga.get(waiting.get_absolute_url())).text
    assert "Plan written: nobody has confirmed it yet" in page and "0 of 1 approvals are given" in page
    gate = waiting.gates.get(kind="manual")
    assert press(olga, waiting, f"confirm-{gate.pk}", evidence="docs/plan.md").status_code == 302
    assert press(ana, waiting, "approve", note="Fine").status_code == 302
    assert press(olga, waiting, "start").status_code == 302
    row = Deployment.objects.get(pk=waiting.pk)
    assert stage.carry_out(row).state == "live"
    answer = press(
        olga, stage.live, "roll_back", to=Release.objects.get(version="v1.1.0").pk, reason="Prices are wrong"
    )
    assert answer.status_code == 302
    back = Deployment.objects.get(kind="rollback")
    assert (back.reason, stage.carry_out(back).state) == ("Prices are wrong", "live")
    assert stage.on_paper()["live"] == "v1.1.0"


def test_a_setting_is_taken_back_from_the_page_of_its_change(stage: Stage, rows: dict[str, Any]) -> None:
    olga = browser(stage.olga)
    press(olga, stage.live, "set", name="PRICES", value="new", reason="The new list")
    change = ConfigurationChange.objects.get()
    assert b"do-take_back" not in olga.get(change.get_absolute_url()).content  # it was not made yet
    engine.run(change.operation_id or 0, "w1")
    page = olga.get(change.get_absolute_url()).content
    assert b"do-take_back" in page
    manager = browser(PersonFactory(role=Role.MANAGER))
    assert manager.post(page_url(change, "do", "take_back"), {"reason": "x"}).status_code == 403
    assert "goes back from new to not set" in olga.get(page_url(change, "do", "take_back")).content.decode()
    press(olga, change, "take_back", reason="Wrong list")
    back = ConfigurationChange.objects.get(takes_back=change)
    engine.run(back.operation_id or 0, "w1")
    assert stage.live.settings == {}
    assert b"do-take_back" not in olga.get(change.get_absolute_url()).content
    assert b"Taken back by" in olga.get(change.get_absolute_url()).content


def test_a_restart_goes_back_only_where_that_is_asked_for_and_allowed(stage: Stage, rows: dict[str, Any]) -> None:
    olga = browser(stage.olga)
    press(olga, stage.live, "restart", reason="Hangs", or_roll_back="on")
    assert ConfigurationChange.objects.get().or_rolls_back
    stage.olga.groups.clear()
    stage.olga.user_permissions.set(
        Permission.objects.filter(codename__in=("control_service", "view_livestate", "view_configurationchange"))
    )
    assert b"or_roll_back" not in olga.get(page_url(stage.live, "do", "restart")).content
    engine.run(ConfigurationChange.objects.get().operation_id or 0, "w1")
    press(olga, stage.live, "restart", reason="Hangs", or_roll_back="on")
    assert not ConfigurationChange.objects.order_by("pk")[1].or_rolls_back


def test_a_port_is_freed_of_the_program_that_was_shown(stage: Stage, rows: dict[str, Any]) -> None:
    """Also where it is another one by the time it is confirmed: then nothing is ended."""
    olga = browser(stage.olga)
    held = {"port": 8001, "pid": 12, "started": 99, "program": "python3", "user": 1000}
    stage.put_on_paper(holders=[held, {**held, "port": 8002, "pid": 13}])
    url = page_url(stage.live, "do", "free_port")
    page = olga.get(url)
    assert "python3 (process 12 of user 1000) on port 8001" in page.content.decode()
    other = olga.post(
        url, {"holder": "8001-12-100", "reason": "x", "request_key": page.context["request_key"]}
    ).content.decode()
    assert "not one of the available choices" in other and not ConfigurationChange.objects.exists()
    press(olga, stage.live, "free_port", holder="8001-12-99", reason="Left over from a test")
    change = ConfigurationChange.objects.get()
    assert str(change) == "Free a port python3 (process 12 of user 1000) on port 8001"
    engine.run(change.operation_id or 0, "w1")
    assert [each["pid"] for each in stage.on_paper()["holders"]] == [13]
    manager = browser(PersonFactory(role=Role.MANAGER))
    assert manager.post(url, {"holder": "8002-13-99", "reason": "x"}).status_code == 403


def test_whoever_asked_is_not_offered_to_approve(stage: Stage, rows: dict[str, Any]) -> None:
    both = PersonFactory(role=Role.ADMINISTRATOR)
    row = requesting.request_deployment(stage.production, rows["release"], by=both)
    client = browser(both)
    assert b"Approve" not in client.get(row.get_absolute_url()).content
    assert not row.approvals.exists()


def test_the_board_says_that_what_is_cancelled_goes_back(stage: Stage, rows: dict[str, Any]) -> None:
    running = Deployment(environment=stage.production, state="verifying", operation=Operation(state="running"))
    line = Line(stage.production, stage.live, running)
    assert line.word == "Being verified"
    running.operation = Operation(state="running", cancel_requested_at=timezone.now())
    assert line.word == "Going back"


def test_deploying_is_asked_for_once_however_often_it_is_pressed(stage: Stage, rows: dict[str, Any]) -> None:
    client = browser(stage.olga)
    url = page_url(rows["live"], "do", "deploy")
    data = {"release": rows["release"].pk, "reason": "Now", "request_key": client.get(url).context["request_key"]}
    before = Deployment.objects.count()
    for _ in range(3):
        assert client.post(url, data).status_code == 302
    assert Deployment.objects.count() == before + 1


def test_wrong_input_keeps_what_was_typed(stage: Stage, rows: dict[str, Any]) -> None:
    client = browser(stage.olga)
    page = press(client, rows["live"], "deploy", release=rows["release"].pk, emergency="on", reason="")
    assert page.status_code == 200 and "why this cannot wait" in page_of(page).text
    page = press(client, rows["live"], "roll_back", to=999999, reason="My long reason")
    assert page.status_code == 200 and "My long reason" in page.content.decode()


def test_hostile_words_stay_words(stage: Stage, rows: dict[str, Any]) -> None:
    words = "<script>alert(1)</script>"
    Release.objects.update(notes=words)
    Deployment.objects.update(reason=words, message=words)
    LiveState.objects.update(drift=words)
    client = browser(stage.olga)
    for row in rows.values():
        assert words not in client.get(row.get_absolute_url()).content.decode()


def test_secrets_are_references_on_every_page(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_SECRET_ERP", "hunter2-is-no-good")
    stage.change(secrets={"DB_PASSWORD": "env:OPS_SECRET_ERP"})
    row = stage.deploy("v1.0.0")
    client = browser(PersonFactory(role=Role.ADMINISTRATOR))
    for each in (row, stage.live, stage.profile):
        page = client.get(each.get_absolute_url()).content.decode()
        assert "hunter2" not in page
    assert "env:OPS_SECRET_ERP" in client.get(stage.profile.get_absolute_url()).content.decode()


def test_the_board_costs_the_same_for_one_and_for_many(
    transactional_db: None, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    client = browser(PersonFactory(role=Role.MANAGER))
    for _ in range(12):
        factories.LiveFactory()
    client.get(list_url(LiveState))
    with django_assert_max_num_queries(14):
        assert client.get(list_url(LiveState)).status_code == 200
