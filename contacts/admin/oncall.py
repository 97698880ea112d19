"""Screens of on-call: schedules with their layers, who stands in, calendar links, who was on call."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache

from contacts import gaps, reach, rota, windows
from contacts import oncall as pure
from contacts.actions import oncall as actions
from contacts.forms_oncall import FeedForm, LayerForm, LayerFormSet, StandInForm
from contacts.models import (
    CalendarFeed,
    Contact,
    Layer,
    LayerMember,
    LayerWindow,
    OnCallRecord,
    OnCallSchedule,
    Override,
)
from core.admin_site import Headline, MoreLink, PortalAdmin, PortalTabularInline, ReadOnlyAdmin, register
from core.audit import track
from core.buttons import KEY_FIELD, Button, new_key, signed_in
from core.links import list_url, page_url
from core.templatetags.portal import ago, status

track(OnCallSchedule, exclude=("recorded_until", "gaps_told"))
for model in (Layer, LayerMember, LayerWindow, Override):
    track(model)
track(CalendarFeed, mask=("sha256",))

STAND_IN = "contacts.add_override"
GAPS_AHEAD = timedelta(days=30)
SHIFTS_AHEAD = timedelta(days=45)
MOST_SHIFTS = 6
SENT_KEYS = "calendar-links-sent"  # in the session


def me(request: HttpRequest) -> Contact | None:
    """The contact of whoever is signed in."""
    return Contact.objects.active().filter(user=signed_in(request)).first()


class LayerInline(PortalTabularInline):
    """Layers as blocks: each has more fields than a line holds."""

    model = Layer
    form = LayerForm
    formset = LayerFormSet
    template = "contacts/oncall_layers.html"
    fields = (
        "level", "rank", "name", "members", "starts_on", "handoff", "ends_on", "shift_length", "shift_unit", "windows",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Layer]:
        return super().get_queryset(request).prefetch_related("members", "windows")

    def get_extra(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> int:
        """One to fill in where nobody adds rows by script."""
        return 1


@register(OnCallSchedule)
class OnCallScheduleAdmin(PortalAdmin):
    """Who answers now, and how it is arranged."""

    nav, nav_label, nav_icon = ("Respond", 40), "On call", "bell"
    list_help = "Who answers at which time: rotations in layers, and who stands in."
    list_empty = "Add a schedule: its people, in turns, and when they hand over."
    inlines = (LayerInline,)
    fields = ("name", "service", "time_zone", "alarm_gaps")
    list_display = ("shown_state", "name", "shown_now", "service", "time_zone")
    list_display_links = ("name",)
    phone_columns = ("name", "shown_state", "shown_now")
    search_fields = ("name", "service__name")
    list_select_related = ("service",)
    detail_template = "contacts/oncallschedule_detail.html"
    buttons = [
        Button(
            "stand_in",
            "Stand in …",
            STAND_IN,
            run=lambda request, schedule, data, key: stand_in(request, schedule, data),
            form=StandInForm,
            form_kwargs=lambda request, schedule: {
                "me": me(request),
                "zone": timezone.get_current_timezone_name(),
            },
            consequence="From then until then this person is called, and nobody of the layers. It counts at once, also "
            "for escalations that run.",
            done="Written down. The page shows who is on call now.",
            icon="user",
        ),
    ]

    # --- who is on call, read once for all rows of a list ------------------------------------------------------------

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        now = timezone.now()
        rows = list(changelist.result_list)
        for book in rota.books(rows, since=now):
            book.schedule.now_on_call = [  # type: ignore[attr-defined]  # read by the columns
                (level, book.contact(book.rotas[level].who(now))) for level in book.levels_at(now)
            ]
        people = [contact for row in rows for _, contact in _now_on_call(row) if contact]
        out = reach.out_of_reach(people, now)
        for row in rows:
            row.out_of_reach = [str(c) for _, c in _now_on_call(row) if c and c.pk in out]
        changelist.result_list = rows
        return changelist

    @admin.display(description="State")
    def shown_state(self, obj: OnCallSchedule) -> SafeString:
        now = _now_on_call(obj)
        if not now:
            return status("warn", "No layers")
        gone = [level.label for level, contact in now if contact is None]
        if gone:
            return status("bad", f"Gap: {', '.join(gone)}")
        unreached = list(dict.fromkeys(getattr(obj, "out_of_reach", [])))
        return status("bad", f"Not reachable: {', '.join(unreached)}") if unreached else status("ok", "Covered")

    @admin.display(description="On call now")
    def shown_now(self, obj: OnCallSchedule) -> str:
        return ", ".join(str(contact) for _, contact in _now_on_call(obj) if contact) or "–"

    # --- the page of one ---------------------------------------------------------------------------------------------

    def headline(self, request: HttpRequest, obj: OnCallSchedule) -> Headline:
        now = timezone.now()
        book = rota.book(obj, since=now)
        if not book.layered:
            return Headline("warn", "No layers", "Nobody is ever on call. Edit the schedule and add a layer.")
        nobody = [level.label.lower() for level in book.layered if book.rotas[level].who(now).member is None]
        if nobody:
            return Headline("bad", "Nobody on call", f"Nobody answers: {', '.join(nobody)}. Let somebody stand in.")
        on_call = [each.contact for each in rota.on_call_now(now, of=obj) if each.contact is not None]
        if out := reach.out_of_reach(on_call, now):
            told = dict.fromkeys(f"{contact} {out[contact.pk]}" for contact in on_call if contact.pk in out)
            return Headline(
                "bad", "Not reachable", f"On call, and no page arrives: {'; '.join(told)}. Let somebody else stand in."
            )
        return Headline("ok", "Covered")

    def detail_context(self, request: HttpRequest, obj: OnCallSchedule) -> dict[str, Any]:
        now = timezone.now()
        book = rota.book(obj, since=now)
        return {
            "schedule": obj,
            "now_on_call": rota.on_call_now(now, of=obj),
            "gaps": gaps.gaps_of(book, now, now + GAPS_AHEAD),
            "shifts": [
                (level, [shift for shift in book.shifts(level, now, now + SHIFTS_AHEAD) if shift.starts_at > now])
                for level in book.rotas
            ],
            "most_shifts": MOST_SHIFTS,
            "layers": [layer_words(layer) for layer in obj.layers.prefetch_related("members__contact", "windows")],
            "overrides": obj.overrides.filter(ends_at__gt=now)
            .select_related("contact", "made_by")
            .order_by("starts_at"),
            "feeds": obj.feeds.filter(revoked_at=None).select_related("made_by"),
            "month_url": reverse("oncall-month", args=[obj.pk]),
            "feed_url": page_url(obj, "feed") if request.user.has_perm(STAND_IN) else "",
            "records_url": list_url(OnCallRecord, f"schedule__id__exact={obj.pk}"),
            "overrides_url": list_url(Override, f"schedule__id__exact={obj.pk}"),
        }

    def more_links(self, request: HttpRequest, obj: OnCallSchedule) -> list[MoreLink]:
        return [MoreLink("Month", reverse("oncall-month", args=[obj.pk]), "calendar")]

    # --- editing -----------------------------------------------------------------------------------------------------

    def get_formset_kwargs(self, request: HttpRequest, obj: Any, inline: Any, prefix: str) -> dict[str, Any]:
        """The people whom every layer offers, read once."""
        here = Q(turns__layer__schedule=obj) if obj is not None and obj.pk else Q(pk__in=[])
        people = list(Contact.objects.filter(Q(active=True) | here).distinct())
        return {**super().get_formset_kwargs(request, obj, inline, prefix), "form_kwargs": {"people": people}}

    def save_model(self, request: HttpRequest, obj: OnCallSchedule, form: Any, change: bool) -> None:
        actions.save_schedule(obj)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        actions.save_layers(form.instance, [layer.values for layer in cast(LayerFormSet, formset).wanted])
        formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []

    # --- calendar links ----------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        view = never_cache(self.admin_site.admin_view(self.feed_view))
        return [path("<path:object_id>/feed/", view, name="contacts_oncallschedule_feed"), *super().get_urls()]

    def feed_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The form, and once after it the link."""
        schedule = self.visible_object(request, object_id)
        if not request.user.has_perm(STAND_IN):
            raise PermissionDenied("Your role does not allow you to make calendar links. Ask an administrator.")
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        mine = me(request)
        form = FeedForm(request.POST if request.method == "POST" else None, schedule=schedule, me=mine)
        context = {**self.page_context(request, schedule), "title": "New calendar link", "form": form}
        context["request_key"] = key = request.POST.get(KEY_FIELD) or new_key()
        sent = request.session.get(SENT_KEYS, [])
        if form.is_valid() and key in sent:
            form.add_error(None, "This page was sent already, and the link was shown then. Begin anew for another.")
            context["request_key"] = new_key()
        elif form.is_valid():
            of = {"contact": mine} if form.cleaned_data["shows"] == FeedForm.MINE else {"schedule": schedule}
            _, secret = actions.make_feed(by=signed_in(request), **of)
            context["link"] = request.build_absolute_uri(reverse("oncall-feed", args=[secret]))
            request.session[SENT_KEYS] = [*sent[-20:], key]
        return TemplateResponse(request, "contacts/oncall_feed_new.html", context)


def _now_on_call(obj: OnCallSchedule) -> list[tuple[Any, Contact | None]]:
    return getattr(obj, "now_on_call", [])


def stand_in(request: HttpRequest, schedule: OnCallSchedule, data: dict[str, Any]) -> None:
    """Run of the button."""
    actions.add_override(schedule, by=signed_in(request), **data)


def layer_words(layer: Layer) -> dict[str, Any]:
    """A layer as its page tells it."""
    unit = layer.get_shift_unit_display()
    every = f"every {layer.shift_length} {unit}" if layer.shift_length > 1 else f"every {unit.removesuffix('s')}"
    rows = [pure.Window(window.weekday, window.begins, window.ends) for window in layer.windows.all()]
    return {
        "layer": layer,
        "people": [turn.contact for turn in layer.members.all()],
        "every": every,
        "windows": windows.written(rows).splitlines(),
    }


@register(Override)
class OverrideAdmin(ReadOnlyAdmin):
    """Who stood, stands or will stand in. Made on the page of a schedule."""

    list_help = "Who stands in, in place of whoever the layers name."
    list_empty = "Nobody stands in. Open a schedule and choose “Stand in …”."
    nav_label = "Standing in"
    list_display = ("shown_state", "contact", "schedule", "level", "shown_from", "shown_until", "reason")
    list_display_links = ("contact",)
    list_select_related = ("contact", "schedule")
    list_filter = ("schedule", "level")
    phone_columns = ("contact", "shown_state", "schedule", "shown_until")
    search_fields = ("contact__name", "schedule__name", "reason")
    buttons = [
        Button(
            "end",
            "End now …",
            "contacts.change_override",
            run=lambda request, override, data, key: actions.end_override(override),
            consequence="From now on the layers name who is on call again. One that has not begun is removed.",
            visible=lambda request, override: override.ends_at > timezone.now(),
            done="Ended.",
            danger=True,
            icon="stop",
        )
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Override]:
        return super().get_queryset(request).select_related("contact", "schedule", "made_by")

    def headline(self, request: HttpRequest, obj: Override) -> Headline:
        return Headline(*_override_state(obj), obj.reason)

    @admin.display(description="State")
    def shown_state(self, obj: Override) -> SafeString:
        return status(*_override_state(obj))

    @admin.display(description="From", ordering="starts_at")
    def shown_from(self, obj: Override) -> SafeString | str:
        return ago(obj.starts_at)

    @admin.display(description="Until", ordering="ends_at")
    def shown_until(self, obj: Override) -> SafeString | str:
        return ago(obj.ends_at)


def _override_state(override: Override) -> tuple[str, str]:
    now = timezone.now()
    if override.ends_at <= now:
        return "neutral", "Over"
    return ("running", "Stands in") if override.starts_at <= now else ("neutral", "To come")


@register(OnCallRecord)
class OnCallRecordAdmin(ReadOnlyAdmin):
    """Who was on call, as it was then."""

    list_help = "Who was on call, as it was at the time. Later edits of a schedule change nothing here."
    list_empty = "Nothing is kept yet. The control worker writes down who is on call as time goes on."
    nav_label = "Who was on call"
    list_display = ("shown_contact", "schedule", "level", "shown_from", "shown_until")
    list_display_links = ("shown_contact",)
    list_select_related = ("contact", "schedule")
    list_filter = ("schedule", "level")
    date_hierarchy = "starts_at"
    phone_columns = ("shown_contact", "schedule", "shown_from")
    search_fields = ("contact__name", "schedule__name")

    def get_queryset(self, request: HttpRequest) -> QuerySet[OnCallRecord]:
        return super().get_queryset(request).select_related("contact", "schedule")

    @admin.display(description="On call", ordering="contact__name")
    def shown_contact(self, obj: OnCallRecord) -> SafeString | str:
        return str(obj.contact) if obj.contact else status("bad", "Nobody")

    @admin.display(description="From", ordering="starts_at")
    def shown_from(self, obj: OnCallRecord) -> SafeString | str:
        return ago(obj.starts_at)

    @admin.display(description="Until", ordering="ends_at")
    def shown_until(self, obj: OnCallRecord) -> SafeString | str:
        return ago(obj.ends_at)


@register(CalendarFeed)
class CalendarFeedAdmin(ReadOnlyAdmin):
    """Links under which calendar programs read shifts."""

    list_help = "Secret links under which calendar programs read shifts."
    list_empty = "Nobody has a calendar link. Open a schedule and make one."
    nav_label = "Calendar links"
    list_display = ("shown_state", "shown_of", "made_by", "shown_made")
    list_display_links = ("shown_of",)
    list_select_related = ("schedule", "contact", "made_by")
    phone_columns = ("shown_of", "shown_state", "made_by")
    detail_fields = ("schedule", "contact", "made_by", "made_at", "revoked_at")
    buttons = [
        Button(
            "revoke",
            "Revoke",
            STAND_IN,
            run=lambda request, feed, data, key: actions.revoke_feed(feed),
            consequence="Calendar programs that read this link find nothing from now on.",
            visible=lambda request, feed: feed.revoked_at is None and may_revoke(request, feed),
            danger=True,
            icon="lock",
        )
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[CalendarFeed]:
        return super().get_queryset(request).select_related("schedule", "contact", "made_by")

    def headline(self, request: HttpRequest, obj: CalendarFeed) -> Headline:
        return Headline("neutral", "Revoked") if obj.revoked_at else Headline("ok", "In use")

    @admin.display(description="State", ordering="revoked_at")
    def shown_state(self, obj: CalendarFeed) -> SafeString:
        return status("neutral", "Revoked") if obj.revoked_at else status("ok", "In use")

    @admin.display(description="Calendar of")
    def shown_of(self, obj: CalendarFeed) -> str:
        return str(obj.schedule or obj.contact)

    @admin.display(description="Made", ordering="made_at")
    def shown_made(self, obj: CalendarFeed) -> SafeString | str:
        return ago(obj.made_at)


def may_revoke(request: HttpRequest, feed: CalendarFeed) -> bool:
    """Its maker, and whoever may edit schedules."""
    return feed.made_by_id == signed_in(request).pk or request.user.has_perm("contacts.change_oncallschedule")
