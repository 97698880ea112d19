"""Which row of which matrix counts."""

import pytest

from contacts.policy import rule_for, situations_of
from tests.contacts.factories import ContactFactory, PolicyFactory, SeverityFactory, rule
from tests.contacts.ladders import NOW, matrix, scheme
from tests.factories import ServiceFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def full():
    """A matrix with a row of each kind."""
    service, severities = scheme("P1", "P2")
    whom = [ContactFactory()]
    policy = matrix(
        service,
        (None, "", [(NOW, whom)]),
        (None, "Data at risk", [(NOW, whom)]),
        (severities["P1"], "", [(NOW, whom)]),
        (severities["P1"], "Data at risk", [(NOW, whom)]),
    )
    return service, severities, policy


@pytest.mark.parametrize(
    ("code", "situation", "row"),
    [
        ("P1", "Data at risk", 3),
        ("P1", "data  AT risk", 3),
        ("P1", "", 2),
        ("P1", "Another", 2),
        ("P2", "Data at risk", 1),
        ("P2", "", 0),
        (None, "", 0),
    ],
)
def test_the_row_that_says_most_counts(full, code, situation, row):
    service, severities, _ = full
    assert rule_for(service, severities[code] if code else None, situation).order == row


def test_no_row_fits():
    service, severities = scheme("P1", "P2")
    matrix(service, (severities["P1"], "System down", [(NOW, [ContactFactory()])]))
    assert rule_for(service, severities["P1"], "") is None
    assert rule_for(service, severities["P2"], "System down") is None


def test_a_severity_of_the_same_code_of_another_service_does_not_count(full):
    service, _, _ = full
    assert rule_for(service, SeverityFactory(code="P1"), "").order == 0


def test_a_row_whose_severity_was_removed_counts_for_nothing(full):
    service, severities, policy = full
    policy.versions.get().rules.filter(severity=None).delete()
    severities["P1"].delete()
    assert rule_for(service, None, "") is None


def test_without_a_matrix_of_its_own_the_one_for_all_counts():
    service = ServiceFactory()
    assert rule_for(service, None) is None
    common = matrix(None, (None, "", [(NOW, [ContactFactory()])]))
    assert rule_for(service, None).version.policy == common
    own = PolicyFactory(service=service)
    assert rule_for(service, None).version.policy == common, "one that was never saved does not count"
    rule(own, (NOW, [ContactFactory()]))
    assert rule_for(service, None).version.policy == own
    assert rule_for(None, None).version.policy == common


def test_situations_in_the_order_of_the_matrix(full):
    service, severities, policy = full
    rule(policy, (NOW, [ContactFactory()]), severity=severities["P2"], situation="API slow")
    assert situations_of(service) == ["Data at risk", "API slow"]
    assert situations_of(ServiceFactory()) == []
