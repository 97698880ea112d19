"""Screens of the inventory. Everybody with a role reads them; administrators edit them."""

from catalog.admin import hosts, hours, inventory, probes

__all__ = ["hosts", "hours", "inventory", "probes"]
