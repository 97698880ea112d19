"""What can go wrong in the catalog, as sentences for a person."""

from core.exceptions import PortalError


class CatalogError(PortalError):
    """Something in the inventory does not fit the world: a secret, an identity, a service command."""
