"""What was loaded against what was dumped, for every engine."""

from __future__ import annotations

from backups.exceptions import BackupError
from backups.manifest import Manifest, TableFacts


def differences(manifest: Manifest, measured: dict[str, TableFacts], *, fingerprints: bool = True) -> list[str]:
    """As sentences. Raises ``BackupError`` when nothing was measured although the archive has tables."""
    expected = {table.key: table for table in manifest.tables}
    if expected and not measured:
        raise BackupError(
            "There was nothing to compare: no table was measured. The restored database is empty; do not use it."
        )
    found = [f"Table {name} is missing." for name in sorted(expected.keys() - measured.keys())]
    found += [f"Table {name} is not in the archive." for name in sorted(measured.keys() - expected.keys())]
    for name in sorted(expected.keys() & measured.keys()):
        was, now = expected[name], measured[name]
        if was.rows != now.rows:
            found.append(f"Table {name} has {now.rows} rows instead of {was.rows}.")
        elif fingerprints and None not in (was.fingerprint, now.fingerprint) and was.fingerprint != now.fingerprint:
            found.append(f"Table {name} has the right number of rows, but other contents.")
    return found
