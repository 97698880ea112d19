"""What an engine needs to connect to a database target: plain values, the password among them."""

from dataclasses import dataclass, field

from catalog.exceptions import CatalogError
from catalog.models import DatabaseTarget
from catalog.secrets import SecretReference


@dataclass(frozen=True)
class ConnectionValues:
    """Where and as whom to connect. The password stays out of `repr`; "" means that none is needed."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    sslmode: str
    maintenance_database: str
    application_name: str


def connection_values(target: DatabaseTarget, application_name: str) -> ConnectionValues:
    """Resolve the secret of a target and return its values. Reads the secret now: call it where the connection is made.

    Raises CatalogError when the secret is not there or may not be used.
    """
    password = SecretReference.parse(target.password_ref).resolve() if target.password_ref else ""
    if "\n" in password or "\r" in password:
        raise CatalogError(
            f"The secret {target.password_ref} has several lines. Store the database password alone, on one line."
        )
    return ConnectionValues(
        host=target.host,
        port=target.port,
        database=target.database,
        user=target.user,
        password=password,
        sslmode=target.sslmode,
        maintenance_database=target.maintenance_database,
        application_name=application_name,
    )
