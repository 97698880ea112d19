"""Field validators of the catalog. Values here end up on command lines and in connection strings.

Every function raises `django.core.exceptions.ValidationError` with a sentence that says what to write instead.
"""

import ipaddress
import re

from django.core.exceptions import ValidationError

from core.addresses import parse_networks

# Control characters, and the marks that make a page show text in another order than it is stored.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?")
SOCKET_DIRECTORY = re.compile(r"/[^\x00-\x20\x7f=,]*")
QUEUE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
HOST_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]+={0,3}")
MAX_NAME_BYTES = 63  # NAMEDATALEN - 1: PostgreSQL silently cuts longer names, and would then mean another database
MAX_ARGUMENTS = 64
MAX_ARGUMENT_CHARS = 4096


def validate_printable(value: str) -> None:
    """Refuse control characters and direction overrides in a name that pages show."""
    if UNPRINTABLE.search(value):
        raise ValidationError("Remove the line breaks or invisible control characters.", code="unprintable")


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def validate_host_name(value: str) -> None:
    """Accept one host name or IP address."""
    if len(value) > 253 or not (HOST_NAME.fullmatch(value) or _is_address(value)):
        raise ValidationError(
            "Write one host name or IP address, without spaces, port or user, for example db1.example.org.",
            code="host",
        )


def validate_database_host(value: str) -> None:
    """Accept what libpq takes as one host: a host name, an IP address or an absolute socket directory."""
    if value.startswith("/"):
        if not SOCKET_DIRECTORY.fullmatch(value):
            raise ValidationError(
                "A socket directory must not contain spaces, commas, “=” or control characters.", code="host"
            )
        return
    try:
        validate_host_name(value)
    except ValidationError:
        raise ValidationError(
            "Write one host name, IP address or absolute socket directory, without spaces, port, comma or “=”.",
            code="host",
        ) from None


def _validate_sql_name(value: str, what: str) -> None:
    if not value:
        raise ValidationError(f"Write the name of the {what}.", code="sql_name")
    if UNPRINTABLE.search(value):
        raise ValidationError(
            f"The name of a {what} must not contain line breaks or control characters.", code="sql_name"
        )
    if len(value.encode()) > MAX_NAME_BYTES:
        raise ValidationError(
            f"PostgreSQL cuts names after {MAX_NAME_BYTES} bytes; write the name as the server stores it.",
            code="sql_name",
        )


def validate_database_name(value: str) -> None:
    """Accept a PostgreSQL database name that no client program can take for an option or a connection string."""
    _validate_sql_name(value, "database")
    if value.startswith("-") or "=" in value or "://" in value:
        raise ValidationError(
            "Write the plain name of the database: no connection string, no “=” and no leading “-”.", code="sql_name"
        )


def validate_role_name(value: str) -> None:
    """Accept a PostgreSQL role name."""
    _validate_sql_name(value, "user")


def validate_queue_name(value: str) -> None:
    """Accept a Celery queue name of plain characters."""
    if not QUEUE_NAME.fullmatch(value):
        raise ValidationError(
            "A queue name has letters, digits, “_”, “.” and “-” only, for example operations.", code="queue"
        )


def validate_system_identifier(value: str) -> None:
    """Accept the decimal number `pg_control_system()` reports."""
    if not re.fullmatch(r"[0-9]{1,20}", value):
        raise ValidationError(
            "A system identifier is the number PostgreSQL reports. Empty the field to pin it at the next contact.",
            code="system_identifier",
        )


def validate_smoke_test(value: str) -> None:
    """Accept one reading query. The server runs it read-only; a second statement could leave that transaction."""
    query = value.strip().removesuffix(";")
    if "\x00" in query or ";" in query:
        raise ValidationError("Write one query only, without a “;” inside.", code="smoke_test")
    if not re.match(r"(select|with|values|table)\b", query, re.IGNORECASE):
        raise ValidationError(
            "Write a reading query that returns true, for example SELECT count(*) > 0 FROM orders.", code="smoke_test"
        )


def validate_login(value: str) -> None:
    """Accept the name of an account that ssh cannot take for an option or for part of an address."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value):
        raise ValidationError("A user name has letters, digits, “_”, “.” and “-” only.", code="login")


def validate_container(value: str) -> None:
    """Accept the name of a container, a service or a pod; a pod may be one of a kind, as in deployment/api."""
    if not re.fullmatch(r"([a-z]+/)?[A-Za-z0-9][A-Za-z0-9_.-]*", value):
        raise ValidationError(
            "Write one name of letters, digits, “_”, “.” and “-”, for example erp-postgres.", code="container"
        )


def validate_context(value: str) -> None:
    """Accept the name of a kubectl context, which cloud providers make of addresses."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]*", value):
        raise ValidationError("Write the name of a context as “kubectl config get-contexts” shows it.", code="context")


def validate_path(value: str) -> None:
    """Accept an absolute path of printable characters without a way up."""
    if not value.startswith("/") or UNPRINTABLE.search(value) or ".." in value.split("/"):
        raise ValidationError("Write an absolute path without “..”, for example /opt/erp/compose.yml.", code="path")


def validate_host_keys(value: str) -> None:
    """Accept lines of key type and base64, as a .pub file or ssh-keyscan shows them, without names or options."""
    for line in value.splitlines():
        if line.strip() and not HOST_KEY.fullmatch(line.strip()):
            raise ValidationError(
                "Write each host key as its type and its base64 text, for example ssh-ed25519 AAAA….", code="host_key"
            )


def validate_networks(value: str) -> None:
    """Accept networks or single addresses, one a line."""
    try:
        parse_networks([line for line in value.splitlines() if line.strip()])
    except ValueError as error:
        raise ValidationError(str(error), code="network") from None


def validate_argument_vector(value: object) -> None:
    """Accept a list of non-empty strings: a program and its arguments, never a shell line."""
    if not isinstance(value, list) or not value:
        raise ValidationError(
            "Write the program and its arguments as a list, for example systemctl, start, erp.", code="argv"
        )
    if len(value) > MAX_ARGUMENTS:
        raise ValidationError(f"At most {MAX_ARGUMENTS} arguments; put a longer command into a script.", code="argv")
    for argument in value:
        if not isinstance(argument, str) or not argument.strip():
            raise ValidationError("Every argument must be text that is not empty.", code="argv")
        if UNPRINTABLE.search(argument):
            raise ValidationError("An argument must not contain line breaks or control characters.", code="argv")
        if len(argument) > MAX_ARGUMENT_CHARS:
            raise ValidationError(f"An argument has at most {MAX_ARGUMENT_CHARS} characters.", code="argv")
    if value[0].startswith("-"):
        raise ValidationError("The first argument must be a program, not an option.", code="argv")
