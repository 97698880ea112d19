"""The timeline: entries follow each other in a chain, and whatever is changed later shows."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings, strategies

from incidents import chain, digests, timeline
from incidents.actions import evidence, work
from incidents.exceptions import IncidentError
from incidents.models import ChainDigest, Evidence, TimelineEntry
from incidents.timeline import Kind, Source
from tests.incidents.factories import IncidentFactory

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 3, 6, 12, 0, tzinfo=UTC)


def entries(incident, count=5):
    return [timeline.write(incident, f"Entry {number}", source=Source.PORTAL) for number in range(1, count + 1)]


class TestWriting:
    def test_it_says_who_when_and_whence(self, olga):
        incident = IncidentFactory()
        entry = timeline.write(incident, "Restarted", source=Source.API, user=olga, at=NOON, url="/x/", data={"n": 1})
        assert (entry.sequence, entry.actor, entry.at, entry.kind) == (1, "olga", NOON, Kind.NOTE)
        portal = timeline.write(incident, "Seen", source=Source.PORTAL)
        assert (portal.sequence, portal.actor, portal.previous_hash) == (2, "The portal", entry.hash)

    def test_only_in_a_transaction(self, monkeypatch):
        monkeypatch.setattr(connection, "in_atomic_block", False)
        with pytest.raises(RuntimeError, match="transaction"):
            timeline.write(IncidentFactory.build(), "x", source=Source.PORTAL)

    def test_a_correction_names_what_it_corrects_and_changes_nothing(self, olga):
        incident = IncidentFactory()
        wrong = work.note(incident, "Failover at 12:10", by=olga)
        before = TimelineEntry.objects.values().get(pk=wrong.pk)
        right = work.correct(wrong, "Failover at 12:15", by=olga)
        assert (right.corrects, right.kind, right.at) == (wrong, Kind.CORRECTION, wrong.at)
        assert TimelineEntry.objects.values().get(pk=wrong.pk) == before and chain.verify(incident) == []

    def test_a_note_of_the_past_and_none_of_the_future(self, olga):
        incident = IncidentFactory()
        assert work.note(incident, "Seen", by=olga, at=NOON).at == NOON
        with pytest.raises(IncidentError, match="in the past"):
            work.note(incident, "Seen", by=olga, at=datetime.now(UTC) + timedelta(hours=1))

    @pytest.mark.parametrize("kind", ["state", "escalation", "nonsense"])
    def test_people_write_notes_and_not_what_the_portal_writes(self, olga, kind):
        with pytest.raises(IncidentError, match="kind of note"):
            work.note(IncidentFactory(), "Resolved", by=olga, kind=kind)

    def test_one_key_is_one_note(self, olga):
        incident = IncidentFactory()
        assert work.note(incident, "Once", by=olga, key="k") == work.note(incident, "Once", by=olga, key="k")
        assert incident.timeline.count() == 1

    def test_an_entry_on_top_stays_as_it_is(self, olga, mona):
        entry = work.note(IncidentFactory(), "The disk is full", by=olga)
        work.pin(entry, by=olga)
        work.pin(entry, by=olga)
        assert entry.pin.by == olga and chain.verify(entry.incident) == []
        with pytest.raises(PermissionDenied):
            work.unpin(entry, by=mona)
        work.unpin(entry, by=olga)
        assert not TimelineEntry.objects.filter(pin__isnull=False).exists()


class TestChain:
    def test_an_untouched_one_is_whole(self):
        incident = IncidentFactory()
        entries(incident)
        assert chain.verify(incident) == []

    @pytest.mark.parametrize(
        "change",
        [
            {"text": "Something else"},
            {"actor": "Somebody else"},
            {"at": NOON},
            {"recorded_at": NOON},
            {"kind": "decision"},
            {"source": "api"},
            {"url": "/elsewhere/"},
            {"data": {"n": 2}},
            {"hash": "0" * 64},
            {"previous_hash": "0" * 64},
        ],
    )
    def test_a_changed_one_names_the_first_entry_that_is_wrong(self, change):
        incident = IncidentFactory()
        entries(incident)
        TimelineEntry.objects.filter(incident=incident, sequence=3).update(**change)
        (sentence,) = chain.verify(incident)
        assert sentence.startswith(f"{incident.number}, entry 3 ")

    def test_one_that_was_taken_out_is_missed(self):
        incident = IncidentFactory()
        entries(incident)
        TimelineEntry.objects.filter(incident=incident, sequence=3).delete()
        assert chain.verify(incident) == [f"{incident.number}: entry 3 is missing before entry 4."]

    def test_one_that_was_put_in_shows(self):
        incident = IncidentFactory()
        last = entries(incident)[-1]
        forged = TimelineEntry(
            incident=incident,
            sequence=6,
            at=NOON,
            recorded_at=NOON,
            source="portal",
            actor="x",
            text="x",
            hash="0" * 64,
        )
        forged.previous_hash = last.hash
        forged.save()
        assert "entry 6 is not what was written" in chain.verify(incident)[0]

    @given(
        strategies.dictionaries(
            strategies.text(strategies.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
            strategies.recursive(
                strategies.none()
                | strategies.booleans()
                | strategies.integers(-(2**60), 2**60)
                | strategies.floats(allow_nan=False, allow_infinity=False)
                | strategies.text(strategies.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
                lambda inner: strategies.lists(inner, max_size=3),
                max_leaves=4,
            ),
            max_size=4,
        )
    )
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    def test_whatever_the_data_it_hashes_the_same_when_read_back(self, data):
        with transaction.atomic():
            incident = IncidentFactory()
            timeline.write(incident, "x", source=Source.PORTAL, data=data)
            assert chain.verify(incident) == []
            transaction.set_rollback(True)


class TestDigests:
    @pytest.fixture(autouse=True)
    def second_place(self, settings, tmp_path):
        settings.PORTAL_BACKUP_DIR = tmp_path
        return tmp_path

    def command(self, *args):
        out = StringIO()
        call_command("incidents", "verify", *args, stdout=out)
        return out.getvalue()

    def test_it_is_made_once_a_day_and_leaves_for_the_second_place(self, tmp_path):
        incident = IncidentFactory()
        last = entries(incident)[-1]
        row = digests.make_due()
        assert row.heads == {incident.number: [5, last.hash]} and row.entries == 5
        assert digests.make_due() is None and ChainDigest.objects.count() == 1
        file = tmp_path / f"chain-digest-{row.day}.json"
        assert json.loads(file.read_bytes())["sha256"] == row.sha256
        row.refresh_from_db()
        assert row.sent_to == [str(file)]
        assert "5 entries are what was written" in self.command("--digest", str(file))

    def test_the_next_day_names_what_has_grown(self):
        quiet, busy = IncidentFactory(), IncidentFactory()
        entries(quiet), entries(busy)
        TimelineEntry.objects.update(recorded_at=datetime.now(UTC) - timedelta(hours=3))
        now = datetime.now(UTC)
        digests.make_due(now - timedelta(days=1))
        ChainDigest.objects.update(made_at=now)
        timeline.write(busy, "More", source=Source.PORTAL)
        row = digests.make_due(now + timedelta(days=1))
        assert set(row.heads) == {busy.number} and row.heads[busy.number][0] == 6

    def test_a_chain_that_was_made_anew_disagrees_with_what_has_left(self, tmp_path):
        """Who may write to the database can make every hash anew; the digest outside still tells."""
        incident = IncidentFactory()
        entries(incident)
        row = digests.make_due()
        previous = ""
        for entry in incident.timeline.order_by("sequence"):
            entry.text = entry.text.replace("Entry 2", "Nothing happened")
            entry.previous_hash = previous
            previous = entry.hash = chain.entry_hash(entry)
            entry.save()
        assert chain.verify(incident) == []
        row.delete()  # the traces in the portal too
        assert "5 entries" in self.command()
        with pytest.raises(CommandError, match=f"{incident.number}, entry 5 or one before it"):
            self.command("--digest", str(tmp_path / digests.file_name(row.day)))

    def test_the_end_that_was_cut_off_is_missed(self):
        incident = IncidentFactory()
        entries(incident)
        digests.make_due()
        TimelineEntry.objects.filter(sequence__gt=3).delete()
        with pytest.raises(CommandError, match="entry 5 is gone"):
            self.command()

    def test_a_digest_that_was_changed_is_none(self, tmp_path):
        entries(IncidentFactory())
        row = digests.make_due()
        ChainDigest.objects.update(heads={})
        with pytest.raises(CommandError, match="its hash is another"):
            self.command()
        file = tmp_path / digests.file_name(row.day)
        file.write_text(file.read_text().replace('"previous": ""', '"previous": "0"'))
        with pytest.raises(CommandError, match="no digest, or was changed"):
            self.command("--digest", str(file))

    @pytest.mark.parametrize("text", ["", "no digest", "{}", '{"heads": 1}'])
    def test_what_is_no_digest_is_said_so(self, tmp_path, text):
        (tmp_path / "file").write_text(text)
        with pytest.raises(CommandError, match="cannot be read as a digest"):
            self.command("--digest", str(tmp_path / "file"))

    def test_it_goes_by_mail_and_the_mail_is_enough_to_compare(self, settings, tmp_path):
        from aiosmtpd.controller import Controller

        got = []

        class Inbox:
            async def handle_DATA(self, server, session, envelope):
                got.append((envelope.rcpt_tos, envelope.content))
                return "250 Kept"

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = Controller(Inbox(), hostname="127.0.0.1", port=port)
        server.start()
        try:
            settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
            settings.CHAIN_DIGEST_TO = ["auditor@example.org"]
            incident = IncidentFactory()
            entries(incident)
            row = digests.make_due()
            digests.make_due()
        finally:
            server.stop()
        ((to, mail),) = got
        assert to == ["auditor@example.org"] and row.sha256.encode() in mail
        (tmp_path / "mail.eml").write_bytes(mail)
        assert "agree" in self.command("--digest", str(tmp_path / "mail.eml"))

    def test_a_mail_server_that_is_away_is_asked_again(self, settings, caplog):
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
        settings.CHAIN_DIGEST_TO = ["auditor@example.org"]
        digests.make_due()
        assert "auditor@example.org" not in ChainDigest.objects.get().sent_to and "did not leave" in caplog.text


class TestEvidence:
    def test_a_file_is_kept_with_its_hash(self, olga):
        incident = IncidentFactory()
        row = evidence.add(
            incident, name="C:\\logs\\app.log", content_type="text/plain", data=b"boom", text="From app-1.", by=olga
        )
        assert (row.name, row.size_bytes, bytes(row.content.data)) == ("app.log", 4, b"boom")
        assert row.sha256 in row.entry.text and row.entry.data["sha256"] == row.sha256
        assert chain.verify(incident) == []

    def test_what_is_too_big_or_empty_is_refused_whole(self, olga, settings):
        settings.EVIDENCE_MAX_MB = 1
        incident = IncidentFactory()
        for data, why in ((b"x" * 1_000_001, "the limit is 1 MB"), (b"", "is empty")):
            with pytest.raises(IncidentError, match=why):
                evidence.add(incident, name="a.log", content_type="text/plain", data=data, by=olga)
        assert not Evidence.objects.exists() and not incident.timeline.exists()

    def test_a_strange_content_type_becomes_a_harmless_one(self, olga):
        row = evidence.add(IncidentFactory(), name="a", content_type="text/html\r\nX: y", data=b"x", by=olga)
        assert row.content_type == "application/octet-stream"
