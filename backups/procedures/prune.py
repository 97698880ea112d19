"""Remove archives that retention lets go."""

from __future__ import annotations

from collections.abc import Container
from functools import cached_property

from django.utils import timezone

from backups import actions, news, retention
from backups.models import Archive, Plan
from backups.procedures.base import folder_of, storage_of
from backups.reach import storage_for
from core.models import User
from operations.context import StepContext
from operations.events import publish
from operations.models import Operation, OperationLock
from operations.procedures import PlannedStep, Procedure, Step, register


@register
class Prune(Procedure):
    """Decide again, then remove one archive at a time: record first, so that no page offers what is half gone."""

    name = "backups.prune"
    title = "Clean-up"
    permission = "backups.prune_plan"
    steps = (
        Step("remove", "Remove the archives that retention lets go"),
        Step("sweep", "Remove what interrupted backups and removals left behind"),
    )

    @cached_property
    def plan(self) -> Plan:
        return Plan.objects.with_place().get(pk=self.operation.params["plan"])

    @property
    def subject(self) -> Plan:
        return self.plan

    def preview(self) -> dict[str, PlannedStep | list[str]]:
        going = [verdict for verdict in retention.judge(self.plan) if verdict.remove]
        return {"remove": [f"remove {verdict.archive} ({verdict.why})" for verdict in going]}

    def remove(self, ctx: StepContext) -> None:
        self._look_for_keeper(ctx)
        going = [verdict for verdict in retention.judge(self.plan) if verdict.remove]
        freed = 0
        for number, verdict in enumerate(going):
            ctx.progress(number, len(going), "archives")
            freed += self._remove_one(ctx, verdict)
        # Rows of an attempt that died between record and folder.
        for archive in self.plan.archives.filter(state=Archive.State.PRUNED, removed_at__isnull=True):
            storage_of(archive).remove(folder_of(archive))
            self._mark_gone(ctx, archive)
        ctx.conclude(f"Removed {len(going)} archives, {freed:,} bytes." if going else "Nothing to remove.", bytes=freed)

    def _look_for_keeper(self, ctx: StepContext) -> None:
        """The newest verified archive, which lets older ones go, must really be there; one that is gone says so."""
        while (newest := Archive.objects.of(self.plan.target).restore_points().best_first().first()) is not None:
            if folder_of(newest).is_dir():
                return
            gone = f"{newest} is not where it should be, so it lets no older archive go."
            with ctx.fenced():
                newest.state = Archive.State.MISSING
                newest.save(update_fields=["state"])
                publish(news.ARCHIVE_MISSING, gone, subject=newest, operation=ctx.operation)
            ctx.log(gone)

    def _remove_one(self, ctx: StepContext, verdict: retention.Verdict) -> int:
        archive = verdict.archive
        with ctx.fenced():
            locks = OperationLock.objects.filter(key=retention.archive_lock(archive.pk)).exclude(
                operation=self.operation
            )
            row = Archive.objects.select_for_update(of=("self",)).get(pk=archive.pk)
            still = {each.archive.pk for each in retention.judge(self.plan) if each.remove}
            if locks.exists() or row.pk not in still:
                return 0
            row.state = Archive.State.PRUNED
            row.save(update_fields=["state"])
        storage_of(archive).remove(folder_of(archive))
        self._mark_gone(ctx, row)
        ctx.log(f"Removed {archive.folder}/{archive.name}: {verdict.why}.")
        return archive.size_bytes or 0

    def _mark_gone(self, ctx: StepContext, archive: Archive) -> None:
        with ctx.fenced():
            archive.removed_at = timezone.now()
            archive.save(update_fields=["removed_at"])

    def sweep(self, ctx: StepContext) -> None:
        for path in storage_for(self.plan.storage).sweep_partials(self.plan.folder, _StillWanted(self.operation.pk)):
            ctx.log(f"Removed the leftover {path.name}.")

    def retry(self, *, by: User | None, reason: str, key: str) -> Operation:
        return actions.request_prune(self.plan, by=by, reason=reason, key=key or None, retry_of=self.operation)


class _StillWanted(Container[int]):
    """Backups whose unfinished folders must stay: those under way, and any that was asked for after this look."""

    def __init__(self, before: int) -> None:
        self._before = before
        self._active = set(Operation.objects.active().filter(procedure="backups.backup").values_list("pk", flat=True))

    def __contains__(self, operation_id: object) -> bool:
        return isinstance(operation_id, int) and (operation_id >= self._before or operation_id in self._active)
