"""Remove the database that a restore, or its undo, set aside."""

from __future__ import annotations

from functools import cached_property

from backups import actions
from backups.models import Restore
from backups.procedures.base import TargetProcedure
from backups.reach import connection_for, engine_for
from catalog.models import DatabaseTarget
from core.models import User
from core.scopes import RESTORE
from operations.context import StepContext
from operations.models import Operation
from operations.procedures import Step, register


@register
class DropSafetyCopy(TargetProcedure):
    """Drop the database that was set aside. There is no way back, so it runs only when somebody asks."""

    name = "backups.drop_safety_copy"
    title = "Removal of a safety copy"
    permission = "backups.undo_restore"
    scope = RESTORE
    steps = (
        Step("check", "Target identity fits"),
        Step("drop", "Drop the database that was set aside", by_hand=False),
    )

    @cached_property
    def restore(self) -> Restore:
        return Restore.objects.with_place().get(pk=self.operation.params["restore"])

    @cached_property
    def target(self) -> DatabaseTarget:
        return self.restore.target

    @property
    def subject(self) -> Restore:
        return self.restore

    def preview(self) -> dict[str, list[str]]:
        conn = connection_for(self.target)
        return {"drop": [engine_for(self.target).drop_text(conn, self.restore.safety_database)]}

    def check(self, ctx: StepContext) -> None:
        self.check_identity(ctx)
        ctx.remember(database=self.restore.safety_database)

    def drop(self, ctx: StepContext) -> None:
        database = ctx.data["database"]
        ctx.show_command(self.engine.drop_text(self.connection(), database))
        self.check_identity(ctx)
        self.engine.drop_database(self.connection(), database, check=ctx.check)
        with ctx.fenced():
            restore = self.restore
            restore.safety_copy = Restore.SafetyCopy.DROPPED
            restore.save(update_fields=["safety_copy"])
        ctx.conclude(f"Dropped {database}.")

    @property
    def typed_name(self) -> str:
        return self.restore.safety_database

    def retry(self, *, by: User | None, reason: str, key: str) -> Operation:
        return actions.request_drop_safety_copy(
            self.restore, by=by, reason=reason, key=key or None, retry_of=self.operation
        )
