"""The kinds of storage by name. One line makes a new one known."""

from __future__ import annotations

from backups.storages.base import Storage
from backups.storages.local import LocalStorage

STORAGES: dict[str, type[Storage]] = {"local": LocalStorage}
