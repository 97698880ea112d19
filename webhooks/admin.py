"""Screens of webhooks and of what was sent."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from core.admin_site import Headline, PortalAdmin, ReadOnlyAdmin, register
from core.audit import track
from core.buttons import Button, signed_in
from core.links import list_url
from core.templatetags.portal import ago, status
from webhooks import actions
from webhooks.forms import WebhookForm
from webhooks.models import Delivery, Webhook

track(Webhook)

LATEST = 12


@register(Webhook)
class WebhookAdmin(PortalAdmin):
    """Who is told."""

    nav, nav_label, nav_icon = ("Configure", 85), "Webhooks", "zap"
    list_help = "Addresses that are told of events, in signed requests."
    list_empty = "No other system is told of anything. Add an address that takes webhooks."
    form = WebhookForm
    list_display = ("shown_state", "name", "url", "shown_events", "shown_waiting", "shown_given_up")
    list_display_links = ("name",)
    phone_columns = ("name", "shown_state", "shown_given_up")
    search_fields = ("name", "url")
    detail_template = "webhooks/webhook_detail.html"
    buttons = [
        Button(
            "send_test",
            "Send a test event",
            "webhooks.change_webhook",
            run=lambda request, webhook, data, key: actions.send_test(webhook, by=signed_in(request)),
            visible=lambda request, webhook: webhook.enabled,
            confirm=False,
            icon="zap",
        )
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Webhook]:
        return Webhook.objects.counted()

    def headline(self, request: HttpRequest, obj: Webhook) -> Headline:
        last = obj.deliveries.filter(tried_at__isnull=False).order_by("-tried_at").first()
        if not obj.enabled or last is None:
            return Headline(
                obj.status, obj.state_word, "" if obj.enabled else "What happens meanwhile is not told later."
            )
        if last.state == Delivery.State.DELIVERED:
            return Headline("ok", "Answers", "The last request was taken.")
        return Headline("bad", "Does not take it", last.message)

    def detail_context(self, request: HttpRequest, obj: Webhook) -> dict[str, Any]:
        return {
            "webhook": obj,
            "deliveries": obj.deliveries.with_names()[:LATEST],
            "deliveries_url": list_url(Delivery, f"webhook__id__exact={obj.pk}"),
        }

    @admin.display(description="State", ordering="enabled")
    def shown_state(self, obj: Webhook) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Told of")
    def shown_events(self, obj: Webhook) -> str:
        return ", ".join(obj.events) or "everything"

    @admin.display(description="Waiting", ordering="waiting")
    def shown_waiting(self, obj: Webhook) -> int:
        return int(getattr(obj, "waiting", 0))  # annotated by the queryset

    @admin.display(description="Given up", ordering="given_up")
    def shown_given_up(self, obj: Webhook) -> SafeString | str:
        count = int(getattr(obj, "given_up", 0))  # annotated by the queryset
        return status("bad", str(count)) if count else "0"


@register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """What became of each event at each address."""

    nav, nav_label, nav_icon = ("Watch", 41), "Webhook deliveries", "send"
    list_help = "What became of each event at each webhook."
    list_empty = "Nothing was sent yet."
    list_display = ("shown_state", "shown_event", "webhook", "tries", "answer", "when")
    list_display_links = ("shown_event",)
    phone_columns = ("shown_event", "shown_state", "webhook", "when")
    list_filter = ("state", "webhook")
    live_template = "core/partials/live_headline.html"
    detail_fields = (
        "webhook",
        "event",
        "message_id",
        "tries",
        "tried_at",
        "due_at",
        "delivered_at",
        "answer",
        "message",
    )
    buttons = [
        Button(
            "try_again",
            "Try again",
            "webhooks.change_webhook",
            run=lambda request, delivery, data, key: actions.try_again(delivery),
            visible=lambda request, delivery: delivery.state == Delivery.State.FAILED and delivery.webhook.enabled,
            confirm=False,
            icon="refresh",
        )
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        return Delivery.objects.with_names()

    def is_final(self, obj: Delivery) -> bool:
        return obj.state != Delivery.State.PENDING or bool(obj.tries)  # what waits for an hour is not polled

    def headline(self, request: HttpRequest, obj: Delivery) -> Headline:
        return Headline(obj.status, obj.state_word, obj.message or obj.event.sentence)

    @admin.display(description="State", ordering="state")
    def shown_state(self, obj: Delivery) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Event", ordering="event__name")
    def shown_event(self, obj: Delivery) -> str:
        return obj.event.name

    @admin.display(description="Last try", ordering="tried_at")
    def when(self, obj: Delivery) -> SafeString | str:
        return ago(obj.tried_at, "not yet")
