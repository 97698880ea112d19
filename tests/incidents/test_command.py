"""The command line: declaring and listing."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from incidents.models import Incident
from tests.contacts.factories import SeverityFactory
from tests.factories import ServiceFactory
from tests.incidents.factories import IncidentFactory

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    out = StringIO()
    call_command("incidents", *words, stdout=out)
    return out.getvalue()


def test_declare_with_service_and_severity(olga):
    severity = SeverityFactory(service=ServiceFactory(slug="shop"), code="P1")
    said = run("declare", "--title", "Down", "--service", "shop", "--severity", "P1", "--as", "olga")
    incident = Incident.objects.get()
    assert (incident.severity, incident.declared_by) == (severity, olga) and incident.number in said


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--as", "nobody"], "no active person"),
        (["--as", "mona"], "may declare"),
        (["--as", "olga", "--service", "none"], "no service"),
        (["--as", "olga", "--severity", "P1"], "give --service"),
        (["--as", "olga", "--service", "shop", "--severity", "P9"], "no severity"),
    ],
)
def test_what_cannot_be_is_said_so(olga, mona, words, error):
    ServiceFactory(slug="shop")
    with pytest.raises(CommandError, match=error):
        run("declare", "--title", "Down", *words)
    assert not Incident.objects.exists()


def test_list_names_what_is_open_and_of_a_confidential_one_the_number():
    assert run("list") == "Nothing is open.\n"
    low, high = IncidentFactory(severity__rank=3), IncidentFactory(severity__rank=1, title="All is down")
    secret, over = IncidentFactory(title="SECRET", confidential=True), IncidentFactory(resolved=True)
    said = run("list")
    assert said.index(high.number) < said.index(low.number) and secret.number in said
    assert "All is down" in said and "SECRET" not in said and over.number not in said
    assert low.number not in run("list", "--service", high.service.slug)
