"""What can go wrong in the portal's own survival, as sentences for a person."""

from core.exceptions import PortalError


class SurvivalError(PortalError):
    """A backup of the portal, an offline card or a break-glass link cannot be made."""


class CopyDamaged(SurvivalError):
    """A backup of the portal in the second place is not what was once written."""
