"""Buttons on detail pages: declared with their permission, confirmed on a page of their own, run by POST only.

buttons = [
    Button("back_up", "Back up now", permission="backups.run_plan", form=ReasonForm,
           run=lambda request, plan, data, key: actions.request_backup(plan, by=request.user, idempotency_key=key),
           consequence=lambda plan: f"A backup of {plan.database} starts at once."),
]
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse

from core.exceptions import PortalError
from core.links import detail_url, page_url
from core.models import User

if TYPE_CHECKING:
    from core.model_admin import PortalAdmin

KEY_FIELD = "request_key"


@dataclass(frozen=True)
class Button:
    """A thing a person can do to one object.

    name         part of the address: `/<app>/<model>/<pk>/do/<name>/`
    label        what the button says, a verb
    permission   `app.codename`, checked for the confirm page and again for the POST
    run          `run(request, obj, data, key)`; `data` is the form's cleaned_data ({} without a form), `key` the
                 one-time key of the confirm page: a double click brings the same key twice. Returns an object with
                 `get_absolute_url()`, a URL, or None (back to the detail page). Raises PortalError to show the confirm
                 page again with its sentence and what was typed.
    form         a Form class shown on the confirm page; `form_kwargs(request, obj)` gives it more arguments
    consequence  what will happen, a sentence or `f(obj)`
    danger       destroys or replaces something: red, and the confirm page says so
    visible      `f(request, obj)`: offered now? Asked again before running
    confirm      False runs at once, by POST from the detail page
    primary      the one next action; without any, the first visible button that is not dangerous
    follows      also offered on the page of the operation that led here, once that has ended; needs `confirm`
    icon         name known to {% icon %}
    template     of the confirm page (extend core/confirm.html); `context(request, obj)` adds to its context
    done         message after success, a sentence or `f(obj)`
    """

    name: str
    label: str
    permission: str
    run: Callable[[HttpRequest, Any, dict[str, Any], str], Any]
    form: type[forms.Form] | None = None
    form_kwargs: Callable[[HttpRequest, Any], dict[str, Any]] | None = None
    consequence: str | Callable[[Any], str] = ""
    danger: bool = False
    visible: Callable[[HttpRequest, Any], bool] | None = None
    confirm: bool = True
    primary: bool = False
    follows: bool = False
    icon: str = ""
    template: str = "core/confirm.html"
    context: Callable[[HttpRequest, Any], dict[str, Any]] | None = None
    done: str | Callable[[Any], str] = ""

    def is_allowed(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(self.permission))

    def is_visible(self, request: HttpRequest, obj: Model) -> bool:
        return self.visible is None or bool(self.visible(request, obj))

    def consequence_of(self, obj: Model) -> str:
        return self.consequence(obj) if callable(self.consequence) else self.consequence

    def done_for(self, obj: Model) -> str:
        return self.done(obj) if callable(self.done) else self.done

    def bound_form(self, request: HttpRequest, obj: Model) -> forms.Form | None:
        if self.form is None:
            return None
        kwargs = self.form_kwargs(request, obj) if self.form_kwargs else {}
        return self.form(request.POST if request.method == "POST" else None, **kwargs)


@dataclass(frozen=True)
class OfferedButton:
    """A button as a detail page shows it to one person."""

    button: Button
    url: str
    primary: bool
    key: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.button, name)


def signed_in(request: HttpRequest) -> User:
    """Who is asking. Raises PermissionDenied for nobody, which the site's own check has ruled out before."""
    if not isinstance(request.user, User):
        raise PermissionDenied("Sign in first.")
    return request.user


def new_key() -> str:
    """A one-time key that makes a repeated POST recognisable."""
    return str(uuid.uuid4())


def offered(buttons: list[Button], request: HttpRequest, obj: Model) -> list[OfferedButton]:
    """The buttons this person may press now on `obj`, the primary one first."""
    shown = [b for b in buttons if b.is_allowed(request) and b.is_visible(request, obj)]
    first = next((b for b in shown if b.primary), None) or next((b for b in shown if not b.danger), None)
    result = [OfferedButton(b, page_url(obj, "do", b.name), b is first, new_key()) for b in shown]
    return sorted(result, key=lambda o: (not o.primary, o.button.danger))


def button_view(model_admin: "PortalAdmin", request: HttpRequest, obj: Model, name: str) -> HttpResponse:
    """Confirm page on GET, the act on POST. GET never writes."""
    button = next((b for b in model_admin.get_buttons(request, obj) if b.name == name), None)
    if button is None:
        raise Http404(f"There is no button “{name}” here.")
    if not button.is_allowed(request) or not model_admin.has_view_permission(request, obj):
        raise PermissionDenied(f"Your role does not allow “{button.label}”. Ask an administrator for a role that does.")
    methods = ["GET", "HEAD", "POST"] if button.confirm else ["POST"]
    if request.method not in methods:
        return HttpResponseNotAllowed(methods)
    if not button.is_visible(request, obj):
        messages.warning(request, f"“{button.label}” is not possible any more: this page shows the present state.")
        return HttpResponseRedirect(detail_url(obj))
    form = button.bound_form(request, obj)
    if request.method != "POST":
        return _confirm_page(model_admin, request, obj, button, form, new_key())
    return _act(model_admin, request, obj, button, form)


def _act(
    model_admin: "PortalAdmin", request: HttpRequest, obj: Model, button: Button, form: forms.Form | None
) -> HttpResponse:
    key = request.POST.get(KEY_FIELD, "")
    try:
        key = str(uuid.UUID(key))
    except ValueError:
        sentence = "This page had lost its one-time key. Nothing was done; check what you typed and confirm again."
        return _refused(model_admin, request, obj, button, form, new_key(), sentence)
    if form is not None and not form.is_valid():
        return _refused(model_admin, request, obj, button, form, key, "")
    try:
        result = button.run(request, obj, form.cleaned_data if form is not None else {}, key)
    except PortalError as error:
        return _refused(model_admin, request, obj, button, form, key, error.message)
    if done := button.done_for(obj):
        messages.success(request, done)
    if hasattr(result, "get_absolute_url"):
        return HttpResponseRedirect(result.get_absolute_url())
    return HttpResponseRedirect(result or detail_url(obj))


def _refused(
    model_admin: "PortalAdmin",
    request: HttpRequest,
    obj: Model,
    button: Button,
    form: forms.Form | None,
    key: str,
    sentence: str,
) -> HttpResponse:
    if button.confirm:
        return _confirm_page(model_admin, request, obj, button, form, key, sentence)
    messages.error(request, sentence)
    return HttpResponseRedirect(detail_url(obj))


def _confirm_page(
    model_admin: "PortalAdmin",
    request: HttpRequest,
    obj: Model,
    button: Button,
    form: forms.Form | None,
    key: str,
    sentence: str = "",
) -> HttpResponse:
    context = {
        **model_admin.page_context(request, obj),
        "title": button.label,
        "button": button,
        "form": form,
        "consequence": button.consequence_of(obj),
        "request_key": key,
        "error": sentence,
        "detail_url": detail_url(obj),
        **(button.context(request, obj) if button.context else {}),
    }
    return TemplateResponse(request, button.template, context)
