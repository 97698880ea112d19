"""Workers in containers of one host name are told apart, and one that starts again is known again."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from operations import worker
from operations.models import WorkerNode
from tests.factories import OperationFactory, PersonFactory, WorkerNodeFactory, browser

CHECKOUT = str(Path(__file__).resolve().parents[2])
ASK = "import django; django.setup(); from operations.worker import place; print(place())"


def place_in(*wrapper: str) -> str:
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "opsportal.settings"}
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", ASK], env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_place_is_the_same_for_every_process_in_it():
    assert place_in() == worker.place()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes process namespaces")
def test_two_containers_of_one_host_name_are_two_places():
    contained = ("unshare", "--pid", "--fork", "--mount-proc")
    one, other = place_in(*contained), place_in()
    assert one != other


def test_a_worker_that_starts_again_has_its_name_again(db):
    name = worker.node_name("operations@host")
    WorkerNodeFactory(name=name, pid=4_000_000)  # no such process: it was killed a moment ago
    assert worker.node_name("operations@host") == name
    assert name.startswith("operations@host/")


def test_a_living_twin_beside_us_keeps_its_name(db):
    name = worker.node_name("operations@host")
    twin = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "celery"])
    try:
        WorkerNodeFactory(name=name, pid=twin.pid)
        assert worker.node_name("operations@host") == f"{name}-2"
        WorkerNode.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=5))
        assert worker.node_name("operations@host") == name, "it lives, but has long stopped reporting"
    finally:
        twin.kill()
        twin.wait()


def test_the_page_shows_work_and_queues_that_nobody_serves(db):
    node = WorkerNodeFactory(name="operations@host/abc123", queues=["operations"])
    first = OperationFactory(state="running", worker=node.name, title="Back up erp")
    OperationFactory(state="running", worker=node.name)
    OperationFactory(state="queued", queue="host-far")
    page = browser(PersonFactory(is_superuser=True)).get("/operations/workernode/").content.decode()
    assert f'<a href="/operations/operation/{first.pk}/">Back up erp</a> and 1 more' in page
    assert "host-far" in page and "Not served" in page
    assert page.index("host-far") < page.index("<code>operations</code>"), "what needs somebody comes first"
