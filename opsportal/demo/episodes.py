"""What people did besides backing up: a restore, a drill, the clean-up after both, a verification that found damage."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from backups.actions import database_locks
from backups.models import Restore
from catalog.models import DatabaseTarget
from core.roles import Role
from operations.models import Operation, OperationStep
from opsportal.demo.deploy_story import AGENT
from opsportal.demo.history import Teller
from opsportal.demo.records import OP, PastOperation, PastStep
from opsportal.demo.timeline import DAMAGED, RESTORED

STEP = OperationStep.State
DELETED_SHARE = 0.031  # of the orders, by the script that the restore answered
BY_HAND_S = 437.0


@dataclass(frozen=True)
class PastRestore:
    """A restore and how it ended. `archive` and the operations are keys."""

    key: str
    archive: str
    target: DatabaseTarget
    reason_kind: str
    reason: str
    operation: PastOperation
    cleaned_by: PastOperation
    expected_loss: dict[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> timedelta:
        """From the request to ready and tested; the time a person took is part of it."""
        return self.operation.ended_at - self.operation.requested_at


def restores(teller: Teller) -> list[PastRestore]:
    """The restore of the deleted orders and the drill into staging."""
    story, targets = teller.story, teller.catalog
    deleted = _loss(teller, f"night-{RESTORED}")
    return [
        _restore(
            teller,
            "restore",
            f"night-{RESTORED}",
            targets.erp,
            Restore.Reason.DELETION,
            "A clean-up script of the shop removed paid orders of the last quarter.",
            (story.moments["restored"], story.moments["restore cleaned"]),
            expected_loss=deleted,
        ),
        _restore(
            teller,
            "drill",
            "before-drill",
            targets.erp_staging,
            Restore.Reason.OTHER,
            "Recovery drill of the quarter: can the person on call do it alone?",
            (story.moments["drill"], story.moments["drill cleaned"]),
            by_hand=(
                "systemctl --user stop erp-staging on stage-1 answered “inactive (dead)”; pg_stat_activity showed no "
                "client. Finding who may stop it took most of the time: the handbook names a person who has left."
            ),
        ),
    ]


def _restore(
    teller: Teller,
    key: str,
    archive: str,
    target: DatabaseTarget,
    kind: str,
    reason: str,
    moments: tuple[datetime, datetime],
    by_hand: str = "",
    expected_loss: dict[str, Any] | None = None,
) -> PastRestore:
    name, olga = teller.shelf.names[archive], teller.people[Role.OPERATOR]
    operation = PastOperation(
        key=key,
        procedure="backups.restore",
        title=f"Restore {target.database} from {name}",
        requested_at=moments[0],
        environment=target.environment_band,
        steps=_restore_steps(teller, archive, target, by_hand),
        by=olga,
        reason=f"{Restore.Reason(kind).label}. {reason}",
        params={"into": target.database},
        lock_keys=database_locks(target),
        waited_s=0.4,
    )
    cleaned = PastOperation(
        key=f"{key}-cleaned",
        procedure="backups.drop_safety_copy",
        title=f"Remove the safety copy of {target.database}",
        requested_at=moments[1],
        environment=target.environment_band,
        steps=[PastStep("check", 0.1), PastStep("drop", 0.3)],
        by=olga,
        reason="Nobody misses anything.",
        lock_keys=database_locks(target),
    )
    return PastRestore(key, archive, target, kind, reason, operation, cleaned, expected_loss or {})


def _restore_steps(teller: Teller, archive: str, target: DatabaseTarget, by_hand: str) -> list[PastStep]:
    facts, database = teller.shelf.facts[archive], target.database
    scratch, kept = f"{database}_restore_{OP}", f"{database}_before_{OP}"
    plan = teller.story.find(archive).plan
    rehearsal, archived = teller.stock.rehearsals[plan], f"{teller.folder(plan)}/{teller.shelf.names[archive]}"
    spent = 0.4 + facts.rows / 60_000

    def said(*texts: str) -> list[tuple[str, str]]:
        return [("portal", text) for text in texts]

    stopping = PastStep("stop_service", 0.3, (AGENT,))
    starting = PastStep("start_service", 0.9, (AGENT, AGENT))
    if by_hand:
        stopping = PastStep(
            "stop_service",
            BY_HAND_S,
            lines=said(
                f"{teller.people[Role.OPERATOR]} takes over before the next step.",
                f"{teller.people[Role.OPERATOR]} did “Stop the application” by hand: {by_hand}",
                f"{teller.people[Role.OPERATOR]} let it continue.",
            ),
            state=STEP.BY_HAND,
            evidence=by_hand,
        )
        starting = PastStep(
            "start_service", 0.02, lines=said("No service control is set for this environment; nothing to start.")
        )
    return [
        PastStep(
            "check",
            0.5,
            lines=said(
                f"{target.address} is PostgreSQL {target.server_version}, system {target.system_identifier}.",
                f"All {len(facts.files)} files have the recorded SHA-256.",
            ),
        ),
        PastStep(
            "load",
            spent,
            (f"CREATE DATABASE {scratch}", *rehearsal.load_commands(archived, scratch)),
            said(f"Loaded {facts.rows:,} rows into {scratch}."),
        ),
        PastStep(
            "compare",
            spent / 6,
            lines=said(f"{len(facts.tables)} tables and {facts.rows:,} rows are as the manifest says."),
        ),
        stopping,
        PastStep(
            "swap",
            0.25,
            (f"ALTER DATABASE {database} RENAME TO {kept}", f"ALTER DATABASE {scratch} RENAME TO {database}"),
        ),
        starting,
        PastStep("smoke_test", 0.05, lines=said(f"The smoke test answered true: {target.smoke_test}")),
    ]


def _loss(teller: Teller, archive: str) -> dict[str, Any]:
    """What the preview said before the restore: live rows against archived rows, in the shape of `backups.loss`."""
    tables = []
    for entry in sorted(teller.shelf.facts[archive].tables, key=lambda entry: entry.key):
        live = entry.rows
        if entry.name in ("orders", "order_lines", "invoices", "payments", "stock_movements", "audit_notes"):
            live = int(entry.rows * (1 - DELETED_SHARE)) + 21
        tables.append(
            {
                "table": entry.key,
                "live": live,
                "archived": entry.rows,
                "difference": entry.rows - live,
                "estimated": False,
            }
        )
    back = sum(max(0, int(str(row["difference"]))) for row in tables)
    return {"readable": True, "tables": tables, "lost_rows": 0, "returned_rows": back}


def found_damage(teller: Teller, message: str) -> PastOperation:
    """The verification, days later, of an archive whose disk has changed a byte."""
    plan, name = teller.plans["nightly"], teller.shelf.names[f"night-{DAMAGED}"]
    return PastOperation(
        key="damage",
        procedure="backups.verify",
        title=f"Verify {name}",
        requested_at=teller.story.moments["damage found"],
        environment=plan.environment_band,
        steps=[PastStep("read", 0.2, state=STEP.FAILED, message=message)],
        by=teller.people[Role.OPERATOR],
        reason="Spot check of the week.",
        state=Operation.State.FAILED,
        message=message,
    )
