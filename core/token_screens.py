"""Screens of API tokens: a person's own, and everybody's for those who may revoke them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache

from core import actions
from core.admin_site import Headline, ReadOnlyAdmin, register
from core.audit import track
from core.buttons import KEY_FIELD, Button, new_key, signed_in
from core.exceptions import PortalError
from core.models import ApiToken
from core.scopes import SCOPES
from core.templatetags.portal import ago, status

track(ApiToken, exclude=("last_used_at",), mask=("sha256",))

MAKE = "core.issue_apitoken"
USED_KEYS = "token-pages-sent"  # in the session


class TokenForm(forms.Form):
    """What a new token is for."""

    name = forms.CharField(max_length=80, help_text="What uses it, for example: GitLab CI of the web shop.")
    scopes = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple, help_text="A token never may more than you may yourself."
    )
    days = forms.IntegerField(min_value=1, max_value=actions.LONGEST_DAYS, initial=90, label="Expires after (days)")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["scopes"].choices = [  # type: ignore[attr-defined]  # a choice field
            (word, f"{word}: {allows}") for word, allows in SCOPES.items()
        ]


@register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """By what programs act for people."""

    nav, nav_label, nav_icon = ("Configure", 82), "API tokens", "key"
    list_help = "By a token a program acts for a person: with their rights, within its scopes, until it expires."
    list_empty = "No program acts for you. Make a token for your CI or a script."
    list_display = ("shown_state", "name", "owner", "shown_scopes", "expires", "used")
    list_display_links = ("name",)
    list_select_related = ("owner",)
    phone_columns = ("name", "shown_state", "expires")
    search_fields = ("name", "owner__username", "hint")
    detail_fields = ("name", "owner", "scopes", "hint", "created_at", "created_by", "expires_at", "last_used_at")
    buttons = [
        Button(
            "revoke",
            "Revoke",
            MAKE,
            run=lambda request, token, data, key: actions.revoke_token(token),
            consequence=lambda token: f"Whatever uses “{token.name}” is refused from its next request on.",
            visible=lambda request, token: token.revoked_at is None,
            danger=True,
            icon="lock",
        )
    ]

    def get_urls(self) -> list[Any]:
        return [path("new/", self.admin_site.admin_view(self.new_view), name="core_apitoken_new"), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        return ApiToken.objects.visible_to(signed_in(request)).select_related("owner", "created_by")

    def headline(self, request: HttpRequest, obj: ApiToken) -> Headline:
        return Headline(obj.status, obj.state_word, f"Acts for {obj.owner} within: {', '.join(obj.scopes)}.")

    def new_view(self, request: HttpRequest) -> HttpResponse:
        """The form, and once after it the secret."""
        return never_cache(self._new)(request)

    def _new(self, request: HttpRequest) -> HttpResponse:
        if not request.user.has_perm(MAKE):
            raise PermissionDenied("Your role does not allow you to make API tokens. Ask an administrator.")
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        form = TokenForm(request.POST if request.method == "POST" else None)
        context = {**self.admin_site.each_context(request), "title": "New API token", "form": form, "opts": self.opts}
        context["request_key"] = key = request.POST.get(KEY_FIELD) or new_key()
        used = request.session.get(USED_KEYS, [])
        if form.is_valid() and key in used:
            form.add_error(None, "This page was sent already, and the token was shown then. Begin anew for another.")
            context["request_key"] = new_key()
        elif form.is_valid():
            try:
                me = signed_in(request)
                context["token"], context["secret"] = actions.issue_token(me, **form.cleaned_data, by=me)
                request.session[USED_KEYS] = [*used[-20:], key]
            except PortalError as error:
                form.add_error(None, error.message)
        return TemplateResponse(request, "core/token_new.html", context)

    @admin.display(description="State")
    def shown_state(self, obj: ApiToken) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Scopes")
    def shown_scopes(self, obj: ApiToken) -> str:
        return ", ".join(obj.scopes)

    @admin.display(description="Expires", ordering="expires_at")
    def expires(self, obj: ApiToken) -> SafeString | str:
        return ago(obj.expires_at)

    @admin.display(description="Last used", ordering="last_used_at")
    def used(self, obj: ApiToken) -> SafeString | str:
        return ago(obj.last_used_at, "never")
