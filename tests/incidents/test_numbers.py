"""Numbers: by the pattern of the service, unique, consecutive, by the day where the service is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db import connections, transaction
from pytest_django import DjangoDbBlocker

from core.roles import Role
from incidents import numbers
from incidents.actions.declare import declare
from incidents.models import Incident, NumberCounter
from incidents.patterns import number_of, room_of, scope_of, validate_number_pattern
from tests.committed import ENGINE_TABLES, committed_rows
from tests.factories import PersonFactory, ServiceFactory
from tests.incidents.factories import IncidentFactory, ProfileFactory

THREADS, INCIDENTS = (50, 1000) if os.environ.get("FULL") else (20, 200)


class TestPatterns:
    @pytest.mark.parametrize("pattern", ["INC-{date}-{n:03}", "{service}-{yyyymmdd}-{n:04}", "{n:09}"])
    def test_good_ones(self, pattern):
        validate_number_pattern(pattern)

    @pytest.mark.parametrize(
        ("pattern", "why"),
        [
            ("INC-{date}", "once"),
            ("{n:03}-{n:03}", "once"),
            ("INC-{n:02}", "three digits"),
            ("INC-{n}", "once"),
            ("INC-{severity}-{n:03}", "severity"),
            ("INC-{-{n:03}", "brace"),
            ("INC/{n:03}", "slashes"),
            ("INC\n{n:03}", "line breaks"),
        ],
    )
    def test_bad_ones_say_why(self, pattern, why):
        with pytest.raises(ValidationError, match=why):
            validate_number_pattern(pattern)

    def test_what_is_counted_together(self):
        day = date(2026, 1, 31)
        scope = scope_of("{service}-{date}-{n:03}", day, "shop")
        assert scope == scope_of("{service}-{date}-{n:05}", day, "shop") == "shop-2026-01-31-{n}"
        assert number_of("{service}-{date}-{n:03}", scope, 7) == "shop-2026-01-31-007"
        assert number_of("{service}-{date}-{n:03}", scope, 1234) == "shop-2026-01-31-1234"

    def test_a_long_slug_still_fits(self):
        pattern = "x" * 65 + "{service}{n:03}"
        assert len(number_of(pattern, scope_of(pattern, date(2026, 1, 1), "s" * 80), 10**6)) <= 120

    def test_rooms(self):
        pattern, day = "#incident-{service}-{yyyymmdd}-{severity}", date(2026, 1, 31)
        assert room_of(pattern, day, "shop", "P0", "INC-1") == "#incident-shop-20260131-P0"
        assert room_of(pattern, day, "shop", "", "INC-1") == "#incident-shop-20260131"
        assert room_of("", day, "shop", "P0", "INC-1") == ""


@pytest.mark.django_db
class TestTaking:
    def test_they_follow_each_other_for_each_day_of_the_service(self):
        olga = PersonFactory(role=Role.OPERATOR)
        berlin, utc = ServiceFactory(time_zone="Europe/Berlin"), ServiceFactory(time_zone="UTC")
        with time_machine.travel(datetime(2026, 1, 31, 23, 30, tzinfo=UTC), tick=False):
            given = [declare("Down", service=service, by=olga).number for service in (utc, berlin, berlin, utc)]
        assert given == ["INC-2026-01-31-001", "INC-2026-02-01-001", "INC-2026-02-01-002", "INC-2026-01-31-002"]

    def test_a_service_has_a_pattern_of_its_own(self):
        shop = ServiceFactory(slug="shop")
        ProfileFactory(service=shop, number_pattern="{service}-{n:04}")
        olga = PersonFactory(role=Role.OPERATOR)
        assert [declare("Down", service=shop, by=olga).number for _ in range(2)] == ["shop-0001", "shop-0002"]

    def test_a_declaration_that_is_given_up_leaves_no_gap(self):
        olga = PersonFactory(role=Role.OPERATOR)
        first = declare("Down", by=olga).number
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            declare("Down", by=olga)
            1 / 0  # noqa: B018
        second = declare("Down", by=olga).number
        assert (int(first[-3:]), int(second[-3:])) == (1, 2)

    def test_one_that_others_have_given_is_stepped_over(self):
        ProfileFactory(number_pattern="INC-{n:03}")
        IncidentFactory(number="INC-001")
        assert declare("Down", by=PersonFactory(role=Role.OPERATOR)).number == "INC-002"

    def test_only_within_a_transaction(self, monkeypatch):
        monkeypatch.setattr(numbers.connection, "in_atomic_block", False)
        with pytest.raises(RuntimeError, match="transaction"):
            numbers.take("INC-{n:03}", None, datetime.now(UTC))


class TestManyAtOnce:
    @pytest.fixture
    def rows(self, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
        with committed_rows(django_db_blocker, ENGINE_TABLES):
            yield

    def test_numbers_are_unique_and_consecutive(self, rows):
        """By as many threads as a bad day brings; every fourth declaration is given up at its end."""
        olga = PersonFactory(role=Role.OPERATOR)

        given: list[str] = []

        def some(first: int) -> None:
            try:
                for number in range(first, INCIDENTS, THREADS):
                    with suppress(ZeroDivisionError), transaction.atomic():
                        made = declare(f"Incident {number}", by=olga).number
                        if number % 4 == 0:
                            raise ZeroDivisionError
                        given.append(made)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(some, range(THREADS)))
        assert len(given) == INCIDENTS * 3 // 4 == Incident.objects.count()
        days = {number.rpartition("-")[0] for number in given}  # midnight may come in between
        for day in days:
            counts = sorted(int(number.rpartition("-")[2]) for number in given if number.startswith(day))
            assert counts == list(range(1, len(counts) + 1))
        assert all(re.fullmatch(r"INC-\d{4}-\d\d-\d\d-\d{3,}", number) for number in given)
        assert sum(NumberCounter.objects.values_list("last", flat=True)) == len(given)
