"""Deployments and rollbacks as a worker carries them out, against a place on paper."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from backups.models import Archive
from deployments import duties, recording
from deployments.actions import requesting, rollback
from deployments.drivers.base import Check
from deployments.exceptions import DeploymentError, Fenced
from deployments.models import Deployment, LiveState
from deployments.procedures.base import TrafficProcedure
from operations import control, engine
from operations.models import Event, Operation
from tests.deployments.conftest import Stage
from tests.deployments.paper import PaperDriver
from tests.factories import ArchiveFactory
from tests.operations.conftest import expire
from tests.operations.samples import Died

State = Deployment.State


def fails(sentence: str) -> Callable[[PaperDriver], None]:
    def act(driver: PaperDriver) -> None:
        raise DeploymentError(sentence)

    return act


def dies(driver: PaperDriver) -> None:
    raise Died


def news() -> list[str]:
    return list(Event.objects.filter(name__startswith="deployment.").order_by("pk").values_list("name", flat=True))


def test_a_release_goes_live_and_the_books_say_so(stage: Stage) -> None:
    first = stage.deploy("v1.0.0")
    assert (first.state, first.message) == (State.LIVE, "v1.0.0 is live.")
    second = stage.deploy("v1.1.0")
    live = stage.live
    assert live.release and live.previous and live.deployment
    assert (live.release.version, live.previous.version, live.deployment.pk) == ("v1.1.0", "v1.0.0", second.pk)
    assert second.from_release and second.from_release.version == "v1.0.0"
    assert second.switched_at and second.ended_at and second.ended_at >= second.switched_at
    assert [check["name"] for check in second.checks] == ["Health"]
    assert live.drift == "" and live.seen["live"] == "v1.1.0"
    assert news() == ["deployment.started", "deployment.live"] * 2


def test_a_failure_before_the_switch_leaves_the_old_version_alone(stage: Stage, paper: type[PaperDriver]) -> None:
    stage.deploy("v1.0.0")
    paper.acts["wait_ready"] = fails("It never became ready.")
    paper.calls.clear()
    failed = stage.deploy("v1.1.0")
    assert (failed.state, failed.message) == (State.FAILED, "It never became ready.")
    assert stage.on_paper()["live"] == "v1.0.0"
    assert stage.on_paper()["running"] == ["v1.0.0"]
    assert "switch" not in paper.calls
    assert stage.live.release and stage.live.release.version == "v1.0.0"
    assert news()[-1] == "deployment.failed"


def test_what_preflight_finds_is_said_with_what_to_do(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Check("port", False, "Port 8001 is taken by another program.", "End it, or choose another port.")]
    monkeypatch.setattr(PaperDriver, "preflight", lambda self, artefact: found)
    failed = stage.deploy("v1.0.0")
    assert failed.message == "Port 8001 is taken by another program. End it, or choose another port."


def test_failed_checks_roll_back_by_themselves_where_that_is_set(stage: Stage, paper: type[PaperDriver]) -> None:
    stage.deploy("v1.0.0")
    stage.change(auto_rollback=True, answers_within_ms=5)
    bad = stage.deploy("v1.1.0")
    assert bad.state == State.ROLLED_BACK
    assert "12 ms; 5 ms are allowed" in bad.message
    assert stage.on_paper()["live"] == "v1.0.0"
    own = bad.rollbacks.get()
    assert (own.state, own.automatic, own.kind, own.release.version) == (State.LIVE, True, "rollback", "v1.0.0")
    assert "5 ms are allowed" in own.reason
    assert own.target == timedelta(minutes=2) and own.target_met is True
    live = stage.live
    assert live.release and live.deployment and (live.release.version, live.deployment.pk) == ("v1.0.0", own.pk)


def test_failed_checks_without_it_leave_it_live_and_say_so(stage: Stage) -> None:
    stage.deploy("v1.0.0")
    stage.change(answers_within_ms=5)
    bad = stage.deploy("v1.1.0")
    assert bad.state == State.SUSPECT
    assert bad.message.endswith("It is live; roll back, or mend it.")
    assert stage.on_paper()["live"] == "v1.1.0"
    assert news()[-1] == "deployment.failed"


def test_errors_during_the_watch_roll_back(stage: Stage, paper: type[PaperDriver]) -> None:
    stage.deploy("v1.0.0")
    stage.change(auto_rollback=True, watch_for=timedelta(seconds=30), most_errors_percent=2)
    paper.acts["switched"] = lambda driver: driver.write(requests=20, errors=5)
    bad = stage.deploy("v1.1.0")
    assert bad.state == State.ROLLED_BACK
    assert "failed (25.0 %)" in bad.message
    assert stage.on_paper()["live"] == "v1.0.0"


def test_a_quiet_watch_ends_well(stage: Stage, paper: type[PaperDriver]) -> None:
    stage.change(watch_for=timedelta(seconds=1), most_errors_percent=2)
    paper.acts["switched"] = lambda driver: driver.write(requests=20, errors=0)
    assert stage.deploy("v1.0.0").state == State.LIVE


def cannot_be_looked_at(paper: type[PaperDriver]) -> None:
    """From the switch on the host does not answer."""
    look = fails("The host does not answer.")
    paper.acts["switched"] = lambda driver: paper.acts.update(look=look, drain=look, sample=look)


def test_a_release_that_cannot_be_looked_at_stays_where_going_back_is_only_offered(
    stage: Stage, paper: type[PaperDriver]
) -> None:
    stage.deploy("v1.0.0")
    cannot_be_looked_at(paper)
    done = stage.deploy("v1.1.0")
    assert done.state == State.SUSPECT
    assert "The checks could not be made: The host does not answer." in done.message
    assert stage.on_paper()["live"] == "v1.1.0"


def test_a_rollback_does_not_go_forth_again_because_a_look_fails(stage: Stage, paper: type[PaperDriver]) -> None:
    stage.deploy("v1.0.0")
    stage.deploy("v1.1.0")
    cannot_be_looked_at(paper)
    done = stage.carry_out(rollback.request_rollback(stage.production, by=stage.olga, reason="Orders fail"))
    assert done.state == State.SUSPECT
    assert stage.on_paper()["live"] == "v1.0.0"
    assert stage.live.release and stage.live.release.version == "v1.0.0"


def test_a_drain_that_cannot_be_seen_takes_nothing_back(stage: Stage, paper: type[PaperDriver]) -> None:
    stage.deploy("v1.0.0")
    paper.acts["drain"] = fails("The host does not answer.")
    stage.change(auto_rollback=True)
    assert stage.deploy("v1.1.0").state == State.LIVE
    assert stage.on_paper()["live"] == "v1.1.0"


def test_a_watch_that_sees_nothing_three_times_decides(stage: Stage, paper: type[PaperDriver]) -> None:
    stage.deploy("v1.0.0")
    stage.change(auto_rollback=True, watch_for=timedelta(seconds=30))
    looks: list[PaperDriver] = []

    def no_answer(driver: PaperDriver) -> None:
        looks.append(driver)
        raise DeploymentError("The host does not answer.")

    paper.acts["sample"] = no_answer
    bad = stage.deploy("v1.1.0")
    assert bad.state == State.ROLLED_BACK
    assert "it could not be looked at. The host does not answer." in bad.message
    assert len(looks) == 1 + 3


def test_a_rollback_goes_to_the_release_before(stage: Stage) -> None:
    stage.deploy("v1.0.0")
    stage.deploy("v1.1.0")
    asked = rollback.request_rollback(stage.production, by=stage.olga, reason="Orders fail")
    done = stage.carry_out(asked)
    assert (done.state, done.kind, done.release.version) == (State.LIVE, "rollback", "v1.0.0")
    assert done.message == "v1.0.0 is live again."
    assert done.target_met is True
    assert stage.on_paper()["live"] == "v1.0.0"
    assert news()[-2:] == ["deployment.started", "deployment.rolled_back"]


def test_a_rollback_that_fails_leaves_what_was_live(stage: Stage, paper: type[PaperDriver]) -> None:
    stage.deploy("v1.0.0")
    stage.deploy("v1.1.0")
    paper.acts["wait_ready"] = fails("It does not start any more.")
    asked = rollback.request_rollback(stage.production, by=stage.olga, reason="Orders fail")
    assert stage.carry_out(asked).state == State.FAILED
    assert stage.on_paper()["live"] == "v1.1.0"
    assert stage.live.release and stage.live.release.version == "v1.1.0"


def test_rolling_back_what_is_under_way_stops_it(stage: Stage, paper: type[PaperDriver]) -> None:
    stage.deploy("v1.0.0")
    stage.change(watch_for=timedelta(seconds=60))
    row = requesting.start(stage.ask("v1.1.0"), by=stage.olga)

    def click(driver: PaperDriver) -> None:
        paper.acts.pop("sample")
        with pytest.raises(DeploymentError, match="is under way; rolling back now stops it"):
            rollback.request_rollback(stage.production, by=stage.olga, reason="Looks wrong", restores=True)
        given = rollback.request_rollback(stage.production, by=stage.olga, reason="Looks wrong")
        assert given.pk == row.pk

    paper.acts["sample"] = click
    done = stage.carry_out(row)
    assert done.state == State.ROLLED_BACK
    assert stage.on_paper()["live"] == "v1.0.0"
    own = done.rollbacks.get()
    assert (own.reason, own.automatic, own.requested_by) == ("Looks wrong", False, stage.olga)


@pytest.mark.parametrize("step", ["preflight", "prepare", "wait_ready", "switch", "switched", "drain"])
def test_after_a_death_one_whole_state(stage: Stage, paper: type[PaperDriver], step: str) -> None:
    stage.deploy("v1.0.0")
    row = requesting.start(stage.ask("v1.1.0"), by=stage.olga)
    paper.acts[step] = dies
    assert row.operation_id
    with pytest.raises(Died):
        engine.run(row.operation_id, "w1")
    paper.acts.clear()
    expire(stage.operation(row))
    control.sweep()
    done = stage.carry_out(row, "w2")
    gone_over = step in ("preflight", "switched", "drain")
    assert done.state == (State.LIVE if gone_over else State.FAILED)
    expected = "v1.1.0" if gone_over else "v1.0.0"
    assert stage.on_paper()["live"] == expected
    assert stage.live.release and stage.live.release.version == expected
    assert stage.live.drift == ""
    if not gone_over:
        assert stage.on_paper()["running"] == ["v1.0.0"]


@pytest.mark.parametrize("lasts", [False, True])
def test_a_row_that_could_not_be_ended_is_ended_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, lasts: bool
) -> None:
    """Else no deployment could begin any more: one is under way at a time."""

    def broken(*args: object) -> None:
        raise RuntimeError("Nobody expected this.")

    row = requesting.start(stage.ask("v1.0.0"), by=stage.olga)
    with monkeypatch.context() as trouble:
        trouble.setattr(TrafficProcedure, "_end_state", broken)
        row = stage.carry_out(row)
        assert (row.state, stage.operation(row).state) == (State.VERIFYING, "errored")
        if lasts:
            assert duties.settle() == 1
    assert duties.settle() == (not lasts)
    row.refresh_from_db()
    assert row.state == State.SUSPECT
    assert "Nobody expected this." in row.message
    assert duties.settle() == 0
    assert stage.deploy("v1.1.0").state == State.LIVE


def test_a_lost_worker_cannot_switch_any_more(stage: Stage, paper: type[PaperDriver]) -> None:
    stage.deploy("v1.0.0")
    row = requesting.start(stage.ask("v1.1.0"), by=stage.olga)
    late: list[PaperDriver] = []
    paper.acts["switch"] = lambda driver: (late.append(driver), dies(driver))[0]  # type: ignore[func-returns-value]
    assert row.operation_id
    with pytest.raises(Died):
        engine.run(row.operation_id, "w1")
    paper.acts.clear()
    expire(stage.operation(row))
    control.sweep()
    assert stage.carry_out(row, "w2").state == State.FAILED
    with pytest.raises(Fenced):
        late[0].write(live="v1.1.0")
    assert stage.on_paper()["live"] == "v1.0.0"


def test_a_cancelled_deployment_that_never_began(stage: Stage) -> None:
    row = requesting.start(stage.ask("v1.0.0"), by=stage.olga)
    requesting.cancel(row, by=stage.olga)
    done = Deployment.objects.get(pk=row.pk)
    assert done.state == State.CANCELLED
    assert Operation.objects.get(pk=row.operation_id).state == "cancelled"
    assert not LiveState.objects.filter(release__isnull=False).exists()


def test_a_pinned_backup_is_let_go_when_nobody_would_go_back_behind_it(stage: Stage) -> None:
    """One that somebody keeps for a reason of their own stays kept."""
    rows = {}
    own = ArchiveFactory(keep=True)
    for version, archive in (("v1.0.0", ArchiveFactory()), ("v1.1.0", own), ("v1.2.0", ArchiveFactory())):
        rows[version] = stage.deploy(version)
        recording.pin(rows[version], archive)
    assert Archive.objects.filter(keep=True).count() == 2  # that of v1.0.0 was let go when v1.2.0 went live
    stage.deploy("v1.3.0")
    rows["v1.0.0"].refresh_from_db()
    kept = {rows[version].pk: Deployment.objects.get(pk=rows[version].pk).archive for version in rows}
    assert [each.keep for each in kept.values() if each] == [False, True, True]
    assert rows["v1.0.0"].archive_id and not rows["v1.0.0"].pinned
