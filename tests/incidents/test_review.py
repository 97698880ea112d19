"""Reviews: the draft from the record, S2's report and names, publishing, search."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine
from auditlog.models import LogEntry
from django.core.exceptions import PermissionDenied
from django.urls import reverse

from contacts.models import Level, OnCallRecord
from core.links import list_url, page_url
from core.roles import Role
from incidents import review as sheets
from incidents import timeline
from incidents.actions import declare, work
from incidents.actions import review as actions
from incidents.exceptions import IncidentError
from incidents.models import Assignment, IncidentOperation, Review, TimelineEntry
from tests.contacts.factories import ContactFactory, OnCallScheduleFactory, SeverityFactory
from tests.factories import OperationFactory, PersonFactory, RestoreFactory, ServiceFactory, browser
from tests.incidents.factories import ActionItemFactory, IncidentFactory, ProfileFactory, ReviewFactory
from tests.pages import page_of

pytestmark = pytest.mark.django_db
Kind, Source = TimelineEntry.Kind, TimelineEntry.Source
SECTIONS = (
    "Summary",
    "Timeline",
    "Root cause analysis",
    "Impact",
    "Times",
    "Resolution steps",
    "Lessons learned",
    "Action items",
    "Evidence",
    "Follow-up",
)
START = datetime(2026, 1, 31, 13, 0, tzinfo=UTC)  # 14:00 in Berlin


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


@pytest.fixture
def incident():
    """An hour of S2's trouble, with everything a report asks for."""
    service = ServiceFactory(name="SmartCloudOps", slug="smartcloudops", time_zone="Europe/Berlin")
    row = IncidentFactory(
        number="INC-2026-01-31-001",
        title="Predictions fail",
        severity=SeverityFactory(service=service, code="P0", name="Critical", rank=1),
        state="resolved",
        started_at=at(0),
        declared_at=at(2),
        acknowledged_at=at(6),
        mitigated_at=at(40),
        resolved_at=at(65),
        response_due_at=at(17),
        impacts=["System down completely"],
        impact_words="No predictions for anybody.",
        users_affected=1200,
        data_loss="none",
        cost="about 2,000 EUR",
        workaround="Use yesterday's.",
        resolution="Rolled back the model.",
    )
    for minute, kind, text in (
        (2, Kind.STATE, "Declared"),
        (25, Kind.ROOT_CAUSE, "The model file was empty"),
        (39, Kind.FIX, "Rolled back"),
        (41, Kind.NOTE, "Coffee"),
    ):
        timeline.write(row, text, kind=kind, source=Source.PERSON, actor="Ann", at=at(minute))
    return row


# -- the draft --------------------------------------------------------------------------------------------------------


def test_resolving_drafts_it_and_what_was_written_stays():
    by = PersonFactory(role=Role.RESPONDER)
    incident = declare.declare("Nobody can order", severity=SeverityFactory(), by=by, escalate=False)
    work.resolve(incident, by=by, text="Restarted it.")
    review = Review.objects.get()
    assert review.title == f"Post-Incident Review - {incident.number}"
    assert review.state == "draft"
    assert "Nobody can order" in review.summary
    actions.save(review, by=by, summary="By hand")
    work.reopen(incident, by=by, reason="Again")
    work.resolve(incident, by=by)
    assert Review.objects.get().summary == "By hand"


def test_the_draft_says_what_the_record_knows(incident):
    review = sheets.draft_for(incident)
    assert review.summary == (
        "Predictions fail (SmartCloudOps, P0 Critical). It began at 2026-01-31 14:00 CET and was declared at "
        "2026-01-31 14:02 CET. It was resolved at 2026-01-31 15:05 CET, after 1 h 5 min."
    )
    assert review.impact == "System down completely\nNo predictions for anybody."
    assert review.root_cause == "The model file was empty"
    assert review.resolution == "Rolled back the model.\nWorkaround: Use yesterday's."
    assert "What went well?" in review.lessons
    assert review.meeting_at is review.review_on is None  # nobody has set them


def test_s2_attendees_are_those_with_a_role_and_those_on_call(incident):
    lead, stand_in, on_call, senior, manager = (
        ContactFactory(name=name, title=title)
        for name, title in (
            ("Lea", "Lead"),
            ("Sam", ""),
            ("Ona", "On-call engineer"),
            ("Sue", "Senior engineer"),
            ("Max", "Engineering manager"),
        )
    )
    Assignment.objects.create(incident=incident, role="commander", primary=lead, backup=stand_in)
    schedule = OnCallScheduleFactory(service=incident.service, recorded_until=at(300))
    for level, contact in zip(Level, (on_call, senior, manager), strict=True):
        OnCallRecord.objects.create(
            schedule=schedule, level=level, contact=contact, starts_at=at(-600), ends_at=at(300)
        )
    OnCallScheduleFactory(service=ServiceFactory())
    review = sheets.draft_for(incident)
    assert set(review.attendees.all()) == {lead, stand_in, on_call, senior, manager}
    assert review.owner == lead
    assert "Sue (Senior engineer)" in sheets.markdown(review)


def test_s2_report_as_markdown(incident):
    review = sheets.draft_for(incident)
    review.review_on, review.lessons = date(2026, 2, 28), "Check the size of files."
    review.save()
    ActionItemFactory(incident=incident, text="Check sizes", owner=ContactFactory(name="Ann"), due_on=date(2026, 2, 7))
    ActionItemFactory(incident=incident, text="Tell everybody", done_at=at(100))
    assert sheets.markdown(review) == (
        "# Post-Incident Review - INC-2026-01-31-001\n\n"
        "- **Incident ID**: INC-2026-01-31-001\n"
        "- **Date**: 2026-01-31\n"
        "- **Start – end**: 2026-01-31 14:00 CET – 2026-01-31 15:05 CET\n"
        "- **Severity**: P0 Critical\n"
        "- **Affected services**: SmartCloudOps\n\n"
        f"## Summary\n\n{review.summary}\n\n"
        "## Timeline\n\n"
        "- **Detected**: 2026-01-31 14:02 CET\n"
        "- **Initial response**: 2026-01-31 14:06 CET\n"
        "- **Root cause identified**: 2026-01-31 14:25 CET\n"
        "- **Resolution implemented**: 2026-01-31 14:39 CET\n"
        "- **Service restored**: 2026-01-31 15:05 CET\n\n"
        "- 2026-01-31 14:02 CET: Declared (Ann)\n"
        "- 2026-01-31 14:25 CET: The model file was empty (Ann)\n"
        "- 2026-01-31 14:39 CET: Rolled back (Ann)\n\n"
        "## Root cause analysis\n\nThe model file was empty\n\n"
        "## Impact\n\n"
        "- **Users affected**: 1,200\n"
        "- **Downtime**: 1 h 5 min\n"
        "- **Data loss**: No\n"
        "- **Financial impact**: about 2,000 EUR\n\n"
        "System down completely\nNo predictions for anybody.\n\n"
        "## Times\n\n"
        "- **Time to acknowledge**: 4 min\n"
        "- **Time to mitigate**: 40 min\n"
        "- **Time to recover**: 1 h 3 min\n"
        "- **Response met**: yes\n\n"
        "## Resolution steps\n\nRolled back the model.\nWorkaround: Use yesterday's.\n\n"
        "## Lessons learned\n\nCheck the size of files.\n\n"
        "## Action items\n\n"
        "- [ ] Check sizes (owner Ann, due 2026-02-07)\n"
        "- [x] Tell everybody (no owner)\n\n"
        "## Evidence\n\nNot set.\n\n"
        "## Follow-up\n\n"
        "- **Meeting**: not set\n"
        "- **Attendees**: not set\n"
        "- **Review date**: 2026-02-28\n"
        "- **Owner**: not set\n"
    )


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("docs/incidents/{date}-{number}.md", "2026-01-31-INC-2026-01-31-001.md"),
        ("{service} {number}", "smartcloudops INC-2026-01-31-001.md"),
        ("../../etc/passwd", "passwd.md"),
        ('a"\r\nb{number}', "a- bINC-2026-01-31-001.md"),
        ("...", "INC-2026-01-31-001.md"),
    ],
)
def test_the_file_is_named_by_the_pattern(incident, pattern, name):
    ProfileFactory(service=incident.service, export_pattern=pattern)
    assert sheets.file_name(sheets.draft_for(incident)) == name


def test_restores_stand_in_it_with_what_they_took(incident):
    restore = RestoreFactory(archive__snapshot_at=at(-60), archive__age=timedelta(hours=2))
    IncidentOperation.objects.create(incident=incident, operation=restore.operation)
    IncidentOperation.objects.create(incident=incident, operation=OperationFactory())
    (sentence,) = sheets.sheet(sheets.draft_for(incident)).restores
    assert "Recovery took 42 s (RTO 5 min, met)" in sentence
    assert "its data was 1 h older than the incident (RPO 1 d, met)" in sentence


def test_what_people_write_does_not_break_the_document(incident):
    review = sheets.draft_for(incident)
    review.title = "Orders\n# Not a heading"
    review.lessons = "# Heading\n===\n---\n- a list\n1. stays\n    code\n```\n"
    review.lessons += "<b>x</b> [a](b) | *now* file_name _x_\n& co"
    review.save()
    ActionItemFactory(incident=incident, text="Check [this] <now>")
    timeline.write(incident, "All\n## of *it*", kind=Kind.DECISION, source=Source.PERSON, actor="Ann_ *")
    text = sheets.markdown(review)
    assert text.startswith("# Orders # Not a heading\n")
    lessons = text.partition("## Lessons learned\n\n")[2].partition("\n\n## Action items")[0]
    assert lessons.split("\n") == [
        "\\# Heading",
        "\\===",
        "\\---",
        "- a list",
        "1. stays",
        "code",
        "\\`\\`\\`",
        "\\<b\\>x\\</b\\> \\[a\\](b) \\| \\*now\\* file_name \\_x\\_",
        "\\& co",
    ]
    assert "- [ ] Check \\[this\\] \\<now\\> (no owner)" in text
    assert ": All ## of \\*it\\* (Ann\\_ \\*)" in text
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == ["# Orders # Not a heading", *(f"## {name}" for name in SECTIONS)]


def test_what_is_not_set_reads_so():
    review = sheets.draft_for(IncidentFactory(severity=None, service=None))
    text = sheets.markdown(review)
    for line in (
        "**Severity**: not set",
        "**Users affected**: not set",
        "**Downtime**: not over yet",
        "**Data loss**: not set",
        "**Response met**: not set",
        "**Time to acknowledge**: –",
    ):
        assert line in text


# -- writing it -------------------------------------------------------------------------------------------------------


def test_published_it_is_closed_to_edits(incident):
    by = PersonFactory(role=Role.RESPONDER)
    review = sheets.draft_for(incident)
    for _ in range(2):
        actions.publish(review, by=by)
    for act in (lambda: actions.save(review, by=by, summary="A"), lambda: actions.regenerate(review, by=by)):
        with pytest.raises(IncidentError, match="published"):
            act()
    actions.take_back(review, by=by)
    actions.save(review, by=by, summary="A", attendees=[ContactFactory()])
    texts = [entry.text for entry in incident.timeline.filter(user=by)]
    assert texts == [
        "The review was published.",
        "The review was taken back to a draft.",
        "The review was changed: attendees, summary.",
    ]


def test_what_stands_in_the_way_of_publishing():
    by = PersonFactory(role=Role.RESPONDER)
    with pytest.raises(IncidentError, match="still open"):
        actions.publish(ReviewFactory(incident=IncidentFactory(), root_cause="A"), by=by)
    with pytest.raises(IncidentError, match="root cause"):
        actions.publish(ReviewFactory(root_cause=" "), by=by)


def test_drafting_anew_replaces_the_prose_and_keeps_the_meeting(incident):
    by = PersonFactory(role=Role.RESPONDER)
    review = sheets.draft_for(incident)
    actions.save(review, by=by, summary="By hand", meeting_at=at(6000), review_on=date(2026, 3, 1))
    review = actions.regenerate(review, by=by)
    assert review.summary.startswith("Predictions fail")
    assert (review.meeting_at, review.review_on) == (at(6000), date(2026, 3, 1))


@pytest.mark.parametrize("role", [Role.MANAGER, Role.APPROVER, None])
def test_who_may_not_write(incident, role):
    review, person = sheets.draft_for(incident), PersonFactory(role=role)
    for act in (actions.publish, actions.take_back, actions.regenerate, actions.save):
        with pytest.raises(PermissionDenied):
            act(review, by=person)
    with pytest.raises(PermissionDenied):
        actions.draft(incident, by=person)
    client = browser(person)
    for button in ("publish", "regenerate"):
        assert client.get(page_url(review, "do", button)).status_code in (403, 404)
    assert client.post(page_url(review, "change"), {"title": "A"}).status_code in (302, 403)
    assert Review.objects.get().title != "A"


def test_drafted_anew_after_a_reopening_and_what_people_wrote_stays(incident):
    by = PersonFactory(role=Role.RESPONDER)
    ProfileFactory(service=incident.service, gates=["Users were informed"])
    review = sheets.draft_for(incident)
    actions.save(
        review,
        by=by,
        root_cause="By hand",
        summary=f"Read this first.\r\n{review.summary}",
        attendees=[ContactFactory()],
    )
    actions.publish(review, by=by)
    work.tick(incident, "Users were informed", gate=True, by=by)
    work.reopen(incident, by=by, reason="It is back")
    review.refresh_from_db()
    incident.refresh_from_db()
    assert (review.state, review.published_at) == ("draft", None)
    assert not incident.ticks.exists()
    assert incident.mitigated_at is None
    assert incident.timeline.filter(text__contains="confirmed again before it is closed: Users were informed.").exists()
    work.note(incident, "A new model was trained", kind=Kind.ROOT_CAUSE, by=by, at=at(90))
    work.note(incident, "Deployed it", kind=Kind.FIX, by=by, at=at(100))
    work.resolve(incident, by=by, text="Retrained the model.", at=at(125))
    review = Review.objects.get()
    assert review.summary.startswith("Read this first.\nPredictions fail")
    assert review.summary.endswith("It was resolved at 2026-01-31 16:05 CET, after 2 h 5 min.")
    assert review.root_cause == "By hand"
    assert review.resolution == "Rolled back the model.\nRetrained the model.\nWorkaround: Use yesterday's."
    assert review.attendees.count() == 1
    assert dict(sheets.marks_of(review.incident))["Resolution implemented"] == at(100)
    texts = list(incident.timeline.values_list("text", flat=True))
    assert "Drafted anew in the review: resolution, summary." in texts
    assert "In the review people wrote this, and it stays: root cause. Look whether it still holds." in texts
    with pytest.raises(IncidentError, match="Users were informed; The review is published|Users were informed"):
        work.close(incident, by=PersonFactory(role=Role.ADMINISTRATOR))


# -- pages ------------------------------------------------------------------------------------------------------------


def test_the_way_from_the_incident(incident):
    client = browser(PersonFactory(role=Role.RESPONDER))
    address = reverse("incidents-review", args=[incident.pk])
    page = page_of(client.get(address))
    assert "Draft it now" in page.text
    answer = client.post(address)
    review = Review.objects.get()
    assert answer["Location"] == client.get(address)["Location"] == review.get_absolute_url()
    text = page_of(client.get(review.get_absolute_url())).text
    for words in (
        "1 h 5 min",
        "about 2,000 EUR",
        "The model file was empty",
        "What went well?",
        "2026-01-31 14:06 CET",
    ):
        assert words in text
    manager = browser(PersonFactory(role=Role.MANAGER))
    assert manager.get(review.get_absolute_url()).status_code == 200
    other = IncidentFactory(resolved=True)
    assert "Draft it now" not in page_of(manager.get(reverse("incidents-review", args=[other.pk]))).text
    assert manager.post(reverse("incidents-review", args=[other.pk])).status_code == 403


def test_edited_published_and_exported_on_pages(incident):
    review, client = sheets.draft_for(incident), browser(PersonFactory(role=Role.RESPONDER))
    contact = ContactFactory()
    form = page_of(client.get(page_url(review, "change"))).post
    values = {**form.fields, "lessons": "Look twice.", "attendees": contact.pk, "meeting_at": "2026-02-02T10:00:00"}
    assert client.post(page_url(review, "change"), values).status_code == 302
    review.refresh_from_db()
    assert (review.lessons, list(review.attendees.all())) == ("Look twice.", [contact])
    asked = page_of(client.get(page_url(review, "do", "regenerate")))
    assert "What was written by hand is lost." in asked.text
    form = page_of(client.get(page_url(review, "do", "publish"))).post
    assert client.post(page_url(review, "do", "publish"), form.fields).status_code == 302
    review.refresh_from_db()
    assert review.state == "published"
    values["lessons"] = "Too late."
    refused = page_of(client.post(page_url(review, "change"), values))
    assert "This review was published since you opened it." in refused.text
    assert refused.post.fields["lessons"] == "Too late."
    assert "<textarea" not in client.get(page_url(review, "change")).content.decode()
    assert sheets.plain(Review.objects.get().lessons) == "Look twice."
    answer = client.get(page_url(review, "markdown"))
    assert answer["Content-Disposition"] == 'attachment; filename="2026-01-31-INC-2026-01-31-001.md"'
    assert "Look twice." in answer.content.decode()


def test_two_who_edit_at_once_lose_nothing(incident):
    review = sheets.draft_for(incident)
    ann, ben = ContactFactory(name="Ann"), ContactFactory(name="Ben")
    first, second = (browser(PersonFactory(role=Role.RESPONDER)) for _ in range(2))
    address = page_url(review, "change")
    forms = [page_of(client.get(address)).post.fields for client in (first, second)]
    mine = {**forms[0], "summary": "First was here.", "lessons": "Look\r\ntwice.", "attendees": ann.pk}
    assert first.post(address, mine).status_code == 302
    answer = second.post(address, {**forms[1], "summary": "Second too.", "root_cause": "A mouse", "attendees": ben.pk})
    assert answer.status_code == 200
    page = page_of(answer)
    assert "Somebody else has changed this review since you opened it." in page.text
    assert "Now it says: First was here." in " ".join(page.text.split())
    assert "Now it says: Ann" in " ".join(page.text.split())
    assert Review.objects.get().summary == "First was here."
    fields = page.post.fields
    assert (fields["summary"], fields["root_cause"]) == ("Second too.", "A mouse")
    assert sheets.plain(fields["lessons"]) == "Look\ntwice."  # left alone by the second: taken over
    both = {**fields, "summary": "First was here. Second too.", "attendees": [ann.pk, ben.pk]}
    assert second.post(address, both).status_code == 302
    review = Review.objects.get()
    assert (review.summary, review.root_cause) == ("First was here. Second too.", "A mouse")
    assert sheets.plain(review.lessons) == "Look\ntwice."
    assert set(review.attendees.all()) == {ann, ben}
    assert review.version == 2


def test_a_form_without_its_version_is_refused(incident):
    review = sheets.draft_for(incident)
    client = browser(PersonFactory(role=Role.RESPONDER))
    fields = page_of(client.get(page_url(review, "change"))).post.fields
    del fields["made_from"]
    assert client.post(page_url(review, "change"), {**fields, "summary": "Blind"}).status_code == 200
    assert Review.objects.get().summary != "Blind"


def test_of_a_confidential_incident_nothing_leaks(incident):
    incident.confidential = True
    incident.save()
    review = sheets.draft_for(incident)
    actions.save(review, by=PersonFactory(role=Role.ADMINISTRATOR), summary="CANARY")
    client = browser(PersonFactory(role=Role.RESPONDER))
    addresses = [page_url(review, page) for page in ("detail", "change", "history", "markdown")]
    addresses += [reverse("incidents-review", args=[incident.pk]), list_url(Review), list_url(Review, "q=canary")]
    for address in addresses:
        answer = client.get(address, follow=True)
        assert "CANARY" not in answer.content.decode()
        assert incident.number not in answer.content.decode()
    assert not LogEntry.objects.filter(changes__icontains="CANARY").exists()


def test_search_finds_words_in_reviews_and_their_incidents():
    by_review = ReviewFactory(lessons="Disks filled up silently", title="First")
    by_incident = ReviewFactory(incident__title="Certificates expired", title="Second")
    work.note(by_incident.incident, "A note", by=PersonFactory(role=Role.RESPONDER))
    from incidents.actions.writing import index

    index(by_incident.incident)
    client = browser(PersonFactory(role=Role.MANAGER))

    def found(words):
        return set(client.get(list_url(Review), {"q": words}).context["cl"].result_list)

    assert found("disk filling") == {by_review}
    assert found("certificate") == {by_incident}
    assert found(by_incident.incident.number) == {by_incident}
    assert found("disk certificate") == set()
    assert found("disk or certificate") == {by_review, by_incident}
    assert found('" & | ! (') == set()


@time_machine.travel(at(120), tick=False)
def test_the_draft_costs_few_queries(incident, django_assert_max_num_queries):
    for number in range(30):
        timeline.write(incident, f"Entry {number}", kind=Kind.STATE, source=Source.PERSON)
    with django_assert_max_num_queries(16):
        review = sheets.draft_for(incident)
    with django_assert_max_num_queries(12):
        sheets.markdown(review)
