"""Writes operations of the past as the engine would have left them: rows, steps, log lines and times."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from core.environments import EnvironmentBand
from core.models import User
from operations import procedures
from operations.models import LogLine, Operation, OperationStep

OP = "@OP@"  # stands for the operation's number in commands and log lines, until it has one
BETWEEN_STEPS_S = 0.02
State = OperationStep.State


@dataclass(frozen=True)
class PastStep:
    """A step as it went. Lines are (stream, text)."""

    name: str
    seconds: float
    commands: Sequence[str] = ()
    lines: Sequence[tuple[str, str]] = ()
    state: str = State.DONE
    message: str = ""
    evidence: str = ""
    undo_seconds: float = 0.2


@dataclass(frozen=True)
class PastOperation:
    """An operation that has ended. `steps` are those it came to; the others are written as skipped."""

    key: str
    procedure: str
    title: str
    requested_at: datetime
    environment: EnvironmentBand
    steps: Sequence[PastStep]
    trigger: str = Operation.Trigger.CLICK
    by: User | None = None
    reason: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    state: str = Operation.State.SUCCEEDED
    message: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    retry_of: str = ""
    lock_keys: Sequence[str] = ()
    waited_s: float = 0.35
    undo_s: float = 0.0

    @property
    def started_at(self) -> datetime:
        return self.requested_at + timedelta(seconds=self.waited_s)

    @property
    def ended_at(self) -> datetime:
        spent = sum(step.seconds + BETWEEN_STEPS_S for step in self.steps)
        return self.started_at + timedelta(seconds=spent + self.undo_s)

    def row(self) -> Operation:
        cancelled = self.state == Operation.State.CANCELLED
        succeeded = self.state == Operation.State.SUCCEEDED
        return Operation(
            procedure=self.procedure,
            title=self.title,
            state=self.state,
            params=self.params,
            result={**self.result, "message": self.message} if succeeded and self.message else self.result,
            message=self.message,
            outcome="" if succeeded else self.state,
            trigger=self.trigger,
            requested_by=self.by,
            reason=self.reason,
            requested_at=self.requested_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
            dispatched_at=self.requested_at,
            attempt=1,
            worker=f"operations@{socket.gethostname()}",
            lock_keys=sorted(self.lock_keys),
            idempotency_key=self.idempotency_key,
            cancel_requested_at=self.ended_at - timedelta(seconds=self.undo_s + 0.3) if cancelled else None,
            cancel_requested_by=self.by if cancelled else None,
            environment_label=self.environment.label,
            environment_kind=self.environment.kind,
        )


def write(operations: Iterable[PastOperation]) -> dict[str, Operation]:
    """Write them in the order in which they were asked for; key -> row. Call inside a transaction."""
    ordered = sorted(operations, key=lambda one: one.requested_at)
    rows = Operation.objects.bulk_create([one.row() for one in ordered])
    by_key = {one.key: row for one, row in zip(ordered, rows, strict=True)}
    for one in ordered:
        if one.retry_of:
            row = by_key[one.key]
            row.retry_of = by_key[one.retry_of]
            row.save(update_fields=["retry_of"])
    steps: list[tuple[OperationStep, PastStep | None]] = []
    for one in ordered:
        steps += _steps(one, by_key[one.key])
    OperationStep.objects.bulk_create([row for row, _ in steps])
    LogLine.objects.bulk_create(line for row, past in steps if past for line in _lines(row, past))
    return by_key


def _steps(one: PastOperation, row: Operation) -> list[tuple[OperationStep, PastStep | None]]:
    went = {step.name: step for step in one.steps}
    begun = one.started_at
    written: list[tuple[OperationStep, PastStep | None]] = []
    for index, step in enumerate(procedures.get(one.procedure).steps):
        record = OperationStep(
            operation=row, index=index, name=step.name, title=step.title, undo_name=step.undo, state=State.SKIPPED
        )
        past = went.get(step.name)
        if past is not None:
            record.state, record.message, record.evidence = past.state, past.message, past.evidence
            record.attempt = 1
            record.started_at, record.ended_at = begun, begun + timedelta(seconds=past.seconds)
            record.commands = [command.replace(OP, str(row.pk)) for command in past.commands]
            record.done_by = one.by if past.state == State.BY_HAND else None
            if past.state == State.UNDONE:
                record.undo_started_at = record.ended_at
                record.undo_ended_at = record.ended_at + timedelta(seconds=past.undo_seconds)
            begun = record.ended_at + timedelta(seconds=BETWEEN_STEPS_S)
        written.append((record, past))
    return written


def _lines(row: OperationStep, past: PastStep) -> Iterable[LogLine]:
    assert row.started_at is not None
    for number, (stream, text) in enumerate(past.lines, start=1):
        moment = row.started_at + timedelta(seconds=past.seconds * number / (len(past.lines) + 1))
        yield LogLine(
            operation_id=row.operation_id,
            step=row,
            at=moment,
            stream=stream,
            text=text.replace(OP, str(row.operation_id)),
        )
