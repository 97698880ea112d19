"""What keeps a deployment from going on, and that nothing else does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.utils import timezone

from catalog.models import Environment, Probe
from core import gates as port
from core.roles import Role
from deployments import duties, gates, reach
from deployments.actions import releases, requesting, rollback
from deployments.exceptions import DeploymentError
from deployments.models import (
    Approval,
    ChecklistItem,
    ChecklistTemplate,
    Deployment,
    DeploymentProfile,
    FreezeWindow,
    Gate,
    LiveState,
    Release,
)
from deployments.models.settings import GateKind
from operations.models import Event, Operation
from tests.deployments.conftest import Stage
from tests.factories import ArchiveFactory, PersonFactory, PlanFactory
from tests.operations.conftest import at_once

State = Deployment.State


def with_checklist(stage: Stage, **items: GateKind) -> None:
    template = ChecklistTemplate.objects.create(name="Before production")
    for position, (text, kind) in enumerate(items.items()):
        ChecklistItem.objects.create(template=template, position=position, text=text, kind=kind)
    stage.change(checklist=template)


def kept(deployment: Deployment) -> str:
    with pytest.raises(DeploymentError) as error:
        requesting.start(deployment, by=None)
    return error.value.message


def verdict(stage: Stage, kind: GateKind, release: Release) -> Gate:
    with_checklist(stage, it=kind)
    row = requesting.request_deployment(stage.production, release, by=stage.olga)
    return row.gates.get()


# -- approvals ---------------------------------------------------------------------------------------------------------


def test_so_many_other_people_approve(stage: Stage) -> None:
    stage.change(approvals=2)
    row = stage.ask("v1.0.0")
    assert kept(row) == "This cannot be deployed yet. 0 of 2 approvals are given."
    requesting.decide(row, granted=True, by=stage.ana)
    assert "1 of 2 approvals" in kept(row)
    requesting.decide(row, granted=True, by=stage.ana)
    assert "1 of 2 approvals" in kept(row)
    requesting.decide(row, granted=True, by=PersonFactory(role=Role.APPROVER))
    assert requesting.start(row, by=stage.olga).state == State.RUNNING


def test_whoever_asks_does_not_approve(stage: Stage) -> None:
    both = PersonFactory(role=Role.ADMINISTRATOR)
    stage.change(approvals=1)
    row = stage.ask("v1.0.0", by=both)
    with pytest.raises(DeploymentError, match="Whoever asks for a deployment does not approve it"):
        requesting.decide(row, granted=True, by=both)
    with pytest.raises(PermissionDenied):
        requesting.decide(row, granted=True, by=stage.olga)
    # Not even where the row is written past the action.
    Approval.objects.create(deployment=row, by=both, granted=True, fingerprint=row.fingerprint)
    assert "0 of 1 approvals" in kept(row)


def test_an_approval_expires_and_is_given_again(stage: Stage) -> None:
    stage.change(approvals=1, approval_lasts=timedelta(hours=1))
    row = stage.ask("v1.0.0")
    requesting.decide(row, granted=True, by=stage.ana)
    Approval.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    assert kept(row).endswith("0 of 1 approvals are given. Expired: ana; ask again.")
    requesting.decide(row, granted=True, by=stage.ana)
    assert requesting.start(row, by=stage.olga).state == State.RUNNING


def test_an_approval_is_for_one_artefact(stage: Stage) -> None:
    stage.change(approvals=1)
    row = stage.ask("v1.0.0")
    requesting.decide(row, granted=True, by=stage.ana)
    Release.objects.update(checksum=f"sha256:{'b' * 64}")
    assert "is not the one that was asked for and approved" in kept(row)


def test_a_refusal_stops_it(stage: Stage) -> None:
    stage.change(approvals=1)
    row = stage.ask("v1.0.0")
    with pytest.raises(DeploymentError, match="Say why you refuse"):
        requesting.decide(row, granted=False, by=stage.ana)
    requesting.decide(row, granted=False, note="Not on a Friday.", by=stage.ana)
    assert "ana refused: Not on a Friday." in kept(row)


def test_two_approvals_at_once_are_two(stage: Stage) -> None:
    stage.change(approvals=2)
    row = stage.ask("v1.0.0")
    others = [PersonFactory(role=Role.APPROVER) for _ in range(4)]
    results = at_once(*(lambda who=who: requesting.decide(row, granted=True, by=who) for who in others))
    assert all(isinstance(each, Approval) for each in results), results
    assert row.approvals.count() == 4
    with pytest.raises(IntegrityError):
        Approval.objects.create(deployment=row, by=others[0], granted=True, fingerprint="x")


def test_solo_mode_goes_without_approvals_and_is_reviewed(stage: Stage) -> None:
    stage.change(approvals=2)
    with pytest.raises(DeploymentError, match="Solo mode is not allowed"):
        stage.ask("v1.0.0", solo=True)
    stage.change(solo=True)
    row = requesting.start(stage.ask("v1.0.0", solo=True), by=stage.olga)
    assert (row.state, row.review_needed) == (State.RUNNING, True)


def test_an_emergency_goes_past_everything_and_is_reviewed_by_another(stage: Stage) -> None:
    stage.change(approvals=2)
    with_checklist(stage, Tests=GateKind.CI)
    with pytest.raises(DeploymentError, match="Say why this cannot wait"):
        stage.ask("v1.0.0", emergency=True)
    with pytest.raises(PermissionDenied):
        stage.ask("v1.0.0", emergency=True, reason="On fire", by=stage.ana)
    row = stage.deploy("v1.0.0", emergency=True, reason="On fire")
    assert (row.state, row.review_needed) == (State.LIVE, True)
    with pytest.raises(DeploymentError, match="Whoever asked for it does not review it"):
        requesting.review(row, note="Fine", by=stage.olga)
    assert requesting.review(row, note="The gate was wrong.", by=stage.ana).reviewed_by == stage.ana


# -- freezes, promotion, other rooms -----------------------------------------------------------------------------------


def test_a_freeze_names_its_end_and_its_reason(stage: Stage) -> None:
    now = timezone.now()
    FreezeWindow.objects.create(
        starts_at=now, ends_at=now + timedelta(days=1), reason="Year end", environment_kind="production"
    )
    FreezeWindow.objects.create(starts_at=now - timedelta(days=2), ends_at=now - timedelta(days=1), reason="Past")
    row = stage.ask("v1.0.0")
    assert "UTC: Year end." in kept(row) and "Past" not in kept(row)


def test_production_takes_what_was_verified_before(stage: Stage) -> None:
    staging = Environment.objects.create(service=stage.service, name="staging", slug="staging", kind="staging")
    DeploymentProfile.objects.create(environment=staging, settings={"file": str(stage.folder / "staging.json")})
    stage.change(promotes_from=staging)
    row = stage.ask("v1.0.0")
    assert "v1.0.0 was not verified in staging. Deploy it there first" in kept(row)
    there = requesting.start(requesting.request_deployment(staging, row.release, by=stage.olga), by=stage.olga)
    stage.carry_out(there)
    assert requesting.start(row, by=stage.olga).state == State.RUNNING


def test_another_room_may_say_no(stage: Stage) -> None:
    port.register("tests", lambda question: port.Answer(question.incident == "INC-1", "An incident is open."))
    try:
        assert "An incident is open." in kept(stage.ask("v1.0.0"))
        fix = stage.ask("v1.0.0", incident="INC-1")
        assert requesting.start(fix, by=stage.olga).state == State.RUNNING
    finally:
        port.unregister("tests")


def test_a_gate_that_cannot_be_asked_says_no(stage: Stage) -> None:
    def broken(question: port.Question) -> port.Answer:
        raise RuntimeError

    port.register("tests", broken)
    try:
        assert "The gate “tests” could not be asked" in kept(stage.ask("v1.0.0"))
    finally:
        port.unregister("tests")


def test_nothing_keeps_a_rollback(stage: Stage) -> None:
    stage.deploy("v1.0.0")
    stage.deploy("v1.1.0")
    now = timezone.now()
    FreezeWindow.objects.create(starts_at=now, ends_at=now + timedelta(days=1), reason="Year end")
    stage.change(approvals=2)
    row = rollback.request_rollback(stage.production, by=stage.olga, reason="Broken")
    assert row.state == State.RUNNING


# -- the checklist -----------------------------------------------------------------------------------------------------


def test_a_manual_gate_needs_evidence_and_is_frozen(stage: Stage) -> None:
    with_checklist(stage, Plan=GateKind.MANUAL)
    row = stage.ask("v1.0.0")
    assert "Plan: nobody has confirmed it yet." in kept(row)
    gate = row.gates.get()
    with pytest.raises(DeploymentError, match="Say what shows it"):
        requesting.confirm_gate(gate, passed=True, evidence=" ", by=stage.olga)
    ChecklistItem.objects.update(text="Another plan")
    done = requesting.confirm_gate(gate, passed=True, evidence="docs/plan.md", by=stage.olga)
    assert (done.text, done.by, done.evidence) == ("Plan", stage.olga, "docs/plan.md")
    assert requesting.start(row, by=stage.olga).state == State.RUNNING
    with pytest.raises(DeploymentError, match="does not wait any more"):
        requesting.confirm_gate(gate, passed=False, evidence="late", by=stage.olga)


def test_an_optional_item_keeps_nobody(stage: Stage) -> None:
    with_checklist(stage, Secrets=GateKind.MANUAL)
    ChecklistItem.objects.update(optional=True)
    assert requesting.start(stage.ask("v1.0.0"), by=stage.olga).state == State.RUNNING


def test_ci(stage: Stage) -> None:
    release = stage.release("v1.0.0", ci="failed")
    gate = verdict(stage, GateKind.CI, release)
    assert (gate.state, gate.evidence) == ("failed", "CI: failed. Let it pass and report it.")
    releases.report_ci(release, ci="passed", url="https://ci.example.org/1", by=None)
    assert (
        requesting.start(gate.deployment, by=stage.olga).gates.get().evidence == "CI passed. https://ci.example.org/1"
    )


def test_scans(stage: Stage) -> None:
    release = stage.release("v1.0.0")
    gate = verdict(stage, GateKind.SCANS, release)
    assert gate.evidence.startswith("No scan is attached")
    releases.attach_scan(release, kind="dependencies", tool="pip-audit", critical=0, high=2, by=None)
    assert "pip-audit found 0 critical and 2 high" in kept(gate.deployment)
    releases.attach_scan(release, kind="dependencies", tool="pip-audit", medium=3, by=None)
    assert requesting.start(gate.deployment, by=stage.olga).state == State.RUNNING


def test_bill_of_materials(stage: Stage) -> None:
    release = stage.release("v1.0.0")
    gate = verdict(stage, GateKind.SBOM, release)
    assert gate.state == "failed"
    releases.attach_scan(release, kind="sbom", tool="cyclonedx", by=None)
    assert requesting.start(gate.deployment, by=stage.olga).gates.get().evidence == "By cyclonedx."


def test_migrations(stage: Stage) -> None:
    release = stage.release("v1.0.0", changes_schema=True)
    gate = verdict(stage, GateKind.MIGRATIONS, release)
    assert gate.state == "failed"
    releases.note_migrations_tested(release, where="staging, copy of Monday", by=stage.olga)
    assert requesting.start(gate.deployment, by=stage.olga).gates.get().evidence == "staging, copy of Monday"


def test_variables(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = verdict(stage, GateKind.VARIABLES, stage.release("v1.0.0", variables=["API_URL", "DB_PASSWORD"]))
    assert gate.evidence == "Not set for this environment: API_URL, DB_PASSWORD. Set them on its page."
    LiveState.objects.create(environment=stage.production, settings={"API_URL": "https://api.example.org"})
    stage.change(secrets={"DB_PASSWORD": "env:OPS_SECRET_NOT_THERE"})
    row = stage.ask("v1.0.0")
    assert "DB_PASSWORD: " in row.gates.get().evidence and row.gates.get().state == "failed"
    monkeypatch.setenv("OPS_SECRET_NOT_THERE", "hunter2")
    started = requesting.start(row, by=stage.olga)
    assert started.state == State.RUNNING
    assert "hunter2" not in str(list(Deployment.objects.values())) + str(list(Operation.objects.values()))


def test_a_backup_is_verified_and_fresh(stage: Stage) -> None:
    plan = PlanFactory()
    stage.change(backup_plan=plan, backup_fresh_for=timedelta(hours=2))
    gate = verdict(stage, GateKind.BACKUP, stage.release("v1.0.0"))
    assert gate.evidence == "There is no verified backup. Back up first."
    archive = ArchiveFactory(plan=plan, target=plan.target, age=timedelta(hours=3))
    assert "is 3 h old; 2 h is allowed. Back up first." in kept(gate.deployment)
    type(archive).objects.update(snapshot_at=timezone.now() - timedelta(minutes=5))
    assert requesting.start(gate.deployment, by=stage.olga).state == State.RUNNING


def test_the_way_back_is_looked_at(stage: Stage) -> None:
    stage.deploy("v1.0.0")
    gate = verdict(stage, GateKind.ROLLBACK, stage.release("v1.1.0"))
    assert (gate.state, gate.evidence) == ("passed", "v1.0.0 still runs, warm: traffic goes back in seconds.")
    schema = stage.ask("v1.2.0")
    Release.objects.filter(version="v1.2.0").update(changes_schema=True)
    assert "so the way back needs a backup" in kept(Deployment.objects.get(pk=schema.pk))


def test_the_running_version_answers(stage: Stage) -> None:
    gate = verdict(stage, GateKind.READY, stage.release("v1.0.0"))
    assert gate.evidence == "Nothing is live yet."
    Probe.objects.create(
        environment=stage.production, name="Shop", kind="http", use="ready", state="bad", sentence="502."
    )
    assert "Shop: 502." in kept(gate.deployment)


def test_gates_are_looked_at_again_at_the_switch(stage: Stage, paper: object) -> None:
    release = stage.release("v1.0.0", ci="passed")
    with_checklist(stage, Tests=GateKind.CI)
    row = requesting.start(requesting.request_deployment(stage.production, release, by=stage.olga), by=stage.olga)
    paper.acts["wait_ready"] = lambda driver: Release.objects.update(ci="failed")  # type: ignore[attr-defined]
    done = stage.carry_out(row)
    assert done.state == State.FAILED
    assert "This may not be deployed any more. Tests: CI: failed." in done.message
    assert stage.on_paper()["live"] == ""


def test_looking_writes_nothing(stage: Stage) -> None:
    with_checklist(stage, Tests=GateKind.CI)
    row = stage.ask("v1.0.0")
    before = list(Gate.objects.values())
    assert gates.obstacles(row, timezone.now())
    assert list(Gate.objects.values()) == before


# -- asking and starting -----------------------------------------------------------------------------------------------


def test_two_hundred_at_once_and_one_runs(stage: Stage) -> None:
    rows = [stage.ask("v1.0.0") for _ in range(10)]
    results = []
    for _ in range(10):
        results += at_once(*(lambda row=row: requesting.start(row, by=stage.olga) for row in rows * 2))
    started = {each.pk for each in results if isinstance(each, Deployment)}
    refused = [each for each in results if isinstance(each, DeploymentError)]
    assert len(results) == 200 and len(started) == 1
    assert len(refused) + sum(isinstance(each, Deployment) for each in results) == 200
    assert Operation.objects.count() == 1 and Deployment.objects.active().count() == 1


def test_a_double_click_asks_once(stage: Stage) -> None:
    release = stage.release("v1.0.0")
    results = at_once(
        *(
            lambda: requesting.request_deployment(stage.production, release, by=stage.olga, key="click-1")
            for _ in range(8)
        )
    )
    assert len({each.pk for each in results if isinstance(each, Deployment)}) == 1, results
    assert Deployment.objects.count() == 1


def test_a_release_of_another_service_or_withdrawn_is_refused(stage: Stage) -> None:
    release = stage.release("v1.0.0")
    releases.withdraw_release(release, reason="Loses orders.", by=stage.olga)
    with pytest.raises(DeploymentError, match="was withdrawn: Loses orders. Choose another release."):
        stage.ask("v1.0.0")


def test_withdrawn_after_it_was_asked_for(stage: Stage) -> None:
    row = stage.ask("v1.0.0")
    gone = releases.withdraw_release(row.release, reason="Loses orders.", by=stage.olga)
    again = releases.withdraw_release(row.release, reason="Twice", by=stage.ana)
    assert (gone.withdrawn_by, again.withdrawn_by, again.withdrawn_reason) == (stage.olga, stage.olga, "Loses orders.")
    with pytest.raises(IntegrityError):
        Release.objects.update(withdrawn_reason="")
    assert "was withdrawn: Loses orders." in kept(row)


def test_an_environment_without_a_profile(stage: Stage) -> None:
    other = Environment.objects.create(service=stage.service, name="dev", slug="dev", kind="development")
    with pytest.raises(DeploymentError, match="Nobody has said how ERP · dev is deployed to"):
        requesting.request_deployment(other, stage.release("v1.0.0"), by=stage.olga)


# -- by themselves -----------------------------------------------------------------------------------------------------


def test_it_starts_by_itself_when_its_time_has_come_and_nothing_keeps_it(stage: Stage) -> None:
    stage.change(approvals=1)
    soon = timezone.now() + timedelta(minutes=5)
    row = stage.ask("v1.0.0", not_before=soon)
    assert row.starts_itself
    assert duties.start_due() == 0
    Deployment.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    assert duties.start_due() == 0
    row.refresh_from_db()
    assert (row.state, row.message) == (State.WAITING, "This cannot be deployed yet. 0 of 1 approvals are given.")
    requesting.decide(row, granted=True, by=stage.ana)
    assert duties.start_due() == 1
    row.refresh_from_db()
    assert (row.state, row.operation and row.operation.trigger) == (State.RUNNING, "schedule")


def test_a_window_that_closes_is_missed_with_its_reason(stage: Stage) -> None:
    stage.change(approvals=1)
    row = stage.ask("v1.0.0", starts_itself=True, not_after=timezone.now() + timedelta(minutes=5))
    Deployment.objects.update(not_after=timezone.now() - timedelta(seconds=1))
    assert duties.start_due() == 1
    row.refresh_from_db()
    assert row.state == State.MISSED
    assert "0 of 1 approvals are given." in row.message
    assert Event.objects.filter(name="deployment.missed").count() == 1


def test_what_waits_is_not_put_over_a_newer_release_that_went_live_meanwhile(stage: Stage) -> None:
    """By itself it is given up with the reason; by a click it is refused; asked again it goes."""
    first, newer = stage.release("v1.0.0"), stage.release("v1.1.0")
    soon = timezone.now() + timedelta(minutes=5)
    scheduled, by_hand = stage.ask("v1.0.0", not_before=soon), stage.ask("v1.0.0")
    urgent = stage.ask("v1.0.0", emergency=True, reason="On fire")
    Deployment.objects.filter(pk=scheduled.pk).update(not_before=timezone.now() - timedelta(seconds=1))
    running = requesting.start(requesting.request_deployment(stage.production, newer, by=stage.olga), by=stage.olga)
    LiveState.objects.update_or_create(
        environment=stage.production, defaults={"release": newer, "since": timezone.now(), "deployment": running}
    )
    assert duties.start_due() == 0  # it may still go back by itself
    stage.carry_out(running)
    assert duties.start_due() == 1
    scheduled.refresh_from_db()
    assert scheduled.state == State.MISSED
    assert scheduled.message.startswith("v1.1.0, a newer release, went live at ")
    assert "after v1.0.0 was asked for. Ask for it again" in scheduled.message
    assert "v1.1.0, a newer release" in Event.objects.get(name="deployment.missed").sentence
    assert "v1.1.0, a newer release" in kept(by_hand) and "v1.1.0, a newer release" in kept(urgent)
    assert stage.deploy("v1.0.0").state == State.LIVE
    # What went back by then is older: it holds up nothing.
    waiting = stage.ask("v1.1.0")
    LiveState.objects.update(release=first, since=timezone.now() + timedelta(seconds=1))
    assert requesting.start(waiting, by=stage.olga).state == State.RUNNING


def test_what_is_frozen_does_not_change(stage: Stage) -> None:
    stage.change(approvals=1)
    row = stage.ask("v1.0.0")
    stage.change(approvals=None, driver="script")
    row.refresh_from_db()
    assert (row.approvals_needed, row.frozen["driver"]) == (1, "blue_green")
    assert reach.driver_class(row.frozen["driver"]).label == "Paper"
