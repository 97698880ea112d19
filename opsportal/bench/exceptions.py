"""What can go wrong with a measurement."""

from core.exceptions import PortalError


class BenchError(PortalError):
    """Nothing was measured; the sentence says what to do."""
