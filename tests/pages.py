"""Reading pages as a browser does: links, forms, buttons, texts; and the queries they cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin

from django.db import connection
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext
from zeal import zeal_context
from zeal.constants import initialize_app_registry
from zeal.patch import patch


@dataclass
class Form:
    """One form of a page with the values it would send."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """The parts of a page that lead somewhere. `text` is what a person reads."""

    def __init__(self, html: str, url: str = "/") -> None:
        super().__init__()
        self.url = url
        self.links: list[str] = []
        self.forms: list[Form] = []
        self._words: list[str] = []
        self._form: Form | None = None
        self._textarea = self._select = ""
        self._silent = 0
        self.feed(html)
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._silent += tag in ("style", "script", "title", "svg")
        for name in ("href", "hx-get"):
            if tag != "link" and values.get(name):
                self.links.append(self.absolute(values[name]))
        if tag == "form":
            action = self.absolute(values.get("action", ""))
            self._form = Form(values.get("method", "get").lower(), action)
            self.forms.append(self._form)
        if self._form is None:
            return
        if tag == "input" and values.get("name"):
            kind = values.get("type")
            if kind not in ("checkbox", "radio", "submit") or "checked" in values:
                self._form.fields[values["name"]] = values.get("value", "on" if kind == "checkbox" else "")
        elif tag == "textarea":
            self._textarea = values.get("name", "")
            self._form.fields[self._textarea] = ""
        elif tag == "select":
            self._select = values.get("name", "")
        elif tag == "option" and self._select and ("selected" in values or self._select not in self._form.fields):
            self._form.fields[self._select] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("style", "script", "title", "svg")
        if tag == "form":
            self._form = None
        elif tag == "textarea":
            self._textarea = ""
        elif tag == "select":
            self._select = ""

    def handle_data(self, data: str) -> None:
        if self._textarea and self._form:
            self._form.fields[self._textarea] += data.removeprefix("\n")
        if not self._silent:
            self._words.append(data)

    def absolute(self, address: str) -> str:
        return urldefrag(urljoin(self.url, address)).url if address else self.url

    @property
    def post(self) -> Form:
        """The one form of the page that is sent by POST, beside the one that signs out."""
        found = [form for form in self.forms if form.method == "post" and not form.action.endswith("/logout/")]
        assert len(found) == 1, found
        return found[0]


def page_of(response: HttpResponse) -> Page:
    return Page(response.content.decode(), response.request["PATH_INFO"])


@cache
def _watch_relations() -> None:
    initialize_app_registry()
    patch()


@contextmanager
def counted() -> Iterator[CaptureQueriesContext]:
    """The queries of a page. A relation that is read row by row is an error (zeal.NPlusOneError)."""
    _watch_relations()
    with zeal_context(), CaptureQueriesContext(connection) as queries:
        yield queries
