"""What can be known beforehand is known beforehand."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from backups.engines.base import TableSize
from backups.engines.postgresql import PostgreSQLEngine
from backups.exceptions import BackupError
from tests.backups.postgresql import ORDERS, PREFIX, archive, session


class TestBeforeDump:
    def old_clients(self, folder: Path) -> PostgreSQLEngine:
        for program in ("pg_dump", "pg_restore", "pg_dumpall"):
            (folder / program).write_text(f"#!/bin/sh\necho '{program} (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)'\n")
            (folder / program).chmod(0o755)
        return PostgreSQLEngine(str(folder))

    def test_all_is_well(self, engine, make, tmp_path):
        conn = make(f"{PREFIX}_pre", *ORDERS)
        checks = engine.preflight_dump(conn, engine.inspect(conn), tmp_path)
        assert all(check.ok for check in checks)
        assert {"pg_dump", "permissions", "folder", "space"} <= {check.name for check in checks}
        assert list(tmp_path.iterdir()) == []

    def test_an_old_client(self, engine, target, tmp_path):
        old = self.old_clients(tmp_path)
        with pytest.raises(BackupError, match=r"pg_dump 15 cannot read a server of version \d+ .* set PG_BIN"):
            old.preflight_dump(target, engine.inspect(target), tmp_path)

    def test_no_client(self, engine, target, tmp_path):
        with pytest.raises(BackupError, match="pg_dump was not found.* PG_BIN names the folder"):
            PostgreSQLEngine(str(tmp_path)).preflight_dump(target, engine.inspect(target), tmp_path)

    def test_something_else_of_that_name(self, engine, target, tmp_path):
        (tmp_path / "pg_dump").write_text("#!/bin/sh\necho hello\n")
        (tmp_path / "pg_dump").chmod(0o755)
        with pytest.raises(BackupError, match="does not answer like PostgreSQL's pg_dump"):
            PostgreSQLEngine(str(tmp_path)).preflight_dump(target, engine.inspect(target), tmp_path)

    def test_a_missing_folder(self, engine, target, tmp_path):
        with pytest.raises(BackupError, match="does not exist. Create it") as caught:
            engine.preflight_dump(target, engine.inspect(target), tmp_path / "absent")
        assert "df -h" in caught.value.diagnostics

    def test_an_unwritable_folder(self, engine, target):
        with pytest.raises(BackupError, match="worker cannot write in /proc") as caught:
            engine.preflight_dump(target, engine.inspect(target), Path("/proc"))
        assert "Filesystem" in caught.value.diagnostics and "/proc" in caught.value.diagnostics

    def test_no_space(self, engine, target, tmp_path):
        facts = dataclasses.replace(engine.inspect(target), tables=(TableSize("huge", 10**16),))
        with pytest.raises(BackupError, match="needs about .* GB in .* are free. Free some space") as caught:
            engine.preflight_dump(target, facts, tmp_path)
        assert "Use%" in caught.value.diagnostics

    def test_unreadable_tables_and_row_security(self, engine, make, admin, tmp_path):
        role = f"{PREFIX}_weak"
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        conn = dataclasses.replace(make(f"{PREFIX}_weak", *ORDERS), user=role, password="x")
        with pytest.raises(
            BackupError, match=r"may not read 1 tables, among them public.orders. GRANT pg_read_all_data"
        ):
            engine.preflight_dump(conn, engine.inspect(conn), tmp_path)
        with session(
            dataclasses.replace(conn, user=os.environ["TARGET_USER"], password=os.environ["TARGET_PASSWORD"])
        ) as one:
            one.execute(f"GRANT SELECT ON orders TO {role}")
            one.execute("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
            with pytest.raises(BackupError, match="Row security hides rows of public.orders"):
                engine.preflight_dump(conn, engine.inspect(conn), tmp_path)
            one.execute("ALTER TABLE orders DISABLE ROW LEVEL SECURITY")
            assert all(check.ok for check in engine.preflight_dump(conn, engine.inspect(conn), tmp_path))
            one.execute(f"DROP OWNED BY {role}")


@pytest.fixture(scope="module")
def described(engine, target, admin, tmp_path_factory):
    name = f"{PREFIX}_br"
    admin.execute(f"CREATE DATABASE {name}")
    return archive(engine, dataclasses.replace(target, database=name), tmp_path_factory.mktemp("br") / "a")


class TestBeforeRestore:
    @pytest.fixture
    def check(self, engine, target, tmp_path):
        def check(described, database=f"{PREFIX}_br", *, engine=engine, pinned=None, forbidden=(), **changes):
            conn = dataclasses.replace(target, database=database)
            return engine.preflight_restore(
                conn,
                dataclasses.replace(described, **changes),
                Path("/backups/erp"),
                system_identifier=pinned,
                forbidden=forbidden,
                work_dir=tmp_path,
            )

        return check

    def test_all_is_well_also_without_a_live_database(self, check, described):
        for name in (f"{PREFIX}_br", f"{PREFIX}_never_was"):
            checks = check(described, name, pinned=described.system_identifier)
            assert not [one for one in checks if one.ok is False]
            assert {"identity", "archive version", "extensions", "roles", "rights", "server space"} <= {
                c.name for c in checks
            }

    @pytest.mark.parametrize("name", ["postgres", "template0", "template1"])
    def test_the_servers_own_databases(self, check, described, name):
        with pytest.raises(BackupError, match="belongs to the server itself. Choose another"):
            check(described, name)

    def test_the_portals_own_database(self, check, described):
        with pytest.raises(BackupError, match="portal's own database"):
            check(described, "portal", forbidden=[(described.system_identifier, "portal")])
        check(described, "portal", forbidden=[("1", "portal"), (described.system_identifier, "other")])

    def test_another_server_than_was_confirmed(self, check, described):
        with pytest.raises(BackupError, match="not the server that was confirmed .* instead of 4711"):
            check(described, pinned="4711")

    def test_an_archive_of_a_newer_server(self, check, described):
        with pytest.raises(BackupError, match="archive is of PostgreSQL 99, this server is"):
            check(described, server_version_num=990001)

    def test_an_archive_of_a_newer_client(self, check, described):
        with pytest.raises(BackupError, match="cannot read an archive made by pg_dump 99"):
            check(described, client_version="99.1")

    def test_missing_extensions(self, check, described):
        with pytest.raises(BackupError, match="lacks the extensions postgis. Install"):
            check(described, extensions={"plpgsql": "1.0", "postgis": "3.4"})

    def test_missing_roles(self, check, described):
        with pytest.raises(
            BackupError, match=r"lacks the roles no_such_app, .* CREATE ROLE them; /backups/erp/globals.sql"
        ):
            check(described, roles=["no_such_app"])
        owner = dataclasses.replace(described.properties, owner="no_such_owner")
        with pytest.raises(BackupError, match="lacks the roles no_such_owner"):
            check(described, properties=owner)

    def test_no_space(self, check, described):
        huge = [dataclasses.replace(described.files[0], plain_size=10**16)]
        with pytest.raises(BackupError, match="unpacked archive needs about"):
            check(described, files=huge)

    def test_rights(self, engine, check, described, admin, target, tmp_path):
        role = f"{PREFIX}_few"
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        conn = dataclasses.replace(target, database=f"{PREFIX}_br", user=role, password="x")

        def attempt():
            engine.preflight_restore(conn, described, tmp_path, system_identifier=None, forbidden=[], work_dir=tmp_path)

        with pytest.raises(BackupError, match="may not create databases. ALTER ROLE … CREATEDB"):
            attempt()
        admin.execute(f"ALTER ROLE {role} CREATEDB")
        with pytest.raises(BackupError, match="may not end other sessions"):
            attempt()
        admin.execute(f"GRANT pg_signal_backend TO {role}")
        with pytest.raises(BackupError, match="not a member of the owner"):
            attempt()
