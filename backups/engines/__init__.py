"""The engines by name. One line makes a new one known."""

from __future__ import annotations

from backups.engines.base import BackupEngine
from backups.engines.postgresql import PostgreSQLEngine
from backups.engines.sqlite import SQLiteEngine

ENGINES: dict[str, type[BackupEngine]] = {
    "postgresql": PostgreSQLEngine,
    "sqlite": SQLiteEngine,
}
