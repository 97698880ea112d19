"""The measurements run to their end and say everything they promise. How fast anything is, is not tested here."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from opsportal.bench.report import Figure, ratio, table

CHECKOUT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif("REDIS_URL" not in os.environ, reason="needs Redis: run the suite with `make test`")


@pytest.fixture
def surroundings():
    """A data folder, a portal database and a number in Redis of its own: other tests use the servers too."""
    name = f"test_bench_{os.getpid()}"
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))
    folder.chmod(0o711)
    head, _, query = url.partition("?")
    redis = os.environ["REDIS_URL"].replace("virtual_host=0", "virtual_host=9")
    try:
        yield {
            **{key: value for key, value in os.environ.items() if key != "STATIC_ROOT"},
            "DATABASE_URL": f"{head.rpartition('/')[0]}/{name}?{query}",
            "REDIS_URL": redis,
            "DATA_DIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "opsportal.settings",
        }
    finally:
        with psycopg.connect(url, autocommit=True) as session:
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for made in (folder, *folder.parent.glob(f"{folder.name}-portal-*")):
            shutil.rmtree(made, ignore_errors=True)


def bench(environment, *options):
    return subprocess.run(
        [sys.executable, "-m", "opsportal.bench", *options],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_every_part_measures_a_tiny_database(surroundings, target_server):
    path = Path(surroundings["DATA_DIR"]) / "result.json"
    few = ("--size-mb=3", "--rounds=1", "--clicks=2", "--operations=300", "--incidents=300", "--entries=300")
    done = bench(surroundings, *few, f"--json={path}")
    assert done.returncode == 0, done.stdout + done.stderr

    result = json.loads(path.read_text())
    figures = {figure["name"].strip(): figure for figure in result["figures"]}
    for name, goal in (
        ("Backup / pg_dump | zstd -1", 1.25),
        ("worker above idle (PSS)", 64),
        ("Restore: load / pg_restore -j2", 1.15),
        ("Click to first step", None),
        ("Lists of operations, all questions", 0.15),
        ("search", 0.15),
        ("Pages of incidents, all questions", 0.2),
        ("page of the longest incident", 0.2),
        ("outage of a reconnecting client", None),
        ("Empty operations carried out", None),
    ):
        assert figures[name]["value"] > 0
        assert figures[name]["goal"] == goal
        assert name in done.stdout
    clicks = [figure for figure in result["figures"] if figure["name"] == "Click to first step"]
    assert [(figure["statistic"], figure["goal"], len(figure["samples"])) for figure in clicks] == [
        ("p95", 1.0, 2),
        ("p50", None, 2),
    ]
    assert {"check", "dump", "publish", "verify"} <= result["backup_parts"][0].keys()
    assert {"load", "compare", "swap"} <= result["restore_parts"][0].keys()
    assert result["database_bytes"] > 3e6

    # Nothing is left behind at the target, and no process.
    with psycopg.connect(
        host=target_server.host, user=target_server.user, password=target_server.password, dbname="postgres"
    ) as session:
        assert session.execute(r"SELECT datname FROM pg_database WHERE datname LIKE 'bench\_%'").fetchall() == []
    assert _processes_with(surroundings["DATA_DIR"]) == []


def test_without_servers_it_says_what_to_do(surroundings):
    del surroundings["TARGET_SOCKET"]
    done = bench(surroundings)
    assert done.returncode == 1
    assert "TARGET_SOCKET is not set. Run `make bench`" in done.stderr


def test_ratios_are_taken_round_by_round():
    figure = ratio("Backup", [2.0, 30.0, 4.0], [1.0, 30.0, 4.0], goal=1.25)
    assert figure.samples == [2.0, 1.0, 1.0]
    assert (figure.value, figure.verdict) == (1.0, "met")


def test_percentiles_and_verdicts():
    samples = [n / 100 for n in range(1, 101)]
    assert Figure("Click", "s", samples, statistic="p95").value == 0.95
    assert Figure("Click", "s", samples, statistic="p50").value == 0.50
    assert Figure("Memory", "MB", [3, 70, 5], 64, "max").verdict == "missed"
    assert Figure("Memory", "MB", [3, 70, 5], 64).verdict == "met"
    assert Figure("Verify", "s", [1.0]).verdict == ""


def test_the_table_shows_goal_and_verdict():
    lines = table([Figure("Backup", "x", [1.1, 1.4, 1.2], 1.25), Figure("  verify", "s", [12.0])]).splitlines()
    assert lines[1].split() == ["Backup", "1.20", "x", "1.10", "x", "1.40", "x", "3", "≤", "1.25", "x", "met"]
    assert "missed" not in lines[2]


def _processes_with(data_dir):
    """Command lines of processes that have this data folder in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"DATA_DIR={data_dir}".encode() in path.read_bytes().split(b"\0"):
                found.append(path.with_name("cmdline").read_bytes())
        except OSError:
            continue
    return found
