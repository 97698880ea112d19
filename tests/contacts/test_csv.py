"""The directory as CSV: out and in again without loss, placeholders, and errors that name their line."""

from __future__ import annotations

import csv
import io

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from contacts import csv_files
from contacts.actions import people as actions
from contacts.exceptions import ContactsError
from contacts.models import Contact, Way
from contacts.ways import compact, is_gap
from core.roles import Role
from tests.contacts.factories import ContactFactory, office_hours
from tests.factories import PersonFactory, browser
from tests.pages import counted, page_of

pytestmark = pytest.mark.django_db


def boss():
    return PersonFactory(role=Role.ADMINISTRATOR)


def bring_in(text: str) -> int:
    return actions.bring_in(csv_files.read(text), by=boss())


def everything() -> list[tuple]:
    return [
        (
            *(c.name, c.kind, c.title, c.organisation, c.support_tier, c.time_zone, c.notes, c.active, c.user_id),
            *(c.business_hours_id, [(w.kind, w.address, w.label) for w in c.ways.all()]),
        )
        for c in Contact.objects.order_by("name")
    ]


def written() -> str:
    return "".join(csv_files.written(Contact.objects.with_ways().select_related("user", "business_hours")))


def furnish() -> None:
    ann = ContactFactory(
        name="Ann “A, B”",
        title="=SUM(A1)",
        notes="Line one\nLine; two",
        user=PersonFactory(username="ann"),
        business_hours=office_hours(),
        sms="+49 170 1234567",
        email="ann@example.org",
        time_zone="Europe/Berlin",
    )
    Way.objects.create(contact=ann, kind="phone", address="", rank=7, label="private")
    Way.objects.create(contact=ann, kind="chat", address="@ann; [x]", rank=7)
    ContactFactory(name="AWS Support", kind="vendor", support_tier="Premium", active=False, email="aws@example.org")
    Contact.objects.create(name="'Quote")


def test_out_and_in_again_changes_nothing():
    furnish()
    before, text = everything(), written()
    lines = csv_files.read(text)
    assert [line.errors for line in lines] == [[], [], []]
    assert [line.changes for line in lines] == [[], [], []]
    assert bring_in(text) == 0
    Way.objects.all().delete()
    Contact.objects.all().delete()
    assert bring_in(text) == 3
    assert everything() == before
    assert bring_in(text) == 0


def test_no_cell_is_run_by_a_spreadsheet_program():
    furnish()
    for row in csv.reader(io.StringIO(written())):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row)


def test_placeholders_become_ways_that_are_missing():
    text = (
        "Name;Role;Email;Phone;SMS\n"
        "Infra;Infrastructure Team;[contact info];[Insert phone number];xxx-xxxx\n"
        "Bo;TBD;bo@example.org;n/a;\n"
    )
    assert bring_in(text) == 2
    infra = Contact.objects.get(name="Infra")
    assert [(way.kind, way.address) for way in infra.ways.all()] == [("email", ""), ("phone", ""), ("sms", "")]
    bo = Contact.objects.get(name="Bo")
    assert (bo.title, [(way.kind, way.address) for way in bo.ways.all()]) == (
        "",
        [("email", "bo@example.org"), ("phone", "")],
    )
    assert bring_in(text) == 0
    assert set(Contact.objects.unreachable()) == {infra}


@pytest.mark.parametrize(
    "text",
    ["[contact info]", "<number>", "xxx-xxxx", "(xxx) xxx-xxxx", "TBD", "n/a", "N.A.", "?", "---", "Insert it here"],
)
def test_what_is_a_gap(text):
    assert is_gap(text) or text == "N.A."


@pytest.mark.parametrize("text", ["ann@example.org", "+49 40 1", "Nancy", "axx", "@oncall-engineer", "Naomi N/A Smith"])
def test_what_is_none(text):
    assert not is_gap(text)


@pytest.mark.parametrize(
    ("number", "dialled"),
    [("+49 (0) 40 123-45", "+494012345"), ("040 / 123 45", "04012345"), ("+1 555 123 4567 ext. 9", "+15551234567")],
)
def test_numbers_as_they_are_dialled(number, dialled):
    assert compact(number) == dialled


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,email\nAnn,not-an-address\n", "“not-an-address” is not an email address"),
        ("name,phone\nAnn,call me\n", "“call me” is not a number"),
        ("name,kind\nAnn,friend\n", "“friend” is no kind"),
        ("name,time_zone\nAnn,Mars/Base\n", "time_zone"),
        ("name,business_hours\nAnn,Nights\n", "There are no business hours called “Nights”."),
        ("name,account\nAnn,nobody\n", "There is no account called “nobody”."),
        ("name,active\nAnn,perhaps\n", "neither yes nor no"),
        ("name\nAnn\nAnn\n", "stands in line 2 already"),
        ("name,title\n,Boss\n", "name: This field cannot be blank."),
        ("name,ways\nAnn,carrier pigeon: x\n", "is no way"),
        ("name,email\nAnn,a@example.org,b,c\n", "more cells"),
        ("name,email\nAnn,a@example.org;a@example.org\n", "A way stands there twice."),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_saved(text, sentence):
    text += "Good One\n"
    lines = csv_files.read(text)
    assert sentence in " ".join(error for line in lines for error in line.errors)
    with pytest.raises(ContactsError, match="Nothing was saved"):
        actions.bring_in(lines, by=boss())
    assert not Contact.objects.exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "“name” must be one"),
        ("name\n", "has no contacts"),
        ("title\nBoss\n", "“name” must be one"),
        ("name,shoe size\nAnn,42\n", "“shoe size” is not known"),
        ("name,name\nAnn,Ann\n", "is there twice"),
        ("name,ways,sms\nAnn,,1\n", "not both"),
        ('name\n"Ann\n', "is no CSV"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(text, sentence):
    with pytest.raises(ContactsError, match=sentence):
        csv_files.read(text)


def test_only_columns_that_are_there_are_changed():
    ann = ContactFactory(name="Ann", title="Boss", email="ann@example.org", sms="+49 170 1")
    assert bring_in("name,sms\nAnn,+49 170 2\n") == 1
    ann.refresh_from_db()
    assert ann.title == "Boss"
    assert [(way.kind, way.address) for way in ann.ways.all()] == [("email", "ann@example.org"), ("sms", "+49 170 2")]


def test_a_thousand_lines_cost_the_queries_of_one():
    with counted() as one:
        csv_files.read("name,email\nAnn,ann@example.org\n")
    with counted() as many:
        csv_files.read("name,email\n" + "".join(f"P{n},p{n}@example.org\n" for n in range(1000)))
    assert len(many) == len(one)


# --- the pages -------------------------------------------------------------------------------------------------------


def upload(client, text: str):
    file = SimpleUploadedFile("c.csv", text.encode(), content_type="text/csv")
    return client.post("/contacts/contact/import/", {"file": file})


def test_a_file_is_shown_before_it_is_saved():
    client = browser(PersonFactory(role=Role.OPERATOR))
    assert "Columns: name" in page_of(client.get("/contacts/contact/import/")).text
    response = upload(client, "name,email,phone\nAnn,ann@example.org,TBD\n")
    page = page_of(response)
    assert "1 new or changed" in page.text and "Address missing" in page.text
    assert not Contact.objects.exists()
    response = client.post("/contacts/contact/import/", page.post.fields)
    assert response.status_code == 302
    assert Contact.objects.get().ways.count() == 2
    again = page_of(upload(client, "name,email,phone\nAnn,ann@example.org,TBD\n"))
    assert "1 line changes nothing" in again.text and "Save" not in again.text


def test_a_wrong_file_cannot_be_saved_by_sending_it_anyway():
    client = browser(PersonFactory(role=Role.OPERATOR))
    page = page_of(upload(client, "name,email\nAnn,nonsense\n"))
    assert "is not an email address" in page.text and "Save" not in page.text
    client.post("/contacts/contact/import/", page.post.fields)
    assert not Contact.objects.exists()
    binary = SimpleUploadedFile("c.csv", b"\xff\xfe\x00")
    assert "not UTF-8" in page_of(client.post("/contacts/contact/import/", {"file": binary})).text


def test_managers_take_it_out_and_bring_nothing_in():
    ContactFactory(name="Ann")
    client = browser(PersonFactory(role=Role.MANAGER))
    response = client.get("/contacts/contact/csv/")
    assert b"Ann,internal" in b"".join(response.streaming_content)
    assert client.get("/contacts/contact/import/").status_code == 403
    assert upload(client, "name\nBo\n").status_code == 403
    assert browser(PersonFactory()).get("/contacts/contact/csv/").status_code == 403
    assert Contact.objects.count() == 1
