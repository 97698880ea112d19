"""An answer that is kept for some seconds a process, however many ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Calls `read` at most every `seconds`. Where it raises one of `outages`, the last answer is given again."""

    def __init__(self, read: Callable[[], T], seconds: float, *, outages: tuple[type[Exception], ...] = ()) -> None:
        self._read, self._seconds, self._outages = read, seconds, outages
        self._known: tuple[float, T] | None = None

    def __call__(self) -> T:
        """The answer, at most so old; older only during an outage."""
        now = time.monotonic()
        if self._known is None or now - self._known[0] > self._seconds:
            try:
                self._known = (now, self._read())
            except self._outages:
                if self._known is None:
                    raise
        return self._known[1]

    def forget(self) -> None:
        """What it is about has changed: the next who asks reads anew."""
        self._known = None
