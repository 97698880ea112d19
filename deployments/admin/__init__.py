"""Screens of releases and deployments. Importing the rooms registers them."""

from deployments.admin import changes, deployments, environments, releases, settings  # noqa: F401
