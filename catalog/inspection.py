"""What a database server says about itself, asked through whoever speaks its protocol.

The engines live in a higher room; they register one callable per engine here:
`INSPECTORS["postgresql"] = inspect`, called with the target, which connects, asks and returns the facts.
"""

from collections.abc import Callable
from dataclasses import dataclass

from catalog.exceptions import CatalogError
from catalog.models import DatabaseTarget


@dataclass(frozen=True)
class TargetFacts:
    """The answer of a server: which cluster it is and which version it runs."""

    system_identifier: str
    server_version: str


# An inspector raises a PortalError with a sentence when the server cannot be reached or asked.
INSPECTORS: dict[str, Callable[[DatabaseTarget], TargetFacts]] = {}


def inspect(target: DatabaseTarget) -> TargetFacts:
    """Ask the server of a target who it is. Raises CatalogError when no engine can, PortalError from the engine."""
    inspector = INSPECTORS.get(target.engine)
    if inspector is None:
        raise CatalogError(
            f"No installed engine can check a {target.get_engine_display()} database. Choose another engine."
        )
    return inspector(target)
