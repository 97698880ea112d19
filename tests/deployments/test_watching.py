"""When the watch after a switch calls a version bad, and when it does not."""

from __future__ import annotations

import random

from deployments.watching import Watch


def test_a_share_of_errors_beyond_the_limit_is_bad() -> None:
    watch = Watch(most_errors_percent=2)
    watch.answers(0, 100, 1)
    assert watch.verdict == ""
    watch.answers(1, 100, 4)
    assert watch.verdict == "5 of 200 answers of the last 30 s failed (2.5 %); 2 % are allowed."


def test_two_errors_among_few_requests_are_chance() -> None:
    watch = Watch(most_errors_percent=2)
    watch.answers(0, 3, 2)
    assert watch.verdict == ""
    watch.answers(1, 1, 1)
    assert watch.verdict.startswith("3 of 4 answers")


def test_old_errors_are_forgotten() -> None:
    watch = Watch(most_errors_percent=2)
    watch.answers(0, 10, 2)
    watch.answers(31, 10, 2)
    assert watch.verdict == ""
    assert watch.sentence == "20 requests were answered, 4 with an error."


def test_without_a_limit_errors_decide_nothing() -> None:
    watch = Watch(most_errors_percent=None)
    watch.answers(0, 10, 10)
    assert watch.verdict == ""


def test_silence_three_times_in_a_row_is_bad() -> None:
    watch = Watch(most_errors_percent=None)
    for good in (False, False, True, False, False):
        watch.health(good, "no answer")
        assert watch.verdict == ""
    watch.health(False, "no answer")
    assert watch.verdict == "The health check failed 3 times in a row: no answer"


def test_a_day_of_clean_traffic_with_the_odd_error_is_never_bad() -> None:
    """24 hours, one look a second, about 20 requests each; one answer in five thousand fails."""
    dice, watch = random.Random(7), Watch(most_errors_percent=2)
    for second in range(24 * 3600):
        requests = dice.randrange(10, 30)
        watch.answers(second, requests, sum(dice.random() < 0.0002 for _ in range(requests)))
        watch.health(dice.random() > 0.001, "slow")
        assert watch.verdict == ""
    assert watch.errors > 100


def test_a_bad_release_is_seen_within_seconds_of_its_first_errors() -> None:
    dice, watch = random.Random(7), Watch(most_errors_percent=2)
    for second in range(60):
        watch.answers(second, 20, 0)
    for second in range(60, 90):
        watch.answers(second, 20, sum(dice.random() < 0.2 for _ in range(20)))
        if watch.verdict:
            break
    assert second - 60 <= 5
