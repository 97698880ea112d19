"""The manifest: what is written is read, and what was damaged or edited is refused with a sentence."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups import manifest
from backups.exceptions import ArchiveDamaged
from backups.manifest import (
    DatabaseProperties,
    FileEntry,
    Grant,
    Manifest,
    Setting,
    TableEntry,
    check_files,
    decode,
    encode,
    table_key,
)

NOW = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)


def make(folder: Path, contents: dict[str, bytes], **changes: object) -> Manifest:
    """An archive on disk with its manifest."""
    files = []
    for name, data in contents.items():
        (folder / name).write_bytes(data)
        files.append(FileEntry(name, len(data), hashlib.sha256(data).hexdigest()))
    values: dict = {
        "engine": "postgresql",
        "database": "erp",
        "server_version": "18.4",
        "server_version_num": 180004,
        "system_identifier": "7710437758283113706",
        "client_version": "18.4",
        "snapshot_at": NOW,
        "codec": "zstd:1",
        "database_bytes": 1,
        "files": files,
        "tables": [TableEntry("public", "orders", 16384, "2575.dat.zst", 3, "-17", 8192)],
        "large_objects": 0,
        "properties": DatabaseProperties(
            "ops", "UTF8", "b", "C.UTF-8", "C.UTF-8", "C.UTF-8", grants=[Grant(None, "CONNECT", False)]
        ),
        "extensions": {"plpgsql": "1.0"},
        "roles": ["ops"],
        "operation_id": 12,
        "plan": "nightly",
        "name": "erp_2026",
        "created_at": NOW,
    }
    described = Manifest(**{**values, **changes})
    manifest.write(folder, described)
    return described


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
moments = st.datetimes(timezones=st.just(UTC))
made = st.builds(
    Manifest,
    created_at=moments,
    snapshot_at=moments,
    format=st.just(1),
    files=st.lists(
        st.builds(FileEntry, path=st.from_regex(r"[a-z0-9]{1,8}\.dat(\.zst)?", fullmatch=True), sha256=text), max_size=3
    ),
    tables=st.lists(st.builds(TableEntry, schema=text, name=text, file=text, fingerprint=st.none() | text), max_size=3),
    properties=st.builds(
        DatabaseProperties,
        owner=text,
        grants=st.none() | st.lists(st.builds(Grant, role=st.none() | text), max_size=2),
        settings=st.lists(st.builds(Setting, name=text, value=text), max_size=2),
        comment=st.none() | text,
    ),
    extensions=st.dictionaries(text, text, max_size=2),
    seconds=st.dictionaries(text, st.floats(allow_nan=False, allow_infinity=False), max_size=2),
)


@given(made)
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, described):
    folder = tmp_path_factory.mktemp("archive")
    entry = manifest.write(folder, described)
    assert manifest.read(folder) == described
    assert hashlib.sha256((folder / manifest.NAME).read_bytes()).hexdigest() == entry.sha256
    assert [path.name for path in folder.iterdir()] == [manifest.NAME], "no temporary file stays"


def test_moments_are_utc(tmp_path):
    zone = datetime.now().astimezone().tzinfo
    described = make(tmp_path, {}, created_at=NOW.astimezone(zone) + timedelta(hours=1))
    assert json.loads((tmp_path / manifest.NAME).read_text())["created_at"] == "2026-03-29T02:30:00.123456+00:00"
    assert manifest.read(tmp_path) == described


class TestDamage:
    def test_no_manifest_no_archive(self, tmp_path):
        with pytest.raises(ArchiveDamaged, match="no manifest.json .* not a complete archive"):
            manifest.read(tmp_path)

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"sha256": 1}'])
    def test_nonsense(self, tmp_path, data):
        (tmp_path / manifest.NAME).write_bytes(data)
        with pytest.raises(ArchiveDamaged, match="Use another archive"):
            manifest.read(tmp_path)

    def test_every_flipped_bit_is_found(self, tmp_path):
        make(tmp_path, {})
        good = (tmp_path / manifest.NAME).read_bytes()
        before = manifest.read(tmp_path)
        for position in range(0, len(good), 7):
            data = bytearray(good)
            data[position] ^= 1 << position % 8
            (tmp_path / manifest.NAME).write_bytes(data)
            try:
                assert manifest.read(tmp_path) == before, "only white space may change unnoticed"
                assert good[position : position + 1].isspace()
            except ArchiveDamaged:
                pass

    def test_an_edited_number(self, tmp_path):
        make(tmp_path, {})
        path = tmp_path / manifest.NAME
        path.write_text(path.read_text().replace('"rows": 3', '"rows": 4'))
        with pytest.raises(ArchiveDamaged, match="damaged or edited"):
            manifest.read(tmp_path)

    def rewrite(self, folder: Path, **changes: object) -> None:
        """An edit by somebody who also corrects the checksum."""
        values = json.loads((folder / manifest.NAME).read_text())
        del values["sha256"]
        values.update(changes)
        values["sha256"] = manifest._digest(values)
        (folder / manifest.NAME).write_text(json.dumps(values))

    def test_a_newer_format(self, tmp_path):
        make(tmp_path, {})
        self.rewrite(tmp_path, format=2)
        with pytest.raises(ArchiveDamaged, match="format 2, this portal reads 1. Update the portal"):
            manifest.read(tmp_path)

    @pytest.mark.parametrize(
        "changes",
        [
            {"files": "x"},
            {"tables": [1]},
            {"database": 5},
            {"large_objects": True},
            {"surprise": 1},
            {"snapshot_at": "x"},
            {"properties": None},
        ],
    )
    def test_wrong_types(self, tmp_path, changes):
        make(tmp_path, {})
        self.rewrite(tmp_path, **changes)
        with pytest.raises(ArchiveDamaged, match="expected fields"):
            manifest.read(tmp_path)

    @pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", ".", "a//b", "./a", "a\0b"])
    def test_paths_that_lead_out(self, tmp_path, path):
        make(tmp_path, {})
        self.rewrite(tmp_path, files=[{"path": path, "size": 1, "sha256": "", "plain_size": None}])
        with pytest.raises(ArchiveDamaged, match="leads out of the archive"):
            manifest.read(tmp_path)


class TestFiles:
    CONTENTS = {"toc.dat": b"contents", "1.dat.zst": os.urandom(3_000_000), "2.dat.zst": b""}

    def test_all_there(self, tmp_path):
        described = make(tmp_path, self.CONTENTS)
        seen = []
        check_files(tmp_path, described, lambda *values: seen.append(values))
        assert seen[-1] == (3_000_008, 3_000_008, "bytes")
        assert len(seen) >= 4, "progress inside a large file"

    def test_a_missing_file_is_named(self, tmp_path):
        described = make(tmp_path, self.CONTENTS)
        (tmp_path / "1.dat.zst").unlink()
        with pytest.raises(ArchiveDamaged, match="1.dat.zst is missing"):
            check_files(tmp_path, described)

    def test_an_extra_file_is_named(self, tmp_path):
        described = make(tmp_path, self.CONTENTS)
        (tmp_path / "notes.txt").touch()
        with pytest.raises(ArchiveDamaged, match="notes.txt is not part of the archive"):
            check_files(tmp_path, described)

    @pytest.mark.parametrize("name", ["toc.dat", "1.dat.zst"])
    def test_a_flipped_bit_is_found(self, tmp_path, name):
        described = make(tmp_path, self.CONTENTS)
        data = bytearray(self.CONTENTS[name])
        data[len(data) // 2] ^= 1
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ArchiveDamaged, match=f"{name} was changed"):
            check_files(tmp_path, described)

    def test_a_truncated_file_is_found(self, tmp_path):
        described = make(tmp_path, self.CONTENTS)
        os.truncate(tmp_path / "1.dat.zst", 100)
        with pytest.raises(ArchiveDamaged, match="1.dat.zst has 100 bytes instead of 3000000"):
            check_files(tmp_path, described)

    def test_a_link_is_not_followed(self, tmp_path):
        described = make(tmp_path, self.CONTENTS)
        (tmp_path / "toc.dat").rename(tmp_path.parent / "toc.dat")
        (tmp_path / "toc.dat").symlink_to(tmp_path.parent / "toc.dat")
        with pytest.raises(ArchiveDamaged, match="cannot be read"):
            check_files(tmp_path, described)

    def test_a_check_may_stop_it(self, tmp_path):
        described = make(tmp_path, self.CONTENTS)

        def stop():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            check_files(tmp_path, described, check=stop)


@pytest.mark.parametrize(
    ("schema", "name", "key"),
    [
        ("public", "orders", "public.orders"),
        ("public", "Orders", 'public."Orders"'),
        ("a.b", "c", '"a.b".c'),
        ("a", "b.c", 'a."b.c"'),
        ("a", 'b"c', 'a."b""c"'),
        ("a", "", 'a.""'),
        ("a", "naïve", 'a."naïve"'),
    ],
)
def test_names_of_tables_are_unambiguous(schema, name, key):
    assert table_key(schema, name) == key


@given(text, text, text, text)
def test_two_tables_never_share_a_name(schema, name, other_schema, other):
    same = (schema, name) == (other_schema, other)
    assert (table_key(schema, name) == table_key(other_schema, other)) is same


def test_decode_is_strict_about_missing_fields():
    values = encode(FileEntry("a", 1, "x"))
    del values["size"]
    with pytest.raises(TypeError):
        decode(FileEntry, values)
    assert dataclasses.replace(decode(FileEntry, encode(FileEntry("a", 1, "x"))), size=2).size == 2
