"""The API against its own document: whatever is sent, no server error, no odd answer, no write without scope."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks

from core.roles import Role
from core.scopes import READ
from deployments.drivers import DRIVERS
from opsportal.wsgi import application
from tests.deployments.paper import PaperDriver
from tests.factories import PersonFactory, bearer
from tests.furnished import fingerprint
from tests.opsportal.test_api import furnish

load_all_checks()
# Valid data may well be refused: there is no such row, or somebody else holds the database. What the document does not
# know, such as a parameter given twice, is passed over.
LEFT_OUT = ("positive_data_acceptance", "negative_data_rejection")
APPLIED = [CHECKS.get_one(name) for name in CHECKS.get_all_names() if name not in LEFT_OUT]
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
fuzz = settings(
    max_examples=EXAMPLES or 5,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)
document = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application)
# Who may not write, and who names no row, is refused whatever the body: every edge of every field teaches nothing here.
without_edges = schemathesis.openapi.from_wsgi(
    "/api/v1/openapi.json",
    application,
    config=schemathesis.Config.from_dict({"phases": {"coverage": {"enabled": bool(EXAMPLES)}}}),
)


@pytest.fixture
def ids(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """One row behind every route. Requests leave the connection open, whose transaction is the test's."""
    monkeypatch.setitem(DRIVERS, "rolling", PaperDriver)
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield furnish()
    for signal in signals:
        signal.connect(close_old_connections)


def aimed(case: Any, ids: dict[str, int]) -> Any:
    """The same request, at a row that exists."""
    if case.path_parameters and "id" in case.path_parameters:
        case.path_parameters["id"] = ids[case.path.split("/")[3]]
    if case.path_parameters and "gate" in case.path_parameters:
        case.path_parameters["gate"] = ids["gates"]
    return case


def missed(case: Any) -> Any:
    """The same request, at a row that does not."""
    if case.path_parameters and "id" in case.path_parameters:
        case.path_parameters["id"] = 2**40
    return case


@document.parametrize()
@fuzz
def test_whatever_is_sent_is_answered_as_the_document_says(case, ids):
    with transaction.atomic():
        headers = {**bearer(PersonFactory(role=Role.OPERATOR)), "Accept-Encoding": "identity"}
        aimed(case, ids).call_and_validate(headers=headers, checks=APPLIED)
        transaction.set_rollback(True)


@without_edges.parametrize()
@fuzz
def test_whatever_is_sent_to_a_row_that_is_not_there_is_answered_as_the_document_says(case, ids):
    with transaction.atomic():
        headers = {**bearer(PersonFactory(role=Role.OPERATOR)), "Accept-Encoding": "identity"}
        missed(case).call_and_validate(headers=headers, checks=APPLIED)
        transaction.set_rollback(True)


@without_edges.include(method="POST").parametrize()
@fuzz
def test_with_a_token_that_only_reads_nothing_is_written(case, ids):
    with transaction.atomic():
        headers = bearer(PersonFactory(role=Role.ADMINISTRATOR), READ)
        before = fingerprint()
        answer = aimed(case, ids).call(headers=headers)
        assert answer.status_code in (401, 403, 405)
        assert fingerprint() == before
        transaction.set_rollback(True)
