"""Break-glass: one use, one hour, by a button only, and in front of everybody."""

from __future__ import annotations

import logging
from datetime import timedelta
from io import StringIO

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from core.models import User
from core.roles import Role
from survival import breakglass
from survival.models import BreakGlass
from tests import factories

pytestmark = pytest.mark.django_db


def link(minutes: int = 60, **options: str) -> str:
    """What the command prints, without the portal's address."""
    out = StringIO()
    values = {"name": "Robin", "reason": "Nobody can sign in", **options}
    call_command(
        "breakglass",
        *("--as", values["name"], "--reason", values["reason"], "--minutes", str(minutes)),
        stdout=out,
        stderr=StringIO(),
    )
    return out.getvalue().strip()


def enter(minutes: int = 60) -> Client:
    client = Client()
    assert client.post(link(minutes)).status_code == 302
    return client


def signed_in(client: Client) -> bool:
    return client.get("/").status_code == 200


class TestLink:
    def test_the_command_prints_one_link_once_and_keeps_no_secret(self, settings):
        settings.PORTAL_URL = "https://ops.example.org"
        address = link()
        token = address.removeprefix("https://ops.example.org/breakglass/").rstrip("/")
        assert len(token) > 40
        row = BreakGlass.objects.get()
        assert token not in str(row.__dict__) and row.token_sha256 == breakglass._digest(token)
        assert (row.name, row.reason, row.minutes) == ("Robin", "Nobody can sign in", 60) and row.account

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [({"name": " "}, "Say who you are"), ({"reason": " "}, "Say who you are")],
    )
    def test_who_and_why_are_wanted(self, values, sentence):
        with pytest.raises(CommandError, match=sentence):
            link(**values)
        assert not BreakGlass.objects.exists()

    @pytest.mark.parametrize("minutes", [0, -1, 241])
    def test_nobody_gets_a_day(self, minutes):
        with pytest.raises(CommandError, match="between 1 and 240"):
            link(minutes)

    def test_looking_at_it_signs_nobody_in(self, client):
        address = link()
        for _ in range(3):  # a mail scanner
            page = client.get(address)
            assert page.status_code == 200 and "Sign in now" in page.content.decode()
            assert client.head(address).status_code == 200
        assert not Session.objects.exists() and not signed_in(client)
        assert BreakGlass.objects.get().used_at is None and not User.objects.exists()

    def test_the_button_needs_the_token_of_its_page(self):
        strict = Client(enforce_csrf_checks=True)
        assert strict.post(link()).status_code == 403
        assert BreakGlass.objects.get().used_at is None

    def test_it_works_once(self, client):
        address = link()
        assert client.post(address).status_code == 302 and signed_in(client)
        other = Client()
        assert other.get(address).status_code == 404 and other.post(address).status_code == 404
        assert not signed_in(other)

    def test_it_runs_out_unused(self, client):
        address = link()
        assert BreakGlass.objects.get().link_expires_at - timezone.now() <= timedelta(minutes=15)
        BreakGlass.objects.update(link_expires_at=timezone.now() - timedelta(seconds=1))
        assert client.get(address).status_code == 404 and client.post(address).status_code == 404
        assert not signed_in(client)

    @pytest.mark.parametrize("token", ["x", "a" * 43, "%00", "..", "'%20OR%201=1--"])
    def test_a_guess_is_nothing(self, client, token):
        link()
        assert client.post(f"/breakglass/{token}/").status_code in (404, 400)
        assert not signed_in(client)


class TestSession:
    def test_it_is_an_administrators_where_there_is_none_and_axes_has_locked_everybody(self, client):
        """An empty portal whose sign-in is locked."""
        factories.PersonFactory(username="ada", role=Role.ADMINISTRATOR, is_active=False)
        for _ in range(6):
            locked = client.post("/login/", {"username": "ada", "password": "wrong"})
        assert locked.status_code == 429
        assert client.post(link()).status_code == 302
        assert signed_in(client)
        ada = User.objects.get(username="ada")
        assert client.get(f"/core/user/{ada.pk}/change/").status_code == 200
        user = User.objects.get(username=breakglass.USERNAME)
        assert not user.has_usable_password() and not user.is_superuser and not user.is_staff
        assert set(user.groups.all()) == {Group.objects.get(name=Role.ADMINISTRATOR.value)}

    def test_it_ends_with_its_time(self):
        client = enter(minutes=30)
        row = BreakGlass.objects.get()
        assert row.expires_at - row.used_at == timedelta(minutes=30)
        now = timezone.now()
        BreakGlass.objects.update(used_at=now - timedelta(minutes=31), expires_at=now - timedelta(minutes=1))
        assert client.get("/").status_code == 302
        BreakGlass.objects.update(expires_at=now + timedelta(hours=1))
        assert client.get("/").status_code == 302, "what has ended does not come back"

    def test_the_cookie_lasts_no_longer_either(self):
        session = enter(minutes=30).session
        assert session.get_expiry_age() <= 30 * 60

    def test_signing_out_ends_it(self):
        client = enter()
        client.post("/logout/")
        row = BreakGlass.objects.get()
        assert row.ended_at is not None and not row.is_open
        assert not User.objects.get(username=breakglass.USERNAME).is_active

    def test_an_administrator_ends_it(self):
        client, row = enter(), BreakGlass.objects.get()
        ada = factories.browser(factories.PersonFactory(username="ada", role=Role.ADMINISTRATOR))
        address = f"/survival/breakglass/{row.pk}/do/end/"
        key = {"request_key": "6b3c7a3e-6d05-4a3c-8f0a-0b6f3a3d9d12"}
        olga = factories.browser(factories.PersonFactory(username="olga", role=Role.OPERATOR))
        assert olga.post(address, key).status_code == 403 and signed_in(client)
        assert ada.post(address, key).status_code == 302
        assert client.get("/").status_code == 302

    def test_a_password_given_to_the_account_opens_nothing(self, client):
        enter()
        user = User.objects.get(username=breakglass.USERNAME)
        user.set_password("correct-horse-9")
        user.save()
        client.post("/login/", {"username": breakglass.USERNAME, "password": "correct-horse-9"})
        assert client.get("/").status_code == 302

    def test_after_its_time_the_account_is_off(self):
        enter()
        breakglass.close_expired()
        assert User.objects.get(username=breakglass.USERNAME).is_active
        now = timezone.now()
        BreakGlass.objects.update(used_at=now - timedelta(hours=2), expires_at=now - timedelta(hours=1))
        breakglass.close_expired()
        row = BreakGlass.objects.get()
        assert row.ended_at == row.expires_at
        assert not User.objects.get(username=breakglass.USERNAME).is_active

    def test_nobody_else_pays_for_it(self, django_assert_num_queries):
        """The middleware asks the database for the break-glass account only."""
        request = type("Request", (), {"user": factories.PersonFactory(), "session": {}})()
        with django_assert_num_queries(0):
            assert breakglass.enforce(request) is False


class TestAnnounced:
    def test_everybody_sees_it_for_a_week(self):
        nobody = factories.browser(factories.PersonFactory())
        assert "Break-glass access" not in nobody.get("/").content.decode()
        enter()
        page = nobody.get("/").content.decode()
        assert "Break-glass access" in page and "Robin" in page and "Nobody can sign in" in page and "Signed in" in page
        BreakGlass.objects.update(issued_at=timezone.now() - timedelta(days=6))
        assert "Break-glass access" in nobody.get("/").content.decode()
        BreakGlass.objects.update(issued_at=timezone.now() - timedelta(days=8))
        assert "Break-glass access" not in nobody.get("/").content.decode()

    def test_each_move_is_a_warning_in_the_log_and_in_the_trail(self, caplog):
        with caplog.at_level(logging.WARNING, logger="survival.breakglass"):
            address = link()
            Client().post(address)
            breakglass.end(BreakGlass.objects.get())
        said = [record.getMessage() for record in caplog.records if record.name == "survival.breakglass"]
        assert [text.split(":")[0] for text in said] == ["Break-glass"] * 3
        assert "Nobody can sign in" in said[0] and "signed in from" in said[1] and "was ended" in said[2]
        assert address.rsplit("/", 2)[1] not in caplog.text
        trail = LogEntry.objects.get_for_object(BreakGlass.objects.get())
        assert trail.count() >= 2 and "token_sha256" not in str(list(trail.values_list("changes", flat=True)))

    def test_what_is_done_in_it_carries_its_name(self):
        client = enter()
        ada = factories.PersonFactory(username="ada")
        page = client.get(f"/core/user/{ada.pk}/change/")
        assert page.status_code == 200
        assert "Break-glass access" in page.content.decode(), "the page says who is signed in"
