"""What holds an incident open: the team's closing gates, and its review."""

from __future__ import annotations

import pytest

from core.roles import Role
from incidents import gates
from incidents.actions import review as reviews
from incidents.actions import work
from incidents.exceptions import IncidentError
from incidents.models import ChecklistTick, Review
from tests.contacts.factories import SeverityFactory
from tests.factories import PersonFactory
from tests.incidents.factories import IncidentFactory, ProfileFactory, ReviewFactory

pytestmark = pytest.mark.django_db
S4 = [
    "Root cause analysis completed",
    "Prevention measures identified",
    "Documentation updated",
    "Team retrospective scheduled",
]


def test_s4_closes_after_its_four_gates():
    by = PersonFactory(role=Role.ADMINISTRATOR)
    incident = IncidentFactory(resolved=True)
    ProfileFactory(service=incident.service, gates=S4)
    assert gates.missing_gates(incident) == S4
    for number, text in enumerate(S4):
        with pytest.raises(IncidentError):
            work.close(incident, by=by)
        work.tick(incident, text, gate=True, by=by)
        assert gates.missing_gates(incident) == S4[number + 1 :]
    assert work.close(incident, by=by).state == "closed"


def test_a_tick_of_a_stage_is_no_gate():
    incident = IncidentFactory(resolved=True)
    ProfileFactory(gates=S4[:1])
    ChecklistTick.objects.create(incident=incident, gate=False, text=S4[0])
    assert gates.missing_gates(incident) == S4[:1]


@pytest.mark.parametrize(
    ("limit", "rank", "needed"), [(2, 1, True), (2, 2, True), (2, 3, False), (None, 1, False), (2, None, False)]
)
def test_the_grave_ones_need_a_published_review(limit, rank, needed):
    severity = SeverityFactory(rank=rank) if rank else None
    incident = IncidentFactory(resolved=True, severity=severity)
    ProfileFactory(review_from_rank=limit)
    assert gates.missing_gates(incident) == (["The review is published"] if needed else [])


def test_the_review_opens_the_gate_once_it_is_published():
    by = PersonFactory(role=Role.RESPONDER)
    incident = IncidentFactory(resolved=True, severity=SeverityFactory(rank=1))
    ProfileFactory(review_from_rank=1)
    review = ReviewFactory(incident=incident, root_cause="The disk was full.")
    assert gates.missing_gates(incident) == ["The review is published"]
    reviews.publish(review, by=by)
    assert gates.missing_gates(incident) == []
    reviews.take_back(review, by=by)
    assert gates.missing_gates(incident) == ["The review is published"]
    assert Review.objects.count() == 1


def test_the_profile_of_the_service_comes_before_the_one_for_all():
    incident = IncidentFactory(resolved=True)
    assert gates.profile_of(incident) is None
    assert gates.missing_gates(incident) == []
    general = ProfileFactory(gates=["General"])
    assert gates.profile_of(incident) == general
    own = ProfileFactory(service=incident.service, gates=["Own"])
    assert gates.profile_of(incident) == own
    assert gates.missing_gates(incident) == ["Own"]
    assert gates.profile_of(IncidentFactory(severity=None, service=None)) == general


def test_what_was_merged_is_looked_at_elsewhere():
    ProfileFactory(gates=["General"])
    into = IncidentFactory()
    incident = IncidentFactory(resolved=True)
    incident.state, incident.closed_at, incident.merged_into = "closed", incident.resolved_at, into
    incident.save()
    assert gates.missing_gates(incident) == []


def test_what_was_done_alone_is_looked_at_by_another():
    alone = PersonFactory(role=Role.ADMINISTRATOR)
    incident = IncidentFactory(resolved=True, solo_review=True, declared_by=alone)
    assert gates.missing_gates(incident) == []  # nobody else is there
    PersonFactory(role=Role.MANAGER)
    assert gates.missing_gates(incident) == []
    another = PersonFactory(role=Role.RESPONDER)
    assert gates.missing_gates(incident) == [gates.LOOKED_AT]
    with pytest.raises(IncidentError, match="You worked on it alone"):
        work.tick(incident, gates.LOOKED_AT, gate=True, by=alone)
    with pytest.raises(IncidentError, match="looked at what was done alone"):
        work.close(incident, by=alone)
    work.tick(incident, gates.LOOKED_AT, gate=True, by=another)
    assert work.close(incident, by=alone).state == "closed"


def test_the_gate_of_solo_mode_comes_after_those_of_the_profile():
    PersonFactory(role=Role.RESPONDER)
    incident = IncidentFactory(resolved=True, solo_review=True)
    ProfileFactory(gates=S4[:1])
    assert gates.missing_gates(incident) == [S4[0], gates.LOOKED_AT]
