"""Administrators set webhooks up, everybody sees what became of what was sent."""

from __future__ import annotations

import pytest
from auditlog.models import LogEntry
from django.db import IntegrityError, transaction

from core.roles import Role
from tests.factories import DeliveryFactory, PersonFactory, WebhookFactory, browser
from tests.pages import page_of
from tests.webhooks.conftest import Receiver, send_due
from webhooks import actions
from webhooks.exceptions import WebhookError
from webhooks.models import Delivery, Webhook

ADD = "/webhooks/webhook/add/"
FIELDS = {"name": "Chat", "url": "https://chat.example.org/hook", "secret_ref": "env:OPS_SECRET_TEST_WEBHOOK"}


@pytest.fixture
def ada(db):
    return browser(PersonFactory(username="ada", role=Role.ADMINISTRATOR))


class TestSettingUp:
    def test_an_administrator_does(self, ada):
        answer = ada.post(ADD, {**FIELDS, "events": ["archive.damaged"], "enabled": "on"})
        webhook = Webhook.objects.get()
        assert answer.status_code == 302 and (webhook.events, webhook.enabled) == (["archive.damaged"], True)
        assert LogEntry.objects.get_for_object(webhook).exists()

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"url": "ftp://example.org/"}, "begins with https:// or http://"),
            ({"url": "https://ada:pass@example.org/"}, "must not contain a user or a password"),
            ({"url": "http://0x7f.1/"}, "is a disguised address"),
            ({"secret_ref": "hunter2"}, "env:OPS_SECRET_NAME"),
            ({"events": ["archive.eaten"]}, "Select a valid choice"),
            ({"allowed_networks": "10.1.0.0/99"}, "10.1.0.0/99"),
            ({"name": ""}, "required"),
        ],
    )
    def test_what_does_not_do_is_said_and_nothing_typed_is_lost(self, ada, wrong, sentence):
        answer = ada.post(ADD, {**FIELDS, **wrong})
        text = answer.content.decode()
        assert answer.status_code == 200 and not Webhook.objects.exists()
        assert "errorlist" in text and sentence in text
        assert wrong.get("url", FIELDS["url"]) in text

    def test_one_goes_with_what_was_sent_to_it(self, ada):
        webhook = DeliveryFactory().webhook
        url = f"/webhooks/webhook/{webhook.pk}/delete/"
        form = page_of(ada.get(url)).post
        assert ada.post(url, form.fields).status_code == 302
        assert not Webhook.objects.exists() and not Delivery.objects.exists()

    @pytest.mark.parametrize("field", ["name", "url", "secret_ref"])
    def test_the_database_wants_it_whole(self, db, field):
        with pytest.raises(IntegrityError), transaction.atomic():
            WebhookFactory(**{field: ""})

    def test_a_delivery_is_waiting_or_has_ended(self, db):
        for wrong in ({"state": "pending"}, {"state": "delivered"}):
            with pytest.raises(IntegrityError), transaction.atomic():
                DeliveryFactory(**wrong)


class TestWhoMay:
    @pytest.mark.parametrize("role", [role for role in Role if role != Role.ADMINISTRATOR])
    def test_the_others_read(self, db, role):
        client = browser(PersonFactory(role=role))
        given_up = DeliveryFactory()
        webhook = given_up.webhook
        for page in ("/webhooks/webhook/", webhook.get_absolute_url(), given_up.get_absolute_url()):
            text = client.get(page).content.decode()
            assert webhook.name in text and "/do/" not in text
        for closed in (
            ADD,
            f"/webhooks/webhook/{webhook.pk}/change/",
            f"/webhooks/webhook/{webhook.pk}/do/send_test/",
            f"/webhooks/delivery/{given_up.pk}/do/try_again/",
        ):
            assert client.post(closed, FIELDS).status_code == 403
        assert Webhook.objects.count() == Delivery.objects.count() == 1
        assert Delivery.objects.get().state == Delivery.State.FAILED


@pytest.mark.usefixtures("transactional_db")
class TestButtons:
    def press(self, client, obj, button: str) -> str:
        forms = page_of(client.get(obj.get_absolute_url())).forms
        form = next(form for form in forms if form.action.endswith(f"/do/{button}/"))
        return client.post(form.action, form.fields, follow=True).content.decode()

    def test_a_test_event_goes_to_this_webhook_alone(self, ada, webhook, receiver: Receiver):
        other = WebhookFactory(url=receiver.url + "/other")
        self.press(ada, webhook, "send_test")
        send_due()
        (request,) = receiver.got
        assert request.path == "/hook" and b'"webhook.test"' in request.body and b"ada tries" in request.body
        assert not other.deliveries.exists()
        assert "The last request was taken" in ada.get(webhook.get_absolute_url()).content.decode()

    def test_one_that_is_off_sends_none(self, ada, webhook):
        Webhook.objects.update(enabled=False)
        assert "send_test" not in ada.get(webhook.get_absolute_url()).content.decode()

    def test_what_was_given_up_waits_for_a_webhook_that_is_off(self, ada, webhook):
        given_up = DeliveryFactory(webhook=webhook)
        Webhook.objects.update(enabled=False)
        assert "try_again" not in ada.get(given_up.get_absolute_url()).content.decode()
        with pytest.raises(WebhookError, match="switch it on first"):
            actions.try_again(given_up)

    def test_what_was_given_up_goes_out_again_under_its_id(self, ada, webhook, receiver: Receiver):
        given_up = DeliveryFactory(webhook=webhook)
        assert "Nothing answers." in ada.get(webhook.get_absolute_url()).content.decode()
        self.press(ada, given_up, "try_again")
        Delivery.objects.update(tried_at=None)
        send_due()
        given_up.refresh_from_db()
        assert given_up.state == Delivery.State.DELIVERED and given_up.tries == 1
        assert receiver.got[0].id == str(given_up.message_id)
        assert "try_again" not in ada.get(given_up.get_absolute_url()).content.decode()
