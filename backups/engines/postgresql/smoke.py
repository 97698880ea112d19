"""Is the database usable? Asked of the server, and of the database after a restore."""

from __future__ import annotations

from backups.engines.base import Connection
from backups.engines.postgresql.connect import connect, one, said_by_server
from backups.exceptions import BackupError
from core.words import counted


def smoke_test(conn: Connection, database: str, query: str) -> str:
    """Connect to the database, read from every table's catalogue entry, run the team's own question."""
    with connect(conn, database) as session, said_by_server("The smoke test"):
        tables = one(
            session,
            "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace NOT IN"
            " (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_' OR nspname = 'information_schema')",
        )
        if not query.strip():
            return f"“{database}” accepts connections and has {counted(tables, 'table')}. No smoke test is set for it."
        session.execute("SET default_transaction_read_only = on")
        answer = one(session, query)
        if answer is not True:
            raise BackupError(f"The smoke test answered {str(answer)[:100]} instead of true: {query[:200]}")
        return f"“{database}” has {counted(tables, 'table')} and its smoke test answered true."
