"""The key of the portal's backups: what is taken, what is made, what opens what."""

import io
import stat
import subprocess
from datetime import UTC, datetime

import pyrage
import pytest

from survival import keys
from survival.exceptions import CopyDamaged, SurvivalError

NOW = datetime(2026, 11, 27, 1, 30, tzinfo=UTC)


def sealed(text: bytes, recipient: str) -> bytes:
    target = io.BytesIO()
    keys.seal(io.BytesIO(text), target, recipient)
    return target.getvalue()


def test_an_identity_is_written_once_and_is_private(tmp_path):
    key, path = keys.make_identity(tmp_path / "key", NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    before = path.read_text()
    again, same = keys.make_identity(tmp_path / "key", NOW)
    assert same == path and path.read_text() == before
    assert again.recipient == key.recipient and again.identity is not None


def test_a_key_is_a_recipient_or_an_identity(tmp_path):
    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    assert keys.read_key(public) == keys.Key(public)
    found = keys.read_key(f"# created: today\n# public key: {public}\n{identity}\n")
    assert found.recipient == public and found.identity is not None


@pytest.mark.parametrize("text", ["", "hello", "age1notakey", "AGE-SECRET-KEY-1NOTAKEY", "age1a\nage1b"])
def test_anything_else_is_a_sentence_without_the_key(text):
    with pytest.raises(SurvivalError) as refused:
        keys.read_key(text)
    assert refused.value.message.endswith(".")
    assert "NOTAKEY" not in refused.value.message


def test_a_folder_that_cannot_be_made_says_what_to_set(tmp_path):
    with pytest.raises(SurvivalError, match="PORTAL_KEY_DIR"):
        keys.make_identity(tmp_path / "no" / "such" / "folder", NOW)


def test_only_the_right_key_opens_and_a_flipped_bit_is_found():
    one, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    data = sealed(b"x" * 200_000, str(one.to_public()))
    target = io.BytesIO()
    keys.open_sealed(io.BytesIO(data), target, one)
    assert target.getvalue() == b"x" * 200_000
    assert keys.looks_sealed(data[: len(keys.HEADER)])
    with pytest.raises(CopyDamaged, match="another key"):
        keys.open_sealed(io.BytesIO(data), io.BytesIO(), other)
    broken = bytearray(data)
    broken[len(broken) // 2] ^= 1
    with pytest.raises(CopyDamaged):
        keys.open_sealed(io.BytesIO(bytes(broken)), io.BytesIO(), one)
    with pytest.raises(CopyDamaged):
        keys.open_sealed(io.BytesIO(data[:-20]), io.BytesIO(), one)


@pytest.mark.needs("age")
def test_stock_age_opens_it_with_the_file_the_portal_wrote(tmp_path):
    key, path = keys.make_identity(tmp_path / "key", NOW)
    (tmp_path / "sealed").write_bytes(sealed(b"the portal", key.recipient))
    opened = subprocess.run(
        ["age", "--decrypt", "--identity", path, tmp_path / "sealed"], capture_output=True, check=True, timeout=60
    )
    assert opened.stdout == b"the portal"
