"""Commands in pods: the installed kubectl, an API server that speaks its protocol, and real containers as pods."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time

import pytest

from catalog.connectors import KubectlConnector
from catalog.exceptions import CatalogError
from operations.commands import Command, run, run_checked
from operations.exceptions import CommandFailed
from tests.catalog.test_connectors_ssh import HOSTILE
from tests.docker_engine import running_engine
from tests.kubernetes import NAMESPACE, TOKEN, running_cluster

pytestmark = [
    pytest.mark.needs("dockerd", "kubectl"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a Docker engine needs root"),
    pytest.mark.xdist_group("docker"),
]


@pytest.fixture(scope="module")
def cluster():
    with running_engine() as engine:
        engine.container("shop-0")
        with running_cluster(engine, "shop-0") as cluster:
            yield cluster


def to(cluster, pod: str = "shop-0", **options: str) -> KubectlConnector:
    values = {"pod": pod, "namespace": NAMESPACE, "kubeconfig": cluster.kubeconfig, "context": "production"}
    return KubectlConnector(**{**values, **options})


def sentence(connector, *argv: str) -> str:
    with pytest.raises((CommandFailed, CatalogError)) as caught:
        run_checked(connector.wrap(Command(argv or ("true",), timeout_s=20)))
    return caught.value.message


def test_arguments_stay_data(cluster):
    hostile = [*HOSTILE[:-1], "x" * 10_000]  # they travel in the address of a request, which has an end
    program = ("python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *hostile)
    got = run_checked(to(cluster).wrap(Command(program, timeout_s=30)))
    assert json.loads(got.stdout) == hostile


def test_it_runs_in_there_without_a_terminal(cluster):
    got = run(to(cluster).wrap(Command(("sh", "-c", "hostname; tty; exit 3"))))
    assert (got.code, got.stdout.decode()) == (3, "shop-0\nnot a tty\n")


def test_streams_pass_byte_by_byte(cluster, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "data").write_bytes(data)
    seen = hashlib.sha256()
    with open(tmp_path / "data", "rb") as file:
        run_checked(to(cluster).wrap(Command(("cat",))), stdin=file, on_stdout=seen.update)
    assert seen.digest() == hashlib.sha256(data).digest()


def test_the_kubeconfig_is_on_no_command_line(cluster):
    command = to(cluster).wrap(Command(("true",)))
    assert TOKEN not in str(command.argv) and TOKEN not in repr(command) and TOKEN not in str(command.env)
    assert run(command).code == 0


def test_another_pod_is_refused(cluster):
    assert "expected is shop-1" in sentence(to(cluster, expected_hostname="shop-1"))


def test_no_such_pod(cluster):
    said = sentence(to(cluster, pod="shop-9"))
    assert said.startswith(f"The cluster knows nothing of the pod shop-9 in {NAMESPACE}. Start it, or correct its name")


def test_credentials_that_do_not_fit(cluster):
    wrong = cluster.kubeconfig.replace(TOKEN, "other")
    assert "does not accept these credentials" in sentence(to(cluster, kubeconfig=wrong))


def test_an_account_that_may_not(cluster):
    cluster.forbidden = True
    try:
        assert "Grant it pods/exec" in sentence(to(cluster))
    finally:
        cluster.forbidden = False


def test_no_such_context(cluster):
    assert "lacks that context" in sentence(to(cluster, context="staging"))


def test_a_cluster_that_does_not_answer(cluster):
    away = cluster.kubeconfig.replace(str(cluster.server.server_port), "1")
    assert "does not answer" in sentence(to(cluster, kubeconfig=away))


def test_a_command_ends_by_its_own_limit(cluster):
    got = run(to(cluster).wrap(Command(("sleep", "300"), timeout_s=1)))
    assert got.timed_out


def test_a_connection_is_carried_into_the_pod(cluster, tmp_path):
    cluster.engine.docker("exec", "-d", "shop-0", "python3", "-m", "http.server", "--bind", "127.0.0.1", "8123")
    with to(cluster).forward("127.0.0.1", 8123, tmp_path) as endpoint:
        give_up, answer = time.monotonic() + 20, b""
        while not answer and time.monotonic() < give_up:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(f"{endpoint.host}/.s.PGSQL.{endpoint.port}")
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = sock.recv(100)
            time.sleep(0.2)
    assert answer.startswith(b"HTTP/1.0 200 OK")
