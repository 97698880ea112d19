"""What had been said of an incident where others read, before it became confidential: left with its number alone."""

from __future__ import annotations

from django.db.models import Q

from backups.models import Archive, Restore
from contacts.models import Escalation, Notification
from contacts.querysets import EscalationQuerySet
from core.links import detail_url
from incidents import news
from incidents.models import Audience, Incident
from operations.models import Event, Operation

# What may stay in the news: what it is about, and nothing of how grave it is.
NUMBERS = frozenset(["incident", "escalation", "subject_type", "subject_id"])


def hush(row: Incident) -> None:
    """In the news, in escalations, in the outbox, in the reasons of operations that were started from it."""
    said = news.harmless(row)
    ladders = Escalation.objects.of(row)
    for event in _news_of(row, ladders):
        named = {key: value for key, value in event.data.items() if key in NUMBERS}
        Event.objects.filter(pk=event.pk).update(sentence=said, data={**named, "number": row.number, "sentence": said})
    _hush_outbox(row, ladders, said)
    _hush_operations(row)
    ladders.update(title=said, situation="", severity_words="")


def _news_of(row: Incident, ladders: EscalationQuerySet) -> list[Event]:
    own = Event.objects.filter(subject_type=row._meta.label_lower, subject_id=row.pk)
    climbed = Event.objects.filter(
        subject_type=Escalation._meta.label_lower, subject_id__in=list(ladders.values_list("pk", flat=True))
    )
    return [*own, *climbed]


def _hush_outbox(row: Incident, ladders: EscalationQuerySet, said: str) -> None:
    """Messages are known by what they lead to and by their keys; one that a page was given up quotes that page."""
    _withhold_from_the_public(row)
    about = Q(escalation__in=ladders) | Q(url=row.get_absolute_url())
    for beginning in _key_beginnings(row, ladders):
        about |= Q(key__startswith=beginning)
    found = list(Notification.objects.filter(about))
    failed = Q(key__startswith="notification-failed:", url__in=[detail_url(each) for each in found])
    Notification.objects.filter(Q(pk__in=[each.pk for each in found]) | failed).update(subject=said, body="")


def _key_beginnings(row: Incident, ladders: EscalationQuerySet) -> list[str]:
    """Of reminders, updates and pages; see incidents.duties, incidents.actions.updates and contacts.paging."""
    return [
        f"update:{row.pk}:",
        f"stage:{row.pk}:",
        *(f"incident-update:{pk}:" for pk in row.updates.values_list("pk", flat=True)),
        *(f"action-item:{pk}:" for pk in row.actions.values_list("pk", flat=True)),
        *(f"escalation:{pk}:" for pk in ladders.values_list("pk", flat=True)),
    ]


def _withhold_from_the_public(row: Incident) -> None:
    """What has not gone out yet does not: there not even the number is for strangers."""
    waiting = Notification.objects.filter(state=Notification.State.PENDING)
    for pk in row.updates.filter(audience=Audience.PUBLIC).values_list("pk", flat=True):
        waiting.filter(key__startswith=f"incident-update:{pk}:").update(
            state=Notification.State.CANCELLED, due_at=None, claimed_until=None
        )


def _hush_operations(row: Incident) -> None:
    """Their reasons begin with the number of the incident; what follows it was typed by somebody. Reasons of what was
    started elsewhere and only linked are not about the incident."""
    mark = f"Incident {row.number}."
    started = Operation.objects.filter(incidents__incident=row, trigger=Operation.Trigger.INCIDENT)
    for operation in started:
        for model, which in (
            (Operation, {"pk": operation.pk}),
            (Archive, {"operation": operation}),
            (Restore, {"operation": operation}),
        ):
            for found in model._base_manager.filter(**which, reason__contains=mark):
                before, _, _ = found.reason.partition(mark)
                model._base_manager.filter(pk=found.pk).update(reason=before + mark)
