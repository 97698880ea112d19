"""What can go wrong with webhooks, as sentences for a person."""

from core.exceptions import PortalError


class WebhookError(PortalError):
    """Something cannot be sent, or not again."""
