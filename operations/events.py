"""The port through which news goes up: a room tells what has happened, and a higher room listens.

    ARCHIVE_DAMAGED = declare("archive.damaged", "An archive was read and is damaged")
    publish(ARCHIVE_DAMAGED, "backup_1 is damaged.", subject=archive)      # in the transaction of the change

    @receiver(ARCHIVE_DAMAGED)
    def deliver(event: Event) -> None: ...                                 # inserts rows of its own, nothing else

The row is written with the change it reports, so that no crash comes between them. A receiver that fails loses what it
would have written, says so in the log, and costs neither the change nor the news nor another receiver.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, connection, models, transaction

from operations.models import Event, Operation
from operations.report import described

logger = logging.getLogger(__name__)

NAMES: dict[str, str] = {}
"""Every kind of news there is, and when it comes."""

Receiver = Callable[[Event], None]
ManyReceiver = Callable[[Sequence[Event]], None]
_receivers: dict[Receiver, Collection[str]] = {}
"""What each wants to hear; nothing: everything."""
_many: dict[Receiver, ManyReceiver] = {}


def declare(name: str, when: str) -> str:
    """Make a kind of news known; returns its name."""
    NAMES[name] = when
    return name


OPERATION_ENDED = declare("operation.ended", "An operation has ended, well or not")
SLOTS_MISSED = declare("schedule.missed", "Due times of a schedule passed without a start")


def receiver(*names: str) -> Callable[[Receiver], Receiver]:
    """Decorator: call it with every event of these names, or with every event at all, in the transaction of it."""

    def decorate(function: Receiver) -> Receiver:
        _receivers[function] = frozenset(names)
        return function

    return decorate


def takes_many(one: Receiver) -> Callable[[ManyReceiver], ManyReceiver]:
    """Decorator: what the receiver `one` does, for many events in fewer statements."""

    def decorate(many: ManyReceiver) -> ManyReceiver:
        _many[one] = many
        return many

    return decorate


def publish(
    name: str,
    sentence: str,
    *,
    subject: models.Model | None = None,
    operation: Operation | None = None,
    data: Mapping[str, Any] | None = None,
) -> Event:
    """Write the news down and tell the receivers. Call it in the transaction of the change it reports."""
    event = _event(name, sentence, subject, operation, data)
    event.save(force_insert=True)
    for function, names in _receivers.items():
        if not names or name in names:
            _tell(function, event)
    return event


@dataclass(frozen=True)
class News:
    """What `publish` takes, for several at once."""

    name: str
    sentence: str
    subject: models.Model | None = None
    data: Mapping[str, Any] | None = None


def publish_all(news: Sequence[News]) -> list[Event]:
    """The same for many pieces of news, in few statements. Where a receiver fails it is asked again, one by one."""
    rows = [_event(piece.name, piece.sentence, piece.subject, None, piece.data) for piece in news]
    events = Event.objects.bulk_create(rows)
    for function, names in _receivers.items():
        if wanted := [event for event in events if not names or event.name in names]:
            _tell_all(function, wanted)
    return events


def _event(
    name: str,
    sentence: str,
    subject: models.Model | None,
    operation: Operation | None,
    data: Mapping[str, Any] | None,
) -> Event:
    if name not in NAMES:
        raise ValueError(f"{name} is not declared.")
    if not connection.in_atomic_block:
        raise RuntimeError(f"{name} must be published in the transaction of what it reports.")
    return Event(
        name=name,
        sentence=sentence,
        subject_type=subject._meta.label_lower if subject is not None else "",
        subject_id=subject.pk if subject is not None else None,
        url=subject.get_absolute_url() if subject is not None and hasattr(subject, "get_absolute_url") else "",
        operation=operation,
        data=dict(data or {}),
    )


def _tell_all(function: Receiver, events: Sequence[Event]) -> None:
    try:
        with transaction.atomic():
            if function in _many:
                _many[function](events)
            else:
                for event in events:
                    function(event)
            connection.check_constraints()
    except Exception as error:
        if isinstance(error, DatabaseError) and (connection.connection is None or connection.connection.closed):
            raise
        for event in events:
            _tell(function, event)


def _tell(function: Receiver, event: Event) -> None:
    try:
        with transaction.atomic():
            function(event)
            connection.check_constraints()  # a row that refers to one that is gone shows here and not at the commit
    except DatabaseError:
        if connection.connection is None or connection.connection.closed:
            raise  # nothing of this transaction can be saved any more
        logger.exception("%s could not take %s", function.__module__, event)
    except Exception:
        logger.exception("%s could not take %s", function.__module__, event)


def operation_ended(operation: Operation) -> Event:
    """Tell that an operation has ended. Its row is locked by the caller."""
    return publish(
        OPERATION_ENDED,
        f"{operation.title}: {operation.state_word.lower()}. {operation.message}".strip(),
        subject=operation,
        operation=operation,
        data=described(operation),
    )
