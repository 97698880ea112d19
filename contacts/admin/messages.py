"""Screens of messages and of what they go through: channels, providers, the send log."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from catalog.exceptions import CatalogError
from catalog.secrets import SecretReference
from contacts.actions import messages as actions
from contacts.forms_people import ChannelForm, ProviderTestForm
from contacts.models import Attempt, Channel, Notification, Provider, Way
from core.admin_site import Headline, PortalAdmin, ReadOnlyAdmin, register
from core.audit import track
from core.buttons import Button, signed_in
from core.links import list_url
from core.templatetags.portal import ago, status

for model in (Channel, Provider):
    track(model)

LATEST = 12
State = Notification.State


def warn_of_secret(request: HttpRequest, reference: str) -> None:
    """Say at once when this process does not find the URL: most often a typing error."""
    if not reference:
        return
    try:
        SecretReference.parse(reference).resolve()
    except CatalogError as error:
        messages.warning(request, f"Saved, but its URL was not found here: {error.message}")


@register(Channel)
class ChannelAdmin(PortalAdmin):
    """Where many read."""

    nav, nav_icon = ("Configure", 72), "send"
    list_help = "Places where many read: chat rooms, mailing lists, pager services, webhooks."
    list_empty = "Add the places that hear of incidents, such as a chat room or a mailing list."
    form = ChannelForm
    list_display = ("shown_state", "name", "kind", "service", "shown_purposes", "address")
    list_display_links = ("name",)
    phone_columns = ("name", "shown_state", "kind")
    list_filter = ("kind", "service", "enabled")
    list_select_related = ("service",)
    search_fields = ("name", "address")
    detail_template = "contacts/channel_detail.html"
    buttons = [
        Button(
            "test",
            "Send a test",
            "contacts.change_channel",
            run=lambda request, channel, data, key: actions.send_test(channel, by=signed_in(request), key=key),
            visible=lambda request, channel: channel.enabled and not channel.is_missing and channel.kind != "hand",
            confirm=False,
            icon="zap",
        )
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        return Channel.objects.select_related("service")

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        warn_of_secret(request, obj.url_ref)

    def headline(self, request: HttpRequest, obj: Channel) -> Headline:
        if obj.enabled and not obj.is_missing and obj.kind != Channel.Kind.HAND:
            last = obj.notifications.exclude(state=State.CANCELLED).exclude(tries=0, state=State.PENDING).first()
            if last is not None:
                return Headline(last.status, "Works" if last.state == State.SENT else "Does not work", last.message)
        return Headline(*channel_state(obj))

    def detail_context(self, request: HttpRequest, obj: Channel) -> dict[str, Any]:
        return {
            "channel": obj,
            "purposes": self.shown_purposes(obj),
            "latest": obj.notifications.select_related("contact", "channel").order_by("-pk")[:LATEST],
            "latest_url": list_url(Notification, f"channel__id__exact={obj.pk}"),
        }

    @admin.display(description="State")
    def shown_state(self, obj: Channel) -> SafeString:
        return status(*channel_state(obj)[:2])

    @admin.display(description="For")
    def shown_purposes(self, obj: Channel) -> str:
        return ", ".join(str(Channel.Purpose(purpose).label) for purpose in obj.purposes) or "–"


def channel_state(channel: Channel) -> tuple[str, str, str]:
    """Status, word and sentence of a channel that nothing is known of yet."""
    if not channel.enabled:
        return "neutral", "Off", "Nothing is sent there."
    if channel.is_missing:
        return "warn", "Missing", "It has no address yet. Edit it."
    if channel.kind == Channel.Kind.HAND:
        return "neutral", "By hand", "People use it themselves; the portal shows where it is."
    return "ok", "On", "Nothing was sent there yet. Send a test."


@register(Provider)
class ProviderAdmin(PortalAdmin):
    """Through what people are reached."""

    nav, nav_icon = ("Configure", 73), "globe"
    list_help = "Services through which people get SMS, calls, push and chat. Email needs none."
    list_empty = "Add a service for SMS or push, so that pages reach people who do not read email."
    list_display = ("shown_state", "name", "kind", "rank", "url_ref")
    list_display_links = ("name",)
    phone_columns = ("name", "shown_state", "kind", "rank")
    list_filter = ("kind", "enabled")
    search_fields = ("name",)
    fields = ("name", "kind", "rank", "url_ref", "allowed_networks", "enabled")
    detail_template = "contacts/contact_provider.html"
    buttons = [
        Button(
            "test",
            "Send a test",
            "contacts.change_provider",
            run=lambda request, provider, data, key: ProviderAdmin.test(request, provider, data),
            form=ProviderTestForm,
            form_kwargs=lambda request, provider: {"provider": provider, "address": own_address(request, provider)},
            consequence="A test goes out at once, and this page waits up to ten seconds for the answer.",
            visible=lambda request, provider: provider.enabled,
            icon="zap",
        )
    ]

    @staticmethod
    def test(request: HttpRequest, provider: Provider, data: dict[str, Any]) -> None:
        messages.success(request, actions.try_provider(provider, data["address"], by=signed_in(request)))

    def save_model(self, request: HttpRequest, obj: Provider, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        warn_of_secret(request, obj.url_ref)

    def headline(self, request: HttpRequest, obj: Provider) -> Headline:
        if not obj.enabled:
            return Headline("neutral", "Off", "Nobody is reached through it.")
        return Headline("ok", "On", f"Tried as number {obj.rank} for: {obj.get_kind_display()}.")

    def detail_context(self, request: HttpRequest, obj: Provider) -> dict[str, Any]:
        tries = Attempt.objects.filter(through=obj.name[:120], way=obj.kind).order_by("-pk")
        return {"provider": obj, "tries": tries.select_related("notification")[:LATEST]}

    @admin.display(description="State", ordering="enabled")
    def shown_state(self, obj: Provider) -> SafeString:
        return status("ok", "On") if obj.enabled else status("neutral", "Off")


def own_address(request: HttpRequest, provider: Provider) -> str:
    """Where the person at the screen is reached by this kind of way."""
    way = Way.objects.filter(contact__user=request.user.pk, kind=provider.kind).exclude(address="").first()
    return way.address if way is not None else ""


@register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    """The send log: what was said to whom, and what became of it."""

    nav, nav_label, nav_icon = ("Respond", 59), "Messages", "bell"
    list_help = "What was sent to whom, and what became of it."
    list_empty = "Nothing was sent yet."
    list_display = ("shown_state", "subject", "shown_reader", "urgency", "when", "message")
    list_display_links = ("subject",)
    phone_columns = ("subject", "shown_state", "shown_reader", "when")
    list_filter = ("state", "urgency", ("contact", admin.RelatedOnlyFieldListFilter), "channel")
    search_fields = ("subject", "contact__name", "channel__name")
    detail_template = "contacts/notification_detail.html"
    live_template = "contacts/notification_live.html"
    buttons = [
        Button(
            "try_again",
            "Try again",
            "contacts.resend_notification",
            run=lambda request, notification, data, key: actions.try_again(notification),
            visible=lambda request, notification: notification.state == State.FAILED,
            confirm=False,
            icon="refresh",
        )
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notification]:
        return Notification.objects.with_names()

    def is_final(self, obj: Notification) -> bool:
        return obj.state != State.PENDING or bool(obj.tries)  # what waits for an hour is not polled

    def headline(self, request: HttpRequest, obj: Notification) -> Headline:
        return Headline(obj.status, obj.state_word, obj.message)

    def detail_context(self, request: HttpRequest, obj: Notification) -> dict[str, Any]:
        return {
            "notification": obj,
            "carrier": obj.sent_with,
            "carried": obj.carried.all()[:LATEST],
            "attempts": obj.attempts.all(),
        }

    @admin.display(description="State", ordering="state")
    def shown_state(self, obj: Notification) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="To")
    def shown_reader(self, obj: Notification) -> str:
        return str(obj.contact or obj.channel)

    @admin.display(description="When", ordering="created_at")
    def when(self, obj: Notification) -> SafeString | str:
        return ago(obj.created_at)
