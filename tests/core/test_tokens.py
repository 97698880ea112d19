"""API tokens: made once, kept as a digest, revoked by their owner or an administrator."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from auditlog.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from core import actions
from core.exceptions import PortalError
from core.models import ApiToken
from core.roles import Role
from tests.factories import ApiTokenFactory, PersonFactory, browser
from tests.pages import page_of

NEW = "/core/apitoken/new/"


@pytest.fixture
def olga(db):
    return PersonFactory(username="olga", role=Role.OPERATOR)


class TestMaking:
    def test_the_secret_is_given_once_and_only_its_digest_is_kept(self, olga):
        token, secret = actions.issue_token(olga, name=" CI  of the shop ", scopes=["read", "read"], days=1, by=olga)
        assert secret.startswith("ops_") and len(secret) == 47
        assert (token.name, token.scopes, token.sha256) == ("CI of the shop", ["read"], actions.token_digest(secret))
        row = " ".join(map(str, ApiToken.objects.values_list().get()))
        assert secret not in row and secret[8:] not in row
        assert token.is_usable and list(ApiToken.objects.usable()) == [token]

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"scopes": []}, "Choose one or more"),
            ({"scopes": ["everything"]}, "Choose one or more"),
            ({"days": 0}, "from 1 to 366 days"),
            ({"days": 367}, "from 1 to 366 days"),
            ({"name": "x" * 81}, "at most 80"),
        ],
    )
    def test_what_does_not_do_is_said(self, olga, wrong, sentence):
        with pytest.raises(PortalError, match=sentence):
            actions.issue_token(olga, **{"name": "CI", "scopes": ["read"], "days": 1, "by": olga, **wrong})
        assert not ApiToken.objects.exists()

    def test_nobody_who_is_switched_off_gets_one(self, olga):
        olga.is_active = False
        with pytest.raises(PortalError, match="switched off"):
            actions.issue_token(olga, name="CI", scopes=["read"], days=1, by=None)

    @pytest.mark.parametrize("wrong", [{"scopes": []}, {"sha256": "x"}, {"expires_at": timezone.now()}])
    def test_the_database_refuses_it_too(self, olga, wrong):
        with pytest.raises(IntegrityError), transaction.atomic():
            ApiTokenFactory(owner=olga, created_at=timezone.now() + timedelta(seconds=5), **wrong)


class TestWorth:
    def test_each_end_makes_it_worthless(self, olga):
        expired = ApiTokenFactory(
            owner=olga, created_at=timezone.now() - timedelta(days=2), expires_at=timezone.now() - timedelta(seconds=1)
        )
        revoked = actions.revoke_token(ApiTokenFactory(owner=olga))
        of_one_who_left = ApiTokenFactory(owner=PersonFactory(is_active=False))
        words = [token.state_word for token in (expired, revoked, of_one_who_left)]
        assert words == ["Expired", "Revoked", "Owner switched off"]
        assert not any(token.is_usable for token in (expired, revoked, of_one_who_left))
        assert not ApiToken.objects.usable().exists()

    def test_revoking_twice_keeps_the_first_time(self, olga):
        token = actions.revoke_token(ApiTokenFactory(owner=olga))
        before = token.revoked_at
        assert actions.revoke_token(token).revoked_at == before


class TestPages:
    def test_it_is_made_on_a_page_and_shown_once(self, olga):
        client = browser(olga)
        assert NEW in client.get("/core/apitoken/").content.decode()
        answer = client.post(NEW, {"name": "CI", "scopes": ["read", "backup"], "days": "30"})
        token = ApiToken.objects.get()
        secret = answer.content.decode().split('id="secret">')[1].split("<")[0]
        assert actions.token_digest(secret) == token.sha256
        assert (token.owner, token.created_by, token.scopes) == (olga, olga, ["read", "backup"])
        assert "no-store" in answer["Cache-Control"]
        assert secret not in client.get(token.get_absolute_url()).content.decode()
        trail = LogEntry.objects.get_for_object(token).get()
        assert trail.actor == olga and token.sha256 not in str(trail.changes)

    def test_a_page_that_is_sent_again_makes_no_second_one(self, olga):
        """As a reload of the page with the token does."""
        client = browser(olga)
        form = page_of(client.get(NEW)).post
        values = {**form.fields, "name": "CI", "scopes": ["read"], "days": "30"}
        assert 'id="secret"' in client.post(NEW, values).content.decode()
        text = client.post(NEW, values).content.decode()
        assert ApiToken.objects.count() == 1 and 'id="secret"' not in text and "was sent already" in text

    def test_what_was_typed_wrong_comes_back_with_a_sentence(self, olga):
        answer = browser(olga).post(NEW, {"name": "CI", "scopes": ["all"], "days": "999"})
        assert answer.status_code == 200 and "secret" not in page_of(answer).post.fields
        assert answer.content.decode().count("errorlist") == 2
        assert not ApiToken.objects.exists()

    def test_a_manager_makes_none(self, db):
        client = browser(PersonFactory(role=Role.MANAGER))
        assert client.get(NEW).status_code == client.post(NEW, {}).status_code == 403
        assert NEW not in client.get("/core/apitoken/").content.decode()

    def test_people_see_and_revoke_their_own_and_an_administrator_everybodys(self, olga):
        mine, other = ApiTokenFactory(owner=olga), ApiTokenFactory()
        client = browser(olga)
        assert client.get(other.get_absolute_url()).status_code == 404
        assert client.post(f"/core/apitoken/{other.pk}/do/revoke/", {}).status_code == 404
        assert other.name not in client.get("/core/apitoken/").content.decode()
        form = page_of(client.get(f"/core/apitoken/{mine.pk}/do/revoke/")).post
        client.post(form.action, form.fields)
        mine.refresh_from_db()
        assert mine.revoked_at is not None
        ada = browser(PersonFactory(username="ada", role=Role.ADMINISTRATOR))
        form = page_of(ada.get(f"/core/apitoken/{other.pk}/do/revoke/")).post
        ada.post(form.action, form.fields)
        other.refresh_from_db()
        assert other.revoked_at is not None


class TestCommand:
    def test_it_prints_the_secret_alone(self, olga, capsys):
        call_command("token", "olga", "--scope", "read", "backup", "--scope", "restore", "--days", "2", "--name", "CI")
        out, err = capsys.readouterr()
        token = ApiToken.objects.get(sha256=actions.token_digest(out.strip()))
        assert (token.scopes, token.created_by, token.name) == (["read", "backup", "restore"], None, "CI")
        assert "not shown again" in err

    def test_or_one_json_object(self, olga):
        out = io.StringIO()
        call_command("token", "olga", "--scope", "read", "--json", stdout=out)
        found = json.loads(out.getvalue())
        assert found["state"] == "issued" and "not shown again" in found["message"]
        assert found["user"] == "olga" and ApiToken.objects.get(pk=found["id"]).scopes == found["scopes"] == ["read"]

    @pytest.mark.parametrize(
        ("argv", "sentence"), [(["nobody", "--scope", "read"], "no person"), (["olga", "--scope", "all"], "Choose one")]
    )
    def test_what_does_not_do_is_said(self, olga, argv, sentence):
        with pytest.raises(CommandError, match=sentence):
            call_command("token", *argv)
        assert not ApiToken.objects.exists()
