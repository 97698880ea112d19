"""Screens of what was told, and of the texts for it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from contacts.models import Notification
from core.admin_site import Headline, PortalAdmin, ReadOnlyAdmin, register
from core.audit import track
from core.buttons import signed_in
from core.templatetags.portal import ago
from incidents.actions import updates as actions
from incidents.forms_updates import TemplateForm
from incidents.models import Incident, MessageTemplate, Update

track(MessageTemplate)


@register(Update)
class UpdateAdmin(ReadOnlyAdmin):
    """Everything that was told, of the incidents this person may see."""

    nav, nav_label, nav_icon = ("Respond", 30), "Updates", "send"
    list_help = "What the people concerned were told."
    list_empty = "Nothing was told yet. Open an incident and press “Send an update”."
    list_display = ("shown_text", "shown_incident", "audience", "shown_channels", "by", "when")
    list_display_links = ("shown_text",)
    phone_columns = ("shown_text", "shown_incident", "audience", "when")
    list_filter = ("audience", "incident__service")
    search_fields = ("text", "incident__number")
    detail_template = "incidents/update_detail.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Update]:
        visible = Incident.objects.visible_to(signed_in(request))
        rows = Update.objects.select_related("incident", "by", "template").prefetch_related("channels")
        return rows.filter(incident__in=visible)

    def headline(self, request: HttpRequest, obj: Update) -> Headline:
        word = obj.get_public_status_display() if obj.public_status else obj.get_audience_display()
        return Headline("neutral", word, f"Sent by {obj.by or 'the portal'}")

    def detail_context(self, request: HttpRequest, obj: Update) -> dict[str, Any]:
        sent = Notification.objects.filter(key__startswith=f"incident-update:{obj.pk}:").select_related("channel")
        return {"update": obj, "channels": obj.channels.all(), "messages_sent": sent}

    @admin.display(description="Text", ordering="text")
    def shown_text(self, obj: Update) -> str:
        return Truncator(" ".join(obj.text.split())).chars(72)

    @admin.display(description="Incident", ordering="incident__number")
    def shown_incident(self, obj: Update) -> str:
        return obj.incident.number

    @admin.display(description="Channels")
    def shown_channels(self, obj: Update) -> str:
        return ", ".join(channel.name for channel in obj.channels.all()) or "–"

    @admin.display(description="Sent", ordering="at")
    def when(self, obj: Update) -> SafeString | str:
        return ago(obj.at)


@register(MessageTemplate)
class MessageTemplateAdmin(PortalAdmin):
    """Texts with placeholders."""

    nav, nav_label, nav_icon = ("Configure", 62), "Update templates", "edit"
    list_help = "Texts for updates, filled from the incident."
    list_empty = "Add the texts that you send again and again."
    form = TemplateForm
    list_display = ("name", "shown_service", "audience", "public_status")
    phone_columns = ("name", "audience")
    list_filter = ("audience", "service")
    search_fields = ("name", "body")
    detail_template = "incidents/template_detail.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[MessageTemplate]:
        return MessageTemplate.objects.select_related("service")

    def save_model(self, request: HttpRequest, obj: MessageTemplate, form: ModelForm, change: bool) -> None:
        actions.save_template(obj)

    @admin.display(description="Service", ordering="service__name")
    def shown_service(self, obj: MessageTemplate) -> str:
        return str(obj.service or "every service")
