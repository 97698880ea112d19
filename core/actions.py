"""The write path of `core`."""

from core.exceptions import PortalError
from core.models import User, time_zone_names


def set_time_zone(user: User, *, time_zone: str) -> None:
    """Remember the zone in which this person wants to read times. Raises PortalError for an unknown zone."""
    if time_zone not in time_zone_names():
        raise PortalError(f"“{time_zone}” is not a time zone. Choose a name such as Europe/Berlin.")
    user.time_zone = time_zone
    user.save(update_fields=["time_zone"])
