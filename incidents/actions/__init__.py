"""The only write path into incidents."""

from incidents.actions import declare, evidence, items, joined, people, relate, review, triage, updates, work

__all__ = ["declare", "evidence", "items", "joined", "people", "relate", "review", "triage", "updates", "work"]
