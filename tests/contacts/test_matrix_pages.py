"""The pages of the matrix: read by everybody, edited by those who may, in a browser without scripts."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from contacts.matrix import rows_of
from contacts.models import EscalationPolicy
from core.roles import Role
from tests.contacts.factories import OnCallScheduleFactory, layer_of
from tests.contacts.ladders import NOW, matrix, minutes, people, scheme
from tests.factories import PersonFactory, browser
from tests.pages import counted, page_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop():
    """P0: Ann at once, Bob after five minutes."""
    service, severities = scheme("P0", "P1")
    ann, bob = people("Ann", "Bob")
    return matrix(service, (severities["P0"], "", [(NOW, [ann]), (minutes(5), [bob])])), severities, ann, bob


@pytest.fixture
def operator():
    return browser(PersonFactory(role=Role.OPERATOR))


def address(policy: EscalationPolicy, page: str, *args: int) -> str:
    return reverse(f"admin:contacts_escalationpolicy_{page}", args=(policy.pk, *args))


def draft(client, policy: EscalationPolicy) -> dict:
    """What the edit form would send."""
    response = client.get(address(policy, "edit"))
    assert response.status_code == 200
    fields = page_of(response).post.fields
    return {**fields, **_chosen(response.content.decode())}


def _chosen(html: str) -> dict[str, list[str]]:
    """The selects of the targets: several have one name."""
    found: dict[str, list[str]] = {}
    for name, body in re.findall(r'<select name="(r\d+-c\d+-target)".*?>(.*?)</select>', html, re.S):
        chosen = re.search(r'value="([^"]*)" selected', body)
        found.setdefault(name, []).append(chosen[1] if chosen else "")
    return found


def test_a_manager_reads_the_table_and_changes_nothing(shop):
    policy, *_ = shop
    client = browser(PersonFactory(role=Role.MANAGER))
    page = page_of(client.get(policy.get_absolute_url()))
    for words in ("P0 P0", "at once", "after 5 min", "Ann", "Bob", "Somebody might not be told", "P1 P1: no row"):
        assert words in page.text
    assert "Edit the matrix" not in page.text
    assert client.get(address(policy, "edit")).status_code == 403
    assert client.post(address(policy, "edit"), {"do": "save"}).status_code == 403
    assert client.get(address(policy, "versions")).status_code == 200
    assert client.post(address(policy, "version", 1), {"reason": "x"}).status_code == 403


def test_the_form_shows_what_is_in_force_and_saves_nothing_by_itself(shop, operator):
    policy, severities, ann, _ = shop
    data = draft(operator, policy)
    assert data["r0-severity"] == str(severities["P0"].pk)
    assert (data["r0-c0-after"], data["r0-c1-after"]) == ("0", "5 min")
    assert data["r0-c0-target"] == [f"contact:{ann.pk}"]
    response = operator.post(address(policy, "edit"), {**data, "do": "review"})
    assert "Nothing is different" in page_of(response).text
    assert policy.versions.count() == 1


def test_edit_see_the_difference_confirm(shop, operator):
    policy, *_ = shop
    data = {**draft(operator, policy), "r0-c1-after": "10 min", "r0-c1-way": ["sms"]}
    response = operator.post(address(policy, "edit"), {**data, "do": "review"})
    page = page_of(response)
    assert "Step 2: after 5 min becomes after 10 min." in page.text
    assert "Step 2: whichever way works becomes by SMS." in page.text
    refused = operator.post(address(policy, "edit"), {**page.post.fields, "do": "save"})
    assert "Correct what is marked" in page_of(refused).text
    done = operator.post(address(policy, "edit"), {**page.post.fields, "do": "save", "reason": "Bob asked"})
    assert done.status_code == 302
    version = policy.versions.first()
    assert (version.number, version.reason) == (2, "Bob asked")
    cell = rows_of(version)[0].cells[1]
    assert (cell.after, cell.channels) == (minutes(10), ("sms",))
    twice = operator.post(address(policy, "edit"), {**page.post.fields, "do": "save", "reason": "Bob asked"})
    assert twice.status_code == 302, "a double click"
    assert policy.versions.count() == 2


def test_rows_steps_and_targets_are_added_and_removed_without_scripts(shop, operator):
    policy, severities, ann, bob = shop
    where = address(policy, "edit")

    def press(data: dict, do: str) -> dict:
        response = operator.post(where, {**data, "do": do})
        assert response.status_code == 200
        return {**page_of(response).post.fields, **_chosen(response.content.decode())}

    data = press(draft(operator, policy), "add-row")
    data |= {"r1-severity": severities["P1"].pk, "r1-situation": "Data at risk", "r1-c0-target": [f"contact:{bob.pk}"]}
    data = press(data, "add-step-1")
    assert (data["r1-situation"], data["r1-cells"]) == ("Data at risk", "2")
    data = press(data, "remove-step-1-1")
    data = press(data, "add-target-1-0")
    assert data["r1-c0-target"] == [f"contact:{bob.pk}", ""]
    data["r1-c0-target"] = [f"contact:{bob.pk}", f"contact:{ann.pk}"]
    data = press(data, "remove-row-0")
    page = page_of(operator.post(where, {**data, "do": "review"}))
    assert "P1 P1 · Data at risk The row is new: at once, Person: Bob, Person: Ann." in page.text
    assert "The row is gone, with 2 steps." in page.text
    back = operator.post(where, {**page.post.fields, "do": "back"})
    assert page_of(back).post.fields["r0-situation"] == "Data at risk"
    assert policy.versions.count() == 1
    for odd in ("remove-row-9", "add-step-9", "remove-step-0-9", "add-target-9-9"):
        press(data, odd)


def test_what_cannot_be_read_is_marked_and_kept(shop, operator):
    policy, *_ = shop
    data = {**draft(operator, policy), "r0-c1-after": "soon", "r0-repeats": "often", "do": "review"}
    page = page_of(operator.post(address(policy, "edit"), data))
    assert "Correct what is marked below" in page.text
    assert "Repeats: write a number" in page.text
    assert page.post.fields["r0-c1-after"] == "soon"
    data = {**draft(operator, policy), "r0-c1-after": "0", "do": "review"}
    assert "each step must come later" in page_of(operator.post(address(policy, "edit"), data)).text


@pytest.mark.parametrize("carried", ["", "{", "[1]", '[{"severity": "x"}]', "null", '[{"severity": 1e999}]'])
def test_what_the_confirm_page_carries_is_not_trusted(shop, operator, carried):
    policy, *_ = shop
    data = {"do": "save", "matrix": carried, "based_on": "1", "reason": "x"}
    assert operator.post(address(policy, "edit"), data).status_code == 404
    assert policy.versions.count() == 1


def test_who_saves_second_sees_what_the_first_did(shop, operator):
    policy, *_ = shop
    mine = operator.post(address(policy, "edit"), {**draft(operator, policy), "r0-c1-after": "10 min"})
    other = browser(PersonFactory(role=Role.ADMINISTRATOR, username="other"))
    theirs = other.post(address(policy, "edit"), {**draft(other, policy), "r0-c0-after": "1 min"})
    assert other.post(
        address(policy, "edit"), {**page_of(theirs).post.fields, "do": "save", "reason": "Theirs"}
    ).status_code == 302  # fmt: skip
    told = page_of(
        operator.post(address(policy, "edit"), {**page_of(mine).post.fields, "do": "save", "reason": "Mine"})
    )
    assert "other has saved version 2 meanwhile" in told.text
    assert "What they changed meanwhile Changed P0 P0 Step 1: at once becomes after 1 min." in told.text
    assert "Step 1: after 1 min becomes at once." in told.text, "theirs would be taken back, and that is said"
    assert policy.versions.count() == 2
    again = operator.post(address(policy, "edit"), {**told.post.fields, "do": "save", "reason": "Mine"})
    assert again.status_code == 302
    assert policy.versions.count() == 3


def test_an_old_version_is_looked_at_and_put_back(shop, operator):
    policy, *_ = shop
    changed = operator.post(address(policy, "edit"), {**draft(operator, policy), "r0-c1-after": "10 min"})
    operator.post(address(policy, "edit"), {**page_of(changed).post.fields, "do": "save", "reason": "Slower"})
    listed = page_of(operator.get(address(policy, "versions")))
    assert "Version 2 In force" in listed.text and "Slower" in listed.text
    assert "Put this version back" not in page_of(operator.get(address(policy, "version", 2))).text
    page = page_of(operator.get(address(policy, "version", 1)))
    assert "Step 2: after 10 min becomes after 5 min." in page.text
    assert operator.post(address(policy, "version", 1), page.post.fields).status_code == 200, "why is asked"
    done = operator.post(address(policy, "version", 1), {**page.post.fields, "reason": "Back"})
    assert done.status_code == 302
    assert rows_of(policy.versions.first()) == rows_of(policy.versions.get(number=1))
    assert operator.get(address(policy, "version", 9)).status_code == 404


def test_a_simulation_names_who_is_on_call_then(shop, operator):
    policy, severities, ann, bob = shop
    schedule = OnCallScheduleFactory(name="Shop", time_zone="UTC")
    layer_of(schedule, ann, bob, shift_unit="days", shift_length=1)
    step = policy.versions.get().rules.get().steps.first()
    step.targets.update(kind="oncall", contact=None, oncall=schedule)
    query = {"moment": "2027-01-02T03:00:00", "severity": severities["P0"].pk}
    response = operator.get(policy.get_absolute_url(), query)
    page = page_of(response)
    simulated = response.context["simulation"]["result"]
    assert [step.lines for step in simulated.steps][1] == ["Bob, by email"]
    assert "On call, primary" in simulated.steps[0].lines[0]
    assert "Sat 2027-01-02 03:05" in page.text
    assert "The row “P0 P0” counts" in page.text
    assert "Nobody was told anything." in page.text
    nothing = page_of(operator.get(policy.get_absolute_url(), {"moment": "2027-01-02T03:00:00"}))
    assert "No row counts" in nothing.text
    wrong = page_of(operator.get(policy.get_absolute_url(), {"moment": "soon"}))
    assert "Enter a valid date/time" in wrong.text


def test_a_new_matrix_begins_empty(operator):
    service, severities = scheme("P0")
    response = operator.post(reverse("admin:contacts_escalationpolicy_add"), {"service": service.pk, "fallback": ""})
    assert EscalationPolicy.objects.exists(), page_of(response).text
    policy = EscalationPolicy.objects.get()
    assert response.status_code == 302 and response["Location"] == policy.get_absolute_url()
    assert "Nobody is told by this matrix" in page_of(operator.get(policy.get_absolute_url())).text
    (ann,) = people("Ann")
    data = {**draft(operator, policy), "r0-c0-target": [f"contact:{ann.pk}"], "r0-severity": severities["P0"].pk}
    page = page_of(operator.post(address(policy, "edit"), data))
    assert "becomes version 1" in page.text
    operator.post(address(policy, "edit"), {**page.post.fields, "do": "save", "reason": "First"})
    assert policy.versions.count() == 1


def test_big_matrices_cost_as_many_queries_as_small_ones(operator):
    service, severities = scheme("P0", "P1", "P2", "P3")
    small = matrix(service, (severities["P0"], "", [(NOW, people("A1"))]))

    def cost(policy: EscalationPolicy, page: str) -> int:
        operator.get(address(policy, page))
        with counted() as queries:
            assert operator.get(address(policy, page)).status_code == 200
        return len(queries)

    before = {page: cost(small, page) for page in ("detail", "edit")}
    small.delete()
    big = matrix(
        service,
        *(
            (severity, "", [(minutes(at), people(f"{code}-{at}", f"{code}-{at}-b")) for at in range(5)])
            for code, severity in severities.items()
        ),
    )
    assert {page: cost(big, page) for page in before} == before
