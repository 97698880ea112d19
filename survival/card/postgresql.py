"""Checking and restoring an archive of PostgreSQL by hand, with stock tools only."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from backups.models import Archive

_LIST = (
    'python3 -c \'import json; [print(f["sha256"] + "  " + f["path"]) '
    'for f in json.load(open("manifest.json"))["files"]]\''
)


def copy_and_check(archive: Archive, folder: str) -> tuple[str, str]:
    """The beginning, which is the same for every engine."""
    return (
        "Copy it and check every file. Both checks must say OK.",
        f"cp -r {shlex.quote(folder)} ./archive && cd ./archive\n"
        f"echo '{archive.sha256}  manifest.json' | sha256sum --check\n"
        f"{_LIST} | sha256sum --check --quiet && echo OK",
    )


def commands(archive: Archive, folder: str) -> Iterator[tuple[str, str]]:
    """Sentence and shell text, in order. They work on a copy; PGHOST, PGUSER and so on say where the server is.

    `archive.owner` is the role that owned the database, out of its manifest.
    """
    database = archive.target.database
    fresh = f"{database}_from_archive"
    owner = str(getattr(archive, "owner", None) or "")
    yield copy_and_check(archive, folder)
    yield (
        "Unpack it and load it beside the live database. Roles it needs are in globals.sql.",
        "find . -name '*.zst' -exec zstd --decompress --rm --quiet {} +\n"
        f"createdb --template=template0{f' --owner={shlex.quote(owner)}' if owner else ''} {shlex.quote(fresh)}\n"
        f"pg_restore --format=directory --jobs=2 --exit-on-error --dbname={shlex.quote(fresh)} .",
    )
    yield (
        f"Stop the application, then let it take the place of {database}.",
        "psql -d postgres -v ON_ERROR_STOP=1 <<'SQL'\n"
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity\n"
        f" WHERE datname IN ({_text(database)}, {_text(fresh)}) AND pid <> pg_backend_pid();\n"
        "BEGIN;\n"
        f"ALTER DATABASE {_name(database)} RENAME TO {_name(f'{database}_before')};\n"
        f"ALTER DATABASE {_name(fresh)} RENAME TO {_name(database)};\n"
        "COMMIT;\nSQL",
    )


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
