"""Deploying, going back, looking and cleaning up from a shell; and one sentence behind every door."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone

from backups.models import Archive
from core.roles import Role
from deployments import duties
from deployments.actions import requesting
from deployments.exceptions import DeploymentError
from deployments.models import (
    Approval,
    ChecklistItem,
    ChecklistTemplate,
    Deployment,
    LiveState,
    Release,
)
from operations import engine
from operations.models import Operation
from tests.deployments.api_rows import live_environment
from tests.deployments.conftest import Stage
from tests.deployments.paper import PaperDriver
from tests.deployments.test_procedures import fails
from tests.factories import ArchiveFactory, PersonFactory, PlanFactory
from tests.opsportal.test_api import Caller

State = Deployment.State


class Worker(threading.Thread):
    """The control loop and a worker, until they are told that it is enough."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.enough = threading.Event()

    def run(self) -> None:
        try:
            while not self.enough.wait(0.05):
                duties.start_due()
                for pk in Operation.objects.filter(state="queued").values_list("pk", flat=True):
                    engine.run(pk, "worker-1")
        finally:
            connections.close_all()

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.enough.set()
        self.join()


def told(*argv: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of a command with --json."""
    out, code = io.StringIO(), 0
    try:
        call_command(*argv, "--json", stdout=out, stderr=io.StringIO())
    except SystemExit as end:
        code = int(end.code or 0)
    except CommandError as error:
        code = error.returncode
    (line,) = out.getvalue().splitlines()
    return code, json.loads(line)


def lines(*argv: str) -> list[str]:
    out = io.StringIO()
    call_command(*argv, stdout=out)
    return out.getvalue().splitlines()


def deploy(version: str, *more: str, by: str = "olga") -> tuple[int, dict[str, Any]]:
    return told("deploy", "erp", "production", version, "--as", by, *more)


def rollback(*more: str, by: str = "olga") -> tuple[int, dict[str, Any]]:
    return told("rollback", "erp", "production", "--reason", "Orders fail", "--as", by, *more)


class TestStory:
    def test_out_and_back_without_a_browser(self, stage: Stage) -> None:
        stage.release("v1.0.0")
        stage.release("v1.1.0")
        with Worker():
            assert deploy("v1.0.0", "--wait")[0] == 0
            code, found = deploy("v1.1.0", "--wait", "--timeout", "60", "--reason", "Release 7")
            assert (code, found["state"], found["version"]) == (0, "live", "v1.1.0") and found["seconds"] >= 0
            assert lines("status")[0].startswith("erp production: v1.1.0 since ")
            code, back = rollback("--wait", "--timeout", "60")
            assert (code, back["state"], back["kind"], back["version"]) == (0, "live", "rollback", "v1.0.0")
        row = Deployment.objects.get(pk=found["id"])
        assert (row.trigger, row.requested_by, row.reason) == ("command", stage.olga, "Release 7")
        code, status = told("status", "erp", "production")
        assert (code, status["state"]) == (0, "ok")
        assert status["environments"][0]["version"] == "v1.0.0" and status["environments"][0]["by"] == "olga"

    def test_what_fails_ends_with_1_and_the_sentence(self, stage: Stage, paper: type[PaperDriver]) -> None:
        stage.release("v1.0.0")
        paper.acts["wait_ready"] = fails("It never became ready.")
        with Worker():
            code, found = deploy("v1.0.0", "--wait", "--timeout", "60")
        assert (code, found["state"], found["message"]) == (1, "failed", "It never became ready.")

    def test_what_waits_is_asked_for_and_says_why(self, stage: Stage) -> None:
        stage.change(approvals=1)
        stage.release("v1.0.0")
        code, found = deploy("v1.0.0")
        assert (code, found["state"], found["seconds"], found["operation"]) == (0, "waiting", None, None)
        assert found["obstacles"] == ["0 of 1 approvals are given."]
        code, found = deploy("v1.0.0", "--wait", "--timeout", "0.1")
        assert (code, found["state"]) == (3, "waiting")
        text = lines("deploy", "erp", "production", "v1.0.0", "--as", "olga")
        assert text[0].endswith("waiting") and text[1] == "  0 of 1 approvals are given."

    def test_a_key_makes_it_safe_to_repeat(self, stage: Stage) -> None:
        stage.release("v1.0.0")
        first, again = deploy("v1.0.0", "--key", "run-42")[1], deploy("v1.0.0", "--key", "run-42")[1]
        assert first["id"] == again["id"] and Deployment.objects.count() == 1
        code, other = deploy("v1.0.0", "--key", "run-42", "--reason", "other")
        assert code == 1 and "another request" in other["message"]


class TestRights:
    def test_nobody_and_somebody_who_may_not(self, stage: Stage) -> None:
        stage.deploy("v1.0.0")
        PersonFactory(username="mia", role=Role.MANAGER)
        for name, sentence in (
            ("", "Say with --as who asks"),
            ("ghost", "no active person"),
            ("mia", "mia may not do this"),
            ("ana", "ana may not do this"),
        ):
            for code, found in (
                deploy("v1.0.0", by=name),
                rollback(by=name),
                told("cleanup", "erp", "production", "--yes", "--reason", "Disk", "--as", name),
            ):
                assert (code, found["state"], found["id"]) == (1, "refused", None)
                assert sentence in found["message"]
        assert Deployment.objects.count() == 1

    def test_an_emergency_wants_a_reason_and_the_right(self, stage: Stage) -> None:
        stage.change(approvals=1)
        stage.release("v1.0.0")
        code, found = deploy("v1.0.0", "--emergency")
        assert code == 1 and "Say why this cannot wait" in found["message"]
        code, found = deploy("v1.0.0", "--emergency", "--reason", "All is down")
        assert code == 0 and found["obstacles"] == []
        assert Deployment.objects.get().review_needed

    @pytest.mark.parametrize("version", ["; id", "$(id)", "../..", "v1\n", "-x"])
    def test_a_hostile_version_is_only_a_word(self, stage: Stage, version: str) -> None:
        stage.deploy("v1.0.0")
        code, found = deploy_word(version)
        assert code == 1 and "has no release" in found["message"]
        code, found = rollback(f"--to={version}")
        assert code == 1 and "has no release" in found["message"]

    def test_names_that_are_none_say_what_there_is(self, stage: Stage) -> None:
        stage.release("v1.0.0")
        assert told("deploy", "shop", "production", "v1", "--as", "olga")[1]["message"].endswith("Services: erp.")
        assert told("deploy", "erp", "moon", "v1", "--as", "olga")[1]["message"].endswith("It has: production.")
        assert deploy("v9.9.9")[1]["message"].endswith("It has: v1.0.0.")
        code, found = told("status", "shop")
        assert (code, found["state"]) == (1, "refused")


def deploy_word(version: str) -> tuple[int, dict[str, Any]]:
    """As `deploy`, for a version that begins with a dash."""
    out = io.StringIO()
    try:
        call_command("deploy", "--as", "olga", "--json", "--", "erp", "production", version, stdout=out)
    except CommandError as error:
        return error.returncode, json.loads(out.getvalue())
    return 0, json.loads(out.getvalue())


class TestLooking:
    def test_what_differs_ends_with_3(self, stage: Stage) -> None:
        stage.deploy("v1.0.0")
        LiveState.objects.update(drift="v1.0.0 should run there, and v0.9.0 does.")
        code, found = told("status")
        assert (code, found["state"]) == (3, "differs")
        with pytest.raises(SystemExit, match="3"):
            lines("status", "erp")

    def test_all_places_or_one(self, stage: Stage) -> None:
        live_environment()
        assert len(lines("status")) == 2
        assert lines("status", "erp") == ["erp production: nothing deployed"]
        stage.profile.delete()
        assert lines("status", "erp") == ["No environment has a way to be deployed to yet."]

    def test_a_clean_up_is_shown_before_it_is_done(self, stage: Stage) -> None:
        for version in ("v1.0.0", "v1.1.0", "v1.2.0"):
            stage.deploy(version)
        assert lines("cleanup", "erp", "production") == [
            "v1.0.0 would be removed.",
            "Nothing was removed. Say --yes to remove it.",
        ]
        code, found = told("cleanup", "erp", "production")
        assert (code, found["would_remove"]) == (0, ["v1.0.0 would be removed."])
        assert not Operation.objects.filter(procedure="deployments.cleanup").exists()
        code, found = told("cleanup", "erp", "production", "--yes", "--as", "olga")
        assert code == 1 and "Say why" in found["message"]
        with Worker():
            done = told("cleanup", "erp", "production", "--yes", "--as", "olga", "--reason", "Disk", "--wait")
        assert done[0] == 0 and done[1]["message"] == "1 things were removed."
        assert stage.on_paper()["present"] == ["v1.2.0", "v1.1.0"]


# -- one sentence behind every door ------------------------------------------------------------------------------------


def approval_expired() -> None:
    Approval.objects.update(expires_at=timezone.now() - timedelta(minutes=1))


def checksum_changed() -> None:
    Release.objects.update(checksum=f"sha256:{'b' * 64}")


def backup_stale() -> None:
    Archive.objects.update(snapshot_at=timezone.now() - timedelta(hours=30))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (approval_expired, "0 of 1 approvals are given. Expired: ana; ask again."),
        (
            checksum_changed,
            "The checksum of ERP v1.0.0 is not the one that was asked for and approved. Ask for the deployment again.",
        ),
        (backup_stale, "is 1 d 6 h old; 1 d is allowed. Back up first."),
    ],
)
def test_one_sentence_by_click_api_command_and_schedule(stage: Stage, spoil: Callable[[], None], sentence: str) -> None:
    plan = PlanFactory()
    ArchiveFactory(plan=plan)
    template = ChecklistTemplate.objects.create(name="Before production")
    ChecklistItem.objects.create(template=template, text="Backup", kind="backup")
    stage.change(approvals=1, approval_lasts=timedelta(hours=1), checklist=template, backup_plan=plan)
    stage.release("v1.0.0")
    row = Deployment.objects.get(pk=deploy("v1.0.0", "--key", "once")[1]["id"])
    requesting.decide(row, granted=True, by=stage.ana)
    assert deploy("v1.0.0", "--key", "once")[1]["obstacles"] == []
    spoil()
    with pytest.raises(DeploymentError) as clicked:
        requesting.start(row, by=stage.olga)
    caller = Caller(stage.olga)
    answer = caller.post(f"/deployments/{row.pk}/start")
    assert (answer.status_code, answer.json()["detail"]) == (422, clicked.value.message)
    (kept,) = caller.get(f"/deployments/{row.pk}").json()["obstacles"]
    assert kept.endswith(sentence) and clicked.value.message == f"This cannot be deployed yet. {kept}"
    code, found = deploy("v1.0.0", "--key", "once")
    assert (code, found["id"], found["state"], found["obstacles"]) == (0, row.pk, "waiting", [kept])
    assert duties.start_due() == 0
    row.refresh_from_db()
    assert (row.state, row.message) == (State.WAITING, clicked.value.message)


def test_whoever_asks_by_command_does_not_approve_by_api(stage: Stage) -> None:
    stage.change(approvals=1)
    stage.release("v1.0.0")
    both = PersonFactory(username="both", role=Role.ADMINISTRATOR)
    row = Deployment.objects.get(pk=deploy("v1.0.0", by="both")[1]["id"])
    with pytest.raises(DeploymentError) as clicked:
        requesting.decide(row, granted=True, by=both)
    answer = Caller(both).post(f"/deployments/{row.pk}/approve")
    assert answer.json()["detail"] == clicked.value.message
    with pytest.raises(PermissionDenied):
        requesting.decide(row, granted=True, by=stage.olga)
    assert not Approval.objects.exists()
