"""What can go wrong with incidents, as sentences for a person."""

from core.exceptions import PortalError


class IncidentError(PortalError):
    """Something about an incident cannot be done, and why."""
