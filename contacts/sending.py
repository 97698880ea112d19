"""The outbox is emptied by the control worker: pages first, one message for a reader, a slow provider in its own lane.

Each lane (the mail server, a provider, a channel) has threads of its own. When a way fails, the next is tried at once,
and whoever did not answer at all is passed over for a few seconds, so that others do not wait for it too. What was
sent is written down a moment later: whoever dies in between leaves messages that are sent a second time under the same
reference, and none that is lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from django.db import close_old_connections, connection

from contacts import claims, results
from contacts.claims import Parcel
from contacts.models import Attempt, Notification
from contacts.results import Result
from contacts.routes import MAIL, Route
from contacts.senders.base import Message, NotTaken, Sender, Unreachable
from contacts.wording import message_of
from operations import duties

logger = logging.getLogger(__name__)

EVERY_S = 0.5
AT_ONCE = 16
THREADS_A_LANE = 3
MOST_HELD = 2000  # messages that one process has claimed
PASSED_OVER_S = 5.0
SLOW_S = 3.0  # a failure that took longer counts as no answer
# So many of a lane are looked at, sent and written down together; of a lane where each takes long, one by one.
BATCH = {MAIL: 20}
WRITE_DOWN_EVERY_S = 0.5


@dataclass
class Lane:
    """What waits for one outlet, and how many threads are at it."""

    name: str
    waiting: deque[Parcel] = field(default_factory=deque)
    threads: int = 0


_pool = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="notify")
_lanes: dict[str, Lane] = {}
_held: set[int] = set()
_passed_over: dict[str, tuple[float, str]] = {}
_lock = threading.Lock()


def start_due() -> list[Future[None]]:
    """Claim what is due and hand it to the threads of its lanes. Waits for none of them.

    Also with its hands full it begins threads for what waits: those that were there may have ended with a connection.
    """
    with _lock:
        held = list(_held)
    if held:
        claims.renew(held)
    if duties.stopping.is_set():
        return []
    room = MOST_HELD - len(held)
    parcels = claims.take(most_messages=room) if room > 0 else []
    with _lock:
        for parcel in parcels:
            _held.update(parcel.ids)
            lane = _lanes.setdefault(parcel.routes.lane, Lane(parcel.routes.lane))
            if parcel.urgent:
                _before_news(lane, parcel)
            else:
                lane.waiting.append(parcel)
        return [_pool.submit(_in_thread, lane) for lane in _wanting_threads()]


def _before_news(lane: Lane, parcel: Parcel) -> None:
    """Behind the pages that wait already."""
    place = next((index for index, other in enumerate(lane.waiting) if not other.urgent), len(lane.waiting))
    lane.waiting.insert(place, parcel)


def _wanting_threads() -> list[Lane]:
    """A lane for each thread that it shall have more. Called under the lock."""
    wanted = []
    for lane in _lanes.values():
        useful = -(-len(lane.waiting) // BATCH.get(lane.name, 1))
        for _ in range(min(THREADS_A_LANE, useful) - lane.threads):
            lane.threads += 1
            wanted.append(lane)
    return wanted


def _in_thread(lane: Lane) -> None:
    close_old_connections()
    try:
        with Batch() as batch:
            while not duties.stopping.is_set() and (parcels := _next(lane)):
                batch.send(parcels)
    except Exception as error:
        # Without the traceback: what it shows of the values could be an address with its password.
        logger.error("sending by %s broke off: %s", lane.name, type(error).__name__)
    finally:
        with _lock:
            lane.threads -= 1
        connection.close()


def _next(lane: Lane) -> list[Parcel]:
    with _lock:
        most = BATCH.get(lane.name, 1)
        return [lane.waiting.popleft() for _ in range(min(most, len(lane.waiting)))]


class Batch:
    """Sends parcel after parcel, with one connection to each outlet, and writes down how it went."""

    def __init__(self) -> None:
        self._senders: dict[str, Sender] = {}

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *exc: object) -> None:
        for sender in self._senders.values():
            sender.close()

    def send(self, parcels: Sequence[Parcel]) -> None:
        """What was withdrawn meanwhile is left out."""
        ids = [pk for parcel in parcels for pk in parcel.ids]
        done: list[Result] = []
        try:
            wanted = set(
                Notification.objects.filter(pk__in=ids, state=Notification.State.PENDING).values_list("pk", flat=True)
            )
            written = time.monotonic()
            for parcel in parcels:
                parcel.rows = [row for row in parcel.rows if row.pk in wanted]
                if parcel.rows:
                    done.append(self._send(parcel))
                if done and (time.monotonic() - written > WRITE_DOWN_EVERY_S or not done[-1].taken):
                    done, writing, written = [], done, time.monotonic()
                    results.write_down(writing)
            if done:
                results.write_down(done)
        finally:
            with _lock:
                _held.difference_update(ids)

    def _send(self, parcel: Parcel) -> Result:
        """By one way after the other, until one works."""
        result = Result(parcel)
        if not parcel.routes.tries:
            result.hopeless = parcel.routes.why_none
            return result
        message = message_of(parcel.rows)
        for route in parcel.routes.tries:
            began = time.monotonic()
            try:
                said = self._try(route, message)
            except NotTaken as error:
                result.attempts.append(_attempt(parcel, route, began, error.message, taken=False))
                continue
            result.attempts.append(_attempt(parcel, route, began, said, taken=True))
            break
        return result

    def _try(self, route: Route, message: Message) -> str:
        until, why = _passed_over.get(route.lane, (0.0, ""))
        if until > time.monotonic():
            raise NotTaken(f"Passed over: a moment ago it gave no answer. {why}")
        key = f"{route.lane} {route.kind}"
        if key not in self._senders:
            self._senders[key] = route.open()
        began = time.monotonic()
        try:
            return self._senders[key].send(message, route.to)
        except NotTaken as error:
            if isinstance(error, Unreachable) or time.monotonic() - began > SLOW_S:
                _passed_over[route.lane] = (time.monotonic() + PASSED_OVER_S, error.message)
            raise
        except Exception as error:
            logger.error("%s broke off: %s", self._senders[key].through, type(error).__name__)
            raise NotTaken(
                f"It could not be sent, for a reason of the portal's own ({type(error).__name__})."
            ) from None


def _attempt(parcel: Parcel, route: Route, began: float, message: str, *, taken: bool) -> Attempt:
    return Attempt(
        notification=parcel.lead,
        way=route.kind,
        through=route.through[:120],
        address=route.address,
        taken=taken,
        message=message,
        seconds=time.monotonic() - began,
    )


duties.declare("notifications", lambda: EVERY_S, lambda: start_due())
