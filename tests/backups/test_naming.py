"""Archive names: the teams' patterns work, and none leads out of its folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.exceptions import BackupError
from backups.naming import archive_name, check_folder, check_name, validate_pattern

AT = datetime(2026, 7, 5, 22, 30, 15, tzinfo=UTC)
ZURICH = ZoneInfo("Europe/Zurich")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("erp_backup_%Y-%m-%d_%H00", "erp_backup_2026-07-06_0000"),
        ("backup-daily-%Y%m%d", "backup-daily-20260706"),
        ("backup-weekly-%Y%m-%U", "backup-weekly-202607-27"),
        ("emergency_backup_%Y%m%d_%H%M%S", "emergency_backup_20260706_003015"),
        ("100%%-%j", "100%-187"),
        ("Sicherung für %A %F", "Sicherung für Monday 2026-07-06"),
        ("a  b %y", "a  b 26"),
    ],
)
def test_patterns_of_the_teams(pattern, name):
    validate_pattern(pattern)
    assert archive_name(pattern, AT, ZURICH) == name


@pytest.mark.parametrize("pattern", ["backup", "backup-%%Y", "backup-%H%M%S", ""])
def test_a_pattern_without_a_date_is_refused(pattern):
    with pytest.raises(BackupError, match="same name. Add a date"):
        validate_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("../%Y", "leads into another folder"),
        ("%Y/%m", "leads into another folder"),
        ("%Y\\%m", "leads into another folder"),
        ("..%Y", "begins with a dot"),
        (".partial-op1-a1%Y", "begins with a dot"),
        ("%Y\n", "cannot be seen"),
        ("a\n%Y", "cannot be seen"),
        ("a\0%Y", "cannot be seen"),
        ("a\u202e%Y", "cannot be seen"),
        ("a\ud800%Y", "cannot be seen"),
        (" %Y", "blank"),
        ("x" * 300 + "%Y", "longer than 200 bytes"),
        ("%Y%D", "%D, which is not known"),
        ("%Y%n", "%n, which is not known"),
        ("%Y%s", "%s, which is not known"),
        ("%Y%", "which is not known"),
        ("%Y%-d", "which is not known"),
    ],
)
def test_a_pattern_that_leads_astray_is_refused(pattern, why):
    with pytest.raises(BackupError, match=why):
        validate_pattern(pattern)


@given(st.text(max_size=30), st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_every_accepted_name_stays_in_its_folder(pattern, at):
    try:
        name = archive_name(pattern, at, UTC)
    except BackupError as error:
        assert str(error).endswith(".")
        return
    path = Path("/backups/erp") / name
    assert path.parent == Path("/backups/erp")
    assert path.name == name
    assert not name.startswith(".")
    assert check_name(name) == name


def test_the_hour_that_comes_twice_gives_the_same_local_name():
    """The storage then adds -2; nothing is overwritten."""
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    second = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    names = {archive_name("b_%Y%m%d_%H%M", at, ZURICH) for at in (first, second)}
    assert names == {"b_20261025_0230"}


@pytest.mark.parametrize("folder", ["/etc", "..", "a/../b", "a//b", "a/", ".hidden", "a\nb", "a/.b", "~\0"])
def test_folders_that_lead_out_are_refused(folder):
    with pytest.raises(BackupError):
        check_folder(folder)


def test_plain_folders():
    assert str(check_folder("erp/production")) == "erp/production"
    assert str(check_folder("")) == "."
