"""From rows to adapters: the engine of a target, its connection, the storage of a plan. Reads secrets when called."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import cache

from django.conf import settings
from django.db import connection as portal_database

from backups.engines import ENGINES
from backups.engines.base import BackupEngine, Connection
from backups.exceptions import BackupError
from backups.models import Storage
from backups.storages import STORAGES
from backups.storages.base import Storage as StorageAdapter
from catalog.connectors import Endpoint
from catalog.inspection import TargetFacts
from catalog.models import DatabaseTarget, Host
from catalog.reach import forwarded
from catalog.targets import connection_values


def engine_for(target: DatabaseTarget) -> BackupEngine:
    try:
        return ENGINES[target.engine](bin_dir=settings.PG_BIN)
    except KeyError:
        raise BackupError(f"No engine in this version of the portal backs up {target.engine} databases.") from None


def connection_for(
    target: DatabaseTarget, application_name: str = "opsportal", endpoint: Endpoint | None = None
) -> Connection:
    """How to connect; over `endpoint` where the target is reached via a host. Without one it is only to be shown.

    Raises CatalogError when the password reference cannot be resolved.
    """
    conn = Connection(**asdict(connection_values(target, application_name)), system_identifier=target.system_identifier)
    return replace(conn, host=endpoint.host, port=endpoint.port, address=target.address) if endpoint else conn


def way_to(target: DatabaseTarget, owner: str) -> AbstractContextManager[Endpoint | None]:
    """The way to the target's server while the block lasts; None where it is reached directly.

    `owner` names the folder of its socket. Raises CatalogError with a sentence when the way cannot be opened.
    """
    if target.via is None or target.via.kind == Host.Kind.LOCAL:
        return nullcontext()
    if target.engine == DatabaseTarget.Engine.SQLITE:
        raise BackupError(
            f"A SQLite file is reached on the worker's own machine only, and {target} names the host {target.via}. "
            "Run a worker there, give the plan a storage on that host, and empty the field."
        )
    return forwarded(target.via, target.host, target.port, owner)


@contextmanager
def connected(target: DatabaseTarget, application_name: str) -> Iterator[Connection]:
    """For a page that asks something: the connection, with the way to it."""
    with way_to(target, f"page-{secrets.token_hex(6)}") as endpoint:
        yield connection_for(target, application_name, endpoint)


def storage_for(storage: Storage) -> StorageAdapter:
    try:
        return STORAGES[storage.kind](storage.root)
    except KeyError:
        raise BackupError(f"No adapter in this version of the portal keeps archives in “{storage.kind}”.") from None


def portal_identity() -> tuple[str, str]:
    """System identifier and name of the portal's own database, which is never a restore target."""
    with portal_database.cursor() as cursor:
        cursor.execute("SELECT system_identifier::text, current_database() FROM pg_control_system()")
        return cursor.fetchone()


@cache
def portal_mark() -> str:
    """Eight characters that tell this portal's sessions at a server from those of another portal, or of an older life
    of this one: its operations count from 1 as well."""
    with portal_database.cursor() as cursor:
        cursor.execute("SELECT oid::text FROM pg_database WHERE datname = current_database()")
        (oid,) = cursor.fetchone()
    identity = "/".join((*portal_identity(), oid))
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def inspect_target(target: DatabaseTarget) -> TargetFacts:
    """For "Check connection": connect to the database itself and say which server it is on."""
    with connected(target, "opsportal/check") as conn:
        facts = engine_for(target).inspect(replace(conn, system_identifier=""))  # to say which one it is instead
    return TargetFacts(system_identifier=facts.system_identifier, server_version=facts.version)
