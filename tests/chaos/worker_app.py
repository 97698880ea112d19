"""The portal's Celery application with fault points around it: `celery -A tests.chaos.worker_app worker ...`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import django

from opsportal.celery import app

django.setup()

from django.db import transaction  # noqa: E402

from operations import control, events, lifecycle, procedures  # noqa: E402
from operations.context import StepContext  # noqa: E402
from operations.lease import Lease  # noqa: E402
from operations.models import Operation, OperationStep  # noqa: E402
from tests.chaos import faults as points  # noqa: E402
from tests.chaos import procedures as _registered  # noqa: E402, F401
from tests.chaos.deployments import strikes as _more_actions  # noqa: E402, F401

__all__ = ["app"]

faults = points.Faults(Path(os.environ["CHAOS_FAULTS"]))
# The harness runs on a tenth of the usual lease; so does the patience with a message that was lost.
control.RING_AGAIN_AFTER = timedelta(seconds=1)


def _reached(ctx: StepContext, step: OperationStep, point: str) -> None:
    fault = faults.armed(ctx.operation.procedure, step.name, point)
    if fault is not None:
        faults.strike(fault, ctx.operation.pk, ctx.attempt)


def _around_transitions() -> None:
    begin, complete = lifecycle.begin_step, lifecycle.complete_step

    def begin_step(ctx: StepContext, step: OperationStep) -> None:
        _reached(ctx, step, points.BEFORE)
        begin(ctx, step)

    def complete_step(ctx: StepContext, step: OperationStep) -> None:
        complete(ctx, step)
        _reached(ctx, step, points.AFTER)

    lifecycle.begin_step, lifecycle.complete_step = begin_step, complete_step


def _around_methods() -> None:
    for kind in procedures.registered().values():
        for name in {name for step in kind.steps for name in (step.name, step.undo) if name}:
            setattr(kind, name, _wrapped(getattr(kind, name)))


def _around_commits() -> None:
    """The transactions in which procedures write their rows; not those of the engine's own records."""
    fenced, remember, conclude = StepContext.fenced, StepContext.remember, StepContext.conclude

    @contextmanager
    def reporting(self: StepContext) -> Iterator[Operation]:
        with fenced(self) as row:
            yield row
            if self.__dict__.get("in_method"):
                _reached(self, self.step, points.UNSAVED)  # type: ignore[arg-type]

    def quiet(method: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(method)
        def wrapper(self: StepContext, *args: Any, **values: Any) -> None:
            before, self.__dict__["in_method"] = self.__dict__.get("in_method"), False
            try:
                method(self, *args, **values)
            finally:
                self.__dict__["in_method"] = before

        return wrapper

    StepContext.fenced = reporting  # type: ignore[method-assign]
    StepContext.remember = quiet(remember)  # type: ignore[method-assign]
    StepContext.conclude = quiet(conclude)  # type: ignore[method-assign]


def _wrapped(method: Callable[[Any, StepContext], None]) -> Callable[[Any, StepContext], None]:
    @functools.wraps(method)
    def wrapper(self: procedures.Procedure, ctx: StepContext) -> None:
        ctx.__dict__["in_method"] = not ctx.undoing
        try:
            play(self, ctx)
        finally:
            ctx.__dict__["in_method"] = False

    def play(self: procedures.Procedure, ctx: StepContext) -> None:
        point = points.UNDO if ctx.undoing else points.INSIDE
        fault = faults.armed(ctx.operation.procedure, ctx.step.name, point) if ctx.step else None
        if fault is None:
            method(self, ctx)
            return
        if fault.weaken:
            _switch_the_fence_off()
        with faults.during(fault, ctx.operation.pk, ctx.attempt):
            method(self, ctx)

    return wrapper


def _switch_the_fence_off() -> None:
    """What a worker would do that had no fence. Only to prove that the harness notices."""

    @contextmanager
    def fenced(self: StepContext) -> Iterator[Operation]:
        with transaction.atomic():
            yield Operation.objects.get(pk=self.operation.pk)

    StepContext.fenced = fenced  # type: ignore[method-assign]
    # The database has a fence of its own: the end of an operation is told once, and goes with it or not at all.
    events.operation_ended = lambda operation: None  # type: ignore[assignment,return-value]
    StepContext.check = lambda self: None  # type: ignore[method-assign]
    Lease.lost = False  # type: ignore[assignment, method-assign]


_around_commits()
_around_transitions()
_around_methods()
