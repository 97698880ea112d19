"""The embedded stack as real processes: start, crash, kill, stop, and what it says when it cannot."""

import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import textwrap
import time
import urllib.request
from pathlib import Path

import psutil
import psycopg
import pytest

from opsportal.stack import StackError
from opsportal.stack.environment import Wishes
from opsportal.stack.folders import DataLock, Folders
from opsportal.stack.identity import Account
from opsportal.stack.portal import welcome
from opsportal.stack.postgres import Cluster
from opsportal.stack.process import NotYet
from opsportal.stack.programs import SYSTEM_HOME
from tests.opsportal.stack_tools import (
    CHECKOUT,
    Portal,
    alive,
    clean_env,
    free_port,
    listening,
    open_folder,
    wait_until,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")


def status_of(portal: Portal) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{portal.port}/health/ready", timeout=5) as answer:
        return int(answer.status)


def pid_of(portal: Portal, name: str) -> int:
    return int(json.loads((portal.data / "processes.json").read_text()).get(name, {}).get("pid", 0))


def query(portal: Portal, statement: str) -> list[tuple]:
    with psycopg.connect((portal.data / "secrets" / "database-url").read_text(), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def portal():
    """One running portal. The tests that use it run in order; the last two take it down and start it again."""
    with open_folder() as folder:
        running = [Portal(folder / "data", free_port())]
        running[0].wait_for("The ops portal is ready")
        yield running
        for one in running:
            one.end()


@pytest.mark.xdist_group("stack")
class TestRunningPortal:
    def test_it_is_ready_and_says_where(self, portal):
        assert status_of(portal[0]) == 200
        assert f"http://127.0.0.1:{portal[0].port}/" in portal[0].output

    def test_it_listens_on_the_web_port_and_nowhere_else(self, portal):
        tree = portal[0].tree()
        assert {"postgres", "redis-server"} <= {p.name() for p in tree} or {"valkey-server"} & {p.name() for p in tree}
        assert listening(tree) == {("tcp", f"0100007F:{portal[0].port:04X}")}

    def test_secrets_are_private_and_on_no_command_line(self, portal):
        folder = portal[0].data / "secrets"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        values = []
        for path in folder.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            values.append(path.read_text())
        shown = "\n".join(" ".join(p.cmdline()) for p in portal[0].tree())
        assert len(values) >= 4
        assert not [v for v in values if v in shown]

    @as_root
    def test_as_root_the_servers_run_as_somebody_else(self, portal):
        owners = {p.username() for p in portal[0].tree() if p.name() in ("postgres", "redis-server", "valkey-server")}
        assert owners == {"nobody"}

    def test_a_second_start_on_the_same_data_names_the_first(self, portal):
        second = Portal(portal[0].data, free_port())
        assert second.process.wait(10) == 1
        second._reader.join(5)
        assert f"process {portal[0].process.pid}, http://127.0.0.1:{portal[0].port}/" in second.output

    def test_a_taken_port_is_a_sentence_before_anything_starts(self, portal):
        with open_folder() as folder:
            second = Portal(folder / "data", portal[0].port)
            assert second.process.wait(10) == 1
            second._reader.join(5)
            assert second.output == (
                f"Port {portal[0].port} is taken; choose another with PORT={portal[0].port + 1} make run.\n"
            )
            assert not (folder / "data" / "servers" / "portal").exists()

    def test_status_lists_the_processes(self, portal):
        done = subprocess.run(
            [sys.executable, "-m", "opsportal.stack", "status"],
            cwd=CHECKOUT,
            env=clean_env(DATA_DIR=str(portal[0].data)),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0
        assert all(name in done.stdout for name in ("postgres-portal", "redis", "web", "worker-control", "beat"))

    @pytest.mark.parametrize("name", ["redis", "postgres-portal", "web"])
    def test_a_crashed_process_is_started_again_and_named(self, portal, name):
        before = pid_of(portal[0], name)
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: pid_of(portal[0], name) not in (0, before), 10, lambda: portal[0].output)
        assert "ended (killed by SIGKILL)" in portal[0].output
        assert str(portal[0].data / "logs" / f"{name}.log") in portal[0].output

        def ready() -> bool:
            try:
                return status_of(portal[0]) == 200
            except OSError:
                return False

        wait_until(ready, 20, lambda: portal[0].output)

    def test_nothing_survives_a_killed_supervisor_and_the_next_start_finds_its_data(self, portal):
        query(portal[0], "CREATE TABLE stack_test_marker AS SELECT 42 AS answer")
        tree = portal[0].tree()
        portal[0].process.kill()
        portal[0].process.wait()
        wait_until(lambda: not alive(tree), 8, lambda: str(alive(tree)))

        portal.insert(0, Portal(portal[0].data, portal[0].port))
        portal[0].wait_for("The ops portal is ready")
        assert query(portal[0], "SELECT answer FROM stack_test_marker") == [(42,)]

    def test_it_stops_in_order(self, portal):
        names = ("beat", "web", "worker-control", "worker-operations", "redis", "postgres-portal")
        running = {name: psutil.Process(pid_of(portal[0], name)) for name in names}
        tree = portal[0].tree()
        portal[0].process.send_signal(signal.SIGTERM)
        ended: dict[str, float] = {}
        while len(ended) < len(names):
            for name in set(names) - set(ended):
                if not alive([running[name]]):
                    ended[name] = time.monotonic()
            assert portal[0].process.poll() is None or len(ended) == len(names) or not time.sleep(0.1)
            time.sleep(0.01)
        assert portal[0].process.wait(5) == 0
        workers = [ended["worker-control"], ended["worker-operations"]]
        assert ended["beat"] <= ended["web"] <= min(workers)
        assert max(workers) <= ended["redis"] <= ended["postgres-portal"]
        assert not alive(tree)


class TestWithServices:
    def run(self, *command: str, python: str = sys.executable, **options) -> subprocess.CompletedProcess:
        argv = [python, "-m", "opsportal.stack", "with-services", "--", *command]
        # The packages are named for an interpreter that is not the virtual environment's own.
        env = {**clean_env(), "PYTHONPATH": sysconfig.get_path("purelib")}
        return subprocess.run(argv, cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=60, **options)

    SELECT = 'PGPASSWORD="$TARGET_PASSWORD" "$PG_BIN/psql" -h "$TARGET_SOCKET" -U ops -d postgres -Atc "SELECT 42"'

    def test_it_gives_servers_and_forwards_the_exit_code(self):
        done = self.run("sh", "-c", f'echo "$DATA_DIR"; {self.SELECT}; exit 7')
        folder, answer = done.stdout.split()
        assert (done.returncode, answer) == (7, "42")
        assert not Path(folder).exists()

    @as_root
    def test_an_ordinary_user_can_do_the_same(self):
        nobody = Account.current()
        # The environment's interpreter may lie in root's home, closed to other accounts; then the system's will do.
        look = ["-c", f"open({__file__!r}); import sys; assert sys.version_info[:2] == {sys.version_info[:2]}"]
        candidates = [sys.executable, f"/usr/bin/python3.{sys.version_info[1]}"]
        python = next((one for one in candidates if not nobody.try_run([one, *look])), None)
        if python is None:
            pytest.skip("no Python that other accounts may run: apt-get install python3.11")
        done = self.run(
            "sh", "-c", f"id -un; {self.SELECT}", python=python, user=nobody.uid, group=nobody.gid, extra_groups=[]
        )
        assert done.stdout.split() == ["nobody", "42"]

    def test_killed_it_leaves_no_process(self):
        argv = [
            sys.executable,
            "-m",
            "opsportal.stack",
            "with-services",
            "--",
            "sh",
            "-c",
            "echo $DATA_DIR; exec sleep 60",
        ]
        process = subprocess.Popen(argv, cwd=CHECKOUT, env=clean_env(), stdout=subprocess.PIPE, text=True)
        assert process.stdout
        folder = process.stdout.readline().strip()
        tree = psutil.Process(process.pid).children(recursive=True)
        assert len(tree) > 4
        process.kill()
        process.wait()
        wait_until(lambda: not alive(tree), 8, lambda: str(alive(tree)))
        subprocess.run(["rm", "-rf", folder])


class TestSupervisor:
    def test_a_process_that_keeps_failing_is_restarted_with_growing_pauses(self, tmp_path):
        script = textwrap.dedent(f"""
            import sys, time
            from pathlib import Path
            from opsportal.stack.process import Service
            from opsportal.stack.supervisor import Supervisor
            here = Path({str(tmp_path)!r})
            argv = ["sh", "-c", "echo because of this; date +%s.%N >> starts; exit 3"]
            with Supervisor(logs=here, register=here / "register", say=print) as supervisor:
                supervisor.start(Service("flaky", "flaky service", argv, {{"PATH": "/usr/bin:/bin"}}, cwd=here))
                begun = time.monotonic()
                while time.monotonic() - begun < 3.7:
                    supervisor.tend()
                    supervisor.sleep(0.2)
        """)
        done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        starts = [float(line) for line in (tmp_path / "starts").read_text().split()]
        pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
        assert pauses == [pytest.approx(1, abs=0.5), pytest.approx(2, abs=0.5)]
        assert "The flaky service ended (exit code 3).\n    because of this\n  Starting it again in 2 s." in done.stdout
        assert str(tmp_path / "flaky.log") in done.stdout

    def test_a_stubborn_process_is_killed_with_its_children(self, tmp_path):
        script = textwrap.dedent(f"""
            from pathlib import Path
            from opsportal.stack.process import Service
            from opsportal.stack.supervisor import Supervisor
            import time
            here = Path({str(tmp_path)!r})
            argv = ["sh", "-c", "trap '' TERM; sleep 71 & echo $! > child; while :; do sleep 0.1; done"]
            with Supervisor(logs=here, register=here / "register", say=print) as supervisor:
                env = {{"PATH": "/usr/bin:/bin"}}
                supervisor.start(Service("deaf", "deaf service", argv, env, cwd=here, stop_limit_s=1))
                while not (here / "child").exists():
                    time.sleep(0.05)
        """)
        done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=30)
        assert "Killing deaf service: still there after 1 s." in done.stdout
        child = int((tmp_path / "child").read_text())
        assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


class TestLockFiles:
    def cluster(self, folder: Path) -> Cluster:
        (folder / "sockets").mkdir()
        (folder / "data").mkdir()
        me = Account(os.geteuid(), os.getegid(), dropped=False)
        return Cluster("x", "x", folder / "data", folder / "sockets", Path("/"), me, "")

    @pytest.mark.parametrize(
        "content",
        ["", "999999999\n", f"{os.getpid()}\n", "1\n"],
        ids=["cut off", "gone", "another program of ours", "somebody else's"],
    )
    def test_remains_of_a_crash_are_removed(self, tmp_path, content):
        cluster = self.cluster(tmp_path)
        (cluster.data / "postmaster.pid").write_text(content)
        (cluster.sockets / ".s.PGSQL.5432.lock").write_text(content)
        cluster.clear_remains()
        assert not list(cluster.data.iterdir())
        assert not list(cluster.sockets.iterdir())

    def test_a_living_server_keeps_its_lock(self, tmp_path):
        cluster = self.cluster(tmp_path)
        # Any program of that name whose working folder is the data folder: what the real one looks like from outside.
        program = tmp_path / "postgres"
        program.symlink_to("/bin/sleep")
        server = subprocess.Popen([str(program), "60"], cwd=cluster.data)
        try:
            wait_until(lambda: Path(f"/proc/{server.pid}/comm").read_text() == "postgres\n", 5)
            (cluster.data / "postmaster.pid").write_text(f"{server.pid}\n")
            with pytest.raises(NotYet, match=f"process {server.pid}"):
                cluster.clear_remains()
        finally:
            server.kill()
            server.wait()
        cluster.clear_remains()


class TestFolders:
    def test_the_second_holder_is_refused_and_the_first_named(self, tmp_path):
        lock = DataLock(tmp_path, "http://127.0.0.1:1/")
        with pytest.raises(StackError, match=f"process {os.getpid()}, http://127.0.0.1:1/"):
            DataLock(tmp_path, "http://127.0.0.1:2/")
        lock.release()
        DataLock(tmp_path, "http://127.0.0.1:2/").release()

    def test_a_deep_data_folder_gets_short_sockets(self):
        with open_folder() as folder:
            deep = folder / ("d" * 60) / ("e" * 60)
            folders = Folders.prepare(deep, Account.current())
            try:
                assert len(os.fsencode(folders.sockets / "portal" / ".s.PGSQL.5432")) <= 107
                assert stat.S_IMODE(folders.sockets.stat().st_mode) == 0o700
                assert Folders.prepare(deep, Account.current()).sockets == folders.sockets
                folders.sockets.chmod(0o777)
                with pytest.raises(StackError, match="belongs to somebody else"):
                    Folders.prepare(deep, Account.current())
            finally:
                folders.sockets.rmdir()

    @as_root
    def test_below_a_closed_folder_the_databases_live_elsewhere_for_good(self, tmp_path):
        data = tmp_path / "data"  # pytest's folders are closed to other accounts
        folders = Folders.prepare(data, Account.current())
        try:
            assert folders.servers.parent == SYSTEM_HOME
            assert not (data / "servers").exists()
            assert Folders.prepare(data, Account.current()).servers == folders.servers
        finally:
            (folders.servers / "run").rmdir()
            folders.servers.rmdir()

    def test_a_lost_password_is_not_replaced_by_a_new_one(self):
        with open_folder() as folder:
            folders = Folders.prepare(folder / "data", Account.current())
            assert folders.secret("x", needed_by=folder / "nothing") == folders.secret("x")
            with pytest.raises(StackError, match="put it back from a backup"):
                folders.secret("y", needed_by=folder)

    def test_somebody_elses_data_is_refused_with_a_sentence(self, tmp_path):
        other = Account(os.geteuid() + 1, os.getegid(), dropped=False)
        with pytest.raises(StackError, match="choose another folder with DATA_DIR"):
            other.own_folder(tmp_path)


class TestWelcome:
    def test_it_prints_one_demo_sign_in_per_role(self):
        with open_folder() as folder:
            folders = Folders.prepare(folder / "data", Account.current())
            (folders.data / "demo-sign-ins.txt").write_text("Manager\tmaria\tpw-1\nOperator\tolaf\tpw-2\n")
            text = welcome(Wishes.read({"PORT": "8801"}), folders, 7.2)
        assert "ready after 7 s: http://127.0.0.1:8801/" in text
        rows = [line.split() for line in text.splitlines()]
        assert ["Manager", "maria", "pw-1"] in rows and ["Operator", "olaf", "pw-2"] in rows
        assert "plain HTTP" not in text

    def test_it_warns_when_others_can_reach_it(self):
        with open_folder() as folder:
            folders = Folders.prepare(folder / "data", Account.current())
            assert "put a proxy with TLS in front" in welcome(Wishes.read({"HOST": "0.0.0.0"}), folders, 1)


class TestWishes:
    @pytest.mark.parametrize("port", ["http", "0", "65536", "-1", "²"])
    def test_a_port_that_is_none(self, port):
        with pytest.raises(StackError, match="is not a port"):
            Wishes.read({"PORT": port})

    def test_a_server_named_in_the_environment_takes_over(self):
        wishes = Wishes.read({"DATABASE_URL_FILE": "/run/secrets/db", "REDIS_URL": "redis://r/0"})
        assert (wishes.own_database, wishes.own_redis, wishes.demo) == (False, False, False)
        assert Wishes.read({}).own_database and Wishes.read({}).own_redis and Wishes.read({}).demo

    def test_a_host_that_is_not_ours(self):
        with pytest.raises(StackError, match="cannot listen on 192.0.2.1"):
            Wishes.read({"HOST": "192.0.2.1"}).check_port()

    def test_a_free_port_is_fine_and_a_taken_one_is_not(self):
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = str(holder.getsockname()[1])
            with pytest.raises(StackError, match=f"Port {port} is taken"):
                Wishes.read({"PORT": port}).check_port()
        Wishes.read({"PORT": port}).check_port()
