"""The catalog's write path for code: what a server's answer changes about a target.

People edit the inventory on the admin's forms; every edit is in the audit trail.
"""

from contextlib import nullcontext

from auditlog.context import set_actor
from django.db import transaction

from catalog import inspection
from catalog.exceptions import CatalogError
from catalog.inspection import TargetFacts
from catalog.models import DatabaseTarget
from core.models import User


def pin_identity(target: DatabaseTarget, facts: TargetFacts, *, by: User | None) -> DatabaseTarget:
    """Remember which server this is at first contact; afterwards refuse any other. Returns the stored target.

    Raises CatalogError when the server reports another identity than the pinned one; then nothing is written.
    """
    if not facts.system_identifier:
        raise CatalogError(
            f"The server of {target} does not say which one it is. "
            "Give the portal's database user the right to call pg_control_system()."
        )
    with transaction.atomic(), set_actor(by) if by else nullcontext():
        stored = DatabaseTarget.objects.select_for_update().get(pk=target.pk)
        if stored.system_identifier and stored.system_identifier != facts.system_identifier:
            raise CatalogError(
                f"{target.address} is another server than before: it reports system identifier "
                f"{facts.system_identifier}, pinned is {stored.system_identifier}. Nothing was changed there. "
                "Either the address leads to the wrong server, then correct it, or the server was set up anew, then an "
                "administrator empties the system identifier of this database in the catalog."
            )
        if (stored.system_identifier, stored.server_version) != (facts.system_identifier, facts.server_version):
            stored.system_identifier = facts.system_identifier
            stored.server_version = facts.server_version
            stored.save(update_fields=["system_identifier", "server_version"])
    target.system_identifier, target.server_version = stored.system_identifier, stored.server_version
    return stored


def check_connection(target: DatabaseTarget, *, by: User | None) -> str:
    """Connect, compare the server with the pinned one (or pin it), and say in a sentence what was found.

    Raises PortalError when the server cannot be reached or is another one.
    """
    first_contact = not target.system_identifier
    facts = inspection.inspect(target)
    pin_identity(target, facts, by=by)
    seen = "Its identity is pinned from now on." if first_contact else "It is the server known from before."
    return f"Connected to {target.address}: {target.get_engine_display()} {facts.server_version}. {seen}"
