"""The pages of backups and operations: who sees what, what they cost, and what the confirm pages say."""

from __future__ import annotations

import uuid

import pytest
from django.test import Client

from backups import actions
from backups.models import Restore
from core.roles import Role
from operations.models import Operation, OperationStep
from tests.factories import (
    ArchiveFactory,
    OperationFactory,
    PersonFactory,
    RestoreFactory,
    browser,
)
from tests.furnished import HOUR, confirm_pages, fingerprint, pages
from tests.pages import Page, page_of

HAVE_NO_BAND = {"home", "plans", "archives", "restores", "storages", "operations", "schedules", "slots", "workers"}
HAVE_NO_BAND |= {"storage", "schedule", "slot", "worker", "operation", "operation running", "operation paused"}


class TestSeeing:
    @pytest.mark.parametrize("role", [Role.MANAGER, Role.RESPONDER, Role.OPERATOR, Role.APPROVER, Role.ADMINISTRATOR])
    def test_every_page_renders_for_everybody_who_may_see(self, plan, role):
        client = browser(PersonFactory(role=role))
        before = None
        for name, address in pages(plan).items():
            before = before or fingerprint()
            response = client.get(address)
            assert response.status_code in (200, 286), name
            assert "PRODUCTION" in response.content.decode() or "live" in name or name in HAVE_NO_BAND, name
        assert fingerprint() == before

    def test_without_a_role_nothing_is_seen(self, plan):
        client = browser(PersonFactory())
        for name, address in pages(plan).items():
            assert client.get(address).status_code == (200 if name == "home" else 403), name

    def test_signed_out_every_page_leads_to_the_sign_in(self, plan, client):
        for name, address in pages(plan).items():
            response = client.get(address)
            assert response.status_code == 302 and response["Location"].startswith("/login/"), name

    def test_the_buttons_are_offered_to_the_operator_only(self, plan, manager, operator):
        for name, address in confirm_pages(plan).items():
            detail, path = address.split("do/")[0], f'href="{address}"'
            assert path in operator.get(detail).content.decode(), name
            assert path not in manager.get(detail).content.decode(), name

    def test_the_wizard_offers_what_can_be_restored(self, plan, operator, manager):
        good, unverified = ArchiveFactory(plan=plan), ArchiveFactory(plan=plan, unverified=True)
        damaged = ArchiveFactory(plan=plan, verification="damaged")
        gone = ArchiveFactory(plan=plan, state="pruned")
        foreign = ArchiveFactory()
        first = page_of(operator.get("/backups/archive/restore/"))
        assert str(plan.target) in first.text and str(foreign.target) in first.text
        second = page_of(operator.get(f"/backups/archive/restore/?target={plan.target.pk}"))
        do = "/backups/archive/{}/do/{}/".format
        assert do(good.pk, "restore") in second.links
        assert {do(unverified.pk, "restore"), do(unverified.pk, "verify")} <= set(second.links)
        assert do(damaged.pk, "restore") not in second.links
        assert gone.name not in second.text and foreign.name not in second.text
        assert manager.get("/backups/archive/restore/").status_code == 403
        for nonsense in ("x", "0", "²", "9" * 30, "-1"):
            assert operator.get("/backups/archive/restore/", {"target": nonsense}).status_code == 200

    def test_the_live_part_stops_when_all_is_said(self, plan, manager):
        done, running = OperationFactory(), OperationFactory(state=Operation.State.RUNNING)
        archive = ArchiveFactory(plan=plan, operation=done)
        restore = RestoreFactory(archive=archive)
        for address, status in (
            (f"/operations/operation/{done.pk}/live/", 286),
            (f"/operations/operation/{running.pk}/live/", 200),
            (f"/backups/archive/{archive.pk}/live/", 286),
            (f"/backups/restore/{restore.pk}/live/", 286),
        ):
            assert manager.get(address).status_code == status, address
        actions.request_verify(archive, by=None)
        assert manager.get(f"/backups/archive/{archive.pk}/live/").status_code == 200
        assert "hx-get" in manager.get(f"/backups/archive/{archive.pk}/").content.decode()
        actions.request_undo(restore, by=None)
        assert manager.get(f"/backups/restore/{restore.pk}/live/").status_code == 200
        assert "hx-get" not in manager.get(f"/operations/operation/{done.pk}/").content.decode()


class TestForbidden:
    """A manager sees everything and can run nothing, whatever is sent directly."""

    @pytest.mark.parametrize("role", [Role.MANAGER, Role.RESPONDER, Role.APPROVER, None])
    def test_every_direct_post_is_refused_and_changes_nothing(self, plan, role):
        addresses = [
            *confirm_pages(plan).values(),
            "/backups/plan/add/",
            f"/backups/plan/{plan.pk}/change/",
            f"/backups/plan/{plan.pk}/delete/",
            "/backups/storage/add/",
            f"/backups/storage/{plan.storage.pk}/change/",
            f"/backups/storage/{plan.storage.pk}/delete/",
        ]
        client = browser(PersonFactory(role=role))
        before = fingerprint()
        for address in addresses:
            data = {"request_key": str(uuid.uuid4()), "post": "yes", "name": "Mine", "typed_name": plan.target.database}
            response = client.post(address, data)
            assert response.status_code == 403, address
        assert fingerprint() == before

    def test_archives_and_restores_cannot_be_written_by_hand(self, plan, administrator):
        """Not even by an administrator: only the engine writes them."""
        restore = RestoreFactory(archive=ArchiveFactory(plan=plan))
        before = fingerprint()
        for model, pk in (("archive", restore.archive.pk), ("restore", restore.pk)):
            for page in ("add", f"{pk}/change", f"{pk}/delete"):
                assert administrator.post(f"/backups/{model}/{page}/", {"post": "yes"}).status_code == 403
        for model in ("operation", "schedule", "slot", "workernode"):
            assert administrator.post(f"/operations/{model}/add/", {}).status_code == 403
        assert fingerprint() == before


class TestDoing:
    def press(self, client: Client, address: str, **values: str) -> tuple[Page, str]:
        """Open the confirm page, send its form with these values; the page that comes, or where it leads."""
        form = page_of(client.get(address)).post
        response = client.post(address, {**form.fields, **values})
        if response.status_code == 302:
            return Page(""), response["Location"]
        assert response.status_code == 200
        return page_of(response), ""

    def test_backing_up(self, plan, operator):
        _, location = self.press(operator, f"/backups/plan/{plan.pk}/do/back_up/", reason="Why not")
        operation = Operation.objects.get()
        assert location == f"/operations/operation/{operation.pk}/"
        assert (operation.requested_by.username, operation.reason) == ("olga", "Why not")
        again, _ = self.press(operator, f"/backups/plan/{plan.pk}/do/back_up/", reason="And again")
        assert f"#{operation.pk} Back up" in again.text and "is working on the same thing" in again.text
        assert again.post.fields["reason"] == "And again"
        assert Operation.objects.count() == 1

    def test_a_double_click_is_one_operation(self, plan, operator):
        address = f"/backups/plan/{plan.pk}/do/back_up/"
        fields = page_of(operator.get(address)).post.fields
        locations = {operator.post(address, fields)["Location"] for _ in range(2)}
        assert len(locations) == 1 and Operation.objects.count() == 1

    def test_the_confirm_page_names_target_consequence_and_steps(self, plan, operator):
        text = page_of(operator.get(f"/backups/plan/{plan.pk}/do/back_up/")).text
        assert "PRODUCTION" in text and str(plan) in text
        assert f"{plan.target.address} is read and an archive is written to {plan.storage}" in text
        assert "Dry run" in text and "pg_dump" in text and "pg_dumpall" in text

    def test_the_preview_of_a_clean_up(self, plan, operator):
        for age in (1, 400, 500):
            ArchiveFactory(plan=plan, name=f"d{age}", age=age * 24 * HOUR)
        ArchiveFactory(plan=plan, name="kept", age=900 * 24 * HOUR, keep=True)
        text = page_of(operator.get(f"/backups/plan/{plan.pk}/do/prune/")).text
        assert text.count("Removed older than 7 days") == 2
        assert "Stays marked to be kept" in text and "Stays the newest verified archive of its database" in text

    def test_keeping_and_letting_go(self, plan, operator):
        archive = ArchiveFactory(plan=plan)
        for name, keep in (("keep", True), ("let_go", False)):
            _, location = self.press(operator, f"/backups/archive/{archive.pk}/do/{name}/")
            assert location == archive.get_absolute_url()
            archive.refresh_from_db()
            assert archive.keep is keep
        history = page_of(operator.get(f"/backups/archive/{archive.pk}/history/")).text
        assert "olga" in history

    def test_an_unverified_archive_offers_two_ways(self, plan, operator):
        archive = ArchiveFactory(plan=plan, unverified=True)
        address = f"/backups/archive/{archive.pk}/do/restore/"
        page = page_of(operator.get(address))
        assert "This archive is not verified" in page.text
        assert f"/backups/archive/{archive.pk}/do/verify/" in page.links
        typed = {"reason_kind": "deletion", "reason": "Orders are gone", "typed_name": plan.target.database}
        refused, _ = self.press(operator, address, **typed)
        assert "Verify it now, or say why it must be restored unverified" in refused.text
        assert {key: refused.post.fields[key] for key in typed} == typed
        assert not Restore.objects.exists()
        _, location = self.press(operator, address, **typed, override_reason="The shop stands still")
        restore = Restore.objects.get()
        assert restore.override_reason == "The shop stands still"
        assert location == f"/operations/operation/{restore.operation.pk}/"

    def test_a_verified_archive_asks_for_no_override(self, plan, operator):
        page = page_of(operator.get(f"/backups/archive/{ArchiveFactory(plan=plan).pk}/do/restore/"))
        assert "override_reason" not in page.post.fields and "not verified" not in page.text

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"reason_kind": ""}, "This field is required"),
            ({"typed_name": "another"}, "The name you typed is not the database's"),
            ({"into": "-aside", "typed_name": "-aside"}, "Write the plain name of the database"),
            ({"into": "x" * 64, "typed_name": "x" * 64}, "at most 63"),
            ({"reason_kind": "other"}, "Say why you restore"),
        ],
    )
    def test_what_is_typed_wrong_is_said_and_kept(self, plan, operator, values, words):
        archive = ArchiveFactory(plan=plan)
        typed = {"reason_kind": "deletion", "typed_name": plan.target.database, **values}
        page, _ = self.press(operator, f"/backups/archive/{archive.pk}/do/restore/", **typed)
        assert words in page.text
        assert {key: page.post.fields[key] for key in typed} == typed
        assert not Restore.objects.exists()

    def test_a_live_database_that_cannot_be_read_is_no_obstacle(self, plan, operator):
        page = page_of(operator.get(f"/backups/archive/{ArchiveFactory(plan=plan).pk}/do/restore/"))
        assert "The preview of what will be lost is skipped" in page.text
        assert "There is no server socket in /nonexistent" in page.text
        assert "The restore itself does not need it" in page.text

    def test_a_password_that_cannot_be_found_is_said_on_the_page(self, plan, operator):
        plan.target.password_ref = "env:OPS_SECRET_NOBODY_SET_THIS"
        plan.target.save()
        page = page_of(operator.get(f"/backups/archive/{ArchiveFactory(plan=plan).pk}/do/restore/"))
        assert "The dry run could not be made: The environment variable OPS_SECRET_NOBODY" in page.text

    def test_the_preview_counts_what_goes_and_what_returns(self, shop):
        """From the real database, as it is when somebody looks."""
        archive = shop.archive()
        shop.database.lose_orders()
        shop.database.execute("INSERT INTO customer SELECT i, 'New', NULL FROM generate_series(121, 123) i")
        page = page_of(browser(shop.operator).get(f"/backups/archive/{archive.pk}/do/restore/"))
        assert "3 rows written since will not be in the restored database" in page.text
        assert "500 rows come back" in page.text
        assert "public.orders +500 100 600" in page.text and "public.customer -3 123 120" in page.text
        for step in ("CREATE DATABASE", "pg_restore", "vacuumdb", "RENAME TO"):
            assert step in page.text
        assert shop.database.server.password not in page.text

    def test_the_way_back_stands_on_the_page_of_the_operation_too(self, plan, operator, manager):
        restore = RestoreFactory(archive=ArchiveFactory(plan=plan))
        page, undo = f"/operations/operation/{restore.operation.pk}/", f"/backups/restore/{restore.pk}/do/undo/"
        assert undo in page_of(operator.get(page)).links
        assert undo not in page_of(manager.get(page)).links
        Restore.objects.filter(pk=restore.pk).update(safety_copy=Restore.SafetyCopy.DROPPED)
        assert undo not in page_of(operator.get(page)).links

    def test_the_name_is_typed_before_a_safety_copy_is_dropped(self, plan, operator):
        restore = RestoreFactory(archive=ArchiveFactory(plan=plan))
        address = f"/backups/restore/{restore.pk}/do/drop/"
        page, _ = self.press(operator, address, reason="No room", typed_name="shop")
        assert f"This is not “{restore.safety_database}”" in page.text
        _, location = self.press(operator, address, reason="No room", typed_name=restore.safety_database)
        assert location == f"/operations/operation/{Operation.objects.latest('pk').pk}/"

    def test_a_restore_is_retried_with_its_name_typed_again(self, plan, operator):
        failed = RestoreFactory(archive=ArchiveFactory(plan=plan)).operation
        Operation.objects.filter(pk=failed.pk).update(
            state=Operation.State.FAILED,
            procedure="backups.restore",
            params={"archive": failed.restore.archive.pk, "into": plan.target.database},
        )
        address = f"/operations/operation/{failed.pk}/do/retry/"
        for typed in ({}, {"typed_name": "elsewhere"}):
            page, location = self.press(operator, address, **typed)
            assert location == "" and f"Type “{plan.target.database}” to confirm" in page.text
        assert not Operation.objects.filter(retry_of=failed).exists()
        _, location = self.press(operator, address, typed_name=plan.target.database)
        assert location == f"/operations/operation/{Operation.objects.get(retry_of=failed).pk}/"

    def test_controlling_an_operation(self, plan, operator):
        fields = {"procedure": "backups.prune", "params": {"plan": plan.pk}}
        queued = OperationFactory(state=Operation.State.QUEUED, **fields)
        self.press(operator, f"/operations/operation/{queued.pk}/do/cancel/", reason="Not now")
        queued.refresh_from_db()
        assert queued.state == Operation.State.CANCELLED
        _, location = self.press(operator, f"/operations/operation/{queued.pk}/do/retry/")
        assert location == f"/operations/operation/{Operation.objects.get(retry_of=queued).pk}/"
        paused = OperationFactory(state=Operation.State.PAUSED, **fields)
        address = f"/operations/operation/{paused.pk}/do/mark_done/"
        page, _ = self.press(operator, address)
        assert "This field is required" in page.text
        self.press(operator, address, evidence="rm -r ran, df shows 20 % more")
        assert paused.steps.first().state == OperationStep.State.BY_HAND
