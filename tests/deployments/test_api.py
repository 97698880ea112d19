"""Releases and deployments over the API: what comes back, who may, the same request twice, what goes wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.utils import timezone

from catalog.models import Service
from core.roles import Role
from core.scopes import DEPLOY, READ, RESTORE, SCOPES
from deployments import duties
from deployments.actions import requesting
from deployments.models import (
    Approval,
    ChecklistItem,
    ChecklistTemplate,
    ConfigurationChange,
    Deployment,
    FreezeWindow,
    LiveState,
    Release,
    Scan,
)
from operations import engine
from operations.models import Operation
from tests.deployments.api_rows import CHECKSUM, live_environment
from tests.deployments.conftest import Stage
from tests.deployments.paper import PaperDriver
from tests.deployments.test_procedures import fails
from tests.factories import PersonFactory
from tests.operations.conftest import at_once
from tests.opsportal.test_api import Caller

State = Deployment.State
ARTEFACT = {"source_kind": "folder", "source": "/srv/erp/v1", "checksum": CHECKSUM}
HOSTILE = ["; rm -rf /", "$(id)", "../../etc", "-rf", "v1.0.0\nv2", "v1.0.0 && id", "<script>", "v" * 65, "", "v1\x00"]


@pytest.fixture
def olga(stage: Stage) -> Caller:
    return Caller(stage.olga)


@pytest.fixture
def ana(stage: Stage) -> Caller:
    return Caller(stage.ana)


def ask(caller: Caller, stage: Stage, version: str = "v1.0.0", **more: Any) -> Any:
    if not Release.objects.filter(version=version).exists():
        stage.release(version)
    return caller.post("/deployments", {"environment": stage.production.pk, "version": version, **more})


class TestReleases:
    def test_one_is_created_once(self, olga: Caller, stage: Stage) -> None:
        body = {"service": "erp", "version": "v1.4.0", **ARTEFACT, "variables": ["DATABASE_URL"], "ci": "running"}
        first, again = olga.post("/releases", body), olga.post("/releases", body)
        assert first.status_code == again.status_code == 201
        assert first.json()["id"] == again.json()["id"]
        release = Release.objects.get()
        assert (release.created_by, release.ci, release.variables) == (stage.olga, "running", ["DATABASE_URL"])
        olga.post(f"/releases/{release.pk}/ci", {"ci": "passed"})
        assert olga.post("/releases", {**body, "migrations_tested": "CI, run 7"}).json()["ci"] == "passed"
        assert Release.objects.get().migrations_tested == "CI, run 7"
        for change, words in (
            ({"checksum": f"sha256:{'b' * 64}"}, "another checksum."),
            ({"notes": "New"}, "another text of its notes."),
            ({"changes_schema": True}, "another word on whether it changes the schema."),
            ({"variables": ["A"], "source": "/x"}, "another source and another list of variables."),
        ):
            other = olga.post("/releases", {**body, **change})
            assert other.status_code == 422 and words in other.json()["detail"], other.json()["detail"]
            assert "A release never changes" in other.json()["detail"]

    def test_many_at_once_are_one(self, olga: Caller) -> None:
        answers = at_once(*[lambda: olga.post("/releases", {"service": "erp", "version": "v1.4.0", **ARTEFACT})] * 8)
        assert {answer.status_code for answer in answers} == {201} and Release.objects.count() == 1

    def test_git_names_a_commit(self, olga: Caller) -> None:
        body = {"service": "erp", "version": "v1.4.0", "source_kind": "git"}
        for source in (
            "git@git.example.org:erp",
            "git@git.example.org:erp main",
            "repo v1.4.0",
            "repo 4f1c2a",
            "repo G4f1c2aa",
        ):
            answer = olga.post("/releases", {**body, "source": source})
            assert answer.status_code == 422 and "Name the commit at the end" in answer.json()["detail"], source
        for number, source in enumerate(("4f1c2aa", "git@git.example.org:erp 4f1c2aa", f"repo@{'0a' * 20}")):
            assert olga.post("/releases", {**body, "version": f"v1.4.{number}", "source": source}).status_code == 201

    @pytest.mark.parametrize("version", HOSTILE)
    def test_a_hostile_version_is_no_version(self, olga: Caller, version: str) -> None:
        answer = olga.post("/releases", {"service": "erp", "version": version, **ARTEFACT})
        assert answer.status_code == 422 and not Release.objects.exists()

    @pytest.mark.parametrize("change", [{"source": "--upload-pack=x"}, {"checksum": "md5:1"}, {"variables": ["A=B"]}])
    def test_what_is_no_artefact_is_refused(self, olga: Caller, change: dict[str, Any]) -> None:
        answer = olga.post("/releases", {"service": "erp", "version": "v1.0.0", **ARTEFACT, **change})
        assert answer.status_code == 422 and not Release.objects.exists()

    def test_notes_stay_data(self, olga: Caller) -> None:
        notes = "<script>alert(1)</script> $(id) `id` 'quotes' \u202e {{ settings.SECRET_KEY }}"
        answer = olga.post("/releases", {"service": "erp", "version": "v1.0.0", **ARTEFACT, "notes": notes})
        assert answer.json()["notes"] == notes

    def test_a_service_that_is_not_there(self, olga: Caller) -> None:
        answer = olga.post("/releases", {"service": "nothing", "version": "v1.0.0", **ARTEFACT})
        assert answer.status_code == 404 and answer.json()["detail"].endswith("Services: erp.")

    def test_scans_and_ci(self, olga: Caller, stage: Stage) -> None:
        release = stage.release("v1.0.0")
        path = f"/releases/{release.pk}"
        body = {"kind": "security", "tool": "scanner", "high": 2, "report": {"found": ["a", {"b": 1}]}}
        first = olga.post(f"{path}/scans", body)
        assert first.status_code == 201
        assert olga.post(f"{path}/scans", body).json()["id"] == first.json()["id"]
        assert olga.post(f"{path}/scans", {**body, "high": 0}).json()["id"] != first.json()["id"]
        assert Scan.objects.count() == 2
        assert olga.post(f"{path}/ci", {"ci": "passed", "url": "https://ci.example.org/1"}).json()["ci"] == "passed"
        assert olga.post(f"{path}/ci", {"ci": "failed"}).json()["ci_url"] == "https://ci.example.org/1"
        assert olga.post(f"{path}/ci", {"ci": "failed", "url": "javascript:alert(1)"}).status_code == 422
        found = olga.get(path).json()
        assert [scan["high"] for scan in found["scans"]] == [0, 2] and found["scans"][0]["by"] == "olga"

    def test_a_report_that_cannot_be_stored(self, olga: Caller, stage: Stage) -> None:
        path = f"/releases/{stage.release('v1.0.0').pk}/scans"
        deep: dict[str, Any] = {}
        for _ in range(40):
            deep = {"a": [deep]}
        for report in ({"a": "\0"}, {"\0": 1}, {"a": float("nan")}, {"a": "\ud800"}, deep, {"a": "x" * 300_000}):
            answer = olga.post(path, {"kind": "other", "tool": "x", "report": report})
            assert answer.status_code in (400, 422), report
        assert not Scan.objects.exists()

    def test_withdrawn_is_withdrawn(self, olga: Caller, stage: Stage) -> None:
        release = stage.release("v1.0.0")
        assert olga.post(f"/releases/{release.pk}/withdraw", {"reason": "Loses orders."}).status_code == 200
        answer = ask(olga, stage)
        assert answer.status_code == 422 and "was withdrawn: Loses orders." in answer.json()["detail"]
        (row,) = olga.get("/releases", usable=False).json()["items"]
        assert (row["id"], row["withdrawn_by"], row["withdrawn_reason"]) == (release.pk, "olga", "Loses orders.")
        assert olga.get("/releases", usable=True).json()["items"] == []

    def test_filters(self, olga: Caller, stage: Stage) -> None:
        stage.release("v1.0.0")
        second = stage.release("v1.1.0")
        found = olga.get("/releases", service="erp", version="v1.1.0").json()["items"]
        assert [row["id"] for row in found] == [second.pk]
        assert olga.get("/releases", service="shop").json()["items"] == []


class TestAsking:
    def test_it_says_why_it_waits_and_then_runs(self, olga: Caller, ana: Caller, stage: Stage) -> None:
        stage.change(approvals=1)
        answer = ask(olga, stage, reason="Release 7", starts_itself=False)
        found = answer.json()
        assert (answer.status_code, found["state"]) == (201, "waiting")
        assert found["obstacles"] == ["0 of 1 approvals are given."]
        path = f"/deployments/{found['id']}"
        kept = olga.post(f"{path}/start")
        assert kept.status_code == 422
        assert kept.json()["detail"] == "This cannot be deployed yet. 0 of 1 approvals are given."
        approved = ana.post(f"{path}/approve", {"note": "Looked at it"}).json()
        assert approved["obstacles"] == [] and approved["approvals"][0]["counts"] is True
        started = olga.post(f"{path}/start")
        assert (started.status_code, started.json()["state"]) == (202, "running")
        row = Deployment.objects.get()
        assert (row.trigger, row.requested_by, row.starts_itself) == ("api", stage.olga, False)
        assert stage.carry_out(row).state == State.LIVE
        ended = olga.get(path).json()
        assert ended["checks"][0]["name"] == "Health" and ended["ended_at"] and ended["took_s"] is not None
        live = olga.get(f"/environments/{stage.production.pk}/live").json()
        assert (live["version"], live["seen_live"], live["drift"], live["by"]) == ("v1.0.0", "v1.0.0", "", "olga")
        assert live["way_back"] is None

    def test_by_slugs_and_by_numbers(self, olga: Caller, stage: Stage) -> None:
        release = stage.release("v1.0.0")
        named = {"service": "erp", "environment": "production", "version": "v1.0.0"}
        assert olga.post("/deployments", named).json()["environment"]["id"] == stage.production.pk
        numbered = {"environment": stage.production.pk, "release": release.pk}
        assert olga.post("/deployments", numbered).json()["release"] == release.pk

    @pytest.mark.parametrize(
        ("change", "status", "sentence"),
        [
            ({"version": None}, 422, "Name either the number of a release or a version"),
            ({"release": 1}, 422, "Name either"),
            ({"environment": 2**40}, 404, "There is no environment with the id"),
            ({"environment": "production"}, 422, "wants the slug of its service too"),
            ({"environment": "moon", "service": "erp"}, 404, "has no environment “moon”. It has: production."),
            ({"version": "v9.9.9"}, 404, "has no release “v9.9.9”. It has: v1.0.0."),
            ({"service": "shop"}, 422, "is not an environment of “shop”"),
            ({"emergency": True}, 422, "Say why this cannot wait"),
            ({"solo": True}, 422, "Solo mode is not allowed"),
            ({"not_after": "2020-01-01T00:00:00Z"}, 422, "The window closes before it opens"),
            ({"not_before": "0001-01-01T00:00:00+14:00"}, 422, "A time lies in the years"),
            ({"starts_at": "now"}, 422, "Extra inputs"),
        ],
    )
    def test_what_cannot_be_asked_for(
        self, olga: Caller, stage: Stage, change: dict[str, Any], status: int, sentence: str
    ) -> None:
        stage.release("v1.0.0")
        body = {"environment": stage.production.pk, "version": "v1.0.0", **change}
        answer = olga.post("/deployments", {name: value for name, value in body.items() if value is not None})
        assert answer.status_code == status and sentence in answer.json()["detail"]
        assert not Deployment.objects.exists()

    @pytest.mark.parametrize("version", HOSTILE)
    def test_a_hostile_version_is_only_a_word(self, olga: Caller, stage: Stage, version: str) -> None:
        body = {"environment": stage.production.pk, "version": version}
        assert olga.post("/deployments", body).status_code in (404, 422)
        rolled = olga.post(f"/environments/{stage.production.pk}/rollback", {"reason": "x", "to": version})
        assert rolled.status_code in (404, 422) and not Operation.objects.exists()

    def test_the_same_request_twice_is_one_deployment(self, olga: Caller, stage: Stage) -> None:
        stage.release("v1.0.0")
        body = {"environment": stage.production.pk, "version": "v1.0.0"}
        key = {"Idempotency-Key": "run-42"}
        numbers = at_once(*[lambda: olga.post("/deployments", body, **key).json()["id"]] * 4)
        assert len(set(numbers)) == 1 and Deployment.objects.count() == 1
        other = olga.post("/deployments", {**body, "reason": "other"}, **key)
        assert other.status_code == 422 and "another request" in other.json()["detail"]

    def test_a_start_sent_twice_with_a_key_is_one_start(self, olga: Caller, stage: Stage) -> None:
        path = f"/deployments/{ask(olga, stage).json()['id']}/start"
        olga.post(path, {}, **{"Idempotency-Key": "go"})
        stage.carry_out(Deployment.objects.get())
        assert olga.post(path, {}, **{"Idempotency-Key": "go"}).json()["state"] == "live"
        assert "does not wait any more" in olga.post(path).json()["detail"]

    def test_another_that_runs_is_a_409(self, olga: Caller, stage: Stage) -> None:
        first, second = ask(olga, stage).json()["id"], ask(olga, stage, "v1.1.0").json()["id"]
        olga.post(f"/deployments/{first}/start")
        answer = olga.post(f"/deployments/{second}/start")
        assert answer.status_code == 409 and "#" in answer.json()["detail"]

    def test_cancelling_what_waits(self, olga: Caller, stage: Stage) -> None:
        path = f"/deployments/{ask(olga, stage).json()['id']}/cancel"
        found = olga.post(path, {"reason": "Later"}).json()
        assert (found["state"], found["message"]) == ("cancelled", "Withdrawn by olga. Later")
        assert "has ended" in olga.post(path).json()["detail"]

    def test_a_gate_is_settled_with_evidence(self, olga: Caller, stage: Stage) -> None:
        template = ChecklistTemplate.objects.create(name="Before production")
        ChecklistItem.objects.create(template=template, text="Notes were read", kind="manual")
        ChecklistItem.objects.create(template=template, text="CI", kind="ci", position=1)
        stage.change(checklist=template)
        found = ask(olga, stage).json()
        manual, automatic = found["gates"]
        path = f"/deployments/{found['id']}/gates"
        assert olga.post(f"{path}/{manual['id']}", {"passed": True}).status_code == 422
        settled = olga.post(f"{path}/{manual['id']}", {"evidence": "olga read them"}).json()
        assert (settled["gates"][0]["state"], settled["gates"][0]["by"]) == ("passed", "olga")
        refused = olga.post(f"{path}/{automatic['id']}", {"evidence": "It is fine"})
        assert refused.status_code == 422 and "looks at this item itself" in refused.json()["detail"]
        other = ask(olga, stage, "v1.1.0").json()["id"]
        assert olga.post(f"/deployments/{other}/gates/{manual['id']}", {"evidence": "x"}).status_code == 404

    def test_lists_have_filters_and_no_more_queries(
        self, olga: Caller, stage: Stage, django_assert_max_num_queries: Any
    ) -> None:
        for version in ("v1.0.0", "v1.1.0", "v1.2.0"):
            stage.deploy(version)
        elsewhere = live_environment()
        ask(olga, stage, "v1.3.0")
        with django_assert_max_num_queries(8):
            found = olga.get("/deployments", environment=stage.production.pk, state="live").json()["items"]
        assert [row["version"] for row in found] == ["v1.2.0", "v1.1.0", "v1.0.0"]
        assert len(olga.get("/deployments", environment=elsewhere.pk).json()["items"]) == 2
        with django_assert_max_num_queries(8):
            assert len(olga.get("/releases").json()["items"]) == 6


class TestRights:
    def test_whoever_asks_does_not_approve(self, stage: Stage) -> None:
        stage.change(approvals=1)
        both = Caller(PersonFactory(role=Role.ADMINISTRATOR))
        number = ask(both, stage).json()["id"]
        answer = both.post(f"/deployments/{number}/approve")
        assert answer.status_code == 422
        assert answer.json()["detail"] == "Whoever asks for a deployment does not approve it. Ask somebody else."
        assert not Approval.objects.exists()

    def test_a_refusal_wants_a_note_and_stops_it(self, olga: Caller, ana: Caller, stage: Stage) -> None:
        stage.change(approvals=1)
        path = f"/deployments/{ask(olga, stage).json()['id']}"
        assert ana.post(f"{path}/refuse").status_code == 422
        found = ana.post(f"{path}/refuse", {"note": "Not on a Friday."}).json()
        assert "ana refused: Not on a Friday." in found["obstacles"]

    def test_asking_is_not_starting(self, stage: Stage) -> None:
        person = PersonFactory(role=Role.MANAGER)
        person.user_permissions.add(Permission.objects.get(codename="request_deployment"))
        caller = Caller(person)
        answer = ask(caller, stage)
        assert answer.status_code == 403 and "send starts_itself as false" in answer.json()["detail"]
        assert ask(caller, stage, starts_itself=False).status_code == 201

    def test_an_emergency_is_for_those_who_may(self, stage: Stage) -> None:
        stage.change(approvals=1)
        person = PersonFactory(role=Role.MANAGER)
        names = ("request_deployment", "run_deployment")
        person.user_permissions.set(Permission.objects.filter(codename__in=names))
        assert ask(Caller(person), stage, emergency=True, reason="Down").status_code == 403
        found = ask(Caller(stage.olga), stage, emergency=True, reason="Down").json()
        assert found["obstacles"] == [] and found["review_needed"] is True
        path = f"/deployments/{found['id']}/review"
        person = PersonFactory(role=Role.APPROVER)
        both = Caller(person)
        assert both.post(path, {"note": " "}).status_code == 422
        reviewed = both.post(path, {"note": "It was down."}).json()
        assert reviewed["reviewed_by"] == person.get_username() and reviewed["review_note"] == "It was down."
        assert "reviewed already" in both.post(path, {"note": "Again"}).json()["detail"]

    @pytest.mark.parametrize("scope", [each for each in SCOPES if each != DEPLOY])
    def test_without_the_scope_nothing_is_asked_for(self, stage: Stage, scope: str) -> None:
        answer = ask(Caller(stage.olga, scope), stage)
        assert answer.status_code == 403 and "lacks the scope “deploy”" in answer.json()["detail"]

    def test_putting_a_backup_back_wants_the_scope_of_it(self, stage: Stage) -> None:
        stage.deploy("v1.0.0")
        stage.deploy("v1.1.0")
        path, body = f"/environments/{stage.production.pk}/rollback", {"reason": "x", "restores": True}
        answer = Caller(stage.olga, READ, DEPLOY).post(path, body)
        assert answer.status_code == 403 and "restore" in answer.json()["detail"]
        answer = Caller(stage.olga, DEPLOY, RESTORE).post(path, body)
        assert answer.status_code == 422 and "No backup is pinned" in answer.json()["detail"]


class TestGoingBack:
    def test_to_the_one_before_once(self, olga: Caller, stage: Stage) -> None:
        stage.deploy("v1.0.0")
        stage.deploy("v1.1.0")
        path = f"/environments/{stage.production.pk}/rollback"
        key = {"Idempotency-Key": "back"}
        asks = [lambda: olga.post(path, {"reason": "Orders fail", "incident": "INC-1"}, **key)] * 3
        answers = at_once(*asks)
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        row = Deployment.objects.get(kind="rollback")
        assert (row.reason, row.incident, row.trigger) == ("Orders fail", "INC-1", "api")
        assert stage.carry_out(row).state == State.LIVE
        assert olga.post(path, {"reason": "Orders fail", "incident": "INC-1"}, **key).json()["id"] == row.pk
        assert olga.get(f"/environments/{stage.production.pk}/live").json()["version"] == "v1.0.0"

    def test_stopping_what_is_under_way_once(self, olga: Caller, stage: Stage, paper: type[PaperDriver]) -> None:
        """Sent again after traffic is back, it must not bring the version that was just left."""
        stage.deploy("v1.0.0")
        stage.change(watch_for=timedelta(seconds=60))
        row = requesting.start(stage.ask("v1.1.0"), by=stage.olga)
        path, why = f"/environments/{stage.production.pk}/rollback", {"reason": "Looks wrong"}
        answers: list[Any] = []

        def click(driver: PaperDriver) -> None:
            paper.acts.pop("sample")
            answers.append(olga.post(path, why, **{"Idempotency-Key": "back"}))

        paper.acts["sample"] = click
        assert stage.carry_out(row).state == State.ROLLED_BACK
        again = olga.post(path, why, **{"Idempotency-Key": "back"})
        assert (again.status_code, again.json()["id"], again.json()["state"]) == (201, row.pk, "rolled_back")
        assert answers[0].json()["id"] == row.pk
        assert not Deployment.objects.active().exists() and stage.on_paper()["live"] == "v1.0.0"
        other = olga.post(path, {"reason": "other"}, **{"Idempotency-Key": "back"})
        assert other.status_code == 422 and "another request" in other.json()["detail"]

    def test_to_one_that_was_never_live_is_no_way_past_the_gates(self, olga: Caller, stage: Stage) -> None:
        stage.deploy("v1.0.0")
        stage.deploy("v1.1.0")
        stage.release("v2.0.0")
        path = f"/environments/{stage.production.pk}/rollback"
        answer = olga.post(path, {"reason": "x", "to": "v2.0.0"})
        assert answer.status_code == 422 and "was never live" in answer.json()["detail"]
        assert olga.post(path, {"reason": "x", "to": "v1.0.0"}).json()["version"] == "v1.0.0"

    def test_where_nothing_is_there_is_no_way_back(self, olga: Caller, stage: Stage) -> None:
        answer = olga.post(f"/environments/{stage.production.pk}/rollback", {"reason": "x"})
        assert answer.status_code == 422 and "nothing to go back from" in answer.json()["detail"]

    def test_the_way_back_is_shown(self, olga: Caller, stage: Stage) -> None:
        stage.deploy("v1.0.0")
        stage.deploy("v1.1.0")
        way = olga.get(f"/environments/{stage.production.pk}/live").json()["way_back"]
        assert (way["version"], way["possible"], way["warm"]) == ("v1.0.0", True, True)


class TestChanging:
    def test_restart_scale_set_clean_up(self, olga: Caller, stage: Stage) -> None:
        stage.deploy("v1.0.0")
        path, why = f"/environments/{stage.production.pk}", {"reason": "a test"}
        for route, body in (
            ("restart", why),
            ("scale", {"count": 3, **why}),
            ("settings", {"name": "LOG_LEVEL", "value": "debug", **why}),
            ("cleanup", why),
        ):
            answer = olga.post(f"{path}/{route}", body, **{"Idempotency-Key": route})
            assert answer.status_code == 202, answer.content
            engine.run(answer.json()["id"], "w1")
            again = olga.post(f"{path}/{route}", body, **{"Idempotency-Key": route})
            assert (again.json()["id"], again.json()["state"]) == (answer.json()["id"], "succeeded")
        assert LiveState.objects.get().settings == {"LOG_LEVEL": "debug"}
        assert list(ConfigurationChange.objects.order_by("pk").values_list("kind", "reason", "by__username")) == [
            (kind, "a test", "olga") for kind in ("restart", "scale", "setting", "cleanup")
        ]
        assert set(Operation.objects.filter(trigger="api").values_list("trigger", flat=True)) == {"api"}

    def test_the_latest_change_is_taken_back_and_both_are_recorded(self, olga: Caller, stage: Stage) -> None:
        stage.deploy("v1.0.0")
        path, why = f"/environments/{stage.production.pk}", {"reason": "a test"}

        def change(route: str, **body: Any) -> int:
            engine.run(olga.post(f"{path}/{route}", {**body, **why}).json()["id"], "w1")
            return int(olga.get("/changes", environment=stage.production.pk).json()["items"][0]["id"])

        first = change("settings", name="LOG_LEVEL", value="debug")
        second = change("settings", name="LOG_LEVEL", value="error")
        copies = change("scale", count=3)
        assert stage.on_paper()["copies"] == 3 and stage.live.settings == {"LOG_LEVEL": "error"}
        found = olga.get(f"/changes/{second}").json()
        assert (found["old"], found["new"], found["by"], found["state"]) == ("debug", "error", "olga", "succeeded")
        refused = olga.post(f"/changes/{first}/take-back", why)
        assert refused.status_code == 422 and "changed again since: Setting LOG_LEVEL" in refused.json()["detail"]
        for number in (second, copies):
            answer = olga.post(f"/changes/{number}/take-back", why, **{"Idempotency-Key": f"back-{number}"})
            engine.run(answer.json()["id"], "w1")
            again = olga.post(f"/changes/{number}/take-back", why, **{"Idempotency-Key": f"back-{number}"})
            assert (again.json()["id"], again.json()["state"]) == (answer.json()["id"], "succeeded")
        assert stage.on_paper()["copies"] == 1 and stage.live.settings == {"LOG_LEVEL": "debug"}
        back = ConfigurationChange.objects.get(takes_back=second)
        assert (back.old, back.new, back.by) == ("error", "debug", stage.olga)
        cleanup = change("cleanup")
        assert "has no old value" in olga.post(f"/changes/{cleanup}/take-back", why).json()["detail"]
        assert [row["id"] for row in olga.get("/changes", kind="cleanup").json()["items"]] == [cleanup]

    def test_a_setting_that_has_become_a_secret_is_not_taken_back(self, olga: Caller, stage: Stage) -> None:
        stage.deploy("v1.0.0")
        asked = {"name": "TOKEN", "value": "x", "reason": "a test"}
        engine.run(olga.post(f"/environments/{stage.production.pk}/settings", asked).json()["id"], "w1")
        stage.change(secrets={"TOKEN": "env:OPS_SECRET_ERP"})
        answer = olga.post(f"/changes/{ConfigurationChange.objects.get().pk}/take-back", {"reason": "a test"})
        assert answer.status_code == 422 and "is a secret of this environment" in answer.json()["detail"]

    def test_a_restart_that_fails_goes_back_where_that_was_asked_for(
        self, olga: Caller, stage: Stage, paper: type[PaperDriver]
    ) -> None:
        stage.deploy("v1.0.0")
        path = f"/environments/{stage.production.pk}/restart"
        body = {"reason": "Hangs", "or_roll_back": True}
        paper.acts["restart"] = fails("It does not come up.")
        paper.acts["start"] = paper.acts["restart"]
        engine.run(olga.post(path, body).json()["id"], "w1")
        ended = Operation.objects.get(procedure="deployments.control")
        assert "It does not come up." in ended.message
        assert "It could not be rolled back: v1.0.0 is the first release" in ended.message
        stage.deploy("v1.1.0")
        engine.run(olga.post(path, {"reason": "Hangs"}).json()["id"], "w1")
        assert not Deployment.objects.filter(kind="rollback").exists()
        engine.run(olga.post(path, body).json()["id"], "w1")
        back = Deployment.objects.get(kind="rollback")
        assert (back.requested_by, back.trigger) == (stage.olga, "operation")
        assert back.reason.startswith("The restart failed. It does not come up.") and back.reason.endswith(" Hangs")
        assert stage.carry_out(back).state == State.LIVE and stage.on_paper()["live"] == "v1.0.0"
        stage.olga.groups.clear()
        stage.olga.user_permissions.add(Permission.objects.get(codename="control_service"))
        answer = olga.post(path, body)
        assert answer.status_code == 403 and "may not roll back" in answer.json()["detail"]

    def test_a_clean_up_is_shown_before_it_is_done(self, olga: Caller, stage: Stage) -> None:
        for version in ("v1.0.0", "v1.1.0", "v1.2.0"):
            stage.deploy(version)
        path = f"/environments/{stage.production.pk}/cleanup"
        assert olga.get(path).json() == {"would_remove": ["v1.0.0 would be removed."]}
        assert not ConfigurationChange.objects.exists()

    @pytest.mark.parametrize(
        ("route", "body"),
        [
            ("scale", {"count": 0}),
            ("scale", {"count": 1001}),
            ("settings", {"name": "A B", "value": "x"}),
            ("settings", {"name": "A", "value": "x\ny"}),
            ("settings", {"name": "PASSWORD", "value": "x"}),
            ("restart", {"reason": ""}),
        ],
    )
    def test_what_is_refused(self, olga: Caller, stage: Stage, route: str, body: dict[str, Any]) -> None:
        stage.change(secrets={"PASSWORD": "env:OPS_SECRET_ERP"})
        answer = olga.post(f"/environments/{stage.production.pk}/{route}", {"reason": "a test", **body})
        assert answer.status_code == 422 and not ConfigurationChange.objects.exists()

    def test_no_secret_is_told(self, olga: Caller, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPS_SECRET_ERP", "hunter2-hunter2")
        stage.change(secrets={"PASSWORD": "env:OPS_SECRET_ERP"})
        number = ask(olga, stage).json()["id"]
        for path in (f"/deployments/{number}", f"/environments/{stage.production.pk}/live", "/releases"):
            text = olga.get(path).content.decode()
            assert "hunter2" not in text and "OPS_SECRET_ERP" not in text


def test_an_environment_without_a_profile_says_who_helps(olga: Caller, stage: Stage) -> None:
    stage.profile.delete()
    answer = ask(olga, stage)
    assert answer.status_code == 422 and "An administrator adds it" in answer.json()["detail"]


def test_a_freeze_stands_among_the_obstacles(olga: Caller, stage: Stage) -> None:
    now = timezone.now()
    FreezeWindow.objects.create(starts_at=now, ends_at=now + timedelta(hours=1), reason="Year end")
    assert "Year end." in ask(olga, stage).json()["obstacles"][0]


def test_a_release_of_another_service_is_refused(olga: Caller, stage: Stage) -> None:
    other = live_environment()
    body = {"environment": stage.production.pk, "release": Release.objects.filter(service=other.service)[0].pk}
    answer = olga.post("/deployments", body)
    assert (
        answer.status_code == 422
        and f"is not a release of {Service.objects.get(slug='erp')}" in answer.json()["detail"]
    )


def test_a_duty_starts_what_was_asked_for(olga: Caller, stage: Stage) -> None:
    first, second = (ask(olga, stage, version).json()["id"] for version in ("v1.0.0", "v1.1.0"))
    assert duties.start_due() == 1
    stage.carry_out(Deployment.objects.get(pk=first))
    assert duties.start_due() == 1
    assert stage.carry_out(Deployment.objects.get(pk=second)).state == State.LIVE
    assert stage.on_paper()["live"] == "v1.1.0"
    assert requesting.lock_of(stage.production) == f"environment:{stage.production.pk}"
