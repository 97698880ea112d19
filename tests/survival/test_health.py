"""What the portal says about itself: each item when it is well and when it is not, and who may read what."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from prometheus_client.parser import text_string_to_metric_families

from core.roles import Role
from operations.models import Schedule, WorkerNode
from opsportal.celery import app
from survival import health
from survival.models import CardCopy, Heartbeat, PortalBackup
from tests import factories
from tests.contacts.factories import ContactFactory, EscalationFactory, NotificationFactory
from tests.pages import counted

pytestmark = pytest.mark.django_db
LONG = timedelta(hours=3)
ITEMS = {
    "database", "workers", "queues", "control-loop", "beat", "redis", "disk", "storages", "schedules", "portal-backup",
    "portal-key", "offline-card", "heartbeat", "escalation", "messages", "fallback",
}  # fmt: skip


def found(name: str) -> health.Finding:
    (item,) = health.look((name,))
    return item.finding


def says(name: str) -> tuple[str, str]:
    return found(name).state, found(name).sentence


@pytest.fixture
def well(settings) -> None:
    """A portal in which everything is as it should be, but for what this machine's disk and Redis say."""
    now = timezone.now()
    factories.WorkerNodeFactory(queues=["operations"])
    factories.WorkerNodeFactory(queues=["control"], looped_at=now)
    PeriodicTask.objects.filter(task="operations.tick").delete()
    every = IntervalSchedule.objects.create(every=5, period="seconds")
    PeriodicTask.objects.create(name="tick", task="operations.tick", interval=every, last_run_at=now)
    factories.PortalBackupFactory()
    factories.SecondPlaceFactory(key_kept_where="safe", key_confirmed_at=now)
    for place in settings.OFFLINE_CARD_DIRS:
        CardCopy.objects.create(place=place, written_at=now)
    ContactFactory(user=factories.PersonFactory(role=Role.ADMINISTRATOR))
    settings.PORTAL_URL = "https://ops.example.org"


@pytest.fixture(autouse=True)
def _forget() -> None:
    health.lately.forget()


class TestItems:
    def test_everything_is_well(self, well):
        states = {item.name: item.finding.state for item in health.look() if item.name not in ("disk", "storages")}
        assert states == dict.fromkeys(ITEMS - {"disk", "storages"}, "ok")
        assert all(item.finding.sentence.endswith(".") for item in health.look())

    def test_nobody_works(self):
        assert says("workers")[0] == "bad"
        factories.WorkerNodeFactory(queues=["control"])
        assert says("workers")[0] == "bad", "a control worker runs no backups"

    def test_a_silent_worker_is_a_warning(self, well):
        WorkerNode.objects.filter(queues=["control"]).update(heartbeat_at=timezone.now() - LONG)
        assert says("workers") == ("warn", "1 workers are live, 1 fell silent in the last day.")

    def test_operations_wait_where_nobody_serves(self, well):
        factories.OperationFactory(state="queued", queue="host-far")
        finding = found("queues")
        assert finding.state == "bad" and finding.figure == 1 and "“host-far”" in finding.sentence

    def test_a_step_of_an_escalation_is_overdue(self, well):
        EscalationFactory(due_at=timezone.now() - LONG)
        finding = found("escalation")
        assert finding.state == "bad" and finding.figure >= LONG.total_seconds()

    def test_nobody_answered_an_escalation(self, well):
        EscalationFactory(state="exhausted", due_at=None)
        assert says("escalation") == ("warn", "1 escalation came to an end and nobody answered.")

    def test_messages_are_not_sent(self, well):
        NotificationFactory(due_at=timezone.now() - LONG)
        finding = found("messages")
        assert finding.state == "bad" and finding.figure >= LONG.total_seconds()

    def test_a_message_reached_nobody(self, well):
        NotificationFactory(state="failed", due_at=None)
        assert says("messages") == ("warn", "1 message of the last 24 h reached nobody. See Messages.")

    def test_the_control_loop_stands_still(self, well):
        WorkerNode.objects.filter(queues=["control"]).update(looped_at=timezone.now() - LONG)
        finding = found("control-loop")
        assert finding.state == "bad" and finding.figure >= LONG.total_seconds()

    def test_a_silent_beat_is_a_warning_because_the_loop_does_its_work(self, well):
        PeriodicTask.objects.update(last_run_at=timezone.now() - LONG)
        assert says("beat")[0] == "warn"

    def test_redis_that_does_not_answer(self, well, monkeypatch):
        monkeypatch.setattr(app.conf, "broker_url", "redis://127.0.0.1:1/0")
        monkeypatch.setattr(app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
        assert says("redis")[0] == "bad"

    def test_a_late_schedule_is_named(self, well, settings):
        schedule = factories.ScheduleFactory(name="ERP nightly")
        assert says("schedules")[0] == "ok"
        Schedule.objects.filter(pk=schedule.pk).update(decided_until=timezone.now() - timedelta(days=2))
        state, sentence = says("schedules")
        assert state == "bad" and "“ERP nightly”" in sentence
        Schedule.objects.filter(pk=schedule.pk).update(enabled=False)
        assert says("schedules")[0] == "ok"

    def test_an_old_backup_and_a_failed_try(self, well, settings):
        factories.OperationFactory(procedure="portal.backup_self", state="failed", message="The disk is full.")
        assert found("portal-backup").state == "warn" and "The disk is full." in found("portal-backup").sentence
        PortalBackup.objects.update(made_at=timezone.now() - timedelta(hours=27))
        assert says("portal-backup")[0] == "bad"

    def test_a_damaged_backup_does_not_count(self):
        place = factories.SecondPlaceFactory()
        factories.PortalBackupFactory(verification="damaged")
        assert says("portal-backup")[0] == "warn", "a new portal has half an hour"
        type(place).objects.update(created_at=timezone.now() - LONG)
        assert says("portal-backup") == ("bad", "The portal has no backup of itself yet.")

    def test_a_card_that_is_old_missing_or_cannot_be_written(self, well, settings):
        CardCopy.objects.update(error="The disk is full.")
        assert says("offline-card")[0] == "warn"
        CardCopy.objects.update(written_at=timezone.now() - timedelta(hours=30))
        assert says("offline-card")[0] == "bad"
        settings.OFFLINE_CARD_DIRS = [*settings.OFFLINE_CARD_DIRS, "/mnt/other"]
        CardCopy.objects.update(written_at=timezone.now(), error="")
        assert says("offline-card")[0] == "bad"

    def test_a_heartbeat_that_does_not_go_out(self, well, settings):
        settings.HEARTBEAT_URL = "https://beats.example.org/secret"
        Heartbeat.objects.create(pk=1, tried_at=timezone.now(), trouble="Workers: none.")
        state, sentence = says("heartbeat")
        assert state == "warn" and "Workers: none." in sentence and "secret" not in sentence

    def test_a_look_that_breaks_is_bad_and_the_others_are_looked_at(self, well, monkeypatch):
        def breaks() -> health.Finding:
            raise RuntimeError("a bug")

        monkeypatch.setitem(health._looks, "broken", ("Broken", "", breaks))
        items = {item.name: item.finding for item in health.look()}
        assert items["broken"].state == "bad" and "a bug" not in items["broken"].sentence
        assert set(items) == ITEMS | {"broken"}

    def test_what_reaches_nobody_must_reach_an_administrator(self, settings):
        settings.PORTAL_URL = "https://ops.example.org"
        user = factories.PersonFactory(role=Role.ADMINISTRATOR)
        assert says("fallback")[0] == "warn" and "No administrator has a contact" in says("fallback")[1]
        contact = ContactFactory(user=user, email="")
        assert says("fallback")[0] == "warn", "a way without an address"
        contact.ways.update(address="root@example.org")
        assert says("fallback") == ("ok", "1 administrator can be told of what reaches nobody.")
        user.is_active = False
        user.save()
        assert says("fallback")[0] == "warn", "an account that is switched off"

    def test_messages_without_links_are_a_warning(self, well, settings):
        settings.PORTAL_URL = ""
        assert says("fallback")[0] == "warn" and "Messages carry no links." in says("fallback")[1]


class TestPage:
    def test_a_stranger_gets_a_word_per_item_and_nothing_else(self, well, client):
        answer = client.get("/health/status", REMOTE_ADDR="203.0.113.9")
        found = answer.json()
        assert set(found["items"]) == ITEMS
        assert all(set(item) == {"state"} for item in found["items"].values())

    def test_it_answers_503_while_something_is_bad(self, well, client, monkeypatch):
        looks = {name: ("Title", "", lambda: health.Finding("ok", None, "Well.")) for name in ("a", "b")}
        monkeypatch.setattr(health, "_looks", looks)
        assert client.get("/health/status").status_code == 200
        looks["b"] = ("Title", "", lambda: health.Finding("warn", None, "Hm."))
        health.lately.forget()
        assert client.get("/health/status").status_code == 200
        looks["b"] = ("Title", "", lambda: health.Finding("bad", None, "Help."))
        health.lately.forget()
        answer = client.get("/health/status")
        assert answer.status_code == 503 and answer.json()["status"] == "bad"

    def test_strangers_who_ask_again_and_again_cost_nothing_more(self, well, client, django_assert_num_queries):
        first = client.get("/health/status", REMOTE_ADDR="203.0.113.9").json()
        with django_assert_num_queries(0):
            assert client.get("/health/status", REMOTE_ADDR="203.0.113.9").json() == first

    def test_who_is_signed_in_reads_a_page_and_programs_read_figures(self, well):
        client = factories.browser(factories.PersonFactory(role=Role.MANAGER))
        page = client.get("/health/status", headers={"accept": "text/html"})
        assert page.status_code == 200 and "Every queue in which operations wait is served." in page.content.decode()
        whole = client.get("/health/status?format=json").json()["items"]
        assert whole["workers"]["figure"] == 2 and whole["workers"]["sentence"] == "2 workers are live."

    def test_the_token_shows_figures(self, well, client, settings):
        settings.METRICS_TOKEN = "a-token"
        bearer = {"authorization": "Bearer a-token"}
        assert "sentence" in client.get("/health/status", headers=bearer).json()["items"]["workers"]

    def test_it_is_read_only(self, client):
        assert client.post("/health/status").status_code == 405
        assert client.post("/metrics").status_code == 405


class TestMetrics:
    def names(self, text: str) -> set[str]:
        return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}

    def test_figures_in_prometheus_format(self, well, client):
        archive = factories.ArchiveFactory(size_bytes=1234)
        factories.RestoreFactory(archive=archive)
        factories.OperationFactory(state="queued", queue="host-far")
        answer = client.get("/metrics", headers={"host": "127.0.0.1"})
        assert answer.status_code == 200 and answer["Content-Type"].startswith("text/plain; version=0.0.4")
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.content.decode())
            for sample in family.samples
        }
        database = ("database", archive.target.database)
        component = ("component", str(archive.target.component))
        assert samples["opsportal_queue_waiting", ("queue", "host-far")] == 1
        assert samples["opsportal_queue_workers", ("queue", "host-far")] == 0
        assert samples["opsportal_archive_bytes", ("storage", archive.storage.name)] == 1234
        assert samples["opsportal_rpo_met", component, database] == 1
        assert samples["opsportal_last_restore_seconds", component, database] == 42
        assert 0 < samples["opsportal_restore_point_age_seconds", component, database] < 3600
        assert samples["opsportal_health", ("item", "queues"), ("state", "bad")] == 1
        assert samples["opsportal_operations", ("procedure", "backups.backup"), ("state", "queued")] == 1
        assert samples["opsportal_operation_seconds_max", ("procedure", "backups.backup")] == 20
        assert "opsportal_portal_backup_age_seconds" in self.names(answer.content.decode())

    @pytest.mark.parametrize(
        ("headers", "meta", "code"),
        [
            ({"host": "127.0.0.1"}, {}, 200),
            ({"host": "localhost:8800"}, {}, 200),
            ({"host": "[::1]:8800"}, {"REMOTE_ADDR": "::1"}, 200),
            ({"host": "127.0.0.1"}, {"REMOTE_ADDR": "203.0.113.9"}, 403),
            ({"host": "ops.example.org"}, {}, 403),
            ({"host": "127.0.0.1", "x-forwarded-for": "203.0.113.9"}, {}, 403),
            ({"host": "127.0.0.1", "forwarded": "for=203.0.113.9"}, {}, 403),
        ],
    )
    def test_without_a_token_only_this_machine_reads(self, client, settings, headers, meta, code):
        settings.ALLOWED_HOSTS = ["*"]
        assert client.get("/metrics", headers=headers, **meta).status_code == code

    def test_behind_a_proxy_everybody_comes_from_loopback_so_nobody_does(self, client, settings):
        settings.BEHIND_PROXY = True
        assert client.get("/metrics", headers={"host": "127.0.0.1"}).status_code == 403

    @pytest.mark.parametrize(
        ("given", "code"), [("Bearer right", 200), ("Bearer wrong", 403), ("right", 403), ("", 403)]
    )
    def test_with_a_token_only_the_token_counts(self, client, settings, given, code):
        settings.METRICS_TOKEN = "right"
        headers = {"host": "127.0.0.1", **({"authorization": given} if given else {})}
        assert client.get("/metrics", headers=headers).status_code == code

    def test_it_costs_as_many_queries_with_many_rows(self, well):
        def cost() -> int:
            with counted() as queries:
                assert Client().get("/metrics", headers={"host": "127.0.0.1"}).status_code == 200
            return len(queries)

        factories.ArchiveFactory()
        cost()
        one = cost()
        for _ in range(20):
            factories.ArchiveFactory()
            factories.WorkerNodeFactory()
        assert cost() == one
