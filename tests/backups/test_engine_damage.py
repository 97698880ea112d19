"""Damaged archives are found, work that is stopped leaves nothing behind."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
import zstandard

from backups import manifest
from backups.engines.postgresql.spool import Spool
from backups.exceptions import ArchiveDamaged, BackupError
from backups.manifest import Manifest
from operations.exceptions import CommandFailed
from tests.backups.postgresql import MARK, ORDERS, PREFIX, archive, restore, run, session


class TestDamage:
    @pytest.fixture
    def made(self, engine, make, tmp_path):
        conn = make(f"{PREFIX}_dmg", *ORDERS, "CREATE TABLE e (i int)", "SELECT lo_from_bytea(0, '\\x010203')")
        folder = tmp_path / "archive"
        return conn, folder, archive(engine, conn, folder)

    def test_every_file_every_kind(self, engine, made, tmp_path):
        _conn, folder, described = made
        assert len(described.files) >= 6
        chance = random.Random(7)
        for entry in described.files:
            path = folder / entry.path
            good = path.read_bytes()
            for _ in range(6):
                data = bytearray(good)
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                path.write_bytes(data)
                with pytest.raises(ArchiveDamaged, match=entry.path.replace(".", r"\.")):
                    engine.verify(folder, described, run=run)
            path.write_bytes(good[: len(good) // 2])
            with pytest.raises(ArchiveDamaged, match=entry.path):
                engine.verify(folder, described, run=run)
            path.unlink()
            with pytest.raises(ArchiveDamaged, match=f"{entry.path}.* missing"):
                engine.verify(folder, described, run=run)
            path.write_bytes(good)
        engine.verify(folder, described, run=run)

    def test_loading_notices_it_too(self, engine, made, tmp_path):
        conn, folder, described = made
        path = folder / described.tables[0].file
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(ArchiveDamaged, match=path.name):
            restore(engine, conn, folder, described, f"{PREFIX}_dmg_s", tmp_path / "work")
        assert list((tmp_path / "work").iterdir()) == []

    def replace_data(self, folder: Path, described: Manifest, change: Callable[[bytes], bytes]) -> Manifest:
        """Change the text of orders and correct every checksum: a dump that was wrong from the start."""
        table = next(table for table in described.tables if table.name == "orders")
        path = folder / table.file
        plain = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
        path.write_bytes(zstandard.ZstdCompressor().compress(change(plain)))
        files = [manifest.hash_file(folder, folder / file.path) for file in described.files]
        return dataclasses.replace(described, files=files)

    def test_a_lost_row(self, engine, made):
        _, folder, described = made
        described = self.replace_data(folder, described, lambda plain: plain.split(b"\n", 1)[1])
        with pytest.raises(ArchiveDamaged, match="holds 4999 rows of table public.orders instead of 5000"):
            engine.verify(folder, described, run=run)

    def test_a_cut_off_end(self, engine, made):
        _, folder, described = made
        described = self.replace_data(folder, described, lambda plain: plain.removesuffix(b"\\.\n\n\n"))
        with pytest.raises(ArchiveDamaged, match="cut off"):
            engine.verify(folder, described, run=run)

    def test_a_half_frame_with_a_right_checksum(self, engine, made):
        _, folder, described = made
        path = folder / described.tables[0].file
        path.write_bytes(path.read_bytes()[:-20])
        files = [manifest.hash_file(folder, folder / file.path) for file in described.files]
        with pytest.raises(ArchiveDamaged, match="ends before its end"):
            engine.verify(folder, dataclasses.replace(described, files=files), run=run)

    def test_files_that_were_exchanged(self, engine, made):
        """Both are whole, both are in the manifest, but they are not where the table of contents says."""
        _, folder, described = made
        one, two = (table.file for table in described.tables)
        swapped = [dataclasses.replace(t, file={one: two, two: one}[t.file]) for t in described.tables]
        data = {name: (folder / name).read_bytes() for name in (one, two)}
        (folder / one).write_bytes(data[two])
        (folder / two).write_bytes(data[one])
        files = [manifest.hash_file(folder, folder / file.path) for file in described.files]
        with pytest.raises(ArchiveDamaged, match="disagree about table"):
            engine.verify(folder, dataclasses.replace(described, files=files, tables=swapped), run=run)


class Stop(BaseException):
    """How the portal stops work: not an Exception."""


class TestStopping:
    def test_a_dump_stops_and_leaves_nobody_behind(self, engine, make, admin, tmp_path):
        conn = dataclasses.replace(
            make(f"{PREFIX}_stop", *ORDERS, "CREATE TABLE other AS SELECT * FROM orders"),
            application_name=f"{MARK}/op77/a1",
        )

        def check():
            if list(tmp_path.glob("*.dat*")):
                raise Stop

        with pytest.raises(Stop):
            engine.dump(conn, tmp_path, run=run, check=check)
        children = [child for child in psutil.Process().children(recursive=True) if child.status() != "zombie"]
        assert children == []
        assert engine.end_backends(conn, f"{MARK}/op77") in (0, 1, 2, 3)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("compress")]

    def test_counting_stops_in_the_middle_of_a_query(self, engine, make):
        conn = make(f"{PREFIX}_stop2", *ORDERS)
        began = time.monotonic()

        def check():
            if time.monotonic() - began > 0.5:
                raise Stop

        with session(conn) as holder, holder.transaction():
            holder.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(Stop):
                engine.measure(conn, conn.database, check=check)
        assert time.monotonic() - began < 4

    def test_a_lost_snapshot_is_an_error_and_not_a_hang(self, engine, make, admin, tmp_path):
        conn = dataclasses.replace(make(f"{PREFIX}_lost", *ORDERS), application_name=f"{MARK}/op78/a1")

        def end():
            time.sleep(0.8)
            engine.end_backends(dataclasses.replace(conn, application_name="x"), f"{MARK}/op78")

        with session(conn) as holder, holder.transaction():
            holder.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            ender = threading.Thread(target=end)
            ender.start()
            with pytest.raises((BackupError, CommandFailed)) as caught:
                engine.dump(conn, tmp_path, run=run)
            ender.join()
        assert "terminat" in str(caught.value) or "closed" in str(caught.value)

    def test_ending_backends_keeps_to_its_operation_and_attempt(self, engine, target):
        names = [
            f"{MARK}/op1/a1",
            f"{MARK}/op1/a2",
            f"{MARK}/op1/a10",
            f"{MARK}/op12/a1",
            f"{MARK}/op1",
            f"{MARK}/op1/a1x",
        ]
        sessions = {name: session(target, application_name=name) for name in names}
        conn = dataclasses.replace(target, application_name=f"{MARK}/op1/a3")

        def alive() -> list[str]:
            found = []
            for name, one in sessions.items():
                try:
                    one.execute("SELECT 1")
                    found.append(name)
                except psycopg.OperationalError:
                    pass
            return found

        assert engine.end_backends(conn, f"{MARK}/op1", before_attempt=3) == 2
        assert alive() == names[2:]
        assert engine.end_backends(conn, f"{MARK}/op1") == 1
        assert alive() == names[3:]
        assert engine.end_backends(conn, f"{MARK}/op1") == 0
        [one.close() for one in sessions.values()]


class TestSpool:
    def test_a_line_that_lies_does_not_cut_a_file(self, tmp_path):
        """A table may be called “…finished item 7…”, and pg_dump prints names as they are."""
        with Spool(tmp_path, threads=1) as spool:
            with open(tmp_path / "7.dat", "wb", buffering=0) as file:
                file.write(b"first ")
                spool.heard("pg_dump: finished item 7 TABLE DATA lie")
                time.sleep(0.3)
                assert (tmp_path / "7.dat").exists()
                file.write(b"second")
            spool.heard("pg_dump: finished item 7 TABLE DATA truth")
            spool.dump_ended()
            while not spool.wait(0.1):
                pass
            (entry,) = spool.entries()
        packed = (tmp_path / "7.dat.zst").read_bytes()
        assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == b"first second"
        assert (entry.size, entry.plain_size) == (len(packed), 12)
        assert [path.name for path in tmp_path.iterdir()] == ["7.dat.zst"]

    def test_a_finished_file_goes_before_the_dump_ends(self, tmp_path):
        with Spool(tmp_path, threads=1) as spool:
            (tmp_path / "7.dat").write_bytes(b"x" * 100_000)
            spool.heard("pg_dump: finished item 7 TABLE DATA x")
            end = time.monotonic() + 5
            while (tmp_path / "7.dat").exists() and time.monotonic() < end:
                time.sleep(0.01)
            assert not (tmp_path / "7.dat").exists()

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
    def test_a_full_disk_is_a_sentence(self, engine, make, tmp_path):
        conn = make(
            f"{PREFIX}_full",
            "CREATE TABLE t AS SELECT md5(i::text) || md5((i+1)::text) AS a FROM generate_series(1, 200000) i",
        )
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", tmp_path]).returncode:
            pytest.skip("this system does not let root mount a tmpfs")
        try:
            with pytest.raises((BackupError, CommandFailed), match="No space left"):
                engine.dump(conn, tmp_path, run=run)
        finally:
            subprocess.run(["umount", tmp_path], check=True)
