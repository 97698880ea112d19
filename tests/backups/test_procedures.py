"""Backup and verification of a real database, from the request to what lies on the disk after."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from backups import actions, news
from backups.exceptions import BackupError
from backups.models import Archive
from operations import actions as operations
from operations.models import Event, Operation
from tests.backups.shop import steps
from tests.factories import SAMPLE_ROWS

State, Verification = Archive.State, Archive.Verification
FAILED = Operation.State.FAILED


class TestBackup:
    def test_the_archive_and_its_record_say_the_same(self, shop):
        before = timezone.now()
        operation = shop.done(shop.back_up(reason="Before the stocktaking", purpose=Archive.Purpose.PRE_CHANGE))
        archive = operation.archive
        folder = shop.folder / archive.name

        assert (archive.state, archive.verification) == (State.AVAILABLE, Verification.VERIFIED)
        assert archive.is_restore_point and archive.verified_at > archive.snapshot_at
        assert before <= archive.snapshot_at <= timezone.now()
        assert archive.size_bytes == sum(path.stat().st_size for path in folder.iterdir())
        assert archive.row_count == sum(SAMPLE_ROWS.values())
        assert archive.sha256 == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        assert timedelta(0) < archive.duration <= operation.duration
        assert archive.reason == "Before the stocktaking"

        on_disk = json.loads((folder / "manifest.json").read_text())
        del on_disk["sha256"]
        assert archive.manifest == on_disk
        assert {table["name"]: table["rows"] for table in on_disk["tables"]} == SAMPLE_ROWS
        assert on_disk["operation_id"] == operation.pk and on_disk["database"] == shop.database.name
        for file in on_disk["files"]:
            assert hashlib.sha256((folder / file["path"]).read_bytes()).hexdigest() == file["sha256"]

        assert f"{archive.name}: {archive.size_bytes:,} bytes." in operation.message
        assert set(steps(operation).values()) == {"done"}
        shop.assert_nothing_left()
        # Nothing asked for retention, so nothing is cleaned up; nobody sees the password.
        assert not Operation.objects.filter(procedure="backups.prune").exists()
        shown = str(list(operation.steps.values_list("commands", flat=True))) + shop.log_of(operation)
        assert "pg_dump" in shown and shop.database.server.password not in shown

    def test_a_name_that_is_taken_gets_a_number(self, shop):
        """A pattern that is exact to the hour must not overwrite the archive of that hour (X-10, X-21)."""
        shop.plan.on_demand_pattern = "erp_backup_%Y-%m-%d_%H00"
        shop.plan.save()
        slot = datetime(2026, 1, 19, 1, 5, tzinfo=UTC)
        first = shop.done(shop.back_up(slot=slot)).archive
        shop.database.lose_orders()
        second = shop.done(shop.back_up(slot=slot)).archive
        assert (first.name, second.name) == ("erp_backup_2026-01-19_0200", "erp_backup_2026-01-19_0200-2")
        assert (first.row_count, second.row_count) == (720, 220)
        assert shop.done(actions.request_verify(first, by=None)).message.startswith("Read ")

    def test_a_failed_check_tells_what_the_runbook_looks_at(self, shop):
        """S0-B13: space and permissions stand in the log of the operation that failed."""
        shop.plan.storage.root = str(shop.root / "not-mounted")
        shop.plan.storage.save()
        operation = shop.run(shop.back_up())
        assert operation.state == FAILED and "Create the folder, or mount the disk" in operation.message
        diagnosis = "\n".join(operation.log.filter(stream="diagnosis").values_list("text", flat=True))
        for said in ("$ df -h", "$ df -i", "$ ls -ld", "Use%", "uid="):
            assert said in diagnosis
        archive = operation.archive
        assert (archive.state, archive.name, archive.size_bytes) == (State.FAILED, "", None)
        assert steps(operation) == {"check": "failed", "dump": "skipped", "publish": "skipped", "verify": "skipped"}

    def test_a_retry_is_a_new_operation_with_an_archive_of_its_own(self, shop):
        right = shop.plan.storage.root
        shop.plan.storage.root = str(shop.root / "not-mounted")
        shop.plan.storage.save()
        failed = shop.run(shop.back_up(purpose=Archive.Purpose.EMERGENCY))
        shop.plan.storage.root = right
        shop.plan.storage.save()
        again = operations.retry(failed, by=shop.operator, key="again")
        assert operations.retry(failed, by=shop.operator, key="again") == again != failed
        assert again.retry_of == failed
        again = shop.done(again)
        assert (again.archive.purpose, again.archive.state) == (Archive.Purpose.EMERGENCY, State.AVAILABLE)
        assert Archive.objects.filter(state=State.FAILED).count() == 1


class TestVerify:
    def test_what_is_whole_is_verified(self, shop):
        archive = shop.archive(verification=Verification.UNVERIFIED, verified_at=None)
        operation = shop.done(actions.request_verify(archive, by=shop.operator))
        archive.refresh_from_db()
        assert archive.is_restore_point
        assert operation.message == archive.verification_message
        assert "720 rows in 2 tables are all there" in operation.message
        shop.assert_nothing_left()

    def test_what_is_damaged_is_no_restore_point_any_more(self, shop):
        archive = shop.archive()
        path = max((shop.folder / archive.name).glob("*.zst"), key=lambda path: path.stat().st_size)
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        operation = shop.run(actions.request_verify(archive, by=shop.operator))
        archive.refresh_from_db()
        assert operation.state == FAILED and path.name in operation.message
        assert (archive.verification, archive.verification_message) == (Verification.DAMAGED, operation.message)
        event = Event.objects.get(name=news.ARCHIVE_DAMAGED)
        assert (event.subject_id, event.operation) == (archive.pk, operation) and path.name in event.sentence
        with pytest.raises(BackupError, match="is damaged"):
            shop.restore(archive)

    def test_what_is_gone_is_missing_until_it_is_found_again(self, shop):
        archive = shop.archive()
        folder = shop.folder / archive.name
        folder.rename(shop.root / "elsewhere")
        operation = shop.run(actions.request_verify(archive, by=shop.operator))
        archive.refresh_from_db()
        assert operation.state == FAILED and "Mount the disk it is on and verify again" in operation.message
        assert archive.state == State.MISSING
        assert Event.objects.get(name=news.ARCHIVE_MISSING).subject_id == archive.pk
        with pytest.raises(BackupError, match="was not where it should be. Verify it again"):
            shop.restore(archive)

        (shop.root / "elsewhere").rename(folder)
        shop.done(operations.retry(operation, by=shop.operator))
        archive.refresh_from_db()
        assert archive.is_restore_point
