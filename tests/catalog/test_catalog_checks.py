"""Configuration errors are found before anything runs."""

from pathlib import Path

import pytest

from catalog import checks


def ids(messages) -> list[str]:
    for message in messages:
        assert message.hint
    return [message.id for message in messages]


def test_the_defaults_are_fine(settings):
    assert checks.secret_prefix(None) == []
    assert checks.secret_folders(None) == []


@pytest.mark.parametrize("prefix", ["", "_", "OPS", "OPS SECRET_", "1_", "O-"])
def test_a_prefix_that_sets_nothing_apart(settings, prefix):
    settings.SECRET_ENV_PREFIX = prefix
    assert ids(checks.secret_prefix(None)) == ["catalog.E001"]


@pytest.mark.parametrize("folder", ["/", "/etc", "/proc"])
def test_a_folder_with_more_than_secrets(settings, folder):
    settings.SECRET_DIRS = [Path(folder)]
    assert ids(checks.secret_folders(None)) == ["catalog.E003"]


def test_the_portals_own_folders(settings):
    settings.SECRET_DIRS = [settings.DATA_DIR, settings.BASE_DIR, settings.BASE_DIR.parent]
    assert ids(checks.secret_folders(None)) == ["catalog.E003"] * 3


def test_a_relative_folder(settings):
    settings.SECRET_DIRS = [Path("secrets")]
    assert ids(checks.secret_folders(None)) == ["catalog.E002"]


def test_a_folder_that_strangers_write_to(settings, tmp_path):
    settings.SECRET_DIRS = [tmp_path]
    assert checks.secret_folders(None) == []
    tmp_path.chmod(0o777)
    assert ids(checks.secret_folders(None)) == ["catalog.W001"]


def test_a_link_to_the_root(settings, tmp_path):
    (tmp_path / "link").symlink_to("/")
    settings.SECRET_DIRS = [tmp_path / "link"]
    assert ids(checks.secret_folders(None)) == ["catalog.E003"]
