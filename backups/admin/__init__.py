"""Screens of plans, archives, restores and storages. Importing the rooms registers them."""

from backups.admin import archives, plans, restores, storages  # noqa: F401
