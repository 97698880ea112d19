"""Follow every link a role can see: no page breaks, no link leads to a closed door, no GET writes anything."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

import pytest
from auditlog.models import LogEntry
from axes.models import AccessAttempt
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import resolve

from backups import actions
from catalog.models import ServiceControlCommands, Severity
from core.models import User
from core.roles import ROLES, Role
from deployments.drivers import DRIVERS
from tests.deployments.paper import PaperDriver
from tests.factories import (
    ApiTokenFactory,
    BreakGlassFactory,
    CardCopyFactory,
    DeliveryFactory,
    PersonFactory,
    PlanFactory,
    PortalBackupFactory,
    SecondPlaceFactory,
    browser,
)
from tests.furnished import confirm_pages, deployment_pages, fingerprint, pages
from tests.pages import Form, page_of

# So many objects of a kind are looked at; of each filter and each order of a list, one.
OBJECTS = 5
# What an operation offers differs by its state.
OPERATIONS = 12
# Roles whose rights are the same see the same: one of them is walked.
DIFFERENT = list({table: role for role, table in reversed(ROLES.items())}.values())
# Everybody may change these about themselves.
OWN = {"/logout/", "/me/", "/password_change/"}


# One process walks for every role; what one test has seen, the next need not walk for again.
pytestmark = pytest.mark.xdist_group("crawl")


@dataclass
class Walk:
    """What a person came across. `broken`: address, where the link stands, what came."""

    visited: dict[str, str] = field(default_factory=dict)
    forms: list[Form] = field(default_factory=list)
    broken: list[tuple[str, str, str]] = field(default_factory=list)


@pytest.fixture
def furnished(db, monkeypatch) -> None:
    """Something behind every item of the navigation."""
    monkeypatch.setitem(DRIVERS, "blue_green", PaperDriver)
    plan = actions.save_plan(PlanFactory(keep_days=7), cron="0 2 * * *", misfire="latest", enabled=True)
    pages(plan)
    deployment_pages()
    confirm_pages(plan)  # last: the newest operations stand first in their list
    environment = plan.target.component.environment
    commands = {"start": ["true"], "stop": ["true"], "status": ["true"]}
    ServiceControlCommands.objects.create(environment=environment, **commands)
    Severity.objects.create(service=environment.service, code="P1", name="Outage", rank=1, definition="All is down.")
    AccessAttempt.objects.create(username="nobody", ip_address="192.0.2.1", failures_since_start=1)
    SecondPlaceFactory()
    PortalBackupFactory()
    CardCopyFactory()
    BreakGlassFactory()
    DeliveryFactory()
    ApiTokenFactory()
    assert LogEntry.objects.exists()


def shape(address: str) -> str:
    """Addresses that differ by the object, the gate or the value of a filter have one shape."""
    parts = urlsplit(address)
    match = resolve(parts.path)
    button = match.kwargs.get("button", "").rstrip("-0123456789")
    return f"{match.view_name} {button} {sorted({name for name, _ in parse_qsl(parts.query)})}"


def read(client: Client, address: str) -> HttpResponse:
    """GET in a transaction that can only read: PostgreSQL itself refuses every write."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
        response = client.get(address)
        if response.streaming:
            b"".join(response.streaming_content)
    return response


def asks(address: str) -> bool:
    return bool(urlsplit(address).query)


def most(address: str) -> int:
    """How many addresses of this shape are looked at."""
    if asks(address):
        return 1
    return OPERATIONS if address.startswith("/operations/operation/") else OBJECTS


def walk(client: Client) -> Walk:
    """Breadth first from the home page."""
    found, seen = Walk(), Counter[str]()
    todo = deque([("/", "")])
    while todo:
        address, source = todo.popleft()
        if address in found.visited or not address.startswith("/") or address.startswith("/static/"):
            continue
        seen[shape(address)] += 1
        if seen[shape(address)] > most(address):
            continue
        found.visited[address] = source
        try:
            response = read(client, address)
        except Exception as error:
            found.broken.append((address, source, f"{type(error).__name__}: {error}"[:300]))
            continue
        if response.status_code == 302:
            todo.append((response["Location"], address))
        elif response.status_code not in (200, 286):
            found.broken.append((address, source, str(response.status_code)))
        elif response["Content-Type"].startswith("text/html"):
            page = page_of(response)
            found.forms += page.forms
            # A list with one filter leads to lists with two, and so on without an end.
            todo.extend((link, address) for link in page.links if not (asks(address) and asks(link)))
    return found


@pytest.mark.parametrize("role", [*DIFFERENT, None])
def test_every_link_leads_somewhere_and_no_page_writes(furnished, role):
    client = browser(PersonFactory(role=role))
    before = fingerprint()
    found = walk(client)
    assert found.broken == []
    assert fingerprint() == before
    led(role, found)
    if role is None:
        assert set(found.visited) == {"/", "/me/", "/password_change/"}
        return
    names = {resolve(urlsplit(address).path).view_name for address in found.visited}
    for kind in ("plan", "archive", "restore", "storage"):
        assert {f"admin:backups_{kind}_{page}" for page in ("changelist", "detail", "history", "export")} <= names
    for kind in ("operation", "schedule", "slot", "workernode"):
        assert {f"admin:operations_{kind}_{page}" for page in ("changelist", "detail")} <= names
    for kind in ("service", "environment", "component", "host", "databasetarget", "servicecontrolcommands", "severity"):
        assert {f"admin:catalog_{kind}_{page}" for page in ("changelist", "detail")} <= names
    for kind in ("secondplace", "portalbackup", "cardcopy", "breakglass"):
        assert f"admin:survival_{kind}_detail" in names
    for kind in ("livestate", "deployment", "release", "configurationchange", "deploymentprofile", "freezewindow"):
        assert {f"admin:deployments_{kind}_{page}" for page in ("changelist", "detail")} <= names
    assert "deployments-calendar" in names
    assert {"health-status", "offline-card", "admin:core_apitoken_changelist"} <= names
    assert {"admin:webhooks_webhook_detail", "admin:webhooks_delivery_detail", "admin:operations_event_detail"} <= names
    assert ("admin:core_apitoken_new" in names) == (role in (Role.RESPONDER, Role.OPERATOR, Role.ADMINISTRATOR))
    buttons = {match[1] for address in found.visited if (match := re.search(r"/do/([\w-]+)/", address))}
    may_act = role in (Role.OPERATOR, Role.ADMINISTRATOR)
    responds = role in (Role.RESPONDER, Role.OPERATOR, Role.ADMINISTRATOR)
    decides = role in (Role.APPROVER, Role.ADMINISTRATOR)
    assert responds or decides or not buttons
    assert ({"approve", "refuse", "review"} <= buttons) == decides
    assert role != Role.APPROVER or buttons == {"approve", "refuse", "review"}
    deploying = {"deploy", "roll_back", "restart", "scale", "set", "clean_up", "start", "attach_scan"}
    assert deploying <= buttons if may_act else not deploying & buttons, role
    assert bool({"back_up", "prune", "restore", "cancel"} & buttons) == may_act
    if may_act:
        expected = "back_up prune restore verify keep let_go undo drop retry continue mark_done take_over cancel"
        assert set(expected.split()) <= buttons
    assert ({"confirm_key", "end"} <= buttons) == (role == Role.ADMINISTRATOR)
    edits = {name for name in names if name.endswith(("_add", "_change", "_delete"))} - {"admin:password_change"}
    everyday = ("admin:contacts_", "admin:incidents_", "admin:deployments_release_add")
    foreign = {name for name in edits if not name.startswith(everyday)}
    assert bool(foreign) == (role == Role.ADMINISTRATOR)
    assert responds or not edits
    if role == Role.OPERATOR:  # the directory, and what everybody writes who responds
        assert not {name for name in edits if name.endswith("_delete")}
        assert not {
            name for name in edits if re.search(r"_(channel|provider|causerule|incidentprofile|workflow)_", name)
        }
    assert not any("django_celery_beat" in name for name in names)  # for superusers only


_led: dict[Role | None, set[str]] = {}


def led(role: Role | None, found: Walk | None = None) -> set[str]:
    """The shapes of the pages that links lead a role to, the same for everything that `furnished` makes."""
    if role not in _led:
        found = found or walk(browser(PersonFactory(role=role)))
        _led[role] = {shape(urlsplit(address).path) for address in found.visited}
    return _led[role]


def sent(found: Walk) -> Iterator[Form]:
    """The forms that change something, each shape of address once; a person's own settings left out."""
    seen = set()
    for form in found.forms:
        path = urlsplit(form.action).path
        if form.method == "post" and path not in OWN and shape(path) not in seen:
            seen.add(shape(path))
            yield form


DOING = re.compile(r"/(do/[\w-]+|add|change|delete|new|first|first/test|pick|changes|declare|edit|import|update)/$")


def test_what_others_are_led_to_and_may_send_is_closed_to_everybody_else(furnished):
    """Every address that anybody is led to, asked for by everybody else; every form, sent by who may only look."""
    everywhere = walk(browser(User.objects.create_superuser("root")))
    assert everywhere.broken == []
    doing = {urlsplit(address).path for address in everywhere.visited if DOING.search(urlsplit(address).path)}
    shapes = {shape(path): path for path in sorted(doing - OWN)}
    assert len(shapes) > 30
    for role in (*DIFFERENT, None):
        refuse_pages(role, shapes)
    refuse_forms(list(sent(everywhere)))


def refuse_pages(role: Role | None, shapes: dict[str, str]) -> None:
    client = browser(PersonFactory(role=role))
    known, before = led(role), fingerprint()
    for kind, path in shapes.items():
        if kind not in known:
            answer = client.get(path)
            looked_at = answer.status_code == 302 and answer["Location"] == path.removesuffix("change/")
            assert answer.status_code in (403, 404) or looked_at, (role, path)
    assert fingerprint() == before


def refuse_forms(forms: list[Form]) -> None:
    assert len(forms) > 40
    manager = browser(PersonFactory(username="mara", role=Role.MANAGER))
    before, people = fingerprint(), list(User.objects.order_by("pk").values_list())
    for form in forms:
        response = manager.post(form.action, form.fields)
        if resolve(urlsplit(form.action).path).view_name.endswith("_changelist"):
            # The list comes again: a manager is offered no action that could be run on it.
            assert response.status_code in (200, 302, 403), form.action
        else:
            # Of other people's tokens nobody but an administrator knows that they are there.
            refused = (403, 404) if form.action.startswith("/core/apitoken/") else (403,)
            assert response.status_code in refused, form.action
    assert fingerprint() == before
    assert list(User.objects.order_by("pk").values_list()) == people
    assert Group.objects.count() == len(Role)
