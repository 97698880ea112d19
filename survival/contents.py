"""What a backup of the portal holds: the database, the secrets the portal made, passwords of targets, the way back."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings

from survival.exceptions import CopyDamaged, SurvivalError
from survival.keys import SECRET_PREFIX
from survival.recovery import NAME as RECOVERY
from survival.recovery import text as recovery_text

DUMP = "portal.dump"
MANIFEST = "manifest.json"
LARGEST_SECRET = 64 * 1024
READ_BYTES = 1024 * 1024
FORMAT = 1


@dataclass
class Contents:
    """Small files by their path in the archive, and what had to be left out, with the reason."""

    files: dict[str, bytes] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def gather() -> Contents:
    """Read the secrets that have to come back with the database. The key of the backups is never among them."""
    found = Contents()
    data = Path(settings.DATA_DIR)
    _take_folder(found, data / "secrets", "secrets")
    found.files.setdefault("secrets/django-secret-key", settings.SECRET_KEY.encode())
    if settings.SECRET_KEY_FALLBACKS:
        found.files["secrets/django-secret-key-fallbacks"] = ",".join(settings.SECRET_KEY_FALLBACKS).encode()
    for folder in settings.SECRET_DIRS:
        if folder.is_relative_to(data):
            _take_folder(found, folder, str(folder.relative_to(data)))
        elif folder.is_dir():
            found.left_out.append(f"{folder}: it is not below DATA_DIR; bring it back from where you keep it.")
    return found


def _take_folder(found: Contents, folder: Path, inside: str) -> None:
    for base, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(base) / name
            member = f"{inside}/{path.relative_to(folder)}"
            try:
                if not stat.S_ISREG(path.stat().st_mode) or path.stat().st_size > LARGEST_SECRET:
                    found.left_out.append(f"{member}: not a regular file of at most {LARGEST_SECRET} bytes.")
                    continue
                content = path.read_bytes()
            except OSError as error:
                raise SurvivalError(f"{path} cannot be read ({error.strerror}). Correct its owner or mode.") from error
            if SECRET_PREFIX.encode() in content:
                found.left_out.append(f"{member}: it holds an age identity, which is kept apart.")
            else:
                found.files[member] = content


def write(target: BinaryIO, dump: Path, contents: Contents, facts: dict[str, Any], made_at: datetime) -> None:
    """Write the tar archive: small files first, then the dump, then the manifest with the SHA-256 of each."""
    listed: list[dict[str, Any]] = []
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, size: int, source: BinaryIO, digest: str) -> None:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = size, 0o600, int(made_at.timestamp())
            tar.addfile(member, source)
            listed.append({"path": name, "size": size, "sha256": digest})

        for folder in sorted({str(Path(name).parent) for name in contents.files}):
            member = tarfile.TarInfo(folder)
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o700, int(made_at.timestamp())
            tar.addfile(member)
        for name, content in {RECOVERY: recovery_text().encode(), **contents.files}.items():
            add(name, len(content), io.BytesIO(content), hashlib.sha256(content).hexdigest())
        digest = hashlib.sha256()
        with dump.open("rb") as file:
            while piece := file.read(READ_BYTES):
                digest.update(piece)
            size = file.tell()
            file.seek(0)
            add(DUMP, size, file, digest.hexdigest())
        manifest = {
            "format": FORMAT,
            "made_at": made_at.isoformat(timespec="seconds"),
            **facts,
            "left_out": contents.left_out,
            "files": list(listed),
        }
        text = json.dumps(manifest, indent=1).encode()
        add(MANIFEST, len(text), io.BytesIO(text), "")


def read_through(source: BinaryIO, dump: Path, check: Callable[[], None]) -> dict[str, Any]:
    """Read a tar archive to its end, compare every file with the manifest, and put the dump into `dump`.

    Returns the manifest. Raises CopyDamaged.
    """
    found: dict[str, tuple[int, str]] = {}
    manifest: dict[str, Any] | None = None
    try:
        with tarfile.open(fileobj=source, mode="r:") as tar:
            for member in tar:
                check()
                if member.isdir():
                    continue
                reader = tar.extractfile(member)
                if reader is None:
                    raise CopyDamaged(f"{member.name} in the backup is not a file. Back up the portal again.")
                if member.name == MANIFEST:
                    manifest = json.loads(reader.read())
                    continue
                with dump.open("wb") if member.name == DUMP else io.BytesIO() as keep:
                    found[member.name] = _copied(reader, keep)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise CopyDamaged(f"The backup's contents cannot be read ({error}). Back up the portal again.") from error
    if manifest is None or DUMP not in found:
        raise CopyDamaged("The backup lacks its manifest or the dump. Back up the portal again.")
    listed = {entry["path"]: (entry["size"], entry["sha256"]) for entry in manifest["files"]}
    if listed != found:
        wrong = sorted({name for name in {*listed, *found} if listed.get(name) != found.get(name)})
        raise CopyDamaged(f"In the backup these differ from its manifest: {', '.join(wrong)[:300]}. Back up again.")
    return manifest


def _copied(source: Any, target: Any) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    for piece in _pieces(source):
        digest.update(piece)
        size += len(piece)
        target.write(piece)
    return size, digest.hexdigest()


def _pieces(source: Any) -> Iterator[bytes]:
    while piece := source.read(READ_BYTES):
        yield piece
