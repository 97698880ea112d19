"""The API: who may do what, what comes back, the same request twice, and what goes wrong."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from backups.models import Archive, Restore
from catalog.models import Environment
from core.api import BearerToken
from core.models import ApiToken, User
from core.roles import Role
from core.scopes import READ, SCOPES
from deployments.drivers import DRIVERS
from incidents.models import Incident
from operations.models import Operation
from opsportal.api import api
from tests import factories
from tests.contacts.factories import EscalationFactory
from tests.deployments import api_rows
from tests.deployments.paper import PaperDriver
from tests.factories import ArchiveFactory, OperationFactory, PersonFactory, PlanFactory, RestoreFactory, bearer
from tests.furnished import fingerprint
from tests.incidents.factories import IncidentFactory
from tests.operations.conftest import at_once

V1 = "/api/v1"
WHY = {"reason": "a test"}
# What is done at once answers with what came of it; everything else starts an operation.
STARTED = {
    "incidents": (200, 201),
    "escalations": (200,),
    "releases": (200, 201),
    "deployments": (200, 201, 202),
    "environments": (201, 202),
}


class Caller:
    """A program with a token."""

    def __init__(self, owner: User, *scopes: str) -> None:
        self.client, self.headers = Client(raise_request_exception=False), bearer(owner, *scopes)

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"{V1}{path}", query, headers=self.headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        content = json.dumps({} if body is None else body)
        return self.client.post(
            f"{V1}{path}", content, content_type="application/json", headers={**self.headers, **headers}
        )


@pytest.fixture
def olga(db):
    return PersonFactory(username="olga", role=Role.OPERATOR)


@pytest.fixture
def call(olga) -> Caller:
    return Caller(olga)


@pytest.fixture(autouse=True)
def paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment behind the routes of deployments is on paper."""
    monkeypatch.setitem(DRIVERS, "rolling", PaperDriver)


def routes() -> list[tuple[str, str, BearerToken]]:
    """Method, path with `{id}` and key of every route of the API."""
    found = []
    for prefix, router in api._routers:
        for path, view in router.path_operations.items():
            for operation in view.operations:
                (key,) = operation.auth_callbacks
                found += [(method, f"{prefix}{path}".replace("//", "/"), key) for method in operation.methods]
    return found


def furnish() -> dict[str, int]:
    """One row behind every route; ids by the name of the list."""
    archive = ArchiveFactory(plan=PlanFactory())
    failed = OperationFactory(
        procedure="backups.verify", params={"archive": archive.pk}, state=Operation.State.FAILED, title="Verify"
    )
    probe = factories.ProbeFactory()
    # The operator works alone on it: the incident decides who changes its severity.
    olga = User.objects.filter(username="olga").first() or PersonFactory()
    incident = IncidentFactory(declared_by=olga, solo=True)
    return {
        "plans": archive.plan.pk,
        "archives": archive.pk,
        "restores": RestoreFactory(archive=archive).pk,
        "operations": failed.pk,
        "probes": probe.pk,
        "incidents": incident.pk,
        "escalations": EscalationFactory().pk,
        **api_rows.furnish_deployments(),
    }


def body_for(path: str, ids: dict[str, int]) -> dict[str, Any]:
    if path.split("/")[1] in ("releases", "deployments", "environments", "changes"):
        return api_rows.body_for(path, ids)
    if path.startswith("/incidents"):
        code = Incident.objects.get(pk=ids["incidents"]).severity.code
        bodies = {
            "/incidents": {"title": "a test"},
            "/incidents/{id}/notes": {"text": "a test"},
            "/incidents/{id}/severity": {"severity": code, **WHY},
            "/incidents/{id}/updates": {"text": "a test"},
        }
        return bodies.get(path, {})
    if path.startswith("/escalations"):
        return {}
    if path.endswith("/restore"):
        return {"into": Archive.objects.get(pk=ids["archives"]).target.database, "reason": "a test"}
    return WHY if "{id}" in path else {}


def address(path: str, ids: dict[str, int]) -> str:
    room = path.split("/")[1] or path.split("/")[2]
    return path.replace("{id}", str(ids.get(room, 1))).replace("{gate}", str(ids["gates"]))


class TestRights:
    def test_every_route_has_a_key_and_every_writing_one_a_scope_that_writes(self):
        found = routes()
        assert len(found) >= 18
        for method, path, key in found:
            assert isinstance(key, BearerToken), path
            assert (key.scope in (READ, None)) == (method == "GET"), path
            assert (key.scope in SCOPES and key.permission) or path == "/me", path

    def test_without_a_token_there_is_nothing(self, db):
        ids = furnish()
        before = fingerprint()
        for method, path, _ in routes():
            for headers in ({}, {"Authorization": "Bearer ops_x"}, {"Authorization": "Basic b2xnYTpvbGdh"}):
                answer = Client().generic(method, V1 + address(path, ids), "{}", "application/json", headers=headers)
                assert answer.status_code == 401, path
                assert answer["WWW-Authenticate"].startswith("Bearer")
        assert fingerprint() == before

    def test_a_session_of_a_browser_is_no_token(self, olga):
        assert factories.browser(olga).get(f"{V1}/operations").status_code == 401

    @pytest.mark.parametrize("end", ["revoked", "expired", "switched off"])
    def test_a_worthless_token_opens_nothing(self, call, olga, end):
        assert call.get("/me").status_code == 200
        now = timezone.now()
        if end == "revoked":
            ApiToken.objects.update(revoked_at=now)
        elif end == "expired":
            ApiToken.objects.update(created_at=now - timedelta(days=2), expires_at=now - timedelta(seconds=1))
        else:
            User.objects.update(is_active=False)
        assert call.get("/me").status_code == 401

    def test_without_its_scope_no_route_writes(self, olga):
        ids = furnish()
        before = fingerprint()
        for method, path, key in routes():
            if key.scope is None:
                continue  # it tells what the token is for
            others = [word for word in SCOPES if word != key.scope]
            caller = Caller(olga, *others)
            where = address(path, ids)
            answer = caller.get(where) if method == "GET" else caller.post(where, body_for(path, ids))
            assert answer.status_code == 403, path
            assert f"lacks the scope “{key.scope}”" in answer.json()["detail"]
        assert fingerprint() == before

    @pytest.mark.parametrize("scope", sorted(SCOPES))
    def test_any_token_says_what_it_is_for(self, olga, scope):
        assert Caller(olga, scope).get("/me").json()["scopes"] == [scope]

    @pytest.mark.parametrize(
        ("procedure", "scope"),
        [("backups.restore", "restore"), ("backups.undo_restore", "restore"), ("backups.backup", "backup")],
    )
    def test_control_alone_does_nothing_again_that_wants_a_scope_of_its_own(self, olga, procedure, scope):
        failed = OperationFactory(procedure=procedure, state="failed")
        before = fingerprint()
        others = [word for word in SCOPES if word != scope]
        answer = Caller(olga, *others).post(f"/operations/{failed.pk}/retry", WHY)
        assert answer.status_code == 403 and f"lacks the scope “{scope}”" in answer.json()["detail"]
        assert fingerprint() == before

    def test_what_takes_no_key_promises_none(self, client, db):
        paths = client.get(f"{V1}/openapi.json").json()["paths"]
        takes = {path for path, methods in paths.items() if "Idempotency-Key" in str(methods.get("post", ""))}
        assert takes == {path for path, methods in paths.items() if "post" in methods and not path.endswith("/cancel")}

    @pytest.mark.parametrize("into", ["x" * 64, "a\nb", "-x", "host=elsewhere"])
    def test_a_restore_into_what_is_no_name_is_refused(self, olga, into):
        archive = ArchiveFactory()
        answer = Caller(olga).post(f"/archives/{archive.pk}/restore", {"into": into, "reason": "x"})
        assert answer.status_code == 422 and not Operation.objects.filter(procedure="backups.restore").exists()

    @pytest.mark.parametrize("role", [Role.MANAGER, Role.RESPONDER, Role.APPROVER, None])
    def test_with_every_scope_nobody_may_more_than_the_role(self, db, role):
        ids = furnish()
        person = PersonFactory(username="somebody", role=role)
        caller = Caller(person)
        before = fingerprint()
        for method, path, key in routes():
            where = address(path, ids)
            allowed = key.permission is None or person.has_perm(key.permission)
            if method == "GET":
                assert caller.get(where).status_code == (200 if allowed else 403), path
            elif not allowed:
                assert caller.post(where, body_for(path, ids)).status_code == 403, path
        assert fingerprint() == before

    def test_an_operator_may_use_every_route(self, olga, target_server):
        for method, path, _ in routes():
            with transaction.atomic():
                ids = furnish()
                where = address(path, ids)
                if method == "GET":
                    assert Caller(olga).get(where).status_code == 200, path
                else:
                    answer = Caller(olga).post(where, body_for(path, ids))
                    assert answer.status_code in self.expected(path), (path, answer.content)
                transaction.set_rollback(True)

    def expected(self, path: str) -> tuple[int, ...]:
        if path.endswith(("/approve", "/refuse", "/review")):
            return (403,)  # that is for another person, of another role
        if path == "/operations/{id}/cancel":
            return (409,)  # what has ended cannot be cancelled: the action's answer, not a question of rights
        return STARTED.get(path.split("/")[1], (202,))

    def test_no_reading_route_writes(self, call):
        ids = furnish()
        call.get("/me")  # notes the use of the token, once a minute
        for method, path, _ in routes():
            if method == "GET":
                with transaction.atomic(), connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION READ ONLY")
                    assert call.get(address(path, ids)).status_code == 200, path
        ApiToken.objects.update(last_used_at=None)


class TestReading:
    def test_who_am_i(self, call):
        found = call.get("/me").json()
        assert (found["user"], found["roles"], found["scopes"]) == ("olga", ["Operator"], list(SCOPES))
        assert ApiToken.objects.get().last_used_at is not None

    def test_a_list_comes_in_pages(self, call):
        numbers = [OperationFactory().pk for _ in range(5)]
        first = call.get("/operations", limit=3).json()
        second = call.get("/operations", limit=3, before=first["next"]).json()
        assert [row["id"] for row in first["items"] + second["items"]] == numbers[::-1]
        assert second["next"] is None

    def test_operations_by_state_and_kind(self, call):
        wrong = OperationFactory(state=Operation.State.FAILED, procedure="backups.prune")
        OperationFactory()
        queued = OperationFactory(state=Operation.State.QUEUED)
        assert [row["id"] for row in call.get("/operations", state="failed").json()["items"]] == [wrong.pk]
        assert [row["id"] for row in call.get("/operations", procedure="backups.prune").json()["items"]] == [wrong.pk]
        assert [row["id"] for row in call.get("/operations", active=True).json()["items"]] == [queued.pk]

    def test_an_operation_has_its_steps_and_its_log(self, call):
        operation = OperationFactory()
        found = call.get(f"/operations/{operation.pk}").json()
        assert [step["name"] for step in found["steps"]] == [step.name for step in operation.steps.in_order()]
        texts = list(operation.log.order_by("pk").values_list("text", flat=True))
        part = call.get(f"/operations/{operation.pk}/log", limit=1).json()
        rest = call.get(f"/operations/{operation.pk}/log", after=part["last"]).json()
        assert [line["text"] for line in part["items"] + rest["items"]] == texts

    def test_restore_points_of_a_database(self, call):
        good = ArchiveFactory()
        ArchiveFactory(plan=good.plan, target=good.target, verification=Archive.Verification.UNVERIFIED)
        other = ArchiveFactory()
        found = call.get("/archives", database=good.target.pk, restore_points=True).json()["items"]
        assert [row["id"] for row in found] == [good.pk]
        assert [row["id"] for row in call.get("/archives", plan=other.plan.pk).json()["items"]] == [other.pk]

    def test_targets_are_seconds_and_unset_ones_null(self, call):
        factories.ComponentFactory(rto=timedelta(minutes=5), rpo=None)
        (service,) = call.get("/services").json()["items"]
        (component,) = service["environments"][0]["components"]
        assert (component["rto_s"], component["rpo_s"]) == (300.0, None)
        assert service["environments"][0]["slug"] == Environment.objects.get().slug

    @pytest.mark.parametrize("path", ["/services", "/databases", "/plans", "/archives", "/restores", "/operations"])
    def test_a_longer_list_takes_no_more_queries(self, call, path, django_assert_max_num_queries):
        for _ in range(3):
            RestoreFactory()
        call.get("/me")
        with django_assert_max_num_queries(9):
            assert len(call.get(path).json()["items"]) >= 3


class TestWriting:
    def test_a_backup_says_who_why_and_through_which_door(self, call, olga):
        plan = PlanFactory()
        answer = call.post(f"/plans/{plan.pk}/backups", {"purpose": "pre_change", "reason": "release 7"})
        operation = Operation.objects.get(pk=answer.json()["id"])
        assert answer.status_code == 202 and answer.json()["state"] == "queued"
        assert (operation.requested_by, operation.trigger, operation.reason) == (olga, "api", "release 7")
        assert operation.archive.purpose == "pre_change"

    def test_a_restore_needs_the_name_of_a_database_and_a_reason(self, call):
        archive = ArchiveFactory()
        path = f"/archives/{archive.pk}/restore"
        assert call.post(path, {"into": archive.target.database}).status_code == 422
        assert call.post(path, {"reason": "lost rows"}).status_code == 422
        answer = call.post(path, {"into": archive.target.database, "reason": "lost rows"})
        assert answer.status_code == 202
        restore = Restore.objects.get(operation=answer.json()["id"])
        assert (restore.reason, restore.operation.trigger) == ("lost rows", "api")

    def test_an_unverified_archive_needs_a_reason_of_its_own(self, call):
        archive = ArchiveFactory(verification=Archive.Verification.UNVERIFIED)
        body = {"into": "beside", "reason": "a look"}
        answer = call.post(f"/archives/{archive.pk}/restore", body)
        assert answer.status_code == 422 and "not verified" in answer.json()["detail"]
        assert (
            call.post(f"/archives/{archive.pk}/restore", {**body, "override_reason": "all there is"}).status_code == 202
        )

    def test_who_holds_the_database_is_named(self, call):
        plan = PlanFactory()
        first = call.post(f"/plans/{plan.pk}/backups").json()
        second = call.post(f"/plans/{plan.pk}/backups")
        assert second.status_code == 409 and f"#{first['id']}" in second.json()["detail"]

    def test_cancel_and_retry(self, call):
        plan = PlanFactory()
        number = call.post(f"/plans/{plan.pk}/backups").json()["id"]
        assert call.post(f"/operations/{number}/cancel", WHY).json()["state"] == "cancelled"
        assert call.post(f"/operations/{number}/cancel", WHY).status_code == 409
        again = call.post(f"/operations/{number}/retry", WHY).json()
        operation = Operation.objects.get(pk=again["id"])
        assert (operation.retry_of_id, operation.trigger) == (number, "api")


class TestTheSameRequestTwice:
    def test_a_repeated_key_gives_the_first_operation(self, call):
        plan = PlanFactory()
        path, key = f"/plans/{plan.pk}/backups", {"Idempotency-Key": "deploy-7"}
        numbers = {call.post(path, WHY, **key).json()["id"] for _ in range(3)}
        assert len(numbers) == 1 and Operation.objects.count() == 1

    def test_for_another_request_the_key_is_refused(self, call):
        plan, archive = PlanFactory(), ArchiveFactory()
        key = {"Idempotency-Key": "deploy-7"}
        call.post(f"/plans/{plan.pk}/backups", WHY, **key)
        for path, body in ((f"/plans/{plan.pk}/backups", {"reason": "other"}), (f"/archives/{archive.pk}/verify", WHY)):
            answer = call.post(path, body, **key)
            assert answer.status_code == 422 and "another request" in answer.json()["detail"]

    def test_two_people_may_use_the_same_key(self, call):
        path, key = f"/plans/{PlanFactory().pk}/backups", {"Idempotency-Key": "deploy-7"}
        other = f"/plans/{PlanFactory().pk}/backups"
        first = call.post(path, WHY, **key).json()
        second = Caller(PersonFactory(role=Role.OPERATOR)).post(other, WHY, **key).json()
        assert first["id"] != second["id"]

    @pytest.mark.parametrize("key", ["", " ", "x" * 256])
    def test_a_key_that_is_none_is_refused(self, call, key):
        answer = call.post(f"/plans/{PlanFactory().pk}/backups", WHY, **{"Idempotency-Key": key})
        assert answer.status_code == 422 and not Operation.objects.exists()


class TestWhatGoesWrong:
    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/nothing", 404),
            ("/operations/999999", 404),
            ("/operations/0", 422),
            ("/operations/99999999999999999999", 422),
        ],
    )
    def test_it_is_a_problem_with_a_sentence(self, call, path, status):
        answer = call.get(path)
        assert answer.status_code == status
        assert answer["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == status and answer.json()["detail"]

    @pytest.mark.parametrize(
        "body", ["", "{", "[]", "null", '"x"', "\xff", '{"reason": "\\u0000"}', '{"reason": 7}', '{"other": 1}']
    )
    def test_a_body_that_is_none(self, call, body):
        path = f"{V1}/plans/{PlanFactory().pk}/backups"
        answer = call.client.post(path, body, content_type="application/json", headers=call.headers)
        assert answer.status_code in (400, 422) and answer["Content-Type"] == "application/problem+json"
        assert not Operation.objects.exists()

    def test_a_body_of_ten_megabytes(self, call):
        answer = call.post(f"/plans/{PlanFactory().pk}/backups", {"reason": "x" * 10_000_000})
        assert answer.status_code == 413 and answer["Content-Type"] == "application/problem+json"

    def test_what_nobody_expected_says_nothing_of_the_inside(self, call, monkeypatch):
        monkeypatch.setattr("operations.api.page_of", lambda *args: 1 / 0)
        answer = call.get("/operations")
        assert answer.status_code == 500 and "division" not in answer.content.decode()


class TestTrail:
    def test_the_audit_trail_names_the_tokens_owner(self, call, olga, target_server, monkeypatch):
        archive = ArchiveFactory()
        LogEntry.objects.all().delete()
        call.post(f"/archives/{archive.pk}/verify", WHY)
        assert {entry.actor for entry in LogEntry.objects.all()} <= {olga}


def test_two_at_once_with_one_key_make_one_operation(transactional_db):
    plan = PlanFactory()
    caller = Caller(PersonFactory(role=Role.OPERATOR))
    asks = [lambda: caller.post(f"/plans/{plan.pk}/backups", WHY, **{"Idempotency-Key": "once"}).json()["id"]] * 4
    assert len(set(at_once(*asks))) == 1


def test_the_document_is_there_for_everybody(client, db):
    document = client.get(f"{V1}/openapi.json").json()
    assert document["info"]["title"] == "Ops Portal"
    assert set(document["components"]["securitySchemes"]) == {"BearerToken"}
