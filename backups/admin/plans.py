"""Screens of plans."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils.safestring import SafeString

from backups import actions, retention, trends
from backups.admin import first_service
from backups.admin.dry_run import dry_run
from backups.exceptions import BackupError
from backups.forms import AdoptForm, BackUpForm, PlanForm
from backups.models import Archive, Plan
from core.admin_site import Headline, PortalAdmin, register
from core.audit import track
from core.buttons import Button, signed_in
from core.forms import OptionalReasonForm
from core.links import list_url
from core.templatetags.portal import ago, human_duration, status

track(Plan)


def adopt(request: HttpRequest, plan: Plan, data: dict[str, Any], key: str) -> str:
    """Run of the button: where to go is the one archive, or the list of them."""
    asked = actions.request_adopt(plan, data["sources"], by=signed_in(request), key=key)
    if len(asked) == 1:
        return asked[0].get_absolute_url()
    messages.success(request, f"{len(asked)} backups are adopted one after the other.")
    return list_url(Archive, f"plan__id__exact={plan.pk}")


@register(Plan)
class PlanAdmin(PortalAdmin):
    """What is backed up, when and where to."""

    nav, nav_label, nav_icon = ("Recover", 20), "Backup plans", "calendar"
    list_help = "What is backed up, when, and for how long it is kept."
    list_empty = "Add a plan: which database, when, where to, and how long its archives are kept."
    form = PlanForm
    list_display = ("name", "target", "shown_schedule", "newest", "retention")
    phone_columns = ("name", "newest")
    list_filter = ("storage",)
    search_fields = ("name", "target__name", "target__database")
    detail_template = "backups/plan_detail.html"
    buttons = [
        Button(
            "back_up",
            "Back up now",
            "backups.run_plan",
            run=lambda request, plan, data, key: actions.request_backup(
                plan, by=signed_in(request), purpose=data["purpose"], reason=data["reason"], key=key
            ),
            form=BackUpForm,
            consequence=lambda plan: (
                f"{plan.target.address} is read and an archive is written to {plan.storage}. The database stays in use."
            ),
            context=lambda request, plan: dry_run("backups.backup", "Back up", {"plan": plan.pk, "purpose": "manual"}),
            template="backups/dry_run_confirm.html",
            primary=True,
            icon="archive",
        ),
        Button(
            "adopt",
            "Adopt old backups …",
            "backups.adopt_archive",
            run=adopt,
            form=AdoptForm,
            form_kwargs=lambda request, plan: {"plan": plan},
            consequence="Each is loaded into a scratch database beside the live one and backed up from there as an "
            "archive of this plan, which is kept for good. The files stay as they are. What is in a dump runs with the "
            "rights of the database's account: adopt only what you trust.",
            template="backups/adopt_confirm.html",
            icon="box",
        ),
        Button(
            "prune",
            "Clean up …",
            "backups.prune_plan",
            run=lambda request, plan, data, key: actions.request_prune(
                plan, by=signed_in(request), reason=data["reason"], key=key
            ),
            form=OptionalReasonForm,
            consequence="What is marked as removed below goes for good. It is decided again when it runs.",
            context=lambda request, plan: {"verdicts": retention.judge(plan)},
            template="backups/prune_confirm.html",
            danger=True,
            icon="trash",
        ),
    ]

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path("first/", wrap(first_service.page), name="backups_first_service"),
            path("first/test/", wrap(first_service.test), name="backups_first_service_test"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        return Plan.objects.with_place().with_newest()

    def save_model(self, request: HttpRequest, obj: Plan, form: ModelForm, change: bool) -> None:
        values = form.cleaned_data
        actions.save_plan(
            obj,
            cron=values["cron"],
            misfire=values["misfire"],
            enabled=values["enabled"],
            max_lateness=values["max_lateness"],
        )

    def delete_model(self, request: HttpRequest, obj: Plan) -> None:
        actions.delete_plan(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Plan]) -> None:
        with transaction.atomic():
            for plan in queryset:
                actions.delete_plan(plan)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """The stock page names the archives that keep a plan; this is for one that came while it was read."""
        try:
            return super().delete_view(request, object_id, extra_context)
        except BackupError as error:
            return self._not_deleted(request, error)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        try:
            return super().changelist_view(request, extra_context)
        except BackupError as error:
            return self._not_deleted(request, error)

    def _not_deleted(self, request: HttpRequest, error: BackupError) -> HttpResponse:
        messages.error(request, error.message)
        return HttpResponseRedirect(list_url(Plan))

    def headline(self, request: HttpRequest, obj: Plan) -> Headline:
        newest = obj.archives.restore_points().best_first().first()
        rpo = obj.target.component.rpo
        if newest is None:
            return Headline("bad", "No restore point", "Nothing of this plan can be restored yet. Back up now.")
        age = retention.age_of(newest)
        sentence = f"The newest restore point is {human_duration(age)} old; RPO {human_duration(rpo)}."
        if rpo is None:
            return Headline("neutral", "No RPO set", sentence)
        return Headline("ok", "RPO met", sentence) if age < rpo else Headline("bad", "RPO missed", sentence)

    def detail_context(self, request: HttpRequest, obj: Plan) -> dict[str, Any]:
        archives = list(obj.archives.order_by("-requested_at").defer("manifest")[:30])
        return {
            "plan": obj,
            "archives": archives[:12],
            "trend": trends.of(archives),
            "cron": PlanForm(instance=obj).initial.get("cron", ""),
        }

    @admin.display(description="Schedule")
    def shown_schedule(self, obj: Plan) -> str:
        if obj.schedule is None or not obj.schedule.enabled:
            return "On demand"
        crontab = obj.schedule.crontab
        return (
            f"{crontab.minute} {crontab.hour} {crontab.day_of_month} {crontab.month_of_year} {crontab.day_of_week}"
            f" ({crontab.timezone})"
        )

    @admin.display(description="Newest restore point")
    def newest(self, obj: Plan) -> SafeString | str:
        newest_at = getattr(obj, "newest_at", None)  # annotated by the queryset
        return ago(newest_at) if newest_at else status("bad", "None")

    @admin.display(description="Kept")
    def retention(self, obj: Plan) -> str:
        parts = []
        if obj.keep_days:
            parts.append(f"{obj.keep_days} days")
        if obj.keep_last:
            parts.append(f"last {obj.keep_last}")
        return " and ".join(parts) or "Everything"
