"""The commands for scripts: one JSON object, exit 0 only on success, on a real database."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.models.functions import Now

from backups.models import Archive
from operations import engine
from operations.models import Operation
from tests.backups.shop import Shop
from tests.factories import SAMPLE_ROWS, ArchiveFactory, OperationFactory, PlanFactory


class Worker(threading.Thread):
    """Does what is asked for while a command waits."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.enough = threading.Event()

    def run(self) -> None:
        try:
            while not self.enough.wait(0.05):
                for pk in Operation.objects.filter(state="queued").values_list("pk", flat=True):
                    engine.run(pk, "worker-1")
        finally:
            connections.close_all()

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.enough.set()
        self.join()


def told(*argv: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of a command with --json."""
    out, code = io.StringIO(), 0
    try:
        call_command(*argv, "--json", stdout=out, stderr=io.StringIO())
    except SystemExit as end:
        code = int(end.code or 0)
    except CommandError as error:
        code = error.returncode
    (line,) = out.getvalue().splitlines()
    return code, json.loads(line)


class TestStory:
    def test_rows_are_lost_and_restored_without_a_browser(self, shop: Shop):
        with Worker():
            code, backup = told("backup", shop.plan.name, "--wait", "--as", "olga", "--reason", "before release 7")
            assert (code, backup["state"]) == (0, "succeeded") and backup["seconds"] > 0
            archive = Archive.objects.get(operation=backup["id"])
            assert backup["bytes"] == archive.size_bytes and archive.name in backup["message"]
            shop.database.execute("DELETE FROM orders")
            into = ["--into", shop.target.database, "--reason", "orders were deleted"]
            code, restore = told("restore", archive.name, *into, "--wait")
            assert (code, restore["state"]) == (0, "succeeded")
        assert shop.database.rows() == SAMPLE_ROWS
        asked = Operation.objects.get(pk=backup["id"])
        assert (asked.requested_by, asked.trigger, asked.reason) == (shop.operator, "command", "before release 7")

    def test_what_fails_ends_with_1_and_the_sentence(self, shop: Shop):
        archive = shop.archive()
        for path in (shop.folder / archive.name).glob("*.zst"):
            path.unlink()
        with Worker():
            code, found = told("restore", str(archive.pk), "--into", "beside", "--reason", "a look", "--wait")
        assert (code, found["state"]) == (1, "failed") and found["message"].endswith(".")

    def test_who_waits_too_long_gets_another_code_and_it_goes_on(self, shop: Shop):
        code, found = told("backup", str(shop.plan.pk), "--wait", "--timeout", "0.1")
        assert (code, found["state"]) == (3, "queued")
        assert shop.run(Operation.objects.get(pk=found["id"])).state == "succeeded"
        assert told("operations", str(found["id"]), "--wait")[0] == 0


class TestAsking:
    def test_without_wait_it_is_asked_for(self, db):
        plan = PlanFactory()
        code, found = told("backup", plan.name)
        assert (code, found["state"], found["seconds"], found["bytes"]) == (0, "queued", None, None)
        assert Operation.objects.get().requested_by is None

    def test_a_repeated_key_gives_the_same_operation(self, db):
        plan = PlanFactory()
        numbers = {told("backup", plan.name, "--key", "release-7")[1]["id"] for _ in range(2)}
        assert len(numbers) == 1 and Operation.objects.count() == 1

    @pytest.mark.parametrize("length", [1, 255])
    def test_for_another_request_it_is_refused(self, db, length):
        archive, key = ArchiveFactory(), "k" * length
        database = archive.target.database
        assert told("backup", archive.plan.name, "--key", key)[0] == 0
        Operation.objects.update(state="succeeded", started_at=Now(), ended_at=Now())
        for other in (
            ("restore", str(archive.pk), "--into", database, "--reason", "x"),
            ("backup", archive.plan.name, "--purpose", "emergency"),
        ):
            code, found = told(*other, "--key", key)
            assert (code, found["state"]) == (1, "refused") and "used for another request" in found["message"]

    @pytest.mark.parametrize("wrong", [["--key", ""], ["--key", "x" * 256], ["--into", "x" * 64], ["--into", "a\nb"]])
    def test_what_is_too_long_is_refused_in_one_object(self, db, wrong):
        archive = ArchiveFactory()
        argv = ["restore", str(archive.pk), "--into", archive.target.database, "--reason", "x", *wrong]
        code, found = told(*argv)
        assert (code, found["state"], found["id"]) == (1, "refused", None)

    def test_an_archive_whose_name_is_a_number_is_found_by_it(self, db):
        archive = ArchiveFactory(name="20260101")
        code, found = told("restore", "20260101", "--into", archive.target.database, "--reason", "x")
        assert code == 0 and Operation.objects.get(pk=found["id"]).params["archive"] == archive.pk

    def test_long_names_make_no_title_too_long(self, db):
        archive = ArchiveFactory(name="x" * 200)
        code, found = told("restore", str(archive.pk), "--into", archive.target.database, "--reason", "x")
        assert code == 0 and len(Operation.objects.get(pk=found["id"]).title) == 200

    @pytest.mark.parametrize(
        ("argv", "sentence"),
        [
            (lambda archive: ["backup", "; rm -rf /"], "There is no plan"),
            (lambda archive: ["backup", archive.plan.name, "--as", "nobody"], "no active person"),
            (lambda archive: ["restore", "999999", "--into", "x", "--reason", "y"], "no archive with the number"),
            (lambda archive: ["restore", "nothing", "--into", "x", "--reason", "y"], "no archive “nothing”"),
            (lambda archive: ["restore", archive.name, "--into", "x", "--reason", "y"], "Several archives"),
            (lambda archive: ["restore", str(archive.pk), "--into", "x", "--reason", " "], "Say why"),
            (lambda archive: ["operations", "999999"], "no operation"),
        ],
    )
    def test_what_is_refused_ends_with_1_and_the_sentence(self, db, argv: Callable[[Archive], list[str]], sentence):
        archive = ArchiveFactory(name="backup_1")
        ArchiveFactory(name="backup_1")
        before = Operation.objects.count()
        code, found = told(*argv(archive))
        assert (code, found["state"], found["id"]) == (1, "refused", None)
        assert sentence in found["message"] and Operation.objects.count() == before

    def test_an_unverified_archive_needs_an_override(self, db):
        archive = ArchiveFactory(verification=Archive.Verification.UNVERIFIED)
        argv = ["restore", str(archive.pk), "--into", "beside", "--reason", "a look"]
        assert told(*argv)[0] == 1
        assert told(*argv, "--override", "all there is")[0] == 0

    def test_who_holds_the_database_is_named(self, db):
        plan = PlanFactory()
        number = told("backup", plan.name)[1]["id"]
        code, found = told("backup", plan.name)
        assert code == 1 and f"#{number}" in found["message"]


class TestOperations:
    def test_the_list_newest_first(self, db):
        first, second = OperationFactory(), OperationFactory(state=Operation.State.FAILED)
        assert [row["id"] for row in told("operations")[1]["operations"]] == [second.pk, first.pk]
        assert [row["id"] for row in told("operations", "--state", "failed")[1]["operations"]] == [second.pk]
        assert told("operations", "--active")[1]["operations"] == []

    def test_one_that_failed_ends_with_1(self, db):
        assert told("operations", str(OperationFactory(state=Operation.State.FAILED).pk))[0] == 1

    def test_for_people_it_is_a_line_each(self, db, capsys):
        operation = OperationFactory(title="Back up the shop", message="Done.")
        call_command("operations")
        assert capsys.readouterr().out.startswith(f"#{operation.pk} Back up the shop: succeeded after ")
