"""Screens of the directory: contacts, teams, roles, queues."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe

from contacts import confirming
from contacts.actions import messages as message_actions
from contacts.actions import people as actions
from contacts.admin import contact_files
from contacts.forms_people import ContactForm, WayForm
from contacts.models import Contact, Notification, Queue, QueueEntry, Role, RoleHolder, Team, TeamMember, Way
from contacts.templatetags.reaching import way_link
from core.admin_site import Headline, PortalAdmin, PortalTabularInline, ReadOnlyAdmin, register
from core.audit import track
from core.buttons import Button, new_key, signed_in
from core.links import list_url
from core.templatetags.portal import ago, relative_time, status
from core.words import counted

track(Contact, exclude=("reminded_at",))
for model in (Way, Team, TeamMember, Role, RoleHolder, Queue):
    track(model)

LATEST = 8
TEST_SHOWN_FOR = timedelta(minutes=15)
MOST_ENTRIES = 200


class MissingFilter(admin.SimpleListFilter):
    title, parameter_name = "what is missing", "missing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("some", "Missing something"), ("all", "Cannot be reached")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Contact]) -> QuerySet[Contact]:
        ways = Way.objects.filter(contact=OuterRef("pk"))
        reachable = Exists(ways.exclude(address=""))
        if self.value() == "some":
            return queryset.filter(Q(Exists(ways.filter(address=""))) | ~reachable)
        return queryset.filter(~reachable) if self.value() == "all" else queryset


class ConfirmedFilter(admin.SimpleListFilter):
    title, parameter_name = "confirmation", "confirmed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("stale", "Not confirmed for long"), ("never", "Never confirmed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Contact]) -> QuerySet[Contact]:
        if self.value() == "never":
            return queryset.filter(confirmed_at=None)
        if self.value() == "stale":
            before = confirming.stale_before() or timezone.now() - timedelta(days=90)
            return queryset.filter(Q(confirmed_at=None) | Q(confirmed_at__lt=before))
        return queryset


class WayInline(PortalTabularInline):
    model = Way
    form = WayForm
    fields = ("rank", "kind", "address", "label")


def missing_of(contact: Contact) -> str:
    """What has to be filled in, in a sentence; empty when nothing is missing. The ways are loaded."""
    ways = list(contact.ways.all())
    gaps = ", ".join(
        way.get_kind_display() + (f" ({way.label})" if way.label else "") for way in ways if not way.address
    )
    if not any(way.address for way in ways):
        return "Nobody can be reached here: no address is filled in yet."
    return f"Still missing: {gaps}." if gaps else ""


def state_of(contact: Contact) -> tuple[str, str, str]:
    """Status, word and sentence: the gravest thing first."""
    before = confirming.stale_before()
    if not contact.active:
        return "neutral", "Off", "Nobody is told through this contact."
    if missing := missing_of(contact):
        return "warn", "Missing", missing
    if contact.confirmed_at is None:
        return "neutral", "Not confirmed", "Nobody has confirmed yet that this is right."
    if before is not None and contact.confirmed_at < before:
        return "warn", "Not confirmed for long", f"Last confirmed {relative_time(contact.confirmed_at)}."
    return (
        "ok",
        "Confirmed",
        f"Confirmed {relative_time(contact.confirmed_at)} by {contact.confirmed_by or 'somebody'}.",
    )


def latest_test(contact: Contact) -> list[Notification]:
    """The last test of this contact's ways, while it is news."""
    rows = Notification.objects.filter(contact=contact, key__startswith=f"test:contact:{contact.pk}:")
    last = rows.filter(created_at__gt=timezone.now() - TEST_SHOWN_FOR).order_by("-pk").first()
    if last is None:
        return []
    group = last.key.rpartition(":")[0]
    return list(rows.filter(key__startswith=f"{group}:").select_related("only_way").order_by("pk"))


@register(Contact)
class ContactAdmin(contact_files.ContactFiles, PortalAdmin):
    """Who can be reached, and how."""

    nav, nav_icon = ("Respond", 55), "user"
    list_help = "People inside and outside, and how each is reached."
    list_empty = "Nobody is in the directory. Add a contact, or bring in a list as CSV."
    form = ContactForm
    inlines = (WayInline,)
    list_display = ("shown_state", "name", "title", "organisation", "kind", "shown_ways", "confirmed")
    list_display_links = ("name",)
    phone_columns = ("name", "shown_state", "shown_ways")
    list_filter = ("kind", MissingFilter, ConfirmedFilter, "active")
    search_fields = ("name", "title", "organisation", "ways__address", "notes")
    detail_template = "contacts/contact_detail.html"
    live_template = "contacts/contact_live.html"

    def save_model(self, request: HttpRequest, obj: Contact, form: Any, change: bool) -> None:
        actions.save(obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Contact]:
        return Contact.objects.with_ways().select_related("confirmed_by", "user", "business_hours")

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path("csv/", wrap(self.csv_view), name="contacts_contact_csv"),
            path("import/", wrap(self.import_view), name="contacts_contact_import"),
            *super().get_urls(),
        ]

    def get_buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        own = obj.user_id is not None and obj.user_id == request.user.pk
        return [
            Button(
                "confirm",
                "Confirm that this is right",
                "contacts.confirm_contact",
                run=lambda request, contact, data, key: actions.confirm(contact, by=signed_in(request)),
                visible=lambda request, contact: contact.active,
                confirm=False,
                icon="check",
            ),
            Button(
                "test",
                "Test my pager" if own else "Test the pager",
                "contacts.view_contact" if own else "contacts.test_pager",
                run=self._test,
                visible=lambda request, contact: contact.active,
                confirm=False,
                icon="bell",
            ),
        ]

    @staticmethod
    def _test(request: HttpRequest, contact: Contact, data: dict[str, Any], key: str) -> None:
        message_actions.test_pager(contact, by=signed_in(request), key=key)

    def headline(self, request: HttpRequest, obj: Contact) -> Headline:
        return Headline(*state_of(obj))

    def is_final(self, obj: Contact) -> bool:
        return all(row.state != Notification.State.PENDING for row in latest_test(obj))

    def detail_context(self, request: HttpRequest, obj: Contact) -> dict[str, Any]:
        return {
            "contact": obj,
            "tested": latest_test(obj),
            "memberships": obj.memberships.select_related("team"),
            "roles": obj.roles.select_related("role"),
            "latest": obj.notifications.select_related("contact", "channel").order_by("-pk")[:LATEST],
            "latest_url": list_url(Notification, f"contact__id__exact={obj.pk}"),
        }

    @admin.display(description="State")
    def shown_state(self, obj: Contact) -> SafeString:
        return status(*state_of(obj)[:2])

    @admin.display(description="Reached by")
    def shown_ways(self, obj: Contact) -> SafeString:
        return format_html_join(mark_safe(" · "), "{}", ((way_link(way),) for way in list(obj.ways.all())[:2]))

    @admin.display(description="Confirmed", ordering="confirmed_at")
    def confirmed(self, obj: Contact) -> SafeString | str:
        return ago(obj.confirmed_at, "never")


class PlaceInline(PortalTabularInline):
    fields: ClassVar[tuple[str, ...]] = ("rank", "contact")


class MemberInline(PlaceInline):
    model = TeamMember


class HolderInline(PlaceInline):
    model = RoleHolder


class GroupAdmin(PortalAdmin):
    """Base of teams and roles: people with a primary and backups."""

    people: ClassVar[str] = ""
    list_display = ("name", "shown_people", "description")
    list_display_links = ("name",)
    phone_columns = ("name", "shown_people")
    search_fields = ("name", "description")
    detail_template = "contacts/contact_group.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related(f"{self.people}__contact")

    def headline(self, request: HttpRequest, obj: Any) -> Headline | None:
        active = [place for place in getattr(obj, self.people).all() if place.contact.active]
        if not active:
            return Headline("warn", "Nobody", "Nobody is in it: whoever is to be told through it is not. Edit it.")
        if not any(place.rank == 1 for place in active):
            return Headline("warn", "No primary", "Nobody has rank 1. Edit it and say who is called first.")
        return None

    def detail_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        places = getattr(obj, self.people).select_related("contact").prefetch_related("contact__ways")
        return {"group": obj, "places": places}

    @admin.display(description="People")
    def shown_people(self, obj: Any) -> SafeString | str:
        places = list(getattr(obj, self.people).all())
        if not places:
            return status("warn", "Nobody")
        names = ", ".join(str(place.contact) for place in places[:3])
        return names + (f" and {len(places) - 3} more" if len(places) > 3 else "")


@register(Team)
class TeamAdmin(GroupAdmin):
    """Who answers for something together."""

    nav, nav_icon = ("Respond", 56), "users"
    people = "members"
    list_help = "Who answers for something together, the primary first."
    list_empty = "Add a team, then name its members."
    inlines = (MemberInline,)


@register(Role)
class RoleAdmin(GroupAdmin):
    """What somebody is, in the organisation's own words."""

    nav, nav_label, nav_icon = ("Respond", 57), "Roles of people", "user"
    people = "holders"
    list_help = "What somebody is, in your own words, such as Technical Lead, with primary and backup."
    list_empty = "Add a role such as Technical Lead, then name who holds it."
    inlines = (HolderInline,)


@register(Queue)
class QueueAdmin(PortalAdmin):
    """Lists that somebody works through later."""

    nav, nav_icon = ("Respond", 58), "list"
    list_help = "Where escalations end that nobody is called for, such as a backlog."
    list_empty = "Add a queue such as Backlog, and name it in the escalation matrix."
    list_display = ("name", "shown_waiting", "description")
    list_display_links = ("name",)
    search_fields = ("name", "description")
    detail_template = "contacts/contact_queue.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        waiting = Count("entries", filter=Q(entries__taken_at=None))
        return super().get_queryset(request).annotate(waiting=waiting)

    def headline(self, request: HttpRequest, obj: Any) -> Headline:
        if obj.waiting:
            return Headline("warn", counted(obj.waiting, "entry").replace("entrys", "entries"), "Waiting for somebody.")
        return Headline("ok", "Empty", "Nothing waits.")

    def detail_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        rows = obj.entries.select_related("escalation", "taken_by")
        return {
            "queue": obj,
            "waiting": [(entry, new_key()) for entry in rows.filter(taken_at=None)[:MOST_ENTRIES]],
            "taken": rows.filter(taken_at__isnull=False).order_by("-taken_at")[:LATEST],
            "may_take": request.user.has_perm("contacts.change_queueentry"),
            "entries_url": list_url(QueueEntry, f"queue__id__exact={obj.pk}"),
        }

    @admin.display(description="Waiting", ordering="waiting")
    def shown_waiting(self, obj: Any) -> int:
        return int(obj.waiting)


@register(QueueEntry)
class QueueEntryAdmin(ReadOnlyAdmin):
    """What waits in queues, and who took it."""

    list_help = "What escalations have put into queues."
    list_empty = "No escalation has ended in a queue."
    list_display = ("shown_state", "shown_title", "queue", "when", "taken_by")
    list_display_links = ("shown_title",)
    list_filter = ("queue",)
    list_select_related = ("queue", "escalation", "taken_by")
    detail_fields = ("queue", "escalation", "at", "taken_at", "taken_by")
    buttons = [
        Button(
            "take",
            "Take it",
            "contacts.change_queueentry",
            run=lambda request, entry, data, key: _taken(actions.take(entry, by=signed_in(request))),
            visible=lambda request, entry: entry.taken_at is None,
            confirm=False,
            icon="hand",
        )
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[QueueEntry]:
        return QueueEntry.objects.select_related("queue", "escalation", "taken_by")

    def headline(self, request: HttpRequest, obj: QueueEntry) -> Headline:
        if obj.taken_at is None:
            return Headline("warn", "Waiting", f"In {obj.queue} {relative_time(obj.at)}.")
        return Headline("ok", "Taken", f"By {obj.taken_by or 'somebody'} {relative_time(obj.taken_at)}.")

    @admin.display(description="State", ordering="taken_at")
    def shown_state(self, obj: QueueEntry) -> SafeString:
        return status("ok", "Taken") if obj.taken_at else status("warn", "Waiting")

    @admin.display(description="What", ordering="escalation__title")
    def shown_title(self, obj: QueueEntry) -> str:
        return obj.escalation.title

    @admin.display(description="Since", ordering="at")
    def when(self, obj: QueueEntry) -> SafeString | str:
        return ago(obj.at)


def _taken(entry: QueueEntry) -> str:
    """Whoever has taken it reads on where it came from."""
    return entry.escalation.url or entry.queue.get_absolute_url()
