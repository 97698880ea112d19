"""What can go wrong with people, on-call and escalation, as sentences for a person."""

from core.exceptions import PortalError


class ContactsError(PortalError):
    """Something about contacts, on-call, the matrix or an escalation cannot be done, and why."""
