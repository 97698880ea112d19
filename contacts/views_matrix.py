"""Pages of a matrix beside its own: edit, see the difference, confirm; its versions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse

from catalog.models import Severity
from contacts.actions import matrix as actions
from contacts.actions.matrix import MatrixChanged
from contacts.exceptions import ContactsError
from contacts.forms_matrix import DO, WAYS, Draft, grouped
from contacts.matrix import Names, Row, from_plain, plain, rows_of, rules_of
from contacts.models import EscalationPolicy, PolicyVersion
from core.buttons import signed_in
from core.forms import ReasonForm
from core.links import detail_url

if TYPE_CHECKING:
    from contacts.admin.matrix import PolicyAdmin

ROWS_FIELD = "matrix"


def edit(admin: PolicyAdmin, request: HttpRequest, matrix: EscalationPolicy) -> HttpResponse:
    """GET shows the form. POST changes the draft, shows the difference, or saves; only the last writes."""
    if not request.user.has_perm(actions.EDIT):
        raise PermissionDenied("Your role does not allow you to edit the escalation matrix.")
    if request.method in ("GET", "HEAD"):
        version = actions.current(matrix)
        draft = Draft.of(rows_of(version))
        if not draft.rows:
            draft.change("add-row")
        return _form(admin, request, matrix, draft, version.number if version is not None else 0)
    if request.method != "POST":
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    do, based_on = request.POST.get("do", "review"), _number(request.POST.get("based_on", ""))
    if do in ("save", "back"):
        rows = _carried(request)
        if do == "back":
            return _form(admin, request, matrix, Draft.of(rows), based_on)
        return _save(admin, request, matrix, rows, based_on)
    draft = Draft.read(request.POST)
    if DO.fullmatch(do):
        draft.change(do)
        return _form(admin, request, matrix, draft, based_on)
    return _review(admin, request, matrix, draft, based_on)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def _carried(request: HttpRequest) -> tuple[Row, ...]:
    """The rows that the confirm page carries."""
    try:
        return from_plain(json.loads(request.POST.get(ROWS_FIELD, "")))
    except (ValueError, TypeError, KeyError, OverflowError):
        raise Http404("This page had lost its rows. Edit the matrix again.") from None


def _form(
    admin: PolicyAdmin,
    request: HttpRequest,
    matrix: EscalationPolicy,
    draft: Draft,
    based_on: int,
    errors: list[str] | None = None,
) -> HttpResponse:
    context = {
        **admin.page_context(request, matrix),
        "title": f"Edit the matrix of {matrix}" if matrix.service else "Edit the matrix for all other services",
        "draft": draft,
        "severities": Severity.objects.filter(service=matrix.service_id),
        "groups": grouped(Names(), draft),
        "ways": WAYS,
        "based_on": based_on,
        "errors": errors or [],
        "marked": any(row.errors or any(cell.errors for cell in row.cells) for row in draft.rows),
    }
    return TemplateResponse(request, "contacts/matrix_edit.html", context)


def _review(
    admin: PolicyAdmin, request: HttpRequest, matrix: EscalationPolicy, draft: Draft, based_on: int
) -> HttpResponse:
    rows = draft.values(list(Severity.objects.filter(service=matrix.service_id)))
    if rows is None:
        return _form(admin, request, matrix, draft, based_on)
    rows = tuple(actions.with_words(matrix, rows))
    if found := actions.trouble(matrix, rows):
        return _form(admin, request, matrix, draft, based_on, found)
    return _difference(admin, request, matrix, rows, based_on)


def _difference(
    admin: PolicyAdmin,
    request: HttpRequest,
    matrix: EscalationPolicy,
    rows: tuple[Row, ...],
    based_on: int,
    form: ReasonForm | None = None,
    error: str = "",
    theirs: list[actions.Change] | None = None,
) -> HttpResponse:
    """What would change, and the question why."""
    version, names = actions.current(matrix), Names()
    context = {
        **admin.page_context(request, matrix),
        "title": "See the difference",
        "changes": actions.diff(rows_of(version), rows, names),
        "rows_json": json.dumps(plain(rows)),
        "based_on": based_on,
        "form": form or reason_form(),
        "error": error,
        "theirs": theirs,
        "next_number": (version.number if version is not None else 0) + 1,
    }
    return TemplateResponse(request, "contacts/matrix_confirm.html", context)


def reason_form(data: Any = None) -> ReasonForm:
    form = ReasonForm(data)
    form.fields["reason"].help_text = "Kept with the version."
    return form


def _save(
    admin: PolicyAdmin, request: HttpRequest, matrix: EscalationPolicy, rows: tuple[Row, ...], based_on: int
) -> HttpResponse:
    form = reason_form(request.POST)
    if not form.is_valid():
        return _difference(admin, request, matrix, rows, based_on, form)
    try:
        version = actions.save_version(
            matrix, rows, reason=form.cleaned_data["reason"], by=signed_in(request), based_on=based_on
        )
    except MatrixChanged as error:
        return _overtaken(admin, request, matrix, rows, based_on, form, error)
    except ContactsError as error:
        return _difference(admin, request, matrix, rows, based_on, form, error.message)
    messages.success(request, f"Version {version.number} is in force. What runs already keeps the one it began with.")
    return HttpResponseRedirect(detail_url(matrix))


def _overtaken(
    admin: PolicyAdmin,
    request: HttpRequest,
    matrix: EscalationPolicy,
    rows: tuple[Row, ...],
    based_on: int,
    form: ReasonForm,
    error: MatrixChanged,
) -> HttpResponse:
    """Somebody was quicker: show what they did, and what would change on top of it."""
    in_force = rows_of(error.version)
    if not actions.diff(in_force, rows):  # the same thing pressed twice
        return HttpResponseRedirect(detail_url(matrix))
    before = matrix.versions.filter(number=based_on).first()
    theirs = actions.diff(rows_of(before), in_force)
    return _difference(admin, request, matrix, rows, error.version.number, form, error.message, theirs)


# --- versions --------------------------------------------------------------------------------------------------------


def versions(admin: PolicyAdmin, request: HttpRequest, matrix: EscalationPolicy) -> HttpResponse:
    """All that were saved, the latest first."""
    context = {
        **admin.page_context(request, matrix),
        "title": "Versions",
        "versions": matrix.versions.select_related("saved_by")[:200],
    }
    return TemplateResponse(request, "contacts/matrix_versions.html", context)


def version(admin: PolicyAdmin, request: HttpRequest, matrix: EscalationPolicy, number: int) -> HttpResponse:
    """One as it was, with what it changed; POST puts it back."""
    chosen = _version(matrix, number)
    last = actions.current(matrix)
    assert last is not None
    may = request.user.has_perm(actions.EDIT) and chosen.number != last.number
    form, error = reason_form(), ""
    if request.method == "POST":
        if not request.user.has_perm(actions.EDIT):
            raise PermissionDenied("Your role does not allow you to edit the escalation matrix.")
        form = reason_form(request.POST)
        if form.is_valid():
            try:
                return _put_back(request, matrix, chosen, form.cleaned_data["reason"])
            except ContactsError as trouble:
                error = trouble.message
    before, names = matrix.versions.filter(number__lt=number).first(), Names()
    rows = rows_of(chosen)
    context = {
        **admin.page_context(request, matrix),
        **table_of(chosen),
        "title": f"Version {number}",
        "version": chosen,
        "in_force": last,
        "changed_then": actions.diff(rows_of(before), rows, names),
        "would_change": actions.diff(rows_of(last), rows, names) if may else [],
        "may_put_back": may,
        "form": form,
        "error": error,
    }
    return TemplateResponse(request, "contacts/matrix_version.html", context)


def _put_back(request: HttpRequest, matrix: EscalationPolicy, chosen: PolicyVersion, reason: str) -> HttpResponse:
    based_on = _number(request.POST.get("based_on", ""))
    saved = actions.put_back(matrix, chosen.number, reason=reason, by=signed_in(request), based_on=based_on)
    messages.success(request, f"Version {chosen.number} is in force again, as version {saved.number}.")
    return HttpResponseRedirect(detail_url(matrix))


def _version(matrix: EscalationPolicy, number: int) -> PolicyVersion:
    found = matrix.versions.select_related("saved_by", "policy__service").filter(number=number).first()
    if found is None:
        raise Http404(f"There is no version {number} of this matrix.")
    return found


# --- the table -------------------------------------------------------------------------------------------------------


def table_of(shown: PolicyVersion | None) -> dict[str, Any]:
    """Context of the table that everybody reads."""
    rules = rules_of(shown)
    rows: list[dict[str, Any]] = []
    for rule in rules:
        cells = [
            {
                "when": actions.when(step.after),
                "targets": list(step.targets.all()),
                "ways": [label for kind, label in WAYS if kind in step.channels],
                "number": number,
            }
            for number, step in enumerate(rule.steps.all(), start=1)
        ]
        rows.append({"rule": rule, "cells": cells})
    width = max((len(row["cells"]) for row in rows), default=0)
    for row in rows:
        row["missing"] = range(width - len(row["cells"]))
    return {"rules": rules, "rows": rows, "columns": range(1, width + 1)}
