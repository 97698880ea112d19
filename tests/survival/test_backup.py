"""The portal backs itself up: what is in the file, what is not, and what happens when something is wrong."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from datetime import timedelta
from pathlib import Path

import pyrage
import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.utils import timezone

from core.roles import Role
from operations import control
from operations.models import Operation, Schedule, Slot
from operations.standing import ensure
from survival import actions, health, keys, procedures
from survival.exceptions import SurvivalError
from survival.models import PortalBackup, SecondPlace
from tests import factories
from tests.survival.conftest import log_of, ran

pytestmark = pytest.mark.usefixtures("transactional_db")
GOOD = PortalBackup.GOOD


def ask(**values: object) -> Operation:
    return actions.request_backup(by=None, **values)


def opened(backup: PortalBackup, key_file: Path) -> tarfile.TarFile:
    identity = keys.read_key(key_file.read_text()).identity
    assert identity is not None
    return tarfile.open(fileobj=io.BytesIO(pyrage.decrypt(Path(backup.path).read_bytes(), [identity])))


def words(place: Path) -> bytes:
    """Every byte of the second place."""
    return b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())


class TestBackup:
    def test_it_is_sealed_complete_and_read_back(self, done, settings, places):
        settings.SECRET_KEY_FALLBACKS = ["an-earlier-key"]
        operation = done(ask())
        backup = operation.portal_backup
        assert (backup.state, backup.verification) == ("available", "read")
        assert "every byte of the dump were read" in operation.message
        key_file = places / "var-portal-key" / keys.IDENTITY_NAME
        with opened(backup, key_file) as tar:
            names = [name for name in tar.getnames() if not tar.getmember(name).isdir()]
            content = {name: tar.extractfile(name).read() for name in names}
            modes = {tar.getmember(name).mode for name in names}
        assert modes == {0o600}
        assert set(names) == {
            "RECOVERY.md",
            "manifest.json",
            "portal.dump",
            "secrets/django-secret-key",
            "secrets/django-secret-key-fallbacks",
            "target-secrets/team/erp",
        }
        assert content["secrets/django-secret-key"] == b"a-secret-of-the-stack"
        assert content["target-secrets/team/erp"] == b"password-of-erp"
        assert content["portal.dump"].startswith(b"PGDMP")
        manifest = json.loads(content["manifest.json"])
        assert {entry["path"] for entry in manifest["files"]} == set(names) - {"manifest.json"}
        assert manifest["server_version"] and manifest["portal_version"]

    def test_the_second_place_tells_nothing_and_holds_no_key(self, done, places):
        done(ask())
        second = places / "var-portal-backup"
        identity = (places / "var-portal-key" / keys.IDENTITY_NAME).read_text().splitlines()[-1]
        found = words(second)
        for secret in (identity.encode(), b"a-secret-of-the-stack", b"password-of-erp", b"PGDMP"):
            assert secret not in found
        label = json.loads(next(second.glob("*.json")).read_text())
        assert label["recipient"] == SecondPlace.objects.get().recipient
        assert stat.S_IMODE(second.stat().st_mode) == 0o700
        assert "pg_restore" in (second / "RECOVERY.md").read_text()

    def test_no_password_is_shown_and_no_plain_copy_stays(self, done, settings, places):
        operation = done(ask())
        password = str(connection.settings_dict["PASSWORD"])
        shown = str(list(operation.steps.values_list("commands", flat=True))) + log_of(operation)
        assert password and password not in shown and "pg_dump" in shown
        assert list((places / "var" / "work").glob("*")) == []
        assert not list((places / "var-portal-backup").glob(".partial*"))

    def test_a_key_that_lies_among_the_secrets_is_left_out(self, done, places):
        identity = pyrage.x25519.Identity.generate()
        (places / "var" / "secrets" / "my-key").write_text(f"{identity}\n")
        operation = done(ask())
        with opened(operation.portal_backup, places / "var-portal-key" / keys.IDENTITY_NAME) as tar:
            assert "secrets/my-key" not in tar.getnames()
        assert "secrets/my-key: it holds an age identity" in log_of(operation)

    def test_sessions_stay_out(self, done, places, tmp_path):
        Session.objects.create(session_key="abc", session_data="x", expire_date=timezone.now() + timedelta(days=1))
        operation = done(ask())
        with opened(operation.portal_backup, places / "var-portal-key" / keys.IDENTITY_NAME) as tar:
            tar.extract("portal.dump", tmp_path / "out", filter="data")
        shown = os.popen(
            f"'{Path(os.environ['PG_BIN']) / 'pg_restore'}' -f - '{tmp_path / 'out' / 'portal.dump'}'"
        ).read()
        assert "CREATE TABLE public.django_session" in shown and "COPY public.django_session" not in shown
        assert "COPY public.operations_operation " in shown


class TestKeyApart:
    def test_without_the_key_the_checksum_is_what_can_be_checked(self, done, settings):
        identity = pyrage.x25519.Identity.generate()
        settings.PORTAL_BACKUP_KEY = str(identity.to_public())
        operation = done(ask())
        assert operation.portal_backup.verification == "checked"
        assert "kept apart" in operation.message
        pyrage.decrypt(Path(operation.portal_backup.path).read_bytes(), [identity])

    def test_a_key_that_was_moved_away_is_not_missed(self, done, places):
        done(ask())
        (places / "var-portal-key" / keys.IDENTITY_NAME).unlink()
        recipient = SecondPlace.objects.get().recipient
        operation = done(ask())
        assert operation.portal_backup.verification == "checked"
        assert operation.portal_backup.recipient == recipient
        assert not (places / "var-portal-key" / keys.IDENTITY_NAME).exists()

    def test_an_administrator_confirms_and_another_key_asks_again(self, done, settings):
        ada = factories.PersonFactory(username="ada", role=Role.ADMINISTRATOR)
        done(ask())
        place = SecondPlace.objects.get()
        (found,) = health.look(("portal-key",))
        assert found.finding.state == "warn" and place.identity_path in found.finding.sentence
        for wrong, sentence in (("  ", "Say where"), ("AGE-SECRET-KEY-1XYZ", "Name the place, not the key")):
            with pytest.raises(SurvivalError, match=sentence):
                actions.confirm_key(place, where=wrong, by=ada)
        actions.confirm_key(place, where="safe in the Berlin office", by=ada)
        (found,) = health.look(("portal-key",))
        assert (found.finding.state, found.finding.sentence) == ("ok", "Kept apart: safe in the Berlin office.")
        settings.PORTAL_BACKUP_KEY = str(pyrage.x25519.Identity.generate().to_public())
        done(ask())
        place.refresh_from_db()
        assert place.key_confirmed_at is None and place.key_kept_where == ""


class TestTrouble:
    def test_a_chosen_second_place_that_is_missing_is_never_made(self, settings, places):
        settings.PORTAL_BACKUP_DIR = places / "mnt" / "second"
        operation = ran(ask())
        assert operation.state == "failed"
        assert "does not exist. Create the folder, mount the disk" in operation.message
        (found,) = health.look(("portal-backup",))
        assert found.finding.state == "bad" and "does not exist" in found.finding.sentence

    @pytest.mark.parametrize(
        ("backup", "key", "sentence"),
        [
            ("var/second", "key", "lies in DATA_DIR"),
            ("second", "second/key", "beside what it opens"),
            ("second", "var/key", "beside what it opens"),
        ],
    )
    def test_one_disaster_must_not_take_all(self, settings, places, backup, key, sentence):
        settings.PORTAL_BACKUP_DIR, settings.PORTAL_KEY_DIR = places / backup, places / key
        operation = ran(ask())
        assert operation.state == "failed" and sentence in operation.message

    def test_what_is_damaged_on_the_way_is_no_backup(self, monkeypatch, places):
        whole = procedures.BackUpSelf._publish

        def publish(self, ctx, partial, made_at, recipient):
            whole(self, ctx, partial, made_at, recipient)
            path = Path(PortalBackup.objects.get().path)
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)

        monkeypatch.setattr(procedures.BackUpSelf, "_publish", publish)
        operation = ran(ask())
        assert operation.state == "failed" and "SHA-256" in operation.message
        backup = PortalBackup.objects.get()
        assert backup.verification == "damaged" and not PortalBackup.objects.good().exists()
        assert list((places / "var" / "work").glob("*")) == []

    def test_a_dead_worker_leaves_no_half_and_the_next_one_finishes(self, monkeypatch, done, places):
        class Died(BaseException):
            pass

        def die(*args: object) -> None:
            raise Died

        sealing = keys.seal
        monkeypatch.setattr(keys, "seal", die)
        operation = ask()
        with pytest.raises(Died):
            ran(operation)
        Operation.objects.filter(pk=operation.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
        assert control.sweep() == 1
        monkeypatch.setattr(keys, "seal", sealing)
        done(operation)
        second = places / "var-portal-backup"
        assert len(list(second.glob("portal-*.tar.age"))) == 1 and not list(second.glob(".partial*"))

    def test_each_run_checks_an_earlier_one_again(self, done):
        first = done(ask()).portal_backup
        path = Path(first.path)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        operation = done(ask())
        first.refresh_from_db()
        assert first.verification == "damaged" and "SHA-256" in log_of(operation)
        third = done(ask())
        second = operation.portal_backup
        second.refresh_from_db()
        assert second.verification == "read" and second.verified_at > third.started_at


class TestSchedule:
    def test_it_is_scheduled_by_itself_and_the_first_follows_at_once(self, done):
        ensure()
        schedule = Schedule.objects.get(handler=actions.BACKUP)
        assert control.scheduling.decide_due() >= 1
        slot = Slot.objects.get(schedule=schedule, decision="started")
        done(slot.operation)
        ensure()
        assert Schedule.objects.filter(handler=actions.BACKUP).count() == 1
        assert control.scheduling.decide_due() == 0

    def test_an_empty_time_switches_it_off_and_says_so(self, settings):
        ensure()
        settings.PORTAL_BACKUP_CRON = ""
        ensure()
        assert not Schedule.objects.get(handler=actions.BACKUP).enabled
        (found,) = health.look(("portal-backup",))
        assert found.finding.state == "warn" and "switched off" in found.finding.sentence


class TestRetention:
    def make(self, age_days: float, verification: str = "read", folder: str = "/nowhere") -> PortalBackup:
        made = timezone.now() - timedelta(days=age_days)
        return PortalBackup.objects.create(
            folder=folder,
            name=f"portal-{age_days}.tar.age",
            made_at=made,
            size_bytes=1,
            sha256="0" * 64,
            recipient="age1",
            verification=verification,
            verified_at=None if verification == "unverified" else made,
        )

    def gone(self) -> set[str]:
        return {backup.name for backup in procedures.going()}

    def test_days_and_number_keep_and_either_is_enough(self, settings):
        settings.PORTAL_BACKUP_KEEP_DAYS, settings.PORTAL_BACKUP_KEEP_LAST = 10, 3
        for age in (1, 5, 20, 30, 40):
            self.make(age)
        assert self.gone() == {"portal-30.tar.age", "portal-40.tar.age"}

    def test_the_last_good_one_stays_however_old(self, settings):
        settings.PORTAL_BACKUP_KEEP_DAYS, settings.PORTAL_BACKUP_KEEP_LAST = 1, 0
        self.make(300)
        for age in (1, 2, 3):
            self.make(age, "damaged")
        assert self.gone() == set()

    def test_damaged_ones_do_not_count_and_nothing_goes_without_a_good_one(self, settings):
        settings.PORTAL_BACKUP_KEEP_DAYS, settings.PORTAL_BACKUP_KEEP_LAST = 1, 1
        self.make(5, "damaged")
        self.make(6, "unverified")
        assert self.gone() == set()
        self.make(4)
        assert self.gone() == {"portal-5.tar.age", "portal-6.tar.age"}

    def test_files_go_with_their_labels_after_a_good_backup(self, done, settings, places):
        settings.PORTAL_BACKUP_KEEP_DAYS, settings.PORTAL_BACKUP_KEEP_LAST = 1, 1
        first = done(ask()).portal_backup
        PortalBackup.objects.filter(pk=first.pk).update(made_at=timezone.now() - timedelta(days=3))
        second = done(ask()).portal_backup
        left = {path.name for path in (places / "var-portal-backup").glob("portal-*")}
        assert left == {second.name, f"{second.name}.json"}
        first.refresh_from_db()
        assert first.state == "pruned" and first.removed_at is not None

    def test_backups_of_an_earlier_life_are_found_and_those_of_others_are_not(self, done, places):
        first = done(ask()).portal_backup
        PortalBackup.objects.all().delete()
        second = places / "var-portal-backup"
        label = json.loads((second / f"{first.name}.json").read_text())
        stranger = {**label, "name": "portal-20200101T000000Z.tar.age", "recipient": "age1other"}
        (second / stranger["name"]).write_bytes(b"x")
        (second / f"{stranger['name']}.json").write_text(json.dumps(stranger))
        done(ask())
        found = PortalBackup.objects.get(name=first.name)
        assert found.operation is None and found.sha256 == first.sha256
        assert not PortalBackup.objects.filter(name=stranger["name"]).exists()
        assert (second / stranger["name"]).exists()
