"""The bench of switching traffic sees what goes wrong, and few switches run through it. How fast they are is not tested
here."""

from __future__ import annotations

import http.server
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from opsportal.bench import switching
from opsportal.bench.exceptions import BenchError
from opsportal.bench.going_back import Click, Clicks
from opsportal.bench.switching import DEPLOYMENT, ROLLBACK, Change, Switches, Told
from opsportal.bench.traffic import Answer, Seen, load, steady

pytestmark = pytest.mark.xdist_group("slots")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "QUIET_S", 0.2)
    monkeypatch.setattr(switching, "CONTROL_ROUNDS", 1)


@pytest.mark.parametrize("proxy", ["Caddy", pytest.param("nginx", marks=pytest.mark.needs("nginx"))])
def test_four_switches_and_both_controls(proxy: str) -> None:
    found = switching.measure(proxy, 4, lambda text: None)
    assert [(each.kind, each.version) for each in found.changes] == [
        (DEPLOYMENT, "v1.2.0"),
        (DEPLOYMENT, "v1.3.0"),
        (ROLLBACK, "v1.2.0"),
        (ROLLBACK, "v1.3.0"),
    ]
    assert (found.told.failed, found.told.races, found.strays()) == ([], 0, 0)
    assert {answer.kind for answer in found.told.answers} == {"keep", "post", "slow", "fresh"}
    assert sum(found.told.ledger.values()) == sum(answer.kind == "post" for answer in found.told.answers) > 10
    assert all(found.controls[name].failed for name in ("restart in place", "no drain"))
    shown = {figure.name.strip(): figure for figure in switching.figures(found)}
    assert shown[f"{proxy}: failed requests in 4 switches"].verdict == "met"
    for kind in (DEPLOYMENT, ROLLBACK):
        assert shown[f"p99 during a {kind} / quiet"].goal == 1.5
        assert shown[f"during a {kind}"].statistic == "p99"


def test_a_control_that_sees_nothing_ends_the_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(switching.CONTROLS, "restart in place", lambda tour, times: None)
    with pytest.raises(BenchError, match="did not notice “restart in place”"):
        switching.controlled("Caddy", "restart in place")


# -- what counts as wrong ----------------------------------------------------------------------------------------------


def told(*answers: Answer, ledger: Counter[str] | None = None, **seen: object) -> Told:
    return Told([Seen(times=list(answers), **seen)], ledger or Counter())  # type: ignore[arg-type]


def test_a_post_is_carried_out_once() -> None:
    assert told(posted=["a", "b"], ledger=Counter(["a", "b"])).races == 0
    assert told(posted=["a", "b"], ledger=Counter(["a", "b", "b"])).races == 1
    assert told(posted=["a", "b"], ledger=Counter(["a"])).races == 1
    assert told(posted=[], ledger=Counter(["a"]), races=2).races == 2


def test_strays_and_windows() -> None:
    changes = [Change(DEPLOYMENT, "v2", 10, 11, 12, 13), Change(ROLLBACK, "v1", 20, 20, 21, 22)]
    found = Switches(
        "Caddy",
        changes,
        told(
            Answer("keep", 10.5, 0.002, "v1"),
            Answer("slow", 11.5, 0.4, "v1"),  # traffic was moving
            Answer("keep", 12.5, 0.003, "v1"),  # it had moved
            Answer("keep", 15, 0.001, "v2"),
            Answer("slow", 19.9, 0.4, "v1"),  # it moved again meanwhile
            Answer("post", 20.5, 0.009, "v2"),
        ),
        {},
    )
    assert found.strays() == 1
    assert found.quiet() == [[1.0]]
    assert found.during(DEPLOYMENT) == [[2.0, 3.0]]
    assert found.during(ROLLBACK) == [[9.0]]


def test_a_rollback_is_through_when_nobody_gets_the_other_version_any_more() -> None:
    answers = [Answer("keep", began, 0.001, version) for began, version in ((1.1, "v2"), (1.3, "v1"), (1.4, "v2"))]
    clicks = Clicks([Click("v1", 1.0, 3.0, {})], told(*answers, Answer("keep", 1.5, 0.001, "v1")))
    assert clicks.to_traffic() == [pytest.approx(0.5)]
    with pytest.raises(BenchError, match="did not go back to v1"):
        Clicks([Click("v1", 1.0, 3.0, {})], told(*answers)).to_traffic()


class Careless(http.server.BaseHTTPRequestHandler):
    """Answers to a request with what another one has asked, and then not at all."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.asked > 5:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Ask", self.headers["Ask"] if self.asked != 3 else "0-1")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"v1")


@contextmanager
def careless() -> Iterator[int]:
    Careless.asked = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Careless) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_answers_of_others_and_lost_answers_are_races() -> None:
    with careless() as port, load(port, {"keep": 1}) as seen:
        while Careless.asked < 8:
            time.sleep(0.01)
    assert seen[0].failed[:2] == ["keep: asked 0-3, answered 0-1", "keep: RemoteDisconnected"]
    assert seen[0].races == 2  # later ones are lost on fresh connections


def test_the_load_of_another_process_is_told_whole() -> None:
    with careless() as port, steady(port, 100) as seen:
        while Careless.asked < 8:
            time.sleep(0.01)
    assert len(seen) == 14
    assert {answer.version for each in seen for answer in each.times} == {"v1"}
    assert any(each.failed for each in seen)
