"""The demo is loaded once for this module, for real: databases, dumps, records; then looked at from all sides."""

import dataclasses
import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError
from django.db import connection
from django.db.models import F
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from backups import loss
from backups.exceptions import ArchiveDamaged
from backups.models import Archive, Plan, Restore, Storage
from backups.procedures.base import folder_of, manifest_of
from backups.reach import connection_for, engine_for
from catalog.models import Component, DatabaseTarget, Environment, Probe, Service, Severity
from catalog.service_control import control_for
from core.models import User
from core.roles import Role
from deployments import gates, reach, recording
from deployments.actions.requesting import decide, request_deployment
from deployments.artefacts import checksum
from deployments.drivers import DRIVERS
from deployments.models import (
    Approval,
    ChecklistItem,
    ChecklistTemplate,
    Deployment,
    DeploymentProfile,
    FreezeWindow,
    Gate,
    LiveState,
    Release,
    ReleaseRules,
    Scan,
)
from operations import procedures
from operations.commands import run_checked
from operations.models import LogLine, Operation, OperationStep, Schedule, Slot
from operations.slots import slots_between
from opsportal.demo import catalog, people, slots
from opsportal.demo.server import DATABASES, ERP, DemoServer
from tests.opsportal.demo_tools import demo, loaded_demo

pytestmark = pytest.mark.xdist_group("demo")  # the names of its databases are fixed, so one worker runs all of this

RECORDS = (User, Service, Plan, Archive, Restore, Operation, OperationStep, LogLine, Slot, Schedule)


@pytest.fixture(scope="module")
def loaded(django_db_setup, django_db_blocker, tmp_path_factory, target_server) -> Iterator[DemoServer]:
    with loaded_demo(django_db_blocker, tmp_path_factory.mktemp("demo"), target_server) as server:
        yield server


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
    for model in (Service, Environment, Component, DatabaseTarget, Severity, Probe, Plan, Storage):
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


# -- deployments -------------------------------------------------------------------------------------------------------


def test_what_is_live_really_runs_and_is_what_the_record_says(loaded):
    for row in LiveState.objects.with_place():
        driver = reach.looking_driver(reach.profile_of(row.environment))
        reality = recording.look_at(row.environment, driver)
        row.refresh_from_db()
        assert (reality.live, row.drift) == (row.release.version, "")
        assert reality.instance_of(reality.live).ready
        assert row.previous.version in reality.revisions  # there is a way back
    live = {(row.environment.slug, row.release.version) for row in LiveState.objects.with_place()}
    assert live == {("production", "v1.4.0"), ("staging", "v1.6.0")}


def test_how_the_erp_is_deployed_to_can_be_edited_and_is_what_a_team_writes_down(loaded):
    for profile in DeploymentProfile.objects.all():
        profile.full_clean()
        assert DRIVERS[profile.driver].form(data=profile.settings).errors == {}
    for model in (ChecklistTemplate, ChecklistItem, ReleaseRules, Release, Scan, FreezeWindow, Gate, Approval):
        for record in model.objects.all():
            record.full_clean()
    assert sorted(template.items.count() for template in ChecklistTemplate.objects.all()) == [5, 8]
    for release in Release.objects.all():
        assert (release.ci, release.checksum) == ("passed", checksum(Path(release.source)))
        assert all(scan.is_clean for scan in release.scans.all()) and release.scans.count() == 3


def test_thirty_days_of_deployments(loaded):
    now = timezone.now()
    past = Deployment.objects.final().select_related("environment", "operation", "rollback_of", "from_release")
    assert past.count() == 12
    for row in past:
        row.full_clean()
        assert row.requested_at <= row.started_at < row.switched_at < row.ended_at < now
        assert row.operation.ended_at == row.ended_at
        assert all(approval.by != row.requested_by for approval in row.approvals.all())
        if row.environment.kind == "production" and not row.is_rollback:
            assert row.gates.count() == 5 and not [gate for gate in row.gates.all() if gate.blocks]
            assert row.emergency or row.approvals.filter(granted=True).count() == 1
            assert row.emergency or Deployment.objects.filter(
                environment__slug="staging", release=row.release, ended_at__lt=row.started_at
            )
    back = past.get(kind="rollback")
    assert back.target_met and back.reason and back.rollback_of.release == back.from_release
    assert past.get(review_needed=True).reviewed_at is None


def test_what_comes_next_waits_for_an_approval_and_nothing_else(loaded):
    waiting = Deployment.objects.waiting().get()
    now = timezone.now()
    assert now < waiting.not_before < waiting.not_after < now + timedelta(days=2)
    assert gates.obstacles(waiting, now) == ["0 of 1 approvals are given."]
    freeze = FreezeWindow.objects.get()
    assert now + timedelta(days=2) < freeze.starts_at < now + timedelta(days=10)


def test_a_newcomer_may_ask_for_the_bad_release(loaded):
    """It was verified in staging, where it had no traffic."""
    production = Environment.objects.get(service__slug="erp", slug="production")
    row = request_deployment(
        production, Release.objects.get(version="v1.5.0"), by=User.objects.get(username="olga.operator")
    )
    decide(row, granted=True, by=User.objects.get(username="anton.approver"))
    assert gates.obstacles(row, timezone.now()) == []
    row.delete()


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
    assert slots.stop() == slots.start() == []  # as the next start of the portal does, which is a later act
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
