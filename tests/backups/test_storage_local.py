"""The local storage on a real file system."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from backups import manifest
from backups.exceptions import BackupError, StorageError
from backups.storages import STORAGES
from backups.storages.local import LocalStorage


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path)


def fill(partial: Path, op_id: int = 1) -> Path:
    (partial / "toc.dat").write_bytes(b"data")
    (partial / manifest.NAME).write_text(json.dumps({"operation_id": op_id}))
    return partial


def visible(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if not any(p.startswith(".") for p in path.relative_to(root).parts)
    )


def test_it_is_registered():
    assert STORAGES["local"] is LocalStorage


class TestLife:
    def test_begin_publish_list_remove(self, storage, tmp_path):
        partial = storage.begin("erp/production", 7, 1)
        assert partial.name == ".partial-op7-a1" and partial.stat().st_mode & 0o777 == 0o700
        fill(partial, 7)
        assert storage.list("erp/production") == [] and visible(tmp_path) == ["erp", "erp/production"]
        archive = storage.publish(partial, "erp_2026")
        assert archive == tmp_path / "erp/production/erp_2026"
        assert storage.list("erp/production") == [archive]
        assert storage.find_published("erp/production", 7) == archive
        assert storage.find_published("erp/production", 8) is None
        assert storage.remove(archive) is True and storage.remove(archive) is False
        assert list((tmp_path / "erp/production").iterdir()) == []

    def test_a_later_attempt_removes_what_an_earlier_one_left_and_nothing_else(self, storage):
        fill(storage.begin("erp", 1, 1))
        other, longer = storage.begin("erp", 12, 1), storage.begin("erp", 2, 1)
        second = storage.begin("erp", 1, 2)
        assert {path.name for path in second.parent.iterdir()} == {second.name, other.name, longer.name}
        again = storage.begin("erp", 1, 2)
        assert list(again.iterdir()) == []

    def test_a_writer_of_an_earlier_attempt_cannot_spoil_the_later_one(self, storage):
        first = storage.begin("erp", 1, 1)
        with open(first / "1.dat", "wb") as file:
            second = storage.begin("erp", 1, 2)
            file.write(b"zombie")
        with pytest.raises(FileNotFoundError):
            (first / "2.dat").write_bytes(b"zombie")
        with pytest.raises(StorageError):
            storage.publish(first, "zombie")
        assert list(second.iterdir()) == []

    def test_namesakes_get_a_number_and_nothing_is_overwritten(self, storage):
        names = [storage.publish(fill(storage.begin("erp", op, 1), op), "same").name for op in (1, 2, 3)]
        assert names == ["same", "same-2", "same-3"]
        assert [storage.find_published("erp", op).name for op in (1, 2, 3)] == names

    def test_a_file_of_that_name_is_not_overwritten_either(self, storage):
        partial = fill(storage.begin("erp", 1, 1))
        (partial.parent / "name").write_text("somebody's notes")
        assert storage.publish(partial, "name").name == "name-2"
        assert (partial.parent / "name").read_text() == "somebody's notes"

    def test_a_race_for_one_name(self, storage):
        partials = [fill(storage.begin("erp", op, 1), op) for op in range(20)]
        start, published = threading.Barrier(20), []

        def publish(partial):
            start.wait()
            published.append(storage.publish(partial, "same"))

        threads = [threading.Thread(target=publish, args=(partial,)) for partial in partials]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert {path.name for path in published} == {"same", *(f"same-{n}" for n in range(2, 21))}
        assert {storage.find_published("erp", op) for op in range(20)} == set(published)

    def test_an_incomplete_one_is_not_published(self, storage):
        with pytest.raises(StorageError, match="no manifest.json"):
            storage.publish(storage.begin("erp", 1, 1), "name")

    def test_damaged_neighbours_do_not_hide_a_published_archive(self, storage):
        fill(storage.begin("erp", 1, 1))
        broken = storage.ensure("erp") / "aaa"
        broken.mkdir()
        (broken / manifest.NAME).write_bytes(b"\xff")
        (storage.ensure("erp") / "aab").mkdir()
        archive = storage.publish(fill(storage.begin("erp", 5, 1), 5), "b")
        assert storage.find_published("erp", 5) == archive

    def test_sweeping(self, storage, tmp_path):
        running, dead = storage.begin("a/b", 1, 1), storage.begin("a/b", 2, 1)
        archive = storage.publish(fill(storage.begin("a", 3, 1), 3), "kept")
        trash = tmp_path / "a" / ".trash-old"
        trash.mkdir()
        (trash / "x").touch()
        hidden = tmp_path / ".snapshots"
        hidden.mkdir()
        assert storage.sweep_partials("a/b", {1}) == [dead]
        assert storage.sweep_partials("a", {1}) == [trash]
        assert running.exists() and archive.exists() and hidden.exists() and not dead.exists() and not trash.exists()
        assert storage.sweep_partials("a/b", {1}) == storage.sweep_partials("nowhere", {1}) == []

    def test_free_space_of_a_folder_that_is_not_there_yet(self, storage):
        assert storage.free_bytes("not/yet") > 0


class TestWayOut:
    @pytest.mark.parametrize("folder", ["..", "/etc", "a/../..", ".partial", "a\nb"])
    def test_folders(self, storage, folder):
        with pytest.raises(BackupError):
            storage.begin(folder, 1, 1)

    @pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "x\0y", "x" * 201])
    def test_names(self, storage, name):
        with pytest.raises(BackupError):
            storage.publish(fill(storage.begin("erp", 1, 1)), name)

    def test_a_symbolic_link_out_of_the_storage(self, storage, tmp_path, tmp_path_factory):
        outside = tmp_path_factory.mktemp("outside")
        (tmp_path / "erp").symlink_to(outside)
        with pytest.raises(StorageError, match="leads out of the storage"):
            storage.begin("erp", 1, 1)
        with pytest.raises(StorageError, match="not in the storage"):
            storage.remove(tmp_path / "erp" / "x")
        assert list(outside.iterdir()) == []

    def test_a_link_in_the_place_of_an_archive(self, storage, tmp_path, tmp_path_factory):
        outside = tmp_path_factory.mktemp("outside")
        (tmp_path / "link").symlink_to(outside)
        with pytest.raises(StorageError, match="symbolic link"):
            storage.remove(tmp_path / "link")
        assert storage.list("") == [] and outside.exists()

    def test_the_storage_itself_may_be_a_link(self, tmp_path, tmp_path_factory):
        real = tmp_path_factory.mktemp("real")
        (tmp_path / "root").symlink_to(real)
        storage = LocalStorage(tmp_path / "root")
        archive = storage.publish(fill(storage.begin("erp", 1, 1)), "name")
        assert archive == real / "erp" / "name" and storage.remove(archive)

    @pytest.mark.parametrize("path", ["/etc/hostname", "/", "relative"])
    def test_removing_elsewhere(self, storage, path):
        with pytest.raises(StorageError, match="not in the storage"):
            storage.remove(Path(path))

    def test_removing_the_storage_itself(self, storage, tmp_path):
        with pytest.raises(StorageError):
            storage.remove(tmp_path)
        with pytest.raises(StorageError):
            storage.remove(tmp_path / "a" / ".." / ".." / "x")


class TestSentences:
    def test_a_missing_root_is_not_created(self, tmp_path):
        with pytest.raises(StorageError, match="does not exist. Create the folder, or mount the disk"):
            LocalStorage(tmp_path / "mnt").begin("erp", 1, 1)
        assert not (tmp_path / "mnt").exists()

    def test_a_folder_that_cannot_be_written(self):
        with pytest.raises(StorageError, match=r"/proc.*(Correct owner and mode|Check the disk)"):
            LocalStorage("/proc").begin("erp", 1, 1)

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
    def test_a_full_disk(self, tmp_path):
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=8", "tmpfs", tmp_path]).returncode:
            pytest.skip("this system does not let root mount a tmpfs")
        try:
            storage = LocalStorage(tmp_path)
            with pytest.raises(StorageError, match="No space left in .* Free some"):
                for number in range(20):
                    storage.begin("erp", number, 1)
        finally:
            subprocess.run(["umount", tmp_path], check=True)
