"""Who may control operations, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from core.models import User
from core.roles import Role
from operations import actions, procedures
from operations.exceptions import OperationError, Refused
from operations.models import LogLine, Operation
from operations.procedures import PlannedStep, Procedure, Step
from tests.operations.conftest import fresh
from tests.operations.samples import Sample

Ask = Callable[..., Operation]
CONTROLS: dict[str, Callable[[Operation, User], object]] = {
    "cancel": lambda operation, by: actions.cancel(operation, by=by),
    "pause": lambda operation, by: actions.pause(operation, by=by),
    "resume": lambda operation, by: actions.resume(operation, by=by),
    "mark_done": lambda operation, by: actions.mark_done(operation, "one", by=by, evidence="x"),
    "retry": lambda operation, by: actions.retry(operation, by=by),
}


def member(role: Role) -> User:
    user = User.objects.create_user(role.value.lower())
    user.groups.set(Group.objects.filter(name=role.value))
    return user


def end(operation: Operation, state: str) -> None:
    Operation.objects.filter(pk=operation.pk).update(state=state, ended_at=timezone.now())
    operation.refresh_from_db()


@pytest.mark.parametrize("control", CONTROLS)
def test_a_manager_sees_everything_and_controls_nothing(ask: Ask, control: str) -> None:
    operation = ask()
    manager = member(Role.MANAGER)
    assert manager.has_perm("operations.view_operation")
    with pytest.raises(PermissionDenied):
        CONTROLS[control](operation, manager)
    assert fresh(operation).cancel_requested_at is None
    assert not LogLine.objects.exists()


@pytest.mark.parametrize("control", CONTROLS)
def test_control_needs_the_permission_of_that_kind_of_operation_too(ask: Ask, control: str) -> None:
    operation = ask()
    user = member(Role.OPERATOR)
    assert user.has_perm("operations.control_operation")
    assert not user.has_perm(Sample.permission)
    with pytest.raises(PermissionDenied):
        CONTROLS[control](operation, user)


def test_a_superuser_may_control_what_this_version_does_not_know(ask: Ask, operator: User) -> None:
    operation = ask()
    operation.procedure = "tests.gone"
    assert not actions.may_control(operator, operation)
    assert actions.may_control(User(username="root", is_superuser=True), operation)


def test_a_child_is_cancelled_with_its_parent_whatever_its_own_kind_needs(ask: Ask, operator: User) -> None:
    operator.user_permissions.remove(*operator.user_permissions.filter(codename="add_slot"))
    operator = User.objects.get(pk=operator.pk)
    parent = ask()
    child = ask("tests.child", parent=parent)
    with pytest.raises(PermissionDenied):
        actions.cancel(child, by=operator)
    actions.cancel(parent, by=operator)
    assert (fresh(parent).state, fresh(child).state) == ("cancelled", "cancelled")


def test_cancel_is_refused_when_it_is_too_late(ask: Ask, operator: User) -> None:
    operation = ask()
    end(operation, "succeeded")
    with pytest.raises(Refused, match="already ended: succeeded"):
        actions.cancel(operation, by=operator)


def test_cancel_twice_is_one_cancel(ask: Ask, operator: User) -> None:
    operation = ask()
    actions.cancel(operation, by=operator)
    with pytest.raises(Refused, match="already ended: cancelled"):
        actions.cancel(operation, by=operator)


def test_cancel_does_not_mind_a_child_that_is_being_undone(ask: Ask, operator: User) -> None:
    parent = ask()
    child = ask("tests.child", parent=parent)
    Operation.objects.filter(pk=child.pk).update(state="queued", attempt=1, outcome="failed")
    actions.cancel(parent, by=operator)
    assert fresh(child).cancel_requested_at is None


@pytest.mark.parametrize("control", ["resume", "mark_done"])
def test_only_a_paused_operation_goes_on(ask: Ask, operator: User, control: str) -> None:
    with pytest.raises(Refused, match="paused"):
        CONTROLS[control](ask(), operator)


def test_pause_is_refused_for_what_has_ended_or_goes_back(ask: Ask, operator: User) -> None:
    operation = ask()
    Operation.objects.update(outcome="failed")
    with pytest.raises(Refused, match="on its way forward"):
        actions.pause(operation, by=operator)
    end(operation, "failed")
    with pytest.raises(Refused, match="on its way forward"):
        actions.pause(operation, by=operator)


def test_retry(ask: Ask, operator: User, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = ask(reason="Nightly.")
    with pytest.raises(Refused, match="failed or was cancelled"):
        actions.retry(operation, by=operator)
    end(operation, "failed")
    with pytest.raises(OperationError, match="cannot be retried"):
        actions.retry(operation, by=operator)

    def retry(self: Sample, *, by: User | None, reason: str, key: str) -> Operation:
        return actions.request_once(key, lambda: ask(by=by, reason=reason, key=key, retry_of=self.operation))

    monkeypatch.setattr(Sample, "retry", retry)
    again = actions.retry(operation, by=operator, key="k1")
    assert (again.retry_of, again.requested_by, again.reason) == (operation, operator, "Nightly.")
    assert actions.retry(operation, by=operator, key="k1") == again


def test_an_unknown_procedure_cannot_be_asked_for(rows: None) -> None:
    with pytest.raises(OperationError, match="does not know the procedure tests.gone"):
        actions.request("tests.gone", title="x", params={}, by=None)


def test_dry_run_lists_every_step_and_writes_nothing(rows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Sample, "preview", lambda self: {"one": ["rm x"], "two": PlannedStep("two", "Second", note="Nothing to do.")}
    )
    planned = actions.dry_run("tests.sample", title="Sample", params={})
    assert [(step.name, list(step.commands), step.note) for step in planned] == [
        ("one", ["rm x"], ""),
        ("two", [], "Nothing to do."),
        ("three", [], ""),
    ]
    assert not Operation.objects.exists()


def test_a_procedure_with_a_hole_in_it_is_refused_at_import() -> None:
    class Broken(Procedure):
        name = "tests.broken"
        steps = (Step("one", "First", undo="nowhere"),)

        def one(self, ctx: object) -> None: ...

    with pytest.raises(ValueError, match="no method nowhere"):
        procedures.register(Broken)
    Broken.steps = (Step("one", "First"), Step("one", "Second"))
    with pytest.raises(ValueError, match="two steps of one name"):
        procedures.register(Broken)
    assert "tests.broken" not in procedures.registered()
