"""Screens of contacts, on-call, the matrix, escalations and messages."""

from contacts.admin import escalations, matrix, messages, oncall, people

__all__ = ["escalations", "matrix", "messages", "oncall", "people"]
