"""Webhooks reach a real receiver: signed, in order, again after trouble, and under the same id."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone

from operations import duties
from tests.factories import EventFactory, WebhookFactory
from tests.operations.conftest import at_once
from tests.webhooks.conftest import NEWS, SECRET, due_again, send_due, tell
from webhooks import sending, signing
from webhooks.exceptions import WebhookError
from webhooks.models import Delivery, Webhook

pytestmark = pytest.mark.usefixtures("transactional_db")
State = Delivery.State


def only() -> Delivery:
    return Delivery.objects.get()


class TestWhatArrives:
    def test_the_event_signed(self, webhook, receiver, settings):
        settings.PORTAL_URL = "https://ops.example.org"
        event = tell("Something new.", subject=webhook, data={"n": 1, "at": datetime(2026, 5, 1, tzinfo=UTC)})
        send_due()
        (request,) = receiver.got
        sent = json.loads(request.body)
        assert sent == {
            "type": NEWS,
            "timestamp": event.at.isoformat(),
            "data": {
                "event": event.pk,
                "sentence": "Something new.",
                "subject": {
                    "type": "webhooks.webhook",
                    "id": webhook.pk,
                    "url": f"https://ops.example.org/webhooks/webhook/{webhook.pk}/",
                },
                "n": 1,
                "at": "2026-05-01T00:00:00Z",
            },
        }
        assert request.headers["content-type"] == "application/json"
        assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 30
        signed = f"{request.id}.{request.headers['webhook-timestamp']}.".encode() + request.body
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        mac = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert request.headers["webhook-signature"] == f"v1,{mac}"
        assert (only().state, only().tries, only().answer) == (State.DELIVERED, 1, 204)
        assert request.id == str(only().message_id)

    def test_the_specifications_own_example(self):
        """https://www.standardwebhooks.com: the test vector of its reference libraries."""
        found = signing.headers(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
        )
        assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    @pytest.mark.parametrize("secret", ["short", "whsec_not base64!", "whsec_c2hvcnQ="])
    def test_a_secret_that_is_none_is_said(self, secret):
        with pytest.raises(WebhookError, match="signing secret"):
            signing.headers(secret, "x", 1, b"")

    def test_in_the_order_of_the_events(self, webhook, receiver):
        told = [tell(str(n)).pk for n in range(5)]
        send_due()
        assert [json.loads(request.body)["data"]["event"] for request in receiver.got] == told

    def test_only_what_was_asked_for(self, receiver):
        WebhookFactory(url=receiver.url, events=["archive.damaged"])
        tell()
        assert not Delivery.objects.exists()

    def test_nothing_of_the_time_in_which_it_was_off(self, webhook, receiver):
        Webhook.objects.update(enabled=False)
        tell("meanwhile")
        Webhook.objects.update(enabled=True)
        tell("again")
        send_due()
        assert [json.loads(request.body)["data"]["sentence"] for request in receiver.got] == ["again"]

    def test_one_switched_off_keeps_what_was_waiting(self, webhook, receiver):
        tell()
        Webhook.objects.update(enabled=False)
        send_due()
        assert receiver.got == [] and only().state == State.PENDING


class TestTrouble:
    def test_down_and_up_again(self, webhook, receiver):
        tell()
        url = receiver.url
        Webhook.objects.update(url="http://127.0.0.1:1/")
        send_due()
        assert (only().state, only().tries, only().answer) == (State.PENDING, 1, None)
        assert "Nothing answers at 127.0.0.1, port 1" in only().message
        first = only().message_id
        send_due()
        assert only().tries == 1  # not before the pause is over
        Webhook.objects.update(url=url)
        due_again()
        send_due()
        assert (only().state, only().tries, only().message) == (State.DELIVERED, 2, "")
        assert receiver.got[0].id == str(first)

    def test_an_answer_that_says_no(self, webhook, receiver):
        receiver.status, receiver.says = 500, f"not today, {SECRET}\0".encode()
        tell()
        send_due()
        assert only().answer == 500 and only().message.startswith("It answered 500 and said: not today,")
        assert SECRET not in only().message

    def test_one_that_does_not_answer_in_time(self, webhook, receiver, monkeypatch):
        monkeypatch.setattr(sending, "TIMEOUT_S", 0.3)
        receiver.delay_s = 2
        tell()
        send_due()
        assert only().state == State.PENDING and "did not answer completely within 0.3 s" in only().message

    def test_a_redirect_is_not_followed(self, webhook, receiver):
        receiver.status, receiver.location = 307, "http://169.254.169.254/latest/meta-data/"
        tell()
        send_due()
        assert only().message == "It answered 307 and leads elsewhere, which is not followed."
        assert len(receiver.got) == 1

    @pytest.mark.parametrize("url", ["http://169.254.169.254/", "http://[::ffff:169.254.169.254]/", "http://10.0.0.1/"])
    def test_a_forbidden_address_is_not_asked(self, url):
        WebhookFactory(url=url, allowed_networks="")
        tell()
        send_due()
        assert only().state == State.PENDING and only().answer is None and "Correct the address" in only().message

    def test_a_secret_that_is_gone(self, webhook, receiver, monkeypatch):
        monkeypatch.delenv("OPS_SECRET_TEST_WEBHOOK")
        tell()
        send_due()
        assert receiver.got == [] and "OPS_SECRET_TEST_WEBHOOK" in only().message

    def test_a_fault_of_our_own_is_a_try_that_failed(self, webhook, monkeypatch, caplog):
        monkeypatch.setattr(sending, "body_of", lambda event: 1 / 0)
        tell()
        send_due()
        assert (only().state, only().tries) == (State.PENDING, 1) and "could not be sent" in only().message
        assert "ZeroDivisionError" in caplog.text

    def test_the_pauses_grow_and_after_the_last_it_is_given_up(self, webhook, receiver):
        receiver.status = 503
        tell()
        pauses = []
        for _ in range(len(sending.PAUSES)):
            began = timezone.now()
            send_due()
            pauses.append((only().due_at - began).total_seconds())
            due_again()
        for found, planned in zip(pauses, sending.PAUSES, strict=True):
            assert planned * 0.85 < found < planned * 1.15 + 5
        send_due()
        assert (only().state, only().tries, only().due_at) == (State.FAILED, 7, None)
        assert len({request.id for request in receiver.got}) == 1 and len(receiver.got) == 7

    def test_a_slow_one_holds_up_no_other(self, webhook, receiver):
        slow, enough = WebhookFactory(url=receiver.url + "/slow"), threading.Event()
        receiver.before = lambda request: "slow" in request.path and enough.wait(20)
        tell("1")
        begun = sending.start_due()
        for n in ("2", "3"):  # news that comes while the slow one is at the first
            tell(n)
            begun += sending.start_due()
        give_up = time.monotonic() + 15
        while time.monotonic() < give_up and webhook.deliveries.filter(state=State.DELIVERED).count() < 3:
            begun += sending.start_due()
            time.sleep(0.05)
        assert webhook.deliveries.filter(state=State.DELIVERED).count() == 3
        assert not slow.deliveries.filter(state=State.DELIVERED).exists()
        enough.set()
        for each in begun:
            each.result(20)
        assert slow.deliveries.filter(state=State.DELIVERED).count() == 3

    def test_a_worker_that_shall_end_begins_nothing_more(self, webhook, receiver, monkeypatch):
        for n in range(3):
            tell(str(n))
        monkeypatch.setattr(duties, "stopping", threading.Event())
        receiver.before = lambda request: duties.stopping.set()
        send_due()
        assert len(receiver.got) == 1


class TestStorms:
    def test_so_many_a_minute_and_the_rest_later(self, webhook, receiver, monkeypatch):
        monkeypatch.setattr(sending, "MOST_A_MINUTE", 5)
        for n in range(8):
            tell(str(n))
        send_due()
        send_due()
        assert len(receiver.got) == 5
        Delivery.objects.filter(state=State.DELIVERED).update(tried_at=timezone.now() - timedelta(minutes=2))
        send_due()
        assert len(receiver.got) == 8

    def test_one_that_waits_for_its_next_try_holds_up_no_later_one(self, webhook, receiver):
        receiver.status = 500
        tell("first")
        for _ in range(3):
            send_due()
            due_again()
        receiver.status = 204
        Delivery.objects.update(due_at=timezone.now() + timedelta(hours=1))
        tell("second")
        send_due()
        assert [json.loads(request.body)["data"]["sentence"] for request in receiver.got[3:]] == ["second"]

    def test_one_that_fails_is_not_asked_for_the_next_at_once(self, webhook, receiver):
        receiver.status = 500
        for n in range(4):
            tell(str(n))
        send_due()
        assert len(receiver.got) == 1


class TestTwoControlWorkers:
    def test_each_is_sent_once_and_in_order(self, webhook, receiver):
        told = [tell(str(n)).pk for n in range(12)]
        deadline = time.monotonic() + 30

        def loop() -> None:
            while time.monotonic() < deadline and Delivery.objects.filter(state=State.PENDING).exists():
                sending.send_for(webhook)

        assert at_once(loop, loop, loop) == [None, None, None]
        assert [json.loads(request.body)["data"]["event"] for request in receiver.got] == told

    def test_one_killed_between_sending_and_writing_down(self, webhook, receiver):
        """A real process, killed while the receiver holds its request."""
        tell()
        arrived, killed = threading.Event(), threading.Event()
        receiver.before = lambda request: (arrived.set(), killed.wait(10))
        connections.close_all()
        child = os.fork()
        if child == 0:
            sending.send_for(webhook)
            os._exit(0)
        try:
            assert arrived.wait(10)
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
            killed.set()
        assert (only().state, only().tries) == (State.PENDING, 1)
        send_due()
        assert len(receiver.got) == 1  # its claim holds for a minute
        receiver.before = lambda request: None
        due_again()
        send_due()
        assert len(receiver.got) == 1  # as if it might still be under way
        Delivery.objects.update(claimed_until=timezone.now())
        send_due()
        assert (only().state, only().tries) == (State.DELIVERED, 2)
        assert len({request.id for request in receiver.got}) == 1 and len(receiver.got) == 2

    def test_a_late_answer_does_not_undo_what_another_wrote(self, webhook, receiver):
        tell()
        late = sending._claim(webhook)
        due_again()
        Delivery.objects.update(claimed_until=timezone.now())
        send_due()
        assert only().state == State.DELIVERED
        sending._write_down(late, sending.Outcome(None, "Too late."))
        assert only().state == State.DELIVERED


def test_the_database_refuses_a_second_delivery_of_one_event(webhook):
    event = tell()
    with pytest.raises(Exception, match="delivery_once"):
        Delivery.objects.create(webhook=webhook, event=event)


def test_an_old_event_takes_its_deliveries_along(webhook):
    EventFactory()
    tell()
    Delivery.objects.get().event.delete()
    assert not Delivery.objects.exists() and connection.is_usable()
