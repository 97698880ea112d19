"""What a person looks at first when archives cannot be written: space, inodes, owners, who we are."""

from __future__ import annotations

from pathlib import Path

from operations.commands import Command, run
from operations.exceptions import CommandFailed


def diagnostics(folder: Path) -> str:
    """What df says, and owner and mode of the folder and those above it. Never fails."""
    above = [str(path) for path in (folder, *folder.parents) if path.exists()]
    texts = []
    for argv in (("df", "-h", *above[:1]), ("df", "-i", *above[:1]), ("ls", "-ld", *above), ("id",)):
        try:
            result = run(Command(argv, timeout_s=10))
        except CommandFailed as error:
            texts.append(error.message)
            continue
        texts.append(f"$ {' '.join(argv)}\n{result.stdout.decode('utf-8', 'replace')}{result.stderr}".rstrip())
    return "\n".join(texts)
