"""A reference reaches what was set aside for secrets of targets, and nothing else on the machine."""

import os
import tempfile
import threading
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError

from catalog.exceptions import CatalogError
from catalog.models import DatabaseTarget
from catalog.secrets import SecretReference, validate_secret_reference
from catalog.targets import connection_values

CONTENT = "s3cret-content-nobody-may-see"


@pytest.fixture
def folder(tmp_path, settings):
    allowed = tmp_path / "secrets"
    allowed.mkdir()
    settings.SECRET_DIRS = [allowed]
    (allowed / "erp").write_text(CONTENT + "\n")
    (tmp_path / "outside").write_text(CONTENT)
    (tmp_path / "secrets-beside").mkdir()
    (tmp_path / "secrets-beside" / "erp").write_text(CONTENT)
    return allowed


def resolve(text: str) -> str:
    return SecretReference.parse(text).resolve()


def refused(text: str) -> str:
    """Both doors refuse: the form's validator and the use. Returns the sentence."""
    with pytest.raises(ValidationError) as in_form:
        validate_secret_reference(text)
    with pytest.raises(CatalogError) as in_use:
        resolve(text)
    assert in_form.value.messages == [in_use.value.message]
    return checked(in_use.value.message)


def unresolved(text: str) -> str:
    """The form accepts it, the use does not. Returns the sentence."""
    validate_secret_reference(text)
    with pytest.raises(CatalogError) as caught:
        resolve(text)
    return checked(caught.value.message)


def checked(sentence: str) -> str:
    assert CONTENT not in sentence
    assert sentence.endswith(".") and len(sentence) > 30
    return sentence


def test_a_variable(monkeypatch):
    monkeypatch.setenv("OPS_SECRET_ERP", "pa:ss=wörd $(id)")
    assert resolve("env:OPS_SECRET_ERP") == "pa:ss=wörd $(id)"


def test_a_file_loses_one_line_end(folder):
    assert resolve(f"file:{folder}/erp") == CONTENT
    for stored, expected in (("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")):
        (folder / "erp").write_bytes(stored.encode())
        assert resolve(f"file:{folder}/erp") == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "erp", "hunter2", "ENV:OPS_SECRET_X", "vault:secret/erp", "http://evil/x", "env", "env:", "file:", ":x",
        " env:OPS_SECRET_X", "env: OPS_SECRET_X", "env:OPS_SECRET_X ", "env:OPS_SECRET_X\n", "env:OPS_SECRET_\x00",
        "env:OPS SECRET_X",
        "env:OPS_SECRET_", "env:ops_secret_x", "env:SECRET_KEY", "env:DATABASE_URL", "env:PATH", "env:MY_OPS_SECRET_X",
        "env:OPS_SECRET_X=1", "file:erp", "file:./erp", "file:~/erp", "file:///\x00", "file:/etc/shadow",
        "file:/etc/passwd",
        "file:/proc/self/environ", "file:/dev/zero", "file:/", "file:///etc/shadow",
    ],
)  # fmt: skip
def test_what_nobody_may_name(text, folder, monkeypatch):
    monkeypatch.setenv("MY_OPS_SECRET_X", CONTENT)
    refused(text)


def test_a_pasted_password_is_not_repeated():
    assert "hunter2" not in refused("hunter2")
    assert "hunter2" not in refused("pass:hunter2")


def test_the_way_out_is_closed(folder, tmp_path):
    for text in ("../outside", "x/../../outside", "../secrets-beside/erp", "../../../../../../etc/shadow", "."):
        assert "below" in refused(f"file:{folder}/{text}")
    refused(f"file:{folder}")
    refused(f"file:{tmp_path}/secrets-beside/erp")


def test_a_link_out_of_the_folder_is_followed_and_refused(folder, tmp_path):
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "up").symlink_to(tmp_path)
    (folder / "chain").symlink_to(folder / "link")
    for name in ("link", "up/outside", "chain", "up/secrets/../outside"):
        refused(f"file:{folder}/{name}")


def test_links_inside_the_folder_work(folder, tmp_path, settings):
    """As the mounts of container platforms are built."""
    (folder / "..2026").mkdir()
    (folder / "..2026" / "pw").write_text("v1")
    (folder / "..data").symlink_to("..2026")
    (folder / "pw").symlink_to("..data/pw")
    assert resolve(f"file:{folder}/pw") == "v1"
    (tmp_path / "mount").symlink_to(folder)
    assert resolve(f"file:{tmp_path}/mount/pw") == "v1"
    settings.SECRET_DIRS = [tmp_path / "mount"]
    assert resolve(f"file:{folder}/pw") == "v1"


def test_a_loop_of_links(folder):
    (folder / "loop").symlink_to(folder / "loop")
    with pytest.raises(CatalogError) as caught:
        resolve(f"file:{folder}/loop")
    assert "loop" in checked(caught.value.message)


def test_a_link_swapped_in_after_the_check(folder, tmp_path):
    """Whoever may write to the folder must not win the race between check and opening."""
    victim, stop = folder / "race", threading.Event()

    def swap() -> None:
        spare = folder / "spare"
        while not stop.is_set():
            spare.write_text("harmless")
            os.replace(spare, victim)
            spare.symlink_to(tmp_path / "outside")
            os.replace(spare, victim)

    victim.write_text("harmless")
    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for _ in range(400):
            try:
                seen.add(resolve(f"file:{victim}"))
            except CatalogError as error:
                checked(error.message)
    finally:
        stop.set()
        thread.join()
    assert seen == {"harmless"}


def test_what_is_not_there(folder, monkeypatch):
    monkeypatch.delenv("OPS_SECRET_MISSING", raising=False)
    assert "OPS_SECRET_MISSING" in unresolved("env:OPS_SECRET_MISSING")
    assert f"{folder}/missing" in unresolved(f"file:{folder}/missing")


def test_what_is_no_password(folder, monkeypatch):
    (folder / "dir").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "empty").write_text("\n")
    (folder / "binary").write_bytes(b"\xff\xfe" + CONTENT.encode())
    (folder / "zero").write_bytes(CONTENT.encode() + b"\x00x")
    (folder / "big").write_bytes(b"x" * (64 * 1024 + 1))
    for name in ("dir", "pipe", "empty", "binary", "zero", "big"):
        assert str(folder) in unresolved(f"file:{folder}/{name}")
    (folder / "large").write_bytes(b"x" * 64 * 1024)
    assert len(resolve(f"file:{folder}/large")) == 64 * 1024
    monkeypatch.setenv("OPS_SECRET_EMPTY", "")
    assert "empty" in unresolved("env:OPS_SECRET_EMPTY")


def test_a_file_without_permission(settings):
    """Root reads every file, so a test that runs as root lays its rights down for a moment."""
    with tempfile.TemporaryDirectory() as name:
        settings.SECRET_DIRS = [name]
        Path(name).chmod(0o755)
        secret = Path(name) / "erp"
        secret.write_text(CONTENT)
        secret.chmod(0)
        me = os.geteuid()
        if me == 0:
            os.seteuid(65534)
        try:
            assert "permission" in unresolved(f"file:{secret}")
        finally:
            os.seteuid(me)


def test_no_secret_folders_at_all(folder, settings):
    settings.SECRET_DIRS = []
    assert "SECRET_DIRS" in refused(f"file:{folder}/erp")


def test_the_portals_own_secrets_stay(folder, monkeypatch, settings):
    """They often lie in the same folder: /run/secrets holds all secrets of a container."""
    monkeypatch.setenv("DATABASE_URL_FILE", str(folder / "erp"))
    assert "DATABASE_URL_FILE" in refused(f"file:{folder}/erp")
    (folder / "link").symlink_to(folder / "erp")
    refused(f"file:{folder}/link")
    (folder / "key").write_text(settings.SECRET_KEY)
    assert "signing key" in unresolved(f"file:{folder}/key")
    monkeypatch.setenv("OPS_SECRET_OLD", "an old key")
    settings.SECRET_KEY_FALLBACKS = ["an old key"]
    assert "signing key" in unresolved("env:OPS_SECRET_OLD")


def test_connection_values(monkeypatch):
    monkeypatch.setenv("OPS_SECRET_ERP", CONTENT)
    target = DatabaseTarget(host="db1", database="erp", user="backup", password_ref="env:OPS_SECRET_ERP")
    values = connection_values(target, "opsportal/op7/a1")
    assert (values.host, values.port, values.database, values.user) == ("db1", 5432, "erp", "backup")
    assert (values.password, values.sslmode, values.maintenance_database) == (CONTENT, "prefer", "postgres")
    assert values.application_name == "opsportal/op7/a1"
    assert CONTENT not in repr(values)
    assert connection_values(DatabaseTarget(host="h", database="d", user="u"), "x").password == ""
    monkeypatch.setenv("OPS_SECRET_ERP", f"{CONTENT}\nother-host:5432:*:*:x")
    with pytest.raises(CatalogError) as caught:
        connection_values(target, "x")
    checked(caught.value.message)
