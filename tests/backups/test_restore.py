"""Restore and undo of a real database, from the request to what stands at the server after."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from backups import actions, manifest
from backups.exceptions import BackupError
from backups.models import Archive, Restore
from catalog.models import Probe
from operations import actions as operations
from operations.exceptions import Refused
from operations.models import Operation, OperationStep
from tests.backups.shop import Service, Shop, corrupt, rewrite, steps
from tests.factories import SAMPLE_ROWS, ProbeFactory, session_on

Verification, SafetyCopy = Archive.Verification, Restore.SafetyCopy
FAILED = Operation.State.FAILED


def properties(shop: Shop) -> tuple[object, ...]:
    """What belongs to the live database itself and is in no dump of it."""
    query = """
        SELECT datconnlimit, datacl::text, shobj_description(d.oid, 'pg_database'),
               (SELECT string_agg(setrole || line, ' ' ORDER BY setrole, line)
                FROM pg_db_role_setting CROSS JOIN unnest(setconfig) line WHERE setdatabase = d.oid)
        FROM pg_database d WHERE datname = %s"""
    with session_on(shop.database.server) as session:
        found = session.execute(query, [shop.database.name]).fetchone()
        assert found is not None
        return found


@contextmanager
def clients(shop: Shop, count: int) -> Iterator[list[int]]:
    """People who connect, count the orders and come back; what they have counted, in order."""
    seen: list[int] = []
    stop = threading.Event()

    def come_back() -> None:
        while not stop.is_set():
            try:
                with session_on(shop.database.server, shop.database.name) as session:
                    for _ in range(3):
                        seen.append(session.execute("SELECT count(*) FROM orders").fetchone()[0])
                        time.sleep(0.02)
            except psycopg.OperationalError:
                pass  # their session was ended for the swap; they connect again

    threads = [threading.Thread(target=come_back) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


class TestRestore:
    def test_the_whole_story(self, shop):
        """Back up, lose rows, restore, undo, drop: rows and properties of the database are right at every point."""
        live = sql.Identifier(shop.database.name).as_string(None)
        shop.database.execute(
            f"ALTER DATABASE {live} SET work_mem TO '7MB'",
            f'ALTER DATABASE {live} SET search_path TO "$user", public',
            f"ALTER ROLE {shop.target.user} IN DATABASE {live} SET statement_timeout TO '11min'",
            f"ALTER DATABASE {live} CONNECTION LIMIT 77",
            f"COMMENT ON DATABASE {live} IS 'the shop''s only database'",
            f"REVOKE CONNECT, TEMPORARY ON DATABASE {live} FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {live} TO pg_monitor WITH GRANT OPTION",
        )
        was = properties(shop)
        archive = shop.done(shop.back_up()).archive
        shop.database.lose_orders()
        shop.database.execute("INSERT INTO customer VALUES (121, 'Written since', NULL)")

        operation = shop.done(shop.restore(archive, reason="Somebody deleted orders"))
        restore = operation.restore
        safety = f"{shop.database.name}_before_{operation.pk}"
        assert shop.database.rows() == SAMPLE_ROWS
        assert properties(shop) == was
        assert shop.databases() == {shop.database.name, safety}
        assert (restore.safety_copy, restore.safety_database) == (SafetyCopy.KEPT, safety)
        assert restore.rto == timedelta(minutes=5) and restore.rto_met is True
        assert timedelta(0) < restore.measured <= operation.ended_at - operation.requested_at
        assert "is back as of" in operation.message and operation.message.endswith("RTO 5 min met.")
        assert restore.expected_loss["lost_rows"] == 1 and restore.expected_loss["returned_rows"] == 500
        assert set(steps(operation).values()) == {"done"}
        shop.assert_nothing_left()

        undo = shop.done(actions.request_undo(restore, by=shop.operator))
        restore.refresh_from_db()
        assert shop.database.rows() == {"customer": 121, "orders": 100}
        assert properties(shop) == was
        aside = f"{shop.database.name}_undone_{undo.pk}"
        assert (restore.safety_copy, restore.safety_database) == (SafetyCopy.PUT_BACK, aside)
        assert restore.undo_operation == undo
        assert shop.databases() == {shop.database.name, aside}

        shop.done(actions.request_drop_safety_copy(restore, by=shop.operator))
        restore.refresh_from_db()
        assert restore.safety_copy == SafetyCopy.DROPPED
        assert shop.databases() == {shop.database.name}
        shop.assert_nothing_left()

    def test_restoring_again_duplicates_nothing(self, shop):
        """X-11: a dump loaded over rows that are there would double them and still end with 0."""
        archive = shop.archive()
        first = shop.done(shop.restore(archive)).restore
        second = shop.done(shop.restore(archive)).restore
        assert shop.database.rows() == SAMPLE_ROWS
        assert first.safety_database != second.safety_database
        assert shop.databases() == {shop.database.name, first.safety_database, second.safety_database}

    def test_beside_the_live_database(self, shop):
        """S0-B10: to a chosen place. The live database and its application are left alone."""
        service = shop.control(shop.root / "service")
        shop.target.component.rto = None
        shop.target.component.save()
        shop.database.lose_orders()
        into = f"{shop.database.name}_aside"
        operation = shop.done(shop.restore(shop.archive(), into=into))
        assert shop.database.rows() == {"customer": 120, "orders": 100}
        assert type(shop.database)(shop.database.server, into).rows() == SAMPLE_ROWS
        assert shop.databases() == {shop.database.name, into}
        assert service.calls == []
        restore = operation.restore
        assert (restore.in_place, restore.safety_copy, restore.rto_met) == (False, SafetyCopy.NONE, None)
        assert "beside" in operation.message and "RTO" not in operation.message

        taken = shop.run(shop.restore(restore.archive, into=into))
        assert taken.state == FAILED
        assert taken.message == f"There is a database {into} already. Choose another name to restore beside."
        shop.assert_nothing_left()

    def test_a_live_database_that_is_missing(self, shop):
        """Disaster: nothing is left to replace, and nothing to keep."""
        with session_on(shop.database.server) as session:
            session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(shop.database.name)))
        shop.target.component.rto = timedelta(seconds=0.1)
        shop.target.component.save()
        requested = shop.restore(shop.archive(), reason_kind=Restore.Reason.DISASTER)
        assert "no database" in requested.restore.expected_loss["why"]
        operation = shop.done(requested)
        assert shop.database.rows() == SAMPLE_ROWS
        restore = operation.restore
        assert (restore.safety_copy, restore.rto_met) == (SafetyCopy.NONE, False)
        assert operation.message.endswith("RTO 0.1 s missed.")
        with pytest.raises(BackupError, match="nothing to put back"):
            actions.request_undo(restore, by=shop.operator)

    def test_a_live_database_that_takes_no_connections(self, shop):
        with session_on(shop.database.server) as session:
            session.execute(
                sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(shop.database.name))
            )
        requested = shop.restore(shop.archive(), reason_kind=Restore.Reason.CORRUPTION)
        assert "is closed to connections" in requested.restore.expected_loss["why"]
        restore = shop.done(requested).restore
        assert shop.database.rows() == SAMPLE_ROWS
        assert shop.databases() == {shop.database.name, restore.safety_database}

    def test_a_live_database_whose_files_are_broken(self, shop):
        """Real corruption: the map of the catalogue's own files is overwritten, so that nobody can connect."""
        corrupt(shop)
        with pytest.raises(psycopg.OperationalError):
            shop.database.rows()
        requested = shop.restore(shop.archive(), reason_kind=Restore.Reason.CORRUPTION)
        assert requested.restore.expected_loss["readable"] is False
        restore = shop.done(requested).restore
        assert shop.database.rows() == SAMPLE_ROWS
        # What is broken is kept as well: somebody may want to look at it.
        assert shop.databases() == {shop.database.name, restore.safety_database}

    def test_clients_that_keep_coming_see_the_old_or_the_new(self, shop):
        shop.database.lose_orders()
        with clients(shop, 3) as seen:
            shop.done(shop.restore(shop.archive()))
            time.sleep(0.3)
        assert set(seen) == {100, 600}
        assert seen[0] == 100 and seen[-1] == 600

    def test_another_server_is_refused_before_anything_is_done(self, shop):
        archive = shop.archive()
        shop.target.system_identifier = "7000000000000000001"
        shop.target.save()
        operation = shop.run(shop.restore(archive))
        assert operation.state == FAILED
        assert "is another server than before" in operation.message and "Nothing was changed" in operation.message
        assert steps(operation) == {"check": "failed", **dict.fromkeys(list(steps(operation))[1:], "skipped")}
        assert list(operation.steps.exclude(commands=[])) == []
        shop.assert_untouched()
        shop.assert_nothing_left()

    def test_data_that_differs_from_the_archive_never_goes_live(self, shop):
        """The manifest knows the rows by a fingerprint; what was loaded must have the same."""
        service = shop.control(shop.root / "service")
        archive = shop.archive()
        tables = [
            manifest.decode(manifest.TableEntry, {**table, "fingerprint": "1"}) for table in archive.manifest["tables"]
        ]
        rewrite(shop.folder / archive.name, tables=tables)
        archive.delete()
        archive = shop.adopt(shop.folder / "backup_sample")
        shop.database.lose_orders()
        operation = shop.run(shop.restore(archive))
        assert operation.state == FAILED
        assert "The loaded data differs from the archive" in operation.message and "customer" in operation.message
        assert steps(operation)["load"] == OperationStep.State.UNDONE
        assert shop.database.rows() == {"customer": 120, "orders": 100}
        assert shop.databases() == {shop.database.name}
        assert service.calls == []
        shop.assert_nothing_left()

    def test_a_retry_asks_for_the_same_restore_again(self, shop):
        archive = shop.archive(verification=Verification.UNVERIFIED, verified_at=None)
        shop.target.system_identifier = "7000000000000000001"
        shop.target.save()
        failed = shop.run(shop.restore(archive, override_reason="No time.", reason="Orders are gone"))
        shop.target.system_identifier = ""
        shop.target.save()
        with pytest.raises(Refused, match=f"Type “{shop.database.name}” exactly"):
            operations.retry(failed, by=shop.operator)
        again = operations.retry(failed, by=shop.operator, typed_name=shop.database.name)
        assert again.retry_of == failed
        shop.done(again)
        was, now = failed.restore, again.restore
        for field in ("archive", "into_database", "reason_kind", "reason", "override_reason", "requested_by"):
            assert getattr(now, field) == getattr(was, field)
        assert again.reason == "Accidental deletion. Orders are gone"


class TestService:
    """The application is stopped for the swap and runs again after it, whatever happens."""

    def test_stopped_before_and_started_after(self, shop):
        service = shop.control(shop.root / "service")
        service.call("start")
        before = service.pid
        operation = shop.done(shop.restore(shop.archive()))
        assert service.calls == ["start", "stop", "start"]
        assert service.pid not in (None, before)
        shown = dict(operation.steps.values_list("name", "commands"))
        assert shown["stop_service"][-1].endswith(" stop") and shown["start_service"][0].endswith(" start")

        undo = shop.done(actions.request_undo(operation.restore, by=shop.operator))
        assert service.calls == ["start", "stop", "start", "stop", "start"]
        assert set(steps(undo).values()) == {"done"}

    def test_what_was_stopped_stays_stopped(self, shop):
        service = shop.control(shop.root / "service")
        operation = shop.done(shop.restore(shop.archive()))
        assert service.pid is None and "start" not in service.calls
        assert "was stopped before and stays stopped" in shop.log_of(operation)

    def test_a_smoke_test_that_fails_puts_the_old_database_back(self, shop):
        service = shop.control(shop.root / "service")
        service.call("start")
        shop.target.smoke_test = "SELECT count(*) > 1000 FROM orders"
        shop.target.save()
        shop.database.lose_orders()
        operation = shop.run(shop.restore(shop.archive()))
        assert operation.state == FAILED
        assert "The smoke test answered False instead of true" in operation.message
        assert shop.database.rows() == {"customer": 120, "orders": 100}
        assert shop.databases() == {shop.database.name}
        assert service.pid is not None and service.calls[-1] == "start"
        assert [steps(operation)[name] for name in ("load", "stop_service", "swap", "start_service")] == ["undone"] * 4
        restore = operation.restore
        assert (restore.safety_copy, restore.safety_database, restore.measured) == (SafetyCopy.NONE, "", None)
        shop.assert_nothing_left()

    def test_an_application_that_does_not_stop_stays_as_it_is(self, shop):
        service = shop.control(shop.root / "service")
        service.call("start")
        service.fail_once("stop")
        operation = shop.run(shop.restore(shop.archive()))
        assert (
            operation.state == FAILED and "The stop command ended with code 1: stop does not work" in operation.message
        )
        assert service.pid is not None
        shop.assert_untouched()
        shop.assert_nothing_left()

    def test_an_application_that_does_not_start_gets_its_old_database(self, shop):
        service = shop.control(shop.root / "service")
        service.call("start")
        service.fail_once("start")
        shop.database.lose_orders()
        operation = shop.run(shop.restore(shop.archive()))
        assert operation.state == FAILED and "The start command ended with code 1" in operation.message
        assert service.pid is not None
        assert shop.database.rows() == {"customer": 120, "orders": 100}
        shop.assert_nothing_left()


class TestUndo:
    def test_a_safety_copy_that_somebody_dropped(self, shop):
        restore = shop.done(shop.restore(shop.archive())).restore
        with session_on(shop.database.server) as session:
            session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(restore.safety_database)))
        operation = shop.run(actions.request_undo(restore, by=shop.operator))
        assert operation.state == FAILED and "Restore from an archive instead" in operation.message
        shop.assert_untouched()
        shop.assert_nothing_left()
        again = operations.retry(operation, by=shop.operator)
        assert shop.run(again).state == FAILED and again.pk != operation.pk


class TestProbes:
    """What is marked “ready” is waited for, and what is marked “smoke test” must be good."""

    @pytest.fixture
    def service(self, shop: Shop) -> Service:
        service = shop.control(shop.root / "service")
        service.call("start")
        return service

    def probe(self, shop: Shop, use: str, argv: list[str]) -> Probe:
        environment = shop.target.component.environment
        probe: Probe = ProbeFactory(environment=environment, kind="command", parameters={"argv": argv}, use=use)
        return probe

    def test_they_are_asked_after_the_swap(self, shop, service, tmp_path):
        late = tmp_path / "late"
        slow = ["sh", "-c", f"test -e {late} || {{ touch {late}; exit 1; }}"]
        ready, smoke = self.probe(shop, "ready", slow), self.probe(shop, "smoke", ["true"])
        unasked = self.probe(shop, "check", ["false"])
        operation = shop.done(shop.restore(shop.archive()))
        log = shop.log_of(operation)
        assert f"Ready: {ready.name}." in log and f"{smoke.name}: Ended with 0." in log and unasked.name not in log
        asked = dict(Probe.objects.values_list("name", "state"))
        assert asked == {ready.name: "ok", smoke.name: "ok", unasked.name: "unknown"}

    @pytest.mark.parametrize("use", ["ready", "smoke"])
    def test_one_that_is_not_good_puts_the_old_database_back(self, shop, service, use):
        probe = self.probe(shop, use, ["sh", "-c", "echo orders page is broken >&2; exit 1"])
        shop.database.lose_orders()
        operation = shop.run(shop.restore(shop.archive()))
        assert operation.state == FAILED
        assert probe.name in operation.message and "orders page is broken" in operation.message
        probe.refresh_from_db()
        assert probe.state == "bad" and "orders page is broken" in probe.sentence
        assert shop.database.rows()["orders"] == 100
        shop.assert_nothing_left()

    def test_beside_the_live_database_nobody_is_asked(self, shop):
        self.probe(shop, "smoke", ["false"])
        self.probe(shop, "ready", ["false"])
        shop.done(shop.restore(shop.archive(), into=f"{shop.database.name}_copy"))
