"""Settings that would break the promise are named at the start."""

import pyrage
import pytest

from survival import checks


def ids(found) -> list[str]:
    assert all(message.hint for message in found)
    return [message.id for message in found]


def test_the_defaults_are_fine():
    assert ids(checks.check_key() + checks.check_second_place() + checks.check_heartbeat()) == []


@pytest.mark.parametrize(("key", "expected"), [("age1nonsense", ["survival.E001"]), ("identity", [])])
def test_a_key_that_is_none(settings, key, expected):
    settings.PORTAL_BACKUP_KEY = str(pyrage.x25519.Identity.generate()) if key == "identity" else key
    assert ids(checks.check_key()) == expected


def test_backups_inside_the_data_folder(settings):
    settings.PORTAL_BACKUP_DIR = settings.DATA_DIR / "backup"
    assert ids(checks.check_second_place()) == ["survival.E002"]


@pytest.mark.parametrize(("text", "expected"), [("10.1.0.0/16", []), ("10.1.0.0/33", ["survival.E003"])])
def test_networks_of_the_heartbeat(settings, text, expected):
    settings.HEARTBEAT_NETWORKS = [text]
    assert ids(checks.check_heartbeat()) == expected
