"""What people type for durations and commands, and that nothing is lost on the way back."""

from datetime import timedelta

import pytest
from django import forms
from hypothesis import given
from hypothesis import strategies as st

from catalog.forms import ArgumentVectorField, HumanDurationField, written


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        ("15 min", 900), ("15m", 900), ("90 s", 90), ("4h", 14400), ("1 d", 86400), ("1 h 30 min", 5400),
        ("1H30M", 5400), ("0", 0), ("0 s", 0), ("00:15:00", 900), ("30:00:05", 108005), ("  5 min ", 300),
        ("1.5 h", 5400), ("0.2 s", 0.2),
    ],
)  # fmt: skip
def test_durations_with_units(typed, seconds):
    assert HumanDurationField().clean(typed) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "typed",
    [
        "15",
        "-5 min",
        "5 minutes ago",
        "min",
        "5 min!",
        "!5 min",
        "5 weeks",
        "00:75:00",
        "9999999 d",
        "٣ min",
        "5 mins",
    ],
)
def test_durations_without_a_clear_unit_are_refused(typed):
    with pytest.raises(forms.ValidationError, match="with its unit"):
        HumanDurationField().clean(typed)


def test_an_empty_duration_is_not_zero():
    assert HumanDurationField(required=False).clean("") is None
    assert HumanDurationField(required=False).clean(" ") is None
    assert HumanDurationField().prepare_value(timedelta(0)) == "0"


@given(st.integers(min_value=0, max_value=10**14))
def test_a_duration_survives_the_form(microseconds):
    value = timedelta(microseconds=microseconds)
    assert HumanDurationField().clean(written(value)) == value


def test_a_command_is_one_argument_a_line():
    field = ArgumentVectorField()
    typed = "/usr/bin/systemctl\r\n restart \r\n\r\nerp app.service; id\r\n"
    argv = ["/usr/bin/systemctl", "restart", "erp app.service; id"]
    assert field.clean(typed) == argv
    assert field.clean(field.prepare_value(argv)) == argv
    assert not field.has_changed(argv, field.prepare_value(argv))
    assert field.has_changed(argv, "true")
    with pytest.raises(forms.ValidationError):
        field.clean(" \n ")
