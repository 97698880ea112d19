"""The directory as a CSV file: out with everything, and in with a look before it counts."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from contacts import csv_files
from contacts.actions import people as actions
from contacts.csv_files import Line
from contacts.exceptions import ContactsError
from contacts.forms_people import FileForm
from contacts.models import Contact
from core.buttons import signed_in
from core.links import list_url
from core.words import counted

ADD, CHANGE = "contacts.add_contact", "contacts.change_contact"


class ContactFiles:
    """Two more pages of the contacts' screens."""

    admin_site: Any
    opts: Any

    def csv_view(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        """Every contact with all that is known, in the form that can be brought in again."""
        if not request.user.has_perm("contacts.view_contact"):
            raise PermissionDenied("Your role does not allow you to see contacts.")
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        rows = Contact.objects.with_ways().select_related("user", "business_hours").order_by("name")
        lines = csv_files.written(rows.iterator(chunk_size=500))
        response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
        stamp = timezone.now().strftime("%Y%m%dT%H%M%SZ")
        response["Content-Disposition"] = f'attachment; filename="contacts-{stamp}.csv"'
        return response

    def import_view(self, request: HttpRequest) -> HttpResponse:
        """A file is chosen, its lines are shown, and then they are saved: all or none."""
        if not (request.user.has_perm(ADD) and request.user.has_perm(CHANGE)):
            raise PermissionDenied("Your role does not allow you to bring in contacts. Ask an administrator.")
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        form = FileForm(request.POST or None, request.FILES or None)
        context: dict[str, Any] = {"form": form, "lines": None, "text": ""}
        try:
            if request.method == "POST" and "text" in request.POST:
                context["text"] = text = request.POST["text"]
                context["lines"] = lines = csv_files.read(text)
                return self._save(request, lines)
            if request.method == "POST" and form.is_valid():
                context["text"] = text = csv_files.decoded(form.cleaned_data["file"].read(csv_files.MOST_BYTES + 1))
                context["lines"] = csv_files.read(text)
        except ContactsError as error:
            context["error"] = error.message
        return self._import_page(request, context)

    @staticmethod
    def _save(request: HttpRequest, lines: list[Line]) -> HttpResponse:
        changed = actions.bring_in(lines, by=signed_in(request))
        if changed:
            messages.success(request, f"{counted(changed, 'contact')} added or changed.")
        else:
            messages.info(request, "Nothing had to be changed: everything in the file is here already.")
        return HttpResponseRedirect(list_url(Contact))

    def _import_page(self, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
        lines: list[Line] = context["lines"] or []
        wrong = [line for line in lines if line.errors]
        changing = [line for line in lines if line.changes]
        context |= {
            **self.admin_site.each_context(request),
            "title": "Bring in contacts",
            "opts": self.opts,
            "wrong": wrong,
            "changing": changing,
            "same": len(lines) - len(wrong) - len(changing),
            "missing": sum(line.missing for line in lines),
            "list_url": list_url(Contact),
            "columns": ", ".join((*csv_files.COLUMNS, *csv_files.KINDS)),
        }
        return TemplateResponse(request, "contacts/contact_import.html", context)
