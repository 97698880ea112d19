"""What can go wrong with the demo."""

from core.exceptions import PortalError


class DemoError(PortalError):
    """The demo cannot be loaded; the sentence says what to do."""
