"""Checking and restoring an archive of SQLite by hand, with stock tools only."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from backups.models import Archive
from survival.card.postgresql import copy_and_check


def commands(archive: Archive, folder: str) -> Iterator[tuple[str, str]]:
    """Sentence and shell text, in order. They work on a copy, on the machine where the database lives."""
    live = shlex.quote(archive.target.address)
    yield copy_and_check(archive, folder)
    yield (
        "Unpack it and let SQLite check it. It must say ok.",
        "zstd --decompress --rm --quiet database.sqlite.zst\nsqlite3 database.sqlite 'PRAGMA integrity_check'",
    )
    yield (
        "Stop the application, then let it take the place of the live file. Give it the owner and mode of that.",
        "( set -e\n"
        f"live={live}\n"
        'cp database.sqlite "$live.new"\n'
        'if [ -e "$live" ]; then chown --reference="$live" "$live.new"; chmod --reference="$live" "$live.new"; fi\n'
        'for suffix in -wal -shm -journal ""; do\n'
        '    if [ -e "$live$suffix" ]; then mv "$live$suffix" "$live.before$suffix"; fi\n'
        "done\n"
        'mv "$live.new" "$live" )',
    )
