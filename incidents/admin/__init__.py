"""Screens of incidents and of how they are handled."""

from incidents.admin import incidents, items, reviews, settings, updates  # noqa: F401  each registers its screens
