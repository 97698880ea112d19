"""Everything that is wrong from the start: each ends in a sentence that says what to do, and nothing is lost.

One table. Every line arranges one trouble around a shop that works, and asks for a backup, a verification or a restore.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.db import connection
from psycopg import sql

from backups import actions
from backups.models import Archive, Plan
from catalog.models import DatabaseTarget
from core.exceptions import PortalError
from operations import actions as operations
from operations.models import Operation
from tests.backups.disk import Disk
from tests.backups.shop import Shop, corrupt, rewrite
from tests.factories import session_on, target_on


@dataclass
class Scene:
    """A shop, and what a trouble may reach for."""

    shop: Shop
    root: Path  # of the storage it begins with
    folder: Path
    setenv: Callable[[str, str], None]
    disk: Callable[..., Disk]

    def target(self, **fields: object) -> None:
        """Rows as they may stand in the database, whatever today's form would say."""
        DatabaseTarget.objects.filter(pk=self.shop.target.pk).update(**fields)
        self.shop.target.refresh_from_db()

    def plan(self, **fields: object) -> None:
        Plan.objects.filter(pk=self.shop.plan.pk).update(**fields)
        self.shop.plan.refresh_from_db()

    def storage(self, root: Path) -> None:
        self.shop.plan.storage.root = str(root)
        self.shop.plan.storage.save()

    def largest(self, archive: Archive) -> Path:
        return max((self.shop.folder / archive.name).glob("*.zst"), key=lambda path: path.stat().st_size)


# -- the troubles -----------------------------------------------------------------------------------------------------


def wrong_password(scene: Scene) -> None:
    scene.setenv("OPS_SECRET_WRONG", "not-the-password")
    scene.target(password_ref="env:OPS_SECRET_WRONG")


def unset_variable(scene: Scene) -> None:
    scene.target(password_ref="env:OPS_SECRET_NOBODY_SET_THIS")


def missing_secret_file(scene: Scene) -> None:
    scene.target(password_ref="file:/run/secrets/nobody-put-this-here")


def forbidden_secret(scene: Scene) -> None:
    scene.target(password_ref="file:/etc/hostname")


def unreachable_host(scene: Scene) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        scene.target(host="127.0.0.1", port=free.getsockname()[1])


def unknown_host(scene: Scene) -> None:
    scene.target(host="db.shop.invalid")


def unknown_role(scene: Scene) -> None:
    scene.target(user="nobody_of_that_name")


def another_server(scene: Scene) -> None:
    scene.target(system_identifier="7000000000000000001")


CONNECTING = [
    (wrong_password, "refused the password of", "Correct the secret of this target"),
    (unset_variable, "OPS_SECRET_NOBODY_SET_THIS is not set in this process", "Set it where the portal's web"),
    (missing_secret_file, "nobody-put-this-here does not exist", "Create it and try again"),
    (forbidden_secret, "/etc/hostname does not lie below a folder for secrets", "Put the file below"),
    (unreachable_host, "Nothing answers at 127.0.0.1", "Start the server, open the firewall or correct the address"),
    (unknown_host, "The host name “db.shop.invalid” is not known here", "Correct it"),
    (unknown_role, "nobody_of_that_name", "Correct the secret|Create it or correct the user name"),
    (another_server, "is another server than before", "Either the address leads to the wrong server, then correct it"),
]


def unwritable_folder(scene: Scene) -> None:
    """Root may write everywhere but where the kernel itself says no."""
    if os.geteuid():
        scene.shop.root.chmod(0o500)
    else:
        scene.storage(Path("/sys/kernel"))


def file_in_the_way(scene: Scene) -> None:
    (scene.shop.root / scene.shop.plan.folder).write_text("a file and not a folder")


def storage_not_mounted(scene: Scene) -> None:
    scene.storage(scene.folder / "not-mounted")


def escaping_pattern(scene: Scene) -> None:
    scene.plan(on_demand_pattern="../../%Y")


def escaping_folder(scene: Scene) -> None:
    scene.plan(folder="../outside")


def escaping_link(scene: Scene) -> None:
    (scene.folder / "outside").mkdir()
    (scene.shop.root / "link").symlink_to(scene.folder / "outside")
    scene.plan(folder="link")


def small_disk(scene: Scene) -> None:
    disk = scene.disk()
    if not disk.is_mounted:
        pytest.skip("only root may mount a small file system; the next test fills a disk otherwise")
    scene.storage(disk.path)


def live_missing(scene: Scene) -> None:
    with session_on(scene.shop.database.server) as session:
        session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(scene.shop.database.name)))


def live_corrupt(scene: Scene) -> None:
    corrupt(scene.shop)


def live_closed(scene: Scene) -> None:
    with session_on(scene.shop.database.server) as session:
        name = sql.Identifier(scene.shop.database.name)
        session.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))


BACKING_UP = [
    (unwritable_folder, "The worker may not write", "Correct owner and mode, or the mount"),
    (file_in_the_way, "cannot be used", "Check the disk and the path"),
    (storage_not_mounted, "does not exist", "Create the folder, or mount the disk it is on"),
    (escaping_folder, "begins with a dot", "Begin it otherwise"),
    (escaping_link, "leads out of the storage", "Remove the link"),
    (small_disk, "are free", "Free some space or choose another disk"),
    (live_missing, "The server has no database", "restore the database first"),
    (live_corrupt, "Could not connect to database", "Check the target's settings"),
    (live_closed, "is closed to connections", "Allow them with ALTER DATABASE"),
]


def truncated(scene: Scene, archive: Archive) -> None:
    path = scene.largest(archive)
    os.truncate(path, path.stat().st_size // 2)


def bit_flipped(scene: Scene, archive: Archive) -> None:
    path = scene.largest(archive)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def contents_flipped(scene: Scene, archive: Archive) -> None:
    path = scene.shop.folder / archive.name / "toc.dat"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)


def file_missing(scene: Scene, archive: Archive) -> None:
    scene.largest(archive).unlink()


def manifest_edited(scene: Scene, archive: Archive) -> None:
    path = scene.shop.folder / archive.name / "manifest.json"
    path.write_text(path.read_text().replace('"rows": 600', '"rows": 100'))


def manifest_of_another(scene: Scene, archive: Archive) -> None:
    """Whole in itself, but not what was published: somebody copied an archive over this one."""
    rewrite(scene.shop.folder / archive.name, operation_id=999)


DAMAGED = [
    (truncated, "bytes instead of", "Use another archive"),
    (bit_flipped, "its SHA-256 is not the recorded one|cannot be unpacked", "Use another archive"),
    (contents_flipped, "toc.dat was changed", "Use another archive"),
    (file_missing, "missing in", "Use another archive"),
    (manifest_edited, "its own checksum does not match", "Use another archive"),
    (manifest_of_another, "is not the one that was published", "Use another archive"),
]


# -- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture
def scene(shop, tmp_path, monkeypatch) -> Iterator[Scene]:
    """A shop whose application runs."""
    disks: list[Disk] = []

    def disk(megabytes: int = 2) -> Disk:
        disks.append(Disk(tmp_path / "disk", megabytes))
        return disks[-1]

    service = shop.control(tmp_path / "service")
    service.call("start")
    root = shop.root
    yield Scene(shop, root, tmp_path, monkeypatch.setenv, disk)
    for one in disks:
        one.unmount()
    root.chmod(0o700)


def fails(scene: Scene, operation: Operation, *words: str) -> Operation:
    """It ends as failed, with a sentence that holds the words; nothing is left over and the application runs."""
    service = scene.shop.service
    pid = service.pid
    ended = scene.shop.run(operation)
    assert ended.state == Operation.State.FAILED, f"{ended.state}: {ended.message}\n{ended.traceback}"
    for alternatives in words:
        assert any(word in ended.message for word in alternatives.split("|")), ended.message
    assert ended.message.endswith((".", ")"))
    assert scene.shop.database.server.password not in ended.message + scene.shop.log_of(ended)
    assert service.pid == pid is not None and service.calls == ["start"]
    scene.shop.assert_nothing_left()
    return ended


def untouched(scene: Scene, trouble: Callable[..., None]) -> None:
    """The live database has all its rows, or is still as broken as the trouble has made it."""
    if trouble is live_missing:
        assert scene.shop.databases() == set()
        return
    assert scene.shop.databases() == {scene.shop.database.name}
    if trouble not in (live_corrupt, live_closed):
        scene.shop.assert_untouched()


def named(case: object) -> str:
    return getattr(case, "__name__", "")


@pytest.mark.parametrize(("trouble", "said", "advice"), [*CONNECTING, *BACKING_UP], ids=named)
def test_backing_up(scene, trouble, said, advice):
    trouble(scene)
    operation = fails(scene, scene.shop.back_up(), said, advice)
    archive = operation.archive
    assert (archive.state, archive.name) == (Archive.State.FAILED, "")
    untouched(scene, trouble)
    assert [path for path in scene.root.rglob("*") if path.name not in ("shop", "link")] == []


def test_a_pattern_that_leads_out_of_its_folder(scene):
    """The name is made when the backup is asked for, so the person who asks hears of it."""
    escaping_pattern(scene)
    with pytest.raises(PortalError, match="leads into another folder.*Use a name without /"):
        scene.shop.back_up()
    assert not Operation.objects.exists()
    untouched(scene, escaping_pattern)


@pytest.mark.parametrize(("trouble", "said", "advice"), CONNECTING, ids=named)
def test_restoring_over_a_server_that_cannot_be_reached(scene, trouble, said, advice):
    archive = scene.shop.archive()
    trouble(scene)
    fails(scene, scene.shop.restore(archive), said, advice)
    untouched(scene, trouble)


@pytest.mark.parametrize("ask", ["restore", "verify"])
@pytest.mark.parametrize(("trouble", "said", "advice"), DAMAGED, ids=named)
def test_an_archive_that_is_damaged(scene, trouble, said, advice, ask):
    archive = scene.shop.archive()
    trouble(scene, archive)
    if ask == "restore":
        fails(scene, scene.shop.restore(archive), said, advice)
    else:
        fails(scene, actions.request_verify(archive, by=scene.shop.operator), said, advice)
        archive.refresh_from_db()
        assert archive.verification == Archive.Verification.DAMAGED
    untouched(scene, trouble)


class TestRestoring:
    def newer(self, scene: Scene, **versions: object) -> Archive:
        archive = scene.shop.archive()
        archive.delete()
        rewrite(scene.shop.folder / archive.name, **versions)
        return scene.shop.adopt(scene.shop.folder / archive.name)

    def test_an_archive_of_a_newer_server(self, scene):
        archive = self.newer(scene, server_version="99.1", server_version_num=990001)
        fails(scene, scene.shop.restore(archive), "of PostgreSQL 99", "Restore into a server of version 99 or newer")
        scene.shop.assert_untouched()

    def test_an_archive_made_by_newer_programs(self, scene):
        archive = self.newer(scene, client_version="99.1")
        fails(scene, scene.shop.restore(archive), "made by pg_dump 99", "Install the client programs of PostgreSQL 99")
        scene.shop.assert_untouched()

    def test_the_portals_own_database(self, scene):
        """It holds the lock, the operation and the record of this very restore."""
        mine = connection.get_connection_params()
        scene.setenv("OPS_SECRET_PORTAL", mine.get("password") or "none-is-needed")
        fields = {"host": mine["host"], "user": mine["user"], "password_ref": "env:OPS_SECRET_PORTAL"}
        target = target_on(scene.shop.database.server, mine["dbname"], port=mine.get("port", 5432), **fields)
        archive = scene.shop.archive(target=target)
        archive.manifest["database"] = target.database
        archive.save()
        rows = Archive.objects.count()
        fails(scene, scene.shop.restore(archive, typed_name=target.database), "is the portal's own", "Choose another")
        assert Archive.objects.count() == rows
        scene.shop.assert_untouched()

    @pytest.mark.parametrize("into", ["postgres", "template1"])
    def test_a_database_of_the_server_itself(self, scene, into):
        archive = scene.shop.archive()
        fails(scene, scene.shop.restore(archive, into=into), "belongs to the server itself", "Choose another database")

    def test_a_role_that_may_not(self, scene):
        """Checked beforehand: in the middle of the swap is no time to find out."""
        role = f"{scene.shop.database.name}_reader"
        with session_on(scene.shop.database.server) as session:
            session.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'reader'").format(sql.Identifier(role)))
            session.execute(sql.SQL("GRANT pg_read_all_data, pg_monitor TO {}").format(sql.Identifier(role)))
        try:
            scene.setenv("OPS_SECRET_READER", "reader")
            scene.target(user=role, password_ref="env:OPS_SECRET_READER")
            fails(scene, scene.shop.restore(scene.shop.archive()), "may not create databases", "ALTER ROLE")
            scene.shop.assert_untouched()
        finally:
            with session_on(scene.shop.database.server) as session:
                session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


class TestNoSpace:
    def test_a_disk_that_fills_up_during_the_dump(self, scene):
        """There was room at the check; then somebody else wrote."""
        disk = scene.disk(megabytes=40)
        scene.storage(disk.path)
        operation = scene.shop.back_up()
        operations.pause(operation, by=scene.shop.operator, before="dump")
        assert scene.shop.run(operation).state == Operation.State.PAUSED
        operations.resume(operation, by=scene.shop.operator)
        with disk.full():
            ended = fails(scene, operation, *disk.said)
        assert "$ df -h" in scene.shop.log_of(ended)
        assert list(disk.path.rglob("*")) == [disk.path / "shop"]
        scene.shop.assert_untouched()
