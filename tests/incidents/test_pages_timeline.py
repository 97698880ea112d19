"""Notes, corrections, pins and evidence, sent from the page of an incident; a restore that begins there."""

from __future__ import annotations

import hashlib

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from backups.models import Archive, Restore
from core.buttons import new_key
from core.roles import Role
from incidents.actions import joined, work
from incidents.models import Evidence, Pin
from operations.models import Operation, OperationLock
from tests.contacts.factories import SeverityFactory
from tests.factories import ArchiveFactory, ComponentFactory, EnvironmentFactory, PlanFactory, TargetFactory
from tests.incidents.record import declared, person, read, url
from tests.pages import page_of

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def operator():
    return person(Role.OPERATOR, username="olive")


@pytest.fixture
def incident(operator):
    return declared(operator[0])


class TestNotes:
    def test_a_note_stands_on_top(self, operator, incident):
        sent = operator[1].post(url(incident, "note/"), {"text": "The disk is full.", "kind": "root-cause"})
        assert sent["Location"] == url(incident) + "#timeline"
        entry = incident.timeline.order_by("-sequence").first()
        assert (entry.text, entry.kind, entry.user) == ("The disk is full.", "root-cause", operator[0])
        text = read(operator[1], incident).text
        assert text.index("The disk is full.") < text.index("Declared:")

    def test_without_leaving_the_page(self, operator, incident):
        answer = operator[1].post(url(incident, "note/"), {"text": "Seen <b>this</b>."}, headers=HTMX).content.decode()
        assert 'id="timeline" hx-swap-oob="morph"' in answer and 'id="note-card"' in answer
        assert "Seen &lt;b&gt;this&lt;/b&gt;." in answer and answer.count("<textarea") == 1
        assert ">Seen" not in answer.partition("</textarea>")[0]

    @pytest.mark.parametrize("headers", [{}, HTMX])
    def test_wrong_input_keeps_what_was_typed(self, operator, incident, headers):
        before = incident.timeline.count()
        fields = {"text": "It was earlier.", "at": "2999-01-01T00:00:00"}
        answer = operator[1].post(url(incident, "note/"), fields, headers=headers)
        assert answer.status_code == 200 and incident.timeline.count() == before
        assert "something that has happened" in answer.content.decode()
        assert "It was earlier." in answer.content.decode()
        empty = operator[1].post(url(incident, "note/"), {"text": " "}, headers=headers)
        assert "This field is required" in empty.content.decode()

    def test_a_double_click_is_one_note(self, operator, incident):
        fields = {"text": "Once.", "request_key": new_key()}
        for _ in range(2):
            operator[1].post(url(incident, "note/"), fields)
        assert incident.timeline.filter(text="Once.").count() == 1

    def test_get_writes_nothing(self, operator, incident):
        entry = incident.timeline.first()
        for rest in ("note/", "tick/", f"entry/{entry.pk}/pin/"):
            assert operator[1].get(url(incident, rest)).status_code == 405, rest

    def test_a_note_on_another_page_of_the_timeline_shows_when_it_happened(self, operator, incident):
        operator[1].post(url(incident, "note/"), {"text": "Before all.", "at": "2026-01-01T10:00:00"})
        text = read(operator[1], incident).text
        assert text.index("Declared:") < text.index("Before all.")


class TestCorrections:
    def test_the_entry_stays_and_the_correction_stands_with_it(self, operator, incident):
        entry = work.note(incident, "40 customers called.", by=operator[0])
        page = read(operator[1], incident, f"entry/{entry.pk}/correct/")
        assert page.post.fields["text"] == "40 customers called."
        operator[1].post(url(incident, f"entry/{entry.pk}/correct/"), {"text": "14 customers called."})
        entry.refresh_from_db()
        assert entry.text == "40 customers called." and entry.corrections.get().text == "14 customers called."
        text = read(operator[1], incident).text
        assert "40 customers called." in text and "Corrected by" in text

    def test_an_entry_of_another_incident_is_none_of_this(self, operator, incident):
        stranger = work.note(declared(operator[0], "Other"), "A note.", by=operator[0])
        for rest in (f"entry/{stranger.pk}/correct/", f"entry/{stranger.pk}/pin/"):
            assert operator[1].post(url(incident, rest), {"text": "No."}).status_code == 404
        assert not Pin.objects.exists()

    def test_wrong_input_keeps_what_was_typed(self, operator, incident):
        entry = work.note(incident, "A note.", by=operator[0])
        answer = operator[1].post(url(incident, f"entry/{entry.pk}/correct/"), {"text": ""})
        assert "This field is required" in page_of(answer).text and "A note." in page_of(answer).text


def test_pinned_entries_stand_on_top(operator, incident):
    entry = work.note(incident, "The cause is the disk.", by=operator[0])
    work.note(incident, "Later.", by=operator[0])
    operator[1].post(url(incident, f"entry/{entry.pk}/pin/"))
    html = operator[1].get(url(incident)).content.decode()
    assert f'id="pinned-{entry.pk}"' in html and html.index("The cause is the disk.") < html.index("Later.")
    operator[1].post(url(incident, f"entry/{entry.pk}/pin/"), {"unpin": "1"})
    assert f'id="pinned-{entry.pk}"' not in operator[1].get(url(incident)).content.decode()


class TestEvidence:
    def send(self, client, incident, data=b"<script>alert(1)</script>", name="log.html", **fields):
        file = SimpleUploadedFile(name, data, content_type="text/html")
        return client.post(url(incident, "evidence/"), {"file": file, **fields})

    def test_up_and_down(self, operator, incident):
        sent = self.send(operator[1], incident, text="The first error.")
        assert sent["Location"] == url(incident) + "#timeline"
        kept = Evidence.objects.get()
        page = read(operator[1], incident)
        digest = hashlib.sha256(b"<script>alert(1)</script>").hexdigest()
        assert digest in page.text and "The first error." in page.text
        link = next(link for link in page.links if f"/evidence/{kept.pk}/" in link)
        _, manager = person(Role.MANAGER)
        response = manager.get(link)
        assert response.content == b"<script>alert(1)</script>"
        assert response["Content-Type"] == "application/octet-stream"
        assert (
            response["Content-Disposition"].startswith("attachment") and "log.html" in response["Content-Disposition"]
        )
        assert response["X-Content-Type-Options"] == "nosniff"

    def test_limits(self, operator, incident, settings):
        settings.EVIDENCE_MAX_MB = 1
        assert "the limit is 1 MB" in page_of(self.send(operator[1], incident, b"x" * 1_000_001)).text
        assert "empty" in page_of(self.send(operator[1], incident, b"")).text
        assert "This field is required" in page_of(operator[1].post(url(incident, "evidence/"))).text
        assert not Evidence.objects.exists()
        self.send(operator[1], incident, b"x" * 1_000_000)
        assert Evidence.objects.get().size_bytes == 1_000_000

    def test_of_a_confidential_one_nothing_is_given_out(self, operator):
        secret = declared(operator[0], confidential=True)
        self.send(operator[1], secret)
        _, other = person(Role.OPERATOR)
        link = url(secret, f"evidence/{Evidence.objects.get().pk}/")
        assert operator[1].get(link).status_code == 200 and other.get(link).status_code == 404
        elsewhere = declared(operator[0], "Other")
        assert other.get(url(elsewhere, f"evidence/{Evidence.objects.get().pk}/")).status_code == 404


@pytest.fixture
def archive():
    severity = SeverityFactory()
    component = ComponentFactory(environment=EnvironmentFactory(service=severity.service))
    return ArchiveFactory(plan=PlanFactory(target=TargetFactory(component=component)))


class TestRestoreFromHere:
    def incident_of(self, archive, by, **values):
        return declared(by, service=archive.target.component.environment.service, **values)

    def fields(self, archive, **more):
        name = archive.target.database
        return {"reason_kind": "deletion", "into": name, "typed_name": name, "request_key": new_key(), **more}

    def test_choose_confirm_watch(self, operator, archive):
        incident = self.incident_of(archive, operator[0])
        other = ArchiveFactory()
        page = read(operator[1], incident, "restore/")
        assert url(incident, f"restore/{archive.pk}/") in page.links and str(other) not in page.text
        confirm = read(operator[1], incident, f"restore/{archive.pk}/")
        assert incident.number in confirm.text and confirm.post.fields["into"] == archive.target.database
        sent = operator[1].post(url(incident, f"restore/{archive.pk}/"), self.fields(archive))
        restore = Restore.objects.get()
        assert sent["Location"] == restore.operation.get_absolute_url()
        assert incident.operations.get().operation == restore.operation
        assert restore.operation.title in read(operator[1], incident).text

    def test_wrong_name_and_double_click(self, operator, archive):
        incident = self.incident_of(archive, operator[0])
        address, fields = url(incident, f"restore/{archive.pk}/"), self.fields(archive, reason="Lost rows.")
        wrong = operator[1].post(address, {**fields, "typed_name": "prod"})
        assert "is not the database" in page_of(wrong).text and not Restore.objects.exists()
        assert page_of(wrong).post.fields["reason"] == "Lost rows."
        assert "lost its one-time key" in page_of(operator[1].post(address, {**fields, "request_key": "x"})).text
        for _ in range(2):
            operator[1].post(address, fields)
        assert Restore.objects.count() == 1

    def test_who_works_alone_may_within_the_service(self, archive):
        user, client = person(Role.RESPONDER)
        incident = self.incident_of(archive, user)
        assert client.get(url(incident, "restore/")).status_code == 403
        assert "restore-from-here" not in client.get(url(incident)).content.decode()
        alone = self.incident_of(archive, user, solo=True)
        assert "restore-from-here" in client.get(url(alone)).content.decode()
        assert client.get(url(alone, f"restore/{ArchiveFactory().pk}/")).status_code == 403
        client.post(url(alone, f"restore/{archive.pk}/"), self.fields(archive))
        assert Restore.objects.count() == 1
        work.resolve(alone, by=user)
        assert client.get(url(alone, "restore/")).status_code == 403

    def test_others_may_not(self, archive):
        user, _ = person(Role.OPERATOR)
        incident = self.incident_of(archive, user, solo=True)
        for role in (Role.MANAGER, Role.RESPONDER):
            _, client = person(role)
            for rest in ("restore/", f"restore/{archive.pk}/"):
                assert client.post(url(incident, rest), self.fields(archive)).status_code == 403
        assert not Restore.objects.exists()


def of_service(archive, by, **values):
    return declared(by, service=archive.target.component.environment.service, **values)


class TestBackupFromHere:
    def test_choose_and_start_once(self, operator, archive):
        incident, other = of_service(archive, operator[0]), PlanFactory()
        assert url(incident, "backup/") in read(operator[1], incident).links
        confirm = read(operator[1], incident, "backup/")
        assert confirm.post.fields["plan"] == str(archive.plan.pk) and str(other) not in confirm.text
        assert "lost its one-time key" in page_of(operator[1].post(url(incident, "backup/"), {"request_key": "x"})).text
        fields = {"plan": archive.plan.pk, "request_key": new_key()}
        for _ in range(2):
            sent = operator[1].post(url(incident, "backup/"), fields)
        operation = incident.operations.get().operation
        assert sent["Location"] == operation.get_absolute_url()
        assert (operation.archive.purpose, operation.trigger) == (Archive.Purpose.EMERGENCY, "incident")

    def test_a_plan_of_another_service_is_no_choice(self, operator, archive):
        incident = of_service(archive, operator[0])
        sent = operator[1].post(url(incident, "backup/"), {"plan": PlanFactory().pk, "request_key": new_key()})
        assert "Correct what is marked" in page_of(sent).text and not incident.operations.exists()

    def test_who_works_alone_may_while_it_lasts(self, archive):
        user, client = person(Role.RESPONDER)
        incident, alone = of_service(archive, user), of_service(archive, user, solo=True)
        assert client.get(url(incident, "backup/")).status_code == 403
        assert "backup-from-here" not in client.get(url(incident)).content.decode()
        assert "backup-from-here" in client.get(url(alone)).content.decode()
        client.post(url(alone, "backup/"), {"plan": archive.plan.pk, "request_key": new_key()})
        assert alone.operations.count() == 1
        work.resolve(alone, by=user)
        assert client.get(url(alone, "backup/")).status_code == 403

    def test_a_manager_may_not(self, operator, archive):
        incident, (_, client) = of_service(archive, operator[0]), person(Role.MANAGER)
        fields = {"plan": archive.plan.pk, "request_key": new_key()}
        assert client.post(url(incident, "backup/"), fields).status_code == 403
        assert "backup-from-here" not in client.get(url(incident)).content.decode()
        assert not incident.operations.exists()


class TestUndoFromHere:
    def restored(self, archive, incident, by):
        """A restore that was started from the incident and keeps its safety copy."""
        values = {"reason_kind": "deletion", "typed_name": archive.target.database}
        operation = joined.start_restore(incident, archive, by=by, **values)
        now = timezone.now()
        Operation.objects.filter(pk=operation.pk).update(state="succeeded", started_at=now, ended_at=now)
        OperationLock.objects.filter(operation=operation).delete()
        Restore.objects.filter(operation=operation).update(safety_copy="kept", safety_database="before")
        return Restore.objects.get(operation=operation)

    def test_confirm_and_start_once(self, operator, archive):
        incident = of_service(archive, operator[0])
        restore = self.restored(archive, incident, operator[0])
        rest = f"restore/{restore.pk}/undo/"
        assert url(incident, rest) in read(operator[1], incident).links
        assert restore.into_database in read(operator[1], incident, rest).text and incident.operations.count() == 1
        fields = {"request_key": new_key()}
        for _ in range(2):
            sent = operator[1].post(url(incident, rest), fields)
        undo = incident.operations.get(operation__procedure="backups.undo_restore").operation
        assert sent["Location"] == undo.get_absolute_url() and undo.trigger == "incident"
        assert url(incident, rest) not in read(operator[1], incident).links  # it is being undone

    def test_what_keeps_no_copy_is_said_so(self, operator, archive):
        incident = of_service(archive, operator[0])
        restore = self.restored(archive, incident, operator[0])
        Restore.objects.update(safety_copy="dropped")
        rest = f"restore/{restore.pk}/undo/"
        assert url(incident, rest) not in read(operator[1], incident).links
        sent = operator[1].post(url(incident, rest), {"request_key": new_key()})
        assert "nothing to put back" in page_of(sent).text

    def test_a_restore_of_another_incident_is_none_of_this(self, operator, archive):
        restore = self.restored(archive, of_service(archive, operator[0]), operator[0])
        other = of_service(archive, operator[0])
        assert operator[1].get(url(other, f"restore/{restore.pk}/undo/")).status_code == 404

    def test_who_works_alone_may_and_others_may_not(self, archive):
        user, client = person(Role.RESPONDER)
        alone = of_service(archive, user, solo=True)
        rest = f"restore/{self.restored(archive, alone, user).pk}/undo/"
        for role in (Role.MANAGER, Role.RESPONDER):
            _, other = person(role)
            assert other.post(url(alone, rest), {"request_key": new_key()}).status_code == 403
            assert url(alone, rest) not in read(other, alone).links
        assert url(alone, rest) in read(client, alone).links
        client.post(url(alone, rest), {"request_key": new_key()})
        assert Operation.objects.filter(procedure="backups.undo_restore").count() == 1


def test_a_very_long_note_is_folded(operator, incident):
    work.note(incident, "Short", by=operator[0])
    work.note(incident, "word " * 6000 + "end", by=operator[0])
    page = operator[1].get(url(incident)).content.decode()
    entries = page.partition('id="timeline"')[2]
    assert entries.count('<details class="folded"><summary>word word') == 1 and "30003 characters" in entries
    assert "word end" in entries
