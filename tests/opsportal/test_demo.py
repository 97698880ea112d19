"""The demo is loaded once for this module, for real: databases, dumps, records; then looked at from all sides."""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import F
from django.test import Client, override_settings
from django.urls import reverse
from django_celery_beat.models import CrontabSchedule

from backups import loss
from backups.exceptions import ArchiveDamaged
from backups.models import Archive, Plan, Restore, Storage
from backups.procedures.base import folder_of, manifest_of
from backups.reach import connection_for, engine_for
from catalog.models import Component, DatabaseTarget, Environment, Service, ServiceControlCommands, Severity
from catalog.service_control import control_for
from core.models import User
from core.roles import Role
from operations import procedures
from operations.commands import run_checked
from operations.models import LogLine, Operation, OperationStep, Schedule, Slot
from operations.slots import slots_between
from opsportal.demo import catalog, people, timeline
from opsportal.demo.server import DATABASES, ERP, MARK, DemoServer

pytestmark = pytest.mark.xdist_group("demo")  # the names of its databases are fixed, so one worker runs all of this

RECORDS = (User, Service, Plan, Archive, Restore, Operation, OperationStep, LogLine, Slot, Schedule)


def demo(*options: str) -> str:
    """Run the command; what it said."""
    said = StringIO()
    call_command("demo", *options, stdout=said)
    return said.getvalue()


@pytest.fixture(scope="module")
def loaded(django_db_setup, django_db_blocker, tmp_path_factory, target_server) -> Iterator[DemoServer]:
    """The loaded demo. Leftovers of an interrupted load are there before."""
    data = tmp_path_factory.mktemp("demo")
    password = data / "server-password"
    password.write_text(target_server.password)
    server = DemoServer(target_server.host, target_server.user, target_server.password)
    with pytest.MonkeyPatch.context() as env, override_settings(DATA_DIR=data, SECRET_DIRS=[data / "target-secrets"]):
        env.setenv("DEMO_PG_HOST", server.host)
        env.setenv("DEMO_PG_USER", server.user)
        env.setenv("DEMO_PG_PASSWORD_FILE", str(password))
        remove_databases(server)
        with server.session() as session:
            session.execute("CREATE DATABASE erp")
            session.execute(f"COMMENT ON DATABASE erp IS '{MARK}'")
        (data / "archives" / ".demo" / "night-3").mkdir(parents=True)
        with django_db_blocker.unblock(), transaction.atomic():
            # The portal loads the demo outside a transaction; here one waits meanwhile, to be rolled back.
            connection.cursor().execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            demo()
            yield server
            demo("--stop")
            transaction.set_rollback(True)
        remove_databases(server)


def remove_databases(server: DemoServer) -> None:
    with server.session() as session:
        for database in DATABASES:
            session.execute(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")
        for role in {database.owner for database in DATABASES}:
            session.execute(f"DROP ROLE IF EXISTS {role}")


def rows_of(server: DemoServer, database: str) -> dict[str, int]:
    with server.session(database) as session:
        tables = session.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        return {name: session.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for (name,) in tables.fetchall()}


# -- the databases -----------------------------------------------------------------------------------------------------


def test_the_erp_has_the_size_and_the_parts_of_a_small_company(loaded):
    rows = rows_of(loaded, "erp")
    assert sum(rows.values()) >= 200_000
    assert min(rows.values()) >= 4
    assert set(rows) >= {"customers", "suppliers", "products", "warehouses", "stock", "stock_movements"}
    assert set(rows) >= {"orders", "order_lines", "invoices", "payments", "users", "audit_notes"}
    with loaded.session("erp") as session:

        def one(query: str) -> object:
            return session.execute(query).fetchone()[0]

        assert one("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated") >= 12
        assert one("SELECT count(*) FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace") >= 10
        assert one("SELECT count(*) FROM order_totals") == rows["orders"]
        assert one("SELECT now() - max(placed_at) < interval '1 day' FROM orders")
        assert one("SELECT now() - min(placed_at) BETWEEN '360 days' AND '366 days' FROM orders")
        assert one("SELECT count(*) FROM payments WHERE received_at > now()") == 0
        assert one("SELECT count(DISTINCT company) FROM customers") > 1000
        assert one("SELECT count(*) FROM products WHERE thumbnail IS NOT NULL") > 1000
    assert sum(rows_of(loaded, "crm").values()) > 5000
    assert rows_of(loaded, "erp_staging")["orders"] > 500


def test_the_application_can_go_on_inserting(loaded):
    with loaded.session("erp", role=ERP.owner) as session, session.transaction(force_rollback=True):
        session.execute("INSERT INTO audit_notes (user_id, note, written_at) VALUES (1, 'new', now())")
        session.execute("INSERT INTO warehouses (code, name, city) VALUES ('XX9', 'New', 'Kiel')")


def test_the_owner_is_no_superuser(loaded):
    with loaded.session() as session:
        rows = session.execute(
            "SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname ~ '^(erp|crm)_owner$'"
        ).fetchall()
    assert rows == [(False, False), (False, False)]


# -- people ------------------------------------------------------------------------------------------------------------


def test_everybody_can_sign_in_with_the_password_in_the_file(loaded):
    path = Path(settings.DATA_DIR) / people.FILE
    assert path.stat().st_mode & 0o777 == 0o600
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert [row[0] for row in rows] == [role.value for role in Role]
    for role, username, password in rows:
        answer = Client().post(reverse("admin:login"), {"username": username, "password": password})
        assert answer.status_code == 302, username
        user = User.objects.get(username=username)
        assert [group.name for group in user.groups.all()] == [role]
        assert not user.is_superuser
        assert user.time_zone != "UTC"


# -- archives ----------------------------------------------------------------------------------------------------------


def test_each_archive_on_disk_verifies_but_the_damaged_one(loaded):
    found = {}
    for archive in Archive.objects.available():
        try:
            engine_for(archive.target).verify(folder_of(archive), manifest_of(archive), run=run)
            found[archive.name] = "verified"
        except ArchiveDamaged as error:
            assert error.message == archive.verification_message
            found[archive.name] = "damaged"
    assert found == dict(Archive.objects.available().values_list("name", "verification"))
    assert sorted(found.values()).count("damaged") == 1
    assert Archive.objects.restore_points().filter(plan__name="ERP nightly").count() == 7


def run(command, *, on_line=None, on_stdout=None, stdin=None):
    return run_checked(command, on_line=on_line, on_stdout=on_stdout, stdin=stdin)


def test_removed_archives_are_gone_and_the_storage_holds_nothing_else(loaded):
    root = Path(Storage.objects.get().root)
    there = {str(path.relative_to(root)) for path in root.glob("*/*")}
    assert there == {f"{archive.folder}/{archive.name}" for archive in Archive.objects.available()}
    assert {path.name for path in root.iterdir()} == {"erp-postgres", "erp-staging", "crm-staging"}
    assert Archive.objects.filter(state="pruned", removed_at__isnull=False).count() > 20
    assert not Archive.objects.filter(state="creating").exists()


def test_restoring_one_of_the_newest_archives_would_lose_some_hundred_rows(loaded):
    newest = Archive.objects.restore_points().filter(plan__name="ERP nightly").newest_first()[:2]
    lost = [loss.preview(archive) for archive in newest]
    assert all(preview["readable"] for preview in lost)
    assert 100 <= lost[0]["lost_rows"] < lost[1]["lost_rows"] < 10_000


def test_an_archive_can_be_loaded_by_the_role_of_the_target(loaded, tmp_path):
    archive = Archive.objects.restore_points().filter(plan__name="CRM staging weekly").newest_first()[0]
    engine, conn, described = engine_for(archive.target), connection_for(archive.target), manifest_of(archive)
    conn = dataclasses.replace(conn, application_name="opsportal/test")
    checks = engine.preflight_restore(
        conn, described, folder_of(archive), system_identifier=None, forbidden=[], work_dir=tmp_path
    )
    assert not [check.sentence for check in checks if check.ok is False]
    try:
        engine.create_scratch(conn, "crm_restore_test", described.properties)
        engine.load(folder_of(archive), described, conn, "crm_restore_test", work_dir=tmp_path / "work", run=run)
        assert engine.compare(described, engine.measure(conn, "crm_restore_test")) == []
    finally:
        engine.drop_database(conn, "crm_restore_test")


# -- records -----------------------------------------------------------------------------------------------------------


def test_no_record_breaks_a_rule(loaded):
    connection.check_constraints()  # the database has checked all others when the rows were written
    for model in (Service, Environment, Component, DatabaseTarget, Severity, ServiceControlCommands, Plan, Storage):
        for record in model.objects.all():
            record.full_clean()


def test_every_operation_is_one_the_portal_could_have_run(loaded):
    now, seen = datetime.now(UTC), set()
    for operation in Operation.objects.prefetch_related("steps"):
        kind = procedures.get(operation.procedure)
        assert [(step.name, step.undo_name) for step in operation.steps.all()] == [
            (step.name, step.undo) for step in kind.steps
        ]
        assert operation.is_final and operation.message
        assert operation.requested_at < operation.started_at < operation.ended_at < now
        if operation.procedure not in seen:
            seen.add(operation.procedure)
            assert kind(operation).subject is not None
        for step in operation.steps.all():
            if step.started_at:
                assert operation.started_at <= step.started_at <= step.ended_at <= operation.ended_at
    told = "\n".join(LogLine.objects.values_list("text", flat=True)) + json.dumps(
        list(OperationStep.objects.values_list("commands", flat=True))
    )
    assert "@OP@" not in told and "/.demo" not in told and "PGAPPNAME=opsportal/demo" not in told
    for database in DATABASES:
        assert catalog.secret_path(database).read_text() not in told


def test_each_slot_of_thirty_days_has_one_decision(loaded):
    for schedule in Schedule.objects.select_related("crontab"):
        slots = list(schedule.slots.order_by("at"))
        expected = slots_between(schedule.crontab, schedule.decided_until - timedelta(days=30), schedule.decided_until)
        assert {slot.at for slot in slots} >= set(expected)
        assert len({slot.at for slot in slots}) == len(slots)
        assert slots[-1].at <= schedule.decided_until < datetime.now(UTC)
    assert Slot.objects.filter(decision="merged").count() == 1
    assert (
        Slot.objects.filter(decided_at__gt=F("at") + timedelta(hours=1), decision="started").count() == 1
    )  # found late, run late


def test_the_failed_night_opened_no_gap_beyond_the_rpo(loaded):
    failed = Operation.objects.get(state="failed", procedure="backups.backup")
    around = Archive.objects.filter(target=failed.archive.target, snapshot_at__isnull=False)
    before = around.filter(snapshot_at__lt=failed.requested_at).order_by("-snapshot_at")[0]
    after = around.filter(snapshot_at__gt=failed.requested_at).order_by("snapshot_at")[0]
    assert after.snapshot_at - before.snapshot_at < failed.archive.target.component.rpo
    assert after.operation.retry_of == failed
    assert failed.log.filter(stream="diagnosis", text__contains="100%").exists()


def test_restores_met_and_missed_their_target(loaded):
    restore, drill = Restore.objects.order_by("requested_at")
    assert (restore.rto_met, restore.reason_kind, restore.target.database) == (True, "deletion", "erp")
    assert (drill.rto_met, drill.target.database, drill.environment_band.kind) == (False, "erp_staging", "staging")
    assert Operation.objects.filter(state="cancelled").count() == 1
    assert set(Archive.objects.exclude(reason="").values_list("purpose", flat=True)) >= {"emergency", "pre_change"}


# -- again, and refusals -----------------------------------------------------------------------------------------------


def test_a_second_run_changes_nothing_and_takes_no_time(loaded):
    def state() -> object:
        with loaded.session() as session:
            databases = session.execute("SELECT oid, datname FROM pg_database ORDER BY 1").fetchall()
        files = sorted((str(path), path.stat().st_mtime_ns) for path in Path(settings.DATA_DIR, "archives").rglob("*"))
        sign_ins = Path(settings.DATA_DIR, people.FILE).read_text()
        passwords = list(User.objects.order_by("pk").values_list("username", "password"))
        return databases, files, sign_ins, passwords, [list(model.objects.order_by("pk").values()) for model in RECORDS]

    before, begun = state(), time.monotonic()
    said = demo()
    assert time.monotonic() - begun < 1
    assert "The demo is there." in said
    assert state() == before


def test_lost_sign_ins_are_made_anew(loaded):
    path = Path(settings.DATA_DIR) / people.FILE
    old = path.read_text()
    path.unlink()
    demo()
    assert path.read_text() != old
    username, password = next(iter(people.read_sign_ins(Path(settings.DATA_DIR)).items()))
    assert User.objects.get(username=username).check_password(password)


def test_the_portal_controls_the_erp_of_the_demo(loaded):
    control = control_for(Environment.objects.get(service__slug="erp", slug="production"))
    assert control.status().ready
    control.stop()
    assert control.status().running is False
    control.start()
    assert control.wait_ready().running


def test_the_way_in_for_a_person(loaded):
    script = Path(settings.DATA_DIR) / "demo" / "psql"
    done = subprocess.run(
        [script, "erp", "-Atc", "DELETE FROM payments WHERE id = 1 RETURNING id"], capture_output=True, text=True
    )
    assert done.stdout.startswith("1"), done.stderr
    assert "erp, erp_staging, crm" in subprocess.run([script, "nothing"], capture_output=True, text=True).stderr


def test_the_erp_ends_with_the_stack_it_was_started_in(tmp_path):
    stack = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (tmp_path / "lock").write_text(json.dumps({"pid": stack.pid}))

    def ask(action: str) -> int:
        argv = [sys.executable, "-I", str(catalog.SERVICE_SCRIPT), action, str(tmp_path / "demo")]
        return subprocess.run(argv, capture_output=True, timeout=20).returncode

    try:
        assert [ask("status"), ask("start"), ask("start"), ask("status")] == [3, 0, 0, 0]
        time.sleep(1)
        assert ask("status") == 0
    finally:
        stack.kill()
        stack.wait()
    deadline = time.monotonic() + 5
    while ask("status") == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ask("status") == 3


@pytest.mark.django_db
def test_it_says_which_setting_is_missing(monkeypatch):
    monkeypatch.delenv("DEMO_PG_HOST", raising=False)
    with pytest.raises(CommandError, match="DEMO_PG_HOST is not set: .* `make run`"):
        demo()


@pytest.fixture
def named_server(monkeypatch, target_server, tmp_path):
    (tmp_path / "password").write_text(target_server.password)
    monkeypatch.setenv("DEMO_PG_HOST", target_server.host)
    monkeypatch.setenv("DEMO_PG_USER", target_server.user)
    monkeypatch.setenv("DEMO_PG_PASSWORD_FILE", str(tmp_path / "password"))


@pytest.mark.django_db
def test_it_refuses_a_portal_that_is_in_use(named_server):
    Service.objects.all().delete()
    Service.objects.create(name="Payroll", slug="payroll")
    with pytest.raises(CommandError, match="looks after services that are not the demo's"):
        demo()
    assert Service.objects.count() == 1


# -- the story, at any time of the year --------------------------------------------------------------------------------


def slots(hour: str, day_of_week: str, now: datetime) -> list[datetime]:
    crontab = CrontabSchedule(minute="0", hour=hour, day_of_week=day_of_week, timezone="Europe/Berlin")
    return list(slots_between(crontab, now - timeline.DAYS, now))


@pytest.mark.parametrize(
    "now",
    [datetime(2026, 3, 28, tzinfo=UTC) + timedelta(hours=7 * step, minutes=13 * step) for step in range(12)]
    + [datetime(2026, 10, 24, 23, tzinfo=UTC) + timedelta(minutes=35 * step) for step in range(12)]
    + [datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2028, 2, 29, 1, 5, tzinfo=UTC)],
)
def test_the_story_holds_at_any_first_start(now):
    story = timeline.tell(slots("2", "*", now), slots("3", "0", now), now)
    assert all(backup.requested_at < now - timedelta(minutes=5) for backup in story.backups)
    assert all(moment < now for moment in story.moments.values())
    assert len({backup.key for backup in story.backups}) == len(story.backups)
    kept = [backup for backup in story.kept if backup.plan == "nightly"]
    assert sum(not backup.damaged for backup in kept) >= timeline.KEEP_LAST
    assert {"pre-change", f"night-{timeline.DAMAGED}", "night-1"} <= {backup.key for backup in kept}
    assert len(kept) <= 9
    removed = [key for prune in story.prunes for key in prune.removed]
    succeeded = {backup.key for backup in story.backups if backup.outcome is timeline.Outcome.OK}
    assert sorted([*removed, *(backup.key for backup in story.kept)]) == sorted(succeeded)
