"""Undo a restore: the database it replaced comes back."""

from __future__ import annotations

from functools import cached_property

from backups import actions
from backups.databases import derived_name
from backups.exceptions import BackupError
from backups.models import Restore
from backups.procedures.service import AroundService
from backups.reach import connection_for, engine_for
from catalog.models import DatabaseTarget
from core.models import User
from core.scopes import RESTORE
from operations.context import StepContext
from operations.models import Operation
from operations.procedures import AfterInterruption, PlannedStep, Step, register


@register
class UndoRestore(AroundService):
    """Swap the names back. The restored database is kept aside, with what was written to it since."""

    name = "backups.undo_restore"
    title = "Undo of a restore"
    permission = "backups.undo_restore"
    scope = RESTORE
    steps = (
        Step("check", "Target identity fits and the safety copy is there"),
        Step("stop_service", "Stop the application", undo="start_again"),
        Step(
            "swap",
            "Rename the restored database aside and the safety copy to live",
            undo="swap_back",
            by_hand=False,
        ),
        Step("start_service", "Start the application, wait until it is ready", undo="stop_again"),
        Step("smoke_test", "Run the smoke tests"),
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

    @property
    def live(self) -> str:
        return self.restore.into_database

    @property
    def aside(self) -> str:
        return derived_name(self.live, f"_undone_{self.operation.pk}")

    @property
    def safety_database(self) -> str:
        return self.operation.data.get("safety_database") or self.restore.safety_database

    def preview(self) -> dict[str, PlannedStep | list[str]]:
        return {
            **self.preview_service(),
            "smoke_test": [self.target.smoke_test] if self.target.smoke_test else [],
            "swap": list(
                engine_for(self.target).swap_text(
                    connection_for(self.target),
                    self.live,
                    self.restore.safety_database,
                    derived_name(self.live, "_undone_…"),
                )
            ),
        }

    def after_interruption(self, ctx: StepContext) -> AfterInterruption:
        return AfterInterruption.UNDO

    def check(self, ctx: StepContext) -> None:
        self.check_identity(ctx)
        ctx.remember(safety_database=self.restore.safety_database)
        if not self.engine.database_exists(self.connection(), self.safety_database):
            raise BackupError(
                f"The safety copy {self.safety_database} is gone from the server. Restore from an archive instead."
            )

    def swap(self, ctx: StepContext) -> None:
        conn = self.connection()
        kept = self.engine.database_exists(conn, self.live)
        for text in self.engine.swap_text(conn, self.live, self.safety_database, self.aside if kept else ""):
            ctx.show_command(text)
        self.engine.swap_back(conn, self.live, self.safety_database, self.aside, check=ctx.check)
        self._record(ctx, Restore.SafetyCopy.PUT_BACK, self.aside if kept else "")

    def swap_back(self, ctx: StepContext) -> None:
        self.end_own_sessions()
        conn = self.connection()
        if self.engine.database_exists(conn, self.aside):
            self.engine.swap_back(conn, self.live, self.aside, self.safety_database, check=ctx.check)
        self._record(ctx, Restore.SafetyCopy.KEPT, self.safety_database)

    def _record(self, ctx: StepContext, state: Restore.SafetyCopy, database: str) -> None:
        with ctx.fenced():
            restore = self.restore
            restore.safety_copy, restore.safety_database = state, database
            restore.save(update_fields=["safety_copy", "safety_database"])

    def smoke_test(self, ctx: StepContext) -> None:
        ctx.log(self.engine.smoke_test(self.connection(), self.live, self.target.smoke_test))
        self.run_smoke_probes(ctx)
        ctx.conclude(f"{self.live} is again what it was before the restore. The restored one is kept as {self.aside}.")

    def retry(self, *, by: User | None, reason: str, key: str) -> Operation:
        return actions.request_undo(self.restore, by=by, reason=reason, key=key or None, retry_of=self.operation)
