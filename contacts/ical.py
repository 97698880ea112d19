"""On-call as a calendar for other programs (RFC 5545): who has which shift, and when nobody has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.utils import timezone
from icalendar import Calendar, Event, vText

from contacts import rota
from contacts.models import CalendarFeed, Level, OnCallSchedule

PAST = timedelta(days=365)
COMING = timedelta(days=90)


def of_feed(feed: CalendarFeed, now: datetime | None = None) -> bytes:
    """The calendar of a schedule, or of one contact's shifts in all of them."""
    now = now or timezone.now()
    calendar = Calendar()
    calendar.add("prodid", "-//Ops Portal//On call//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add("x-wr-calname", vText(f"On call: {feed.schedule or feed.contact}"))
    calendar.add("refresh-interval", timedelta(hours=1), parameters={"VALUE": "DURATION"})
    schedules = [feed.schedule] if feed.schedule else OnCallSchedule.objects.all()
    for schedule in schedules:
        for level, shifts in rota.timelines(schedule, now - PAST, now + COMING).items():
            for shift in shifts:
                if feed.contact is None or shift.contact == feed.contact:
                    calendar.add_component(_event(schedule, level, shift, now))
    return bytes(calendar.to_ical())


def _event(schedule: OnCallSchedule, level: Level, shift: rota.Shift, now: datetime) -> Event:
    """A shift. Its id is made of where and when it begins, so that a program that reads again sees the same shift."""
    event = Event()
    event.add("uid", f"oncall-{schedule.pk}-{level.value}-{shift.starts_at.astimezone(UTC):%Y%m%dT%H%M%SZ}@ops-portal")
    event.add("dtstamp", now.astimezone(UTC))
    event.add("dtstart", shift.starts_at.astimezone(UTC))
    event.add("dtend", shift.ends_at.astimezone(UTC))
    event.add("summary", f"{shift.contact or 'Nobody on call'} · {schedule}, {level.label.lower()}")
    if shift.is_override:
        event.add("description", "Stands in.")
    event.add("transp", "TRANSPARENT")
    if settings.PORTAL_URL:
        event.add("url", f"{settings.PORTAL_URL}{schedule.get_absolute_url()}")
    return event
