"""Updates: the teams' own texts, who is told once, what the public may read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.core.exceptions import PermissionDenied
from django.urls import reverse

from contacts.models import Channel, Notification
from core.roles import Role
from incidents import patterns, timeline, updates
from incidents.actions import declare
from incidents.actions import updates as actions
from incidents.exceptions import IncidentError
from incidents.models import Incident, MessageTemplate, TimelineEntry, Update
from tests.contacts.factories import ChannelFactory, ContactFactory, SeverityFactory
from tests.factories import PersonFactory, ServiceFactory, browser
from tests.incidents.factories import IncidentFactory, PublicComponentFactory, TemplateFactory
from tests.pages import page_of

pytestmark = pytest.mark.django_db
Kind, Source = TimelineEntry.Kind, TimelineEntry.Source
BERLIN = ZoneInfo("Europe/Berlin")
S1 = (
    "🚨 INCIDENT: {service} - {title}\n\nStatus: {status}\nSeverity: {severity}\n"
    "Impact: {users} users affected\nETA: {eta}\n\nUpdates:\n{timeline}"
)


def responder():
    return PersonFactory(role=Role.RESPONDER)


def send(incident, *, by=None, **values):
    values = {"audience": "internal", "text": "We look at it.", "channels": [], **values}
    return actions.send(incident, by=by or responder(), **values)


# -- texts ------------------------------------------------------------------------------------------------------------


@time_machine.travel(datetime(2026, 1, 31, 14, 30, tzinfo=BERLIN), tick=False)
def test_s1_message_reads_as_the_team_writes_it():
    severity = SeverityFactory(code="CRITICAL", name="Critical", service=ServiceFactory(name="Orders"))
    incident = IncidentFactory(severity=severity, title="Nobody can order", users_affected=1200, eta="15:00")
    for minute, kind, text in (
        (5, Kind.STATE, "Initial alert received"),
        (12, Kind.ROOT_CAUSE, "Disk full"),
        (20, Kind.FIX, "Old logs removed"),
        (25, Kind.NOTE, "Not for the message"),
    ):
        at = datetime(2026, 1, 31, 14, minute, tzinfo=BERLIN)
        timeline.write(incident, text, kind=kind, source=Source.PERSON, at=at)
    assert updates.render(S1, incident) == (
        "🚨 INCIDENT: Orders - Nobody can order\n\nStatus: INVESTIGATING\nSeverity: CRITICAL\n"
        "Impact: 1,200 users affected\nETA: 15:00\n\nUpdates:\n"
        "- 14:05 Initial alert received\n- 14:12 Root cause identified: Disk full\n"
        "- 14:20 Resolution implemented: Old logs removed"
    )


@time_machine.travel(datetime(2026, 1, 31, 13, 0, tzinfo=UTC), tick=False)
def test_s3_messages():
    incident = IncidentFactory(started_at=datetime(2026, 1, 31, 12, 41, tzinfo=UTC))  # 13:41 in Berlin
    for body, text in (
        (
            "Outage detected at {since}. Investigating...",
            "Outage detected at 13:41 CET. Investigating...",
        ),
        ("System in maintenance", "System in maintenance"),
        ("System restored", "System restored"),
    ):
        assert updates.trouble_with(body, public=True) == ""
        assert updates.render(body, incident, public=True) == text
    incident.started_at -= timedelta(days=1)
    assert updates.render("{since}", incident) == "2026-01-30 13:41 CET"


def test_s2_name_of_the_room():
    day = datetime(2026, 1, 31, tzinfo=UTC).date()
    pattern = "#incident-smartcloudops-{yyyymmdd}-{severity}"
    assert patterns.room_of(pattern, day, "x", "P0", "INC") == "#incident-smartcloudops-20260131-P0"


def test_what_is_not_known_is_said_as_a_person_would():
    text = updates.render(S1, IncidentFactory(severity=None, service=None))
    assert "Severity: not set" in text
    assert "Impact: an unknown number of users affected" in text
    assert "ETA: not known yet" in text
    assert text.endswith("Updates:\n- nothing yet")


def test_rendering_never_fails():
    incident = IncidentFactory(severity=None, service=None)
    everything = " ".join(f"{{{name}}}" for name in updates.PLACEHOLDERS)
    for body in ("{nothing} { } {} {{title}} {title.__class__} {0} {title!r:>10", "}{", "", everything):
        for public in (True, False):
            assert isinstance(updates.render(body, incident, public=public), str)
    assert updates.render("{nothing}", incident) == "{nothing}"


def test_every_placeholder_is_filled():
    values = updates.placeholders(IncidentFactory())
    assert set(values) == set(updates.PLACEHOLDERS)
    assert set(updates.placeholders(IncidentFactory(), public=True)) == set(updates.known(public=True))


def test_a_corrected_entry_reads_as_corrected():
    incident = IncidentFactory()
    wrong = timeline.write(incident, "Disk is full", kind=Kind.ROOT_CAUSE, source=Source.PERSON)
    timeline.write(incident, "Memory was full", kind=Kind.CORRECTION, source=Source.PERSON, corrects=wrong)
    assert "Memory was full" in updates.render("{timeline}", incident)
    assert "Disk" not in updates.render("{timeline}", incident)


def test_an_unknown_placeholder_is_refused_with_the_known_ones():
    client = browser(PersonFactory(role=Role.ADMINISTRATOR))
    address = reverse("admin:incidents_messagetemplate_add")
    values = {"name": "Outage", "audience": "internal", "body": "{servise}: {title}"}
    text = page_of(client.post(address, values)).text
    assert "{servise} is not known. Use {service}, {title}," in text
    values |= {"body": "{service}: {commander}", "audience": "public", "public_status": "investigating"}
    assert "{commander} is internal and cannot stand in a public text." in page_of(client.post(address, values)).text
    assert not MessageTemplate.objects.exists()
    assert client.post(address, values | {"body": "{service}: {title}"}).status_code == 302
    with pytest.raises(IncidentError, match="not known"):
        actions.save_template(TemplateFactory.build(body="{x}"))


def test_a_public_text_says_the_public_title():
    incident = IncidentFactory(title="INTERNAL", public_title="Orders are slow", public_status="identified")
    template = TemplateFactory(audience="public", public_status="monitoring", body="{title}: {status}")
    assert updates.preview(template, incident) == "Orders are slow: Monitoring"
    assert incident.public_status == "identified"


# -- sending ----------------------------------------------------------------------------------------------------------


def test_an_update_is_kept_told_and_noted():
    severity = SeverityFactory(update_every=timedelta(hours=1))
    incident = IncidentFactory(severity=severity, update_told_at=datetime(2026, 1, 1, tzinfo=UTC))
    channels = [ChannelFactory(), ChannelFactory()]
    update = send(incident, channels=channels, text=" We look at it. ")
    incident.refresh_from_db()
    assert update.text == "We look at it."
    assert set(update.channels.all()) == set(channels)
    assert incident.update_due_at == update.at + timedelta(hours=1)
    assert incident.update_told_at is None
    told = Notification.objects.order_by("pk")
    assert [row.channel for row in told] == channels
    assert {row.body for row in told} == {"We look at it."}
    assert {row.url for row in told} == {incident.get_absolute_url()}
    entry = incident.timeline.get()
    assert (entry.kind, entry.user) == (Kind.UPDATE, update.by)
    assert entry.text == f"Internal update, sent to {channels[0].name}, {channels[1].name}:\nWe look at it."
    assert not incident.public


@pytest.mark.parametrize(
    ("every", "expected"), [(timedelta(hours=1), timedelta(hours=1)), (timedelta(0), None), (None, None)]
)
def test_the_next_update_is_due_by_the_cadence(every, expected):
    incident = IncidentFactory(severity=SeverityFactory(update_every=every))
    incident.update_due_at = incident.started_at
    incident.save()
    update = send(incident)
    incident.refresh_from_db()
    assert incident.update_due_at == (update.at + expected if expected else None)


def test_s4_cadence_in_words():
    def words(**values):
        return updates.cadence_words(IncidentFactory(severity=SeverityFactory(**values)))

    assert words(update_every=timedelta(0)) == "at every change"
    assert words(update_every=timedelta(hours=1)) == "every 1 h"
    assert words(update_every=timedelta(days=1)) == "every 1 d"
    assert words(update_words="at sprint planning") == "at sprint planning"
    assert words() == updates.cadence_words(IncidentFactory(severity=None)) == "not set"


def test_after_the_end_no_update_is_due():
    incident = IncidentFactory(resolved=True, severity=SeverityFactory(update_every=timedelta(hours=1)))
    send(incident)
    incident.refresh_from_db()
    assert incident.update_due_at is None


def test_the_same_key_sends_once():
    incident, channel, by = IncidentFactory(), ChannelFactory(), responder()
    first = send(incident, channels=[channel], key="k", by=by)
    assert send(incident, channels=[channel], key="k", by=by) == first
    assert Update.objects.count() == Notification.objects.count() == incident.timeline.count() == 1
    with pytest.raises(IncidentError, match="another incident"):
        send(IncidentFactory(), key="k", by=by)


def test_the_public_is_told_what_it_may_read():
    incident = IncidentFactory(title="INTERNAL")
    channel = ChannelFactory(purposes=["public"])
    send(
        incident,
        audience="public",
        public_status="identified",
        public_title="Orders are slow",
        text="We found it.",
        channels=[channel],
    )
    incident.refresh_from_db()
    assert (incident.public, incident.public_status, incident.public_title) == (True, "identified", "Orders are slow")
    row = Notification.objects.get()
    assert (row.subject, row.body, row.url) == ("Orders are slow: Identified", "We found it.", "")
    send(incident, audience="public", public_status="resolved", text="Done.")
    incident.refresh_from_db()
    assert (incident.public_status, incident.state) == ("resolved", "open")  # apart from the state inside


def test_public_updates_need_words_for_the_public():
    incident = IncidentFactory()
    for values, sentence in (
        ({"public_status": "", "public_title": "A"}, "Choose the public status"),
        ({"public_status": "identified"}, "Give a public title"),
        ({"public_status": "identified", "public_title": "A" * 201}, "title"),
        ({"public_status": "identified", "public_title": "A", "text": " "}, "Write what"),
    ):
        with pytest.raises(IncidentError, match=sentence):
            send(incident, audience="public", **values)
    with pytest.raises(IncidentError, match="who is told"):
        send(incident, audience="everybody")
    assert not Update.objects.exists()


def test_a_confidential_incident_is_not_told():
    by = PersonFactory(role=Role.RESPONDER)
    incident = IncidentFactory(title="SECRET", confidential=True, declared_by=by)
    with pytest.raises(IncidentError, match="confidential"):
        send(incident, by=by, audience="public", public_status="identified", public_title="A")
    send(incident, by=by, text="SECRET text", channels=[ChannelFactory()])
    row = Notification.objects.get()
    assert "SECRET" not in row.subject + row.body
    with pytest.raises(PermissionDenied):
        send(incident)


@pytest.mark.parametrize("role", [Role.MANAGER, Role.APPROVER, None])
def test_who_may_not_send(role):
    incident, person = IncidentFactory(), PersonFactory(role=role)
    with pytest.raises(PermissionDenied):
        send(incident, by=person)
    address = reverse("incidents-update", args=[incident.pk])
    assert browser(person).get(address).status_code == 403
    assert browser(person).post(address, {"send": "1"}).status_code == 403


def test_taken_off_the_status_page():
    incident = IncidentFactory(public=True, public_status="identified", public_title="Orders are slow")
    by = responder()
    client = browser(by)
    assert client.post(reverse("incidents-update", args=[incident.pk]), {"hide": "1"}).status_code == 302
    actions.hide(incident, by=by)
    incident.refresh_from_db()
    assert not incident.public
    assert incident.timeline.count() == 1
    with pytest.raises(PermissionDenied):
        actions.hide(incident, by=PersonFactory(role=Role.MANAGER))


# -- the page ---------------------------------------------------------------------------------------------------------


def test_from_template_to_sent_and_a_double_click_is_one():
    channel = ChannelFactory(purposes=["incident"])
    ChannelFactory(service=ServiceFactory(), name="#of-another-service")
    ChannelFactory(enabled=False, name="#off")
    incident = IncidentFactory(title="Orders cannot be saved")
    template = TemplateFactory(body="{service}: {title}")
    TemplateFactory(service=ServiceFactory(), name="Of another service")
    client, address = browser(responder()), reverse("incidents-update", args=[incident.pk])
    page = page_of(client.get(address, {"template": template.pk}))
    assert "#off" not in page.text
    assert "another" not in page.text
    form = next(form for form in page.forms if "text" in form.fields)
    assert form.fields["text"] == f"{incident.service}: Orders cannot be saved"
    assert form.fields["channels"] == str(channel.pk)
    checked = page_of(client.post(address, form.fields))
    assert "Orders cannot be saved" in checked.text
    assert channel.name in checked.text
    assert not Update.objects.exists()
    values = {**checked.post.fields, "send": "1"}
    for _ in range(2):
        assert client.post(address, values).status_code == 302
    assert Update.objects.get().template == template
    assert Notification.objects.count() == 1


def test_the_page_names_what_is_wrong():
    incident = IncidentFactory()
    client, address = browser(responder()), reverse("incidents-update", args=[incident.pk])
    text = page_of(client.post(address, {"audience": "public", "text": "Hello"})).text
    assert "Choose what the status page says." in text
    assert "Give a title that the public may read." in text
    lost = page_of(client.post(address, {"audience": "internal", "text": "Hello", "send": "1"})).text
    assert "lost its one-time key" in lost
    assert not Update.objects.exists()
    Incident.objects.filter(pk=incident.pk).update(confidential=True)
    assert client.get(address).status_code == 404  # it does not exist for those who are not named in it


def test_a_missing_address_is_flagged():
    incident = IncidentFactory()
    channel = ChannelFactory(address="")
    assert channel.is_missing
    client, address = browser(responder()), reverse("incidents-update", args=[incident.pk])
    assert f"{channel.name} (Mailing list, address missing)" in page_of(client.get(address)).text


def test_a_title_for_the_public_is_suggested():
    incident = IncidentFactory(title="INTERNAL", service=ServiceFactory(name="Shop"))
    assert updates.suggested_public_title(incident) == ""  # the service's name stays inside: a person writes one
    incident.components.add(PublicComponentFactory(name="Ordering").component)
    assert updates.suggested_public_title(incident) == "Disturbance of Ordering"


def test_the_log_of_updates_hides_what_is_confidential():
    shown, hidden = IncidentFactory(), IncidentFactory(confidential=True)
    Update.objects.create(incident=shown, audience="internal", text="Everybody reads this")
    secret = Update.objects.create(incident=hidden, audience="internal", text="SECRET")
    client = browser(PersonFactory(role=Role.MANAGER))
    text = page_of(client.get(reverse("admin:incidents_update_changelist"))).text
    assert "Everybody reads this" in text
    assert "SECRET" not in text
    assert client.get(reverse("admin:incidents_update_detail", args=[secret.pk])).status_code == 404
    assert client.get(reverse("admin:incidents_update_detail", args=[shown.updates.get().pk])).status_code == 200


def test_declared_and_told():
    """From the declaration with its cadence to the first update."""
    by = responder()
    ContactFactory(user=by)
    severity = SeverityFactory(update_every=timedelta(minutes=30))
    incident = declare.declare("Nobody can order", severity=severity, by=by, escalate=False)
    assert incident.update_due_at == incident.declared_at + timedelta(minutes=30)
    update = send(incident, by=by, channels=[Channel.objects.create(name="#a", kind="hand", address="1")])
    incident.refresh_from_db()
    assert incident.update_due_at == update.at + timedelta(minutes=30)


def test_after_a_public_update_it_says_what_stands_where(settings):
    incident, client = IncidentFactory(), browser(responder())
    address = reverse("incidents-update", args=[incident.pk])
    said = {"audience": "public", "text": "Hello", "public_status": "identified", "public_title": "Orders", "send": "1"}
    first = client.post(address, {**said, "request_key": "one"}, follow=True)
    assert "Published on the status page as “Identified”; no channel was told." in page_of(first).text
    settings.STATUS_PAGE = False
    second = client.post(address, {**said, "request_key": "two"}, follow=True)
    assert "Kept as “Identified”; the status page is switched off, and no channel was told." in page_of(second).text
    third = client.post(
        address, {"audience": "internal", "text": "x", "send": "1", "request_key": "three"}, follow=True
    )
    assert "Kept with the incident; no channel was told." in page_of(third).text
