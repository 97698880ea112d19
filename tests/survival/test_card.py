"""The offline card: what is on it, where it is written, and that its commands work as they stand."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.utils import timezone
from psycopg import sql

from backups.models import Archive
from core.roles import Role
from survival import actions
from survival.card import content, page, places, sections
from survival.models import CardCopy, SecondPlace
from tests import factories
from tests.backups import conftest as backups
from tests.backups.shop import Shop
from tests.contacts.factories import (
    ContactFactory,
    OnCallScheduleFactory,
    PolicyFactory,
    SeverityFactory,
    layer_of,
    rule,
)
from tests.core.test_s3 import ACCESS, SECRET, Buckets, buckets  # noqa: F401  a fixture
from tests.sshd import running_sshd

sample, engine, shop = backups.sample, backups.engine, backups.shop  # fixtures
target, admin = backups.target, backups.admin


@pytest.fixture
def second(tmp_path: Path, transactional_db: None) -> Path:
    """The default folder of the card."""
    return tmp_path / "var-portal-backup" / "offline-card"


def card_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / places.JSON).read_text())


def commands_on(card: dict) -> dict[str, list[str]]:
    """Shell texts by the entry they belong to."""
    return {
        entry["title"]: [command for _, command in entry["commands"]]
        for section in card["sections"]
        for entry in section["entries"]
    }


class Reader(HTMLParser):
    """What a page would load, run or send."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [(tag, name) for name, _ in attrs if name in ("src", "href", "action", "srcset", "style")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.needs("zstd")
def test_its_commands_bring_the_rows_back_with_stock_tools(shop: Shop, second: Path, tmp_path: Path) -> None:
    """Exactly the printed text, in a shell, on a real archive: the rows are what they were at the backup."""
    operation = shop.done(shop.back_up())
    before = shop.database.rows()
    shop.database.lose_orders()
    assert shop.database.rows() != before
    assert places.write_due() == 1
    (commands,) = [found for title, found in commands_on(card_of(second)).items() if shop.database.name in title]
    assert len(commands) == 3
    work = tmp_path / "somewhere-else"
    work.mkdir()
    server = shop.database.server
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"*:*:*:*:{server.password}\n")
    passwords.chmod(0o600)
    env = {
        "PATH": f"{os.environ['PG_BIN']}:/usr/bin:/bin",
        "PGHOST": server.host,
        "PGUSER": server.user,
        "PGPASSFILE": str(passwords),
        "LC_ALL": "C.UTF-8",
    }
    # One after the other in one shell, as somebody would paste them.
    script = "set -e\n" + "\n".join(commands)
    done = subprocess.run(["sh", "-c", script], cwd=work, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    assert "manifest.json: OK" in done.stdout and "\nOK\n" in done.stdout
    assert shop.database.rows() == before
    assert operation.archive.verification == "verified"
    with factories.session_on(server) as session:
        session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(f"{shop.database.name}_before")))


@pytest.mark.needs("zstd")
def test_the_printed_check_finds_a_flipped_bit(shop: Shop, second: Path, tmp_path: Path) -> None:
    archive = shop.done(shop.back_up()).archive
    places.write_due()
    victim = max((shop.folder / archive.name).glob("*.zst"), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    (commands,) = [found for title, found in commands_on(card_of(second)).items() if shop.database.name in title]
    done = subprocess.run(["sh", "-c", commands[0]], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and victim.name in done.stdout + done.stderr
    assert "\nOK\n" not in done.stdout


FIVE = timedelta(minutes=5)


class TestContent:
    pytestmark = pytest.mark.usefixtures("transactional_db")

    def test_the_newest_verified_archive_of_each_database(self) -> None:
        plan = factories.PlanFactory()
        older = factories.ArchiveFactory(plan=plan, age=timedelta(days=2), sha256="a" * 64)
        factories.ArchiveFactory(plan=plan, unverified=True)
        bare = factories.TargetFactory()
        text = Reader(page.as_html(content.gather())).text
        assert f"{older.storage.root}/{older.folder}/{older.name}" in text and "a" * 64 in text
        assert bare.database in text and "There is no verified archive of this database." in text

    def test_where_the_portals_backup_and_its_key_are(self) -> None:
        backup = factories.PortalBackupFactory()
        factories.SecondPlaceFactory(key_kept_where="safe in Berlin", key_confirmed_at=timezone.now())
        text = Reader(page.as_html(content.gather())).text
        assert backup.path in text and "safe in Berlin" in text
        assert f"age --decrypt --identity /safe/portal-backup-key.txt --output portal.tar {backup.path}" in text

    def test_nothing_secret_is_on_it(self, done, places) -> None:
        factories.TargetFactory(password_ref="file:/run/secrets/erp")
        done(actions.request_backup(by=None))
        shown = json.dumps(content.gather()) + page.as_html(content.gather())
        key = Path(SecondPlace.objects.get().identity_path).read_text().splitlines()[-1]
        for secret in (key, "a-secret-of-the-stack", "password-of-erp", "/run/secrets/erp"):
            assert secret not in shown

    def test_it_needs_nothing_from_anywhere(self) -> None:
        factories.ArchiveFactory()
        html = page.as_html(content.gather())
        found = Reader(html)
        assert found.loads == [] and not found.tags & {"script", "link", "img", "iframe", "form"}
        assert "url(" not in html and "@import" not in html and "@page { size: A4" in html

    def test_hostile_names_stay_data(self, tmp_path) -> None:
        name = "x'; touch pwned; \"$(touch pwned)` <script>"
        archive = factories.ArchiveFactory(plan__target__database=name, sha256="b" * 64)
        found = content.gather()
        html = page.as_html(found)
        assert "<script>" not in html
        commands = next(found for title, found in commands_on(found).items() if title.startswith("x'"))
        for command in commands:
            subprocess.run(["sh", "-n", "-c", command], check=True, timeout=20)
        for program in ("createdb", "pg_restore", "psql", "find", "cp"):
            (tmp_path / program).write_text('#!/bin/sh\nfor a; do printf "%s\\n" "$a"; done >> "$LOG"\n')
            (tmp_path / program).chmod(0o755)
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(tmp_path / "log")}
        for command in commands[1:]:
            subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, check=True, timeout=20)
        assert not (tmp_path / "pwned").exists()
        assert f"{name}_from_archive" in (tmp_path / "log").read_text()
        assert archive.name

    def test_a_higher_room_adds_a_section(self, monkeypatch) -> None:
        monkeypatch.setattr(sections, "_sections", dict(sections._sections))

        @sections.section("runbooks", title="What to do", order=20)
        def runbooks() -> list[sections.Entry]:
            return [sections.Entry("Restart", (("First", "Ask Robin at +49 30 1234"),))]

        titles = [section["title"] for section in content.gather()["sections"]]
        assert titles[-3:] == ["Databases", "What to do", "The portal itself"]
        assert "+49 30 1234" in page.as_html(content.gather())

    def test_people_on_call_and_the_matrix(self) -> None:
        ann, support = ContactFactory(name="Ann", sms="+44 1632 960101"), ContactFactory(name="Support", phone="")
        schedule = OnCallScheduleFactory(name="Shop")
        layer_of(schedule, ann)
        severity = SeverityFactory(code="P1", name="Down", definition="Nothing works.", response_time=FIVE)
        policy = PolicyFactory(service=severity.service)
        rule(policy, (timedelta(0), [schedule]), (FIVE, [ann, support]), (None, [ann]), severity=severity)
        card = content.gather()
        found = {section["name"]: section["entries"] for section in card["sections"]}
        (on_call,) = found["on-call"]
        assert on_call["title"] == "Shop" and "Ann: SMS +44 1632 960101" in on_call["facts"][0][1]
        people = {entry["title"]: entry for entry in found["contacts"]}
        assert people["Ann (colleague)"]["warning"] == ""
        assert "Nobody has filled in" in people["Support (colleague)"]["warning"]
        (matrix,) = found["matrix"]
        ladder = "at once: Shop (primary on call); after 5 min: Ann and Support; by hand: Ann"
        assert matrix["facts"] == [["P1 Down", ladder]]
        (grades,) = found["severities"]
        assert grades["facts"] == [["P1 Down", "Nothing works. Answered within: 5 min."]]
        assert "+44 1632 960101" in page.as_html(card)


class TestPlaces:
    pytestmark = pytest.mark.usefixtures("transactional_db")

    def test_it_is_written_when_something_changes_and_else_left_alone(self, second: Path) -> None:
        assert places.write_due() == 1
        assert places.write_due() == 0
        first = (second / places.HTML).stat().st_ino
        archive = factories.ArchiveFactory()
        assert places.write_due() == 1
        assert (second / places.HTML).stat().st_ino != first, "replaced in one step, not written over"
        assert archive.name in (second / places.HTML).read_text()
        Archive.objects.update(state=Archive.State.PRUNED)
        assert places.write_due() == 1
        assert archive.name not in (second / places.HTML).read_text()
        assert stat.S_IMODE((second / places.JSON).stat().st_mode) == 0o644
        assert {path.name for path in second.iterdir()} == {places.HTML, places.JSON}

    def test_it_is_written_again_so_that_its_date_tells_something(self, second: Path) -> None:
        places.write_due()
        CardCopy.objects.update(written_at=timezone.now() - places.WRITE_AGAIN)
        assert places.write_due() == 1

    def test_a_place_that_is_missing_is_a_sentence_and_the_other_is_written(self, settings, second: Path, tmp_path):
        missing = tmp_path / "mnt" / "usb"
        settings.OFFLINE_CARD_DIRS = [str(missing), *settings.OFFLINE_CARD_DIRS]
        assert places.write_due() == 1
        copy = CardCopy.objects.get(place=str(missing))
        assert "Create the folder or mount its disk." in copy.error and copy.written_at is None
        assert places.write_due() == 0, "not tried again at once"
        missing.mkdir(parents=True)
        CardCopy.objects.update(tried_at=timezone.now() - places.TRY_AGAIN)
        assert places.write_due() == 1
        assert (missing / places.HTML).read_text().startswith("<!doctype html>")

    def test_a_host_of_the_catalog_through_its_connector(self, settings, tmp_path: Path) -> None:
        factories.HostFactory(name="db1")
        folder = tmp_path / "on the host; touch pwned"
        folder.mkdir()
        settings.OFFLINE_CARD_DIRS = [f"db1:{folder}"]
        assert places.write_due() == 1, list(CardCopy.objects.values())
        assert card_of(folder)["sections"] and not (tmp_path / "pwned").exists()
        assert {path.name for path in folder.iterdir()} == {places.HTML, places.JSON}

    @pytest.mark.needs("ssh", "sshd")
    def test_a_second_machine_over_ssh(self, settings, tmp_path: Path) -> None:
        with running_sshd(tmp_path / "d") as server:
            host = server.host()
            folder = tmp_path / "second machine"
            folder.mkdir()
            settings.OFFLINE_CARD_DIRS = [f"{host.name}:{folder}"]
            assert places.write_due() == 1, list(CardCopy.objects.values())
            before = (folder / places.HTML).read_bytes()
            assert card_of(folder)["sections"] and before.startswith(b"<!doctype html>")
            # Another machine answers there: it gets nothing, and the copy says why.
            server.change_host_key()
            factories.ArchiveFactory()
            assert places.write_due() == 0
            assert (folder / places.HTML).read_bytes() == before
            assert CardCopy.objects.get().error.endswith(".")

    def test_a_bucket(self, settings, buckets: Buckets) -> None:  # noqa: F811
        settings.OFFLINE_CARD_DIRS = ["s3://cards/ops/portal"]
        assert places.write_due() == 0
        assert "S3_ENDPOINT" in CardCopy.objects.get().error
        settings.S3_ENDPOINT, settings.S3_NETWORKS = buckets.endpoint, ["127.0.0.0/8"]
        settings.S3_ACCESS_KEY, settings.S3_SECRET_KEY = ACCESS, SECRET
        CardCopy.objects.update(tried_at=timezone.now() - places.TRY_AGAIN)
        assert places.write_due() == 1, list(CardCopy.objects.values())
        assert set(buckets.objects) == {f"/cards/ops/portal/{name}" for name in (places.HTML, places.JSON)}
        kind, data = buckets.objects[f"/cards/ops/portal/{places.HTML}"]
        assert kind.startswith("text/html") and data.startswith(b"<!doctype html>")

    def test_what_arrives_cut_off_does_not_replace_the_card(self, tmp_path: Path) -> None:
        (tmp_path / places.JSON).write_text("whole")
        done = subprocess.run(
            ["sh", "-c", places.SCRIPT, "sh", str(tmp_path), places.JSON, "100"], input=b"half", timeout=20
        )
        assert done.returncode != 0 and (tmp_path / places.JSON).read_text() == "whole"

    @pytest.mark.parametrize("place", ["nowhere:/folder", "relative/folder", "db1:relative"])
    def test_a_place_that_is_none(self, settings, place: str) -> None:
        settings.OFFLINE_CARD_DIRS = [place]
        assert places.write_due() == 0
        assert "neither a folder, nor host:/folder" in CardCopy.objects.get().error


class TestPage:
    pytestmark = pytest.mark.usefixtures("transactional_db")

    def test_people_read_it_in_the_portal_and_take_it_along(self) -> None:
        archive = factories.ArchiveFactory()
        CardCopy.objects.create(place="/mnt/usb", written_at=timezone.now())
        client = factories.browser(factories.PersonFactory(role=Role.MANAGER))
        shown = client.get("/offline-card/").content.decode()
        assert archive.name in shown and "/mnt/usb" in shown
        taken = client.get("/offline-card/?format=html")
        assert "attachment" in taken["Content-Disposition"] and taken.content.decode().startswith("<!doctype html>")
        assert client.get("/offline-card/?format=json").json()["format"] == content.FORMAT

    def test_who_may_see_nothing_does_not_see_it(self, client) -> None:
        assert client.get("/offline-card/").status_code == 302
        assert factories.browser(factories.PersonFactory()).get("/offline-card/").status_code == 403
