"""The catalog's write path for code: what a server's answer changes about a target.

People edit the inventory on the admin's forms; every edit is in the audit trail.
"""

from collections.abc import Sequence
from contextlib import nullcontext

from auditlog.context import set_actor
from django.db import transaction

from catalog import inspection
from catalog.exceptions import CatalogError
from catalog.host_keys import scanned
from catalog.inspection import TargetFacts
from catalog.models import DatabaseTarget, Host, Probe
from catalog.reach import connector_for
from core.models import User
from operations import actions as operations
from operations.commands import Command, run_checked
from operations.models import Operation

CHECK_TIMEOUT_S = 25.0


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


def check_host(host: Host) -> str:
    """Run something harmless in the place and say in a sentence what it calls itself.

    Raises PortalError when it cannot be reached, or is another one than expected.
    """
    connector = connector_for(host)
    command = connector.wrap(Command(("uname", "-snr"), timeout_s=CHECK_TIMEOUT_S))
    system, name, release = run_checked(command).stdout.decode("utf-8", "replace").split(maxsplit=2)
    expected = " as expected" if host.expected_hostname else "; no name is expected"
    return f"Reached {connector.place}: it calls itself {name}{expected}, {system} {release.strip()}."


def offered_host_keys(host: Host) -> list[str]:
    """The keys that the machine shows now, each "type base64". Asked from where it is reached; nothing is trusted yet.

    Raises PortalError when it does not answer.
    """
    scan = Command(
        ("ssh-keyscan", "-T", "5", "-p", str(host.port or 22), "--", host.address), timeout_s=CHECK_TIMEOUT_S
    )
    keys = scanned(run_checked(connector_for(host.via).wrap(scan)).stdout.decode("utf-8", "replace"))
    if not keys:
        raise CatalogError(
            f"No SSH server answers at {host.address}, port {host.port}. Check address, port and firewall."
        )
    return keys


def pin_host_key(host: Host, key: str, *, by: User) -> Host:
    """Trust this key, and no other, from now on. Raises CatalogError when the machine does not show it."""
    if key not in offered_host_keys(host):
        raise CatalogError("The machine does not show this key any more. Open the page again and compare anew.")
    with transaction.atomic(), set_actor(by):
        stored = Host.objects.select_for_update().get(pk=host.pk)
        stored.host_keys = key
        stored.save(update_fields=["host_keys"])
    return stored


def request_check(
    probes: Sequence[Probe],
    *,
    by: User | None,
    trigger: str = Operation.Trigger.CLICK,
    key: str | None = None,
    retry_of: Operation | None = None,
) -> Operation:
    """Ask these probes now. Raises CatalogError when there is none."""
    if not probes:
        raise CatalogError("There is no probe to ask. Add one first.")
    what = str(probes[0]) if len(probes) == 1 else f"{len(probes)} probes"
    environments = {probe.environment.pk: probe.environment for probe in probes}
    band = next(iter(environments.values())).environment_band if len(environments) == 1 else None

    def create() -> Operation:
        return operations.request(
            "catalog.check_probes",
            title=f"Check {what}",
            params={"probes": [probe.pk for probe in probes]},
            by=by,
            trigger=trigger,
            environment=band,
            key=key,
            retry_of=retry_of,
        )

    return operations.request_once(key, create)
