"""The demo's PostgreSQL server: where it is, its roles, and its databases while they are being made."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from opsportal.demo.exceptions import DemoError
from opsportal.stack.folders import write_private

SQL = Path(__file__).parent / "sql"
MARK = "Demo of the ops portal"  # comment on a database that the demo may replace
NEEDED = ("DEMO_PG_HOST", "DEMO_PG_USER", "DEMO_PG_PASSWORD_FILE")
# The role may make and rename its own databases, read everything and end other people's sessions: what a restore needs.
# It is no superuser, and the application uses it too, as the owner of its tables.
MEMBERSHIPS = ("pg_read_all_data", "pg_signal_backend", "pg_monitor")

Session = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Database:
    """A database of the demo and the role that owns it."""

    name: str
    owner: str

    @property
    def secret(self) -> str:
        """Name of the file with the owner's password, below the folder for secrets."""
        return f"demo-{self.owner.removesuffix('_owner')}-password"


ERP = Database("erp", "erp_owner")
ERP_STAGING = Database("erp_staging", "erp_owner")
CRM = Database("crm", "crm_owner")
DATABASES = (ERP, ERP_STAGING, CRM)


@dataclass(frozen=True)
class DemoServer:
    """How the demo reaches its server as the administrator of that server."""

    host: str
    user: str
    password: str = field(repr=False)
    port: int = 5432

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> DemoServer:
        """Raises DemoError when the environment names no server."""
        missing = [name for name in NEEDED if not env.get(name)]
        if missing:
            raise DemoError(
                f"{missing[0]} is not set: the demo needs a PostgreSQL server of its own. Start the portal with "
                f"`make run`, which has one, or set {', '.join(NEEDED)}."
            )
        path = Path(env["DEMO_PG_PASSWORD_FILE"])
        try:
            password = path.read_text().strip()
        except OSError as error:
            raise DemoError(
                f"The password in {path} cannot be read ({error.strerror}). Check DEMO_PG_PASSWORD_FILE."
            ) from None
        return cls(env["DEMO_PG_HOST"], env["DEMO_PG_USER"], password, int(env.get("DEMO_PG_PORT") or 5432))

    @contextmanager
    def session(self, database: str = "postgres", *, role: str = "") -> Iterator[Session]:
        """A session in autocommit mode; with `role`, what it makes belongs to that role. Raises DemoError."""
        try:
            session = psycopg.connect(
                host=self.host,
                port=self.port,
                dbname=database,
                user=self.user,
                password=self.password,
                application_name="opsportal demo",
                # Compiling queries that run once costs more than it saves; the demo can be loaded again after a crash.
                options="-c jit=off -c synchronous_commit=off -c work_mem=64MB -c maintenance_work_mem=256MB",
                autocommit=True,
                cursor_factory=psycopg.ClientCursor,
            )
        except psycopg.Error as error:
            said = " ".join(str(error).split())
            raise DemoError(
                f"The demo's server in {self.host} does not answer: {said}. Start it and try again."
            ) from None
        with session:
            if role:
                session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            yield session

    # -- roles and databases ------------------------------------------------------------------------------------------

    def make_role(self, role: str, secret: Path) -> None:
        """Create the role, or give it the password in `secret` again; the file is made when it is not there."""
        if not secret.exists():
            secret.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(secret, secrets.token_urlsafe(24))
        with self.session() as session:
            known = session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
            verb = sql.SQL("ALTER" if known else "CREATE")
            session.execute(
                sql.SQL("{} ROLE {} LOGIN CREATEDB NOSUPERUSER PASSWORD {}").format(
                    verb, sql.Identifier(role), sql.Literal(secret.read_text().strip())
                )
            )
            for membership in MEMBERSHIPS:
                session.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(membership), sql.Identifier(role)))

    def check_names(self) -> None:
        """Raises DemoError when a database has one of the demo's names and is not the demo's."""
        with self.session() as session:
            found = session.execute(
                "SELECT datname FROM pg_database WHERE datname = ANY (%s)"
                " AND shobj_description(oid, 'pg_database') IS DISTINCT FROM %s",
                [[database.name for database in DATABASES], MARK],
            ).fetchall()
        if found:
            raise DemoError(
                f"The server already has a database {found[0][0]} that is not the demo's. "
                "Rename it, or give the demo another server."
            )

    def make_database(self, database: Database) -> None:
        """An empty database; one that an earlier load of the demo left is replaced. Call `check_names` before."""
        name = sql.Identifier(database.name)
        with self.session() as session:
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            session.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, sql.Identifier(database.owner)))
            session.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(MARK)))


def run_script(session: Session, name: str, **values: object) -> None:
    """Run the statements of `sql/<name>.sql` in one transaction."""
    script = (SQL / f"{name}.sql").read_text()
    with session.transaction():
        session.execute(script.encode(), values or None)
