"""What workers do with archives. Importing the rooms registers their procedures."""

from backups.procedures import adopt, backup, drop, prune, restore, undo, verify  # noqa: F401
