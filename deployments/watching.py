"""The watch after a switch: when a new version counts as bad. Pure: fed with what was seen, it says so or not.

A version is bad when, within the last half minute, its answers failed (5xx) more often than the limit allows and at
least three times, or when its health check was not answered three times in a row. One failing request among few is
chance; three are not.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

WINDOW_S = 30.0
FEWEST_ERRORS = 3
SILENT_LOOKS = 3


@dataclass
class Watch:
    """`most_errors_percent`: of all answers, in percent; None: errors are counted and decide nothing."""

    most_errors_percent: float | None
    seen: deque[tuple[float, int, int]] = field(default_factory=deque)
    requests: int = 0
    errors: int = 0
    silent: int = 0
    why_silent: str = ""

    def answers(self, at_s: float, requests: int, errors: int) -> None:
        """What was answered since the last look; `at_s` by a clock that never goes back."""
        self.requests += requests
        self.errors += errors
        self.seen.append((at_s, requests, errors))
        while self.seen and self.seen[0][0] <= at_s - WINDOW_S:
            self.seen.popleft()

    def health(self, good: bool, sentence: str) -> None:
        self.silent = 0 if good else self.silent + 1
        self.why_silent = "" if good else sentence

    @property
    def verdict(self) -> str:
        """Why the version is bad; empty: it is not, as far as was seen."""
        if self.silent >= SILENT_LOOKS:
            return f"The health check failed {self.silent} times in a row: {self.why_silent}"
        if self.most_errors_percent is None:
            return ""
        requests = sum(each for _, each, _ in self.seen)
        errors = sum(each for _, _, each in self.seen)
        percent = 100 * errors / max(requests, 1)
        if errors < FEWEST_ERRORS or percent <= self.most_errors_percent:
            return ""
        return (
            f"{errors} of {requests} answers of the last {WINDOW_S:g} s failed ({percent:.1f} %); "
            f"{self.most_errors_percent:g} % are allowed."
        )

    @property
    def sentence(self) -> str:
        """What was seen in all."""
        return f"{self.requests} requests were answered, {self.errors} with an error."
