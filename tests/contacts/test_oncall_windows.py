"""Windows as people write them."""

from datetime import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contacts.oncall import Window
from contacts.windows import WindowsError, parse, written

MIDNIGHT = time(0)


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("", ""),
        ("mon-fri 18:00-08:00", "Mon-Fri 18:00-08:00"),
        ("Saturday, Sun 00:00 - 24:00", "Sat-Sun 00:00-24:00"),
        ("Fri-Mon 9:00–17:30", "Mon, Fri-Sun 09:00-17:30"),
        ("daily 22:00 to 06:00", "Mon-Sun 22:00-06:00"),
        ("weekdays 08:00-12:00; weekends 10:00-12:00", "Mon-Fri 08:00-12:00\nSat-Sun 10:00-12:00"),
        ("Mon 12:00-00:00\nTue 00:00-13:00", "Mon 12:00-24:00\nTue 00:00-13:00"),
        ("Mon 08:00-12:00\nMon 11:00-14:00", "Mon 08:00-14:00"),
    ],
)
def test_what_is_read_is_written_as_people_write_it(text, again):
    assert written(parse(text)) == again
    assert parse(again) == parse(text)


def test_a_night_is_kept_as_pieces_of_two_days():
    assert parse("Sun 18:00-08:00") == [Window(0, MIDNIGHT, time(8)), Window(6, time(18), MIDNIGHT)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("at night", "is no window"),
        ("Mon", "is no window"),
        ("Mon 25:00-26:00", "no clock shows"),
        ("Mon 08:00-08:00", "no time at all"),
        ("Mon 24:00-08:00", "no time at all"),
        ("Mon-Tue-Wed 08:00-09:00", "is no window"),
        ("Montag 08:00-09:00", "is no weekday"),
    ],
)
def test_what_cannot_be_read_is_said_with_an_example(text, complaint):
    with pytest.raises(WindowsError, match=complaint) as refused:
        parse(text)
    assert "Mon-Fri 18:00-08:00" in str(refused.value)


pieces = st.tuples(st.integers(0, 6), st.integers(0, 47), st.integers(1, 48)).filter(lambda each: each[1] < each[2])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(pieces, max_size=9))
def test_writing_and_reading_changes_nothing(found):
    def clock(half_hours: int) -> time:
        return time(half_hours // 2 % 24, half_hours % 2 * 30)

    text = written(Window(day, clock(begins), clock(ends)) for day, begins, ends in found)
    windows = parse(text)
    assert parse(written(windows)) == windows

    def covers(rows: list[Window]) -> set[tuple[int, int]]:
        def number(at: time) -> int:
            return at.hour * 2 + at.minute // 30

        return {(row.weekday, n) for row in rows for n in range(number(row.begins), number(row.ends) or 48)}

    assert covers(windows) == {(day, n) for day, begins, ends in found for n in range(begins, ends)}
