"""Values that somebody hostile, or in a hurry, would type."""

import pytest
from django.core.exceptions import ValidationError

from catalog import validators
from catalog.models import Service


def refuses(validator, value) -> str:
    with pytest.raises(ValidationError) as caught:
        validator(value)
    (message,) = caught.value.messages
    assert message.endswith(".") and len(message) > 20
    return message


GOOD_HOSTS = [
    "db1",
    "db1.example.org",
    "db1.example.org.",
    "10.0.0.1",
    "::1",
    "fe80::1%eth0",
    "my_host",
    "xn--bcher-kva.de",
]


@pytest.mark.parametrize("value", [*GOOD_HOSTS, "/run/postgresql", "/tmp/a.b-c/x_y"])
def test_hosts_that_exist_are_accepted(value):
    validators.validate_database_host(value)


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "-h", "--help", "a b", "a\tb", "a\n", "a\nhost=evil", "a\x00b", "a,b", "host=evil", "postgres://evil/x",
        "db1:5432", "user@db1", "a;b", "$(id)", "`id`", "a..b", ".a", "a" * 254, "@abstract", "relative/dir",
        "bücher.de", "/run/a b", "/run/a\nb", "/run/a=b", "/run/a,b", "/run/a\x7fb",
    ],
)  # fmt: skip
def test_hosts_that_hide_something_are_refused(value):
    refuses(validators.validate_database_host, value)


def test_a_machine_has_no_socket_directory():
    for value in GOOD_HOSTS:
        validators.validate_host_name(value)
    refuses(validators.validate_host_name, "/run/postgresql")


@pytest.mark.parametrize("value", ["erp", "My Shop", "täglich", "a.b-c", 'quote"d', "ends'", "x" * 63])
def test_database_names_are_accepted(value):
    validators.validate_database_name(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a\x00b",
        "a\nb",
        "erp\n",
        "-d",
        "--help",
        "host=evil dbname=erp",
        "postgresql://evil/erp",
        "x" * 64,
        "ä" * 32,
    ],
)
def test_database_names_that_mean_something_else_are_refused(value):
    refuses(validators.validate_database_name, value)


def test_role_names():
    validators.validate_role_name("backup-user@corp")
    for value in ("", "a\nb", "a\x00", "x" * 64):
        refuses(validators.validate_role_name, value)


@pytest.mark.parametrize("value", ["", "a b", "a,b", "-Q", "a\n", "queue;rm", "../x"])
def test_queue_names(value):
    validators.validate_queue_name("host-1.backups_2")
    refuses(validators.validate_queue_name, value)


@pytest.mark.parametrize("value", ["Mars/Olympus", "../../etc/passwd", "Europe", "", "+02:00", "Europe/Berlin\n"])
def test_time_zones(value):
    field = Service._meta.get_field("time_zone")
    assert field.clean("Europe/Berlin", None) == "Europe/Berlin"
    with pytest.raises(ValidationError):
        field.clean(value, None)


@pytest.mark.parametrize("value", ["-1", "12a", "1 2", "١٢", "1" * 21, "0x1f", "7\n"])
def test_system_identifiers(value):
    validators.validate_system_identifier("7381923847561029384")
    refuses(validators.validate_system_identifier, value)


@pytest.mark.parametrize(
    "value", ["SELECT true", " select count(*) > 0 from orders; ", "WITH x AS (SELECT 1) SELECT true"]
)
def test_smoke_tests(value):
    validators.validate_smoke_test(value)


@pytest.mark.parametrize(
    "value",
    ["DROP TABLE orders", "SELECT 1; DROP TABLE orders", "COMMIT; DELETE FROM x", "selection", "\\! id", "SELECT \x00"],
)
def test_smoke_tests_that_do_not_only_read_are_refused(value):
    refuses(validators.validate_smoke_test, value)


@pytest.mark.parametrize(
    "value",
    [
        [], [""], [" "], ["a", ""], ["a", 1], ["a", None], ["a", ["b"]], "systemctl stop erp", {"a": 1}, None, ["-c"],
        ["a", "b\nc"], ["a\x00"], ["a"] * 65, ["a" * 4097],
    ],
)  # fmt: skip
def test_argument_vectors(value):
    validators.validate_argument_vector(["systemctl", "stop", "erp; rm -rf $HOME", "-f", "ü"])
    refuses(validators.validate_argument_vector, value)


@pytest.mark.parametrize("value", ["a\nb", "a\x1b[31m", "erp\u202enoitcudorp", "a\u2066b", "tab\t"])
def test_names_show_what_they_are(value):
    validators.validate_printable("ERP · Zürich (東京)")
    refuses(validators.validate_printable, value)
