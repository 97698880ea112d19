import datetime
import re

import pytest
from django.template import Context, Template
from django.utils import timezone

from core.environments import EnvironmentBand
from core.templatetags.portal import ago, bar_chart, filesize_si, human_duration, relative_time, sparkline, status

NOON = datetime.datetime(2026, 3, 29, 0, 30, tzinfo=datetime.UTC)


def render(source: str, **context: object) -> str:
    return Template("{% load portal %}" + source).render(Context(context))


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC", "2026-03-29 00:30:00 UTC"),
        ("Europe/Berlin", "2026-03-29 01:30:00 CET (Europe/Berlin)"),
        ("Asia/Tokyo", "2026-03-29 09:30:00 JST (Asia/Tokyo)"),
        ("America/New_York", "2026-03-28 20:30:00 EDT (America/New_York)"),
    ],
)
def test_ago_names_the_absolute_time_in_the_readers_zone(zone, shown):
    with timezone.override(zone):
        html = render("{% ago at %}", at=NOON)
    assert f'title="{shown}"' in html
    assert f'<span class="sr-only"> ({shown})</span>' in html
    assert 'datetime="2026-03-29T00:30:00Z"' in html


def test_ago_follows_the_clock_change():
    with timezone.override("Europe/Berlin"):
        assert "03:30:00 CEST" in ago(NOON + datetime.timedelta(hours=1))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "just now"), (40, "40 s ago"), (61, "1 min ago"), (7300, "2 h ago"), (90000, "1 d ago"), (-125, "in 2 min")],
)
def test_relative_times_use_one_unit(time_machine_at, seconds, text):
    assert relative_time(time_machine_at - datetime.timedelta(seconds=seconds)) == text


@pytest.fixture
def time_machine_at():
    import time_machine

    with time_machine.travel(NOON, tick=False):
        yield NOON


def test_no_moment_is_a_dash():
    assert render("{% ago at %}", at=None) == "–"
    assert render('{% ago at "never" %}', at=None) == "never"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not set"), (0, "0 s"), (0.42, "0.4 s"), (9.96, "10 s"), (12, "12 s"), (59.6, "1 min"),
        (200, "3 min 20 s"), (7500, "2 h 5 min"), (7200, "2 h"), (100_000, "1 d 3 h"),
        (datetime.timedelta(minutes=30), "30 min"), (-90, "−1 min 30 s"),
    ],
)  # fmt: skip
def test_durations(value, text):
    assert human_duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1536, "1.5 kB"), (999_600, "1 MB"),
     (1_250_000_000, "1.2 GB"), (655_000_000, "655 MB"), (2e15, "2 PB"), (5e18, "5000 PB")],
)  # fmt: skip
def test_sizes_are_decimal(value, text):
    assert filesize_si(value) == text


def test_a_state_is_icon_and_word_and_escaped():
    html = status("bad", "<b>Failed</b>")
    assert "status-bad" in html
    assert "<svg" in html
    assert "&lt;b&gt;Failed" in html
    with pytest.raises(ValueError, match="Unknown status"):
        status("green", "Fine")


def test_charts_speak_and_escape():
    line = sparkline([1, 2, None, 4], label="Load <x>")
    assert 'aria-label="Load &lt;x&gt;: 3 values, lowest 1, highest 4, last 4"' in line
    assert line.count("<polyline") == 2
    assert "no values" in sparkline([])
    bars = bar_chart([("Mon", 3, "ok"), ("Tue", 0, "bad")], label="Backups")
    assert 'aria-label="Backups: Mon 3; Tue 0"' in bars
    assert bars.count("<rect") == 2
    assert not re.search(r'style="', line + bars)


def test_a_mistyped_environment_kind_cannot_pass_as_harmless():
    assert str(EnvironmentBand("ERP", "PRODUCTION")) == "PRODUCTION · ERP"
    assert EnvironmentBand("ERP", "PRODUCTION").is_production
    with pytest.raises(ValueError, match="Unknown environment kind"):
        EnvironmentBand("ERP", "prod")
