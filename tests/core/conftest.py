"""People of every role, and pages read as HTML."""

from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from core.models import User
from core.roles import Role

PASSWORD = "correct-horse-9"


class Page(HTMLParser):
    """What the strict policy forbids, and the values of the form fields."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.fields: dict[str, str] = {}
        self.sources: list[str] = []
        self._tag = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        given = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        self.inline += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        self.inline += [f"{tag} javascript:" for value in given.values() if (value or "").startswith("javascript:")]
        if name := given.get("name"):
            self.fields[name] = given.get("value") or ""
        self.sources += [value for name, value in attrs if name in ("src", "href") and value]


@pytest.fixture
def person(db: None) -> Callable[..., User]:
    """Make a person with a role (or none) who is not staff."""

    def make(role: Role | None, username: str = "", **fields: object) -> User:
        user = User.objects.create_user(username or (role or "nobody").lower(), password=PASSWORD, **fields)
        if role:
            user.groups.add(Group.objects.get(name=role.value))
        return user

    return make


@pytest.fixture
def signed_in(person: Callable[..., User]) -> Callable[..., Client]:
    """A browser in which a person with this role has signed in."""

    def make(role: Role | None = None, **fields: object) -> Client:
        client = Client()
        client.force_login(person(role, **fields), backend="django.contrib.auth.backends.ModelBackend")
        return client

    return make


@pytest.fixture
def root(db: None) -> Client:
    client = Client()
    user = User.objects.create_superuser("root", password=PASSWORD)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def small_portal(settings) -> None:
    """Serve the portal of portal_under_test.py."""
    from tests.core import portal_under_test

    portal_under_test.pressed.clear()
    settings.ROOT_URLCONF = "tests.core.portal_under_test"
