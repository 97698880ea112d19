"""The second place: a folder with one sealed file a backup, and beside it what can be read without the key."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from survival.exceptions import CopyDamaged, SurvivalError

SUFFIX = ".tar.age"
READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Label:
    """What stands in NAME.tar.age.json beside the sealed file. Nothing in it is secret."""

    name: str
    made_at: str
    size_bytes: int
    sha256: str
    recipient: str
    portal_version: str

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.made_at)


class Place:
    """The folder. Every method may raise SurvivalError with a sentence."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self, *, make: bool) -> None:
        """See that it can be written. Made only where nobody chose it: a chosen one may be unmounted."""
        if make:
            with _said(self.folder):
                self.folder.mkdir(mode=0o700, exist_ok=True)
        if not self.folder.is_dir():
            raise SurvivalError(
                f"The second place {self.folder} does not exist. Create the folder, mount the disk it is on, or "
                "correct PORTAL_BACKUP_DIR."
            )
        probe = self.folder / f".probe-{os.getpid()}"
        with _said(self.folder):
            probe.write_bytes(b"")
            probe.unlink()

    def free_bytes(self) -> int:
        with _said(self.folder):
            found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def partial(self, operation: int, attempt: int) -> Path:
        """Where an attempt writes; hidden, and those of earlier attempts are removed."""
        for old in self.folder.glob(f".partial-op{operation}-a*"):
            old.unlink(missing_ok=True)
        return self.folder / f".partial-op{operation}-a{attempt}"

    def discard(self, operation: int) -> None:
        for old in self.folder.glob(f".partial-op{operation}-a*"):
            old.unlink(missing_ok=True)

    def publish(self, partial: Path, moment: datetime, recipient: str, version: str) -> Label:
        """Give the file its name, in one step, over nothing that is there."""
        with _said(self.folder):
            size, digest = measure(partial)
            for number in range(1, 100):
                name = f"portal-{moment:%Y%m%dT%H%M%SZ}{f'-{number}' if number > 1 else ''}{SUFFIX}"
                if _named(partial, self.folder / name):
                    break
            else:
                raise SurvivalError(f"There are a hundred backups of one second in {self.folder}. Look what is wrong.")
            label = Label(name, moment.isoformat(timespec="seconds"), size, digest, recipient, version)
            write_whole(self.folder / f"{name}.json", json.dumps(asdict(label), indent=1).encode())
            _flush_folder(self.folder)
        return label

    def labels(self) -> Iterator[Label]:
        """Every backup that lies here whole, by its label; a label that cannot be read is passed over."""
        for path in sorted(self.folder.glob(f"portal-*{SUFFIX}.json")):
            try:
                label = Label(**json.loads(path.read_text()))
                if (
                    label.name == path.name.removesuffix(".json")
                    and label.moment
                    and (self.folder / label.name).exists()
                ):
                    yield label
            except (OSError, TypeError, ValueError):
                continue

    def remove(self, name: str) -> None:
        with _said(self.folder):
            (self.folder / name).unlink(missing_ok=True)
            (self.folder / f"{name}.json").unlink(missing_ok=True)

    def check(self, name: str, size_bytes: int, sha256: str) -> Path:
        """The file, after every byte was compared with its checksum. Raises CopyDamaged."""
        path = self.folder / name
        if not path.is_file():
            raise CopyDamaged(f"{path} is gone. Mount the disk it was on, or back up the portal again.")
        with _said(self.folder):
            if measure(path) != (size_bytes, sha256):
                raise CopyDamaged(f"{path} is not what was written: its SHA-256 is another. Back up the portal again.")
        return path


def _named(partial: Path, final: Path) -> bool:
    """Give a file its name over nothing that is there; False when the name is taken."""
    try:
        os.link(partial, final)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if final.exists():
            return False
        partial.rename(final)
    partial.unlink(missing_ok=True)
    return True


def measure(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file in one step: a reader sees the old one or the new one, after a power cut too."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask is
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def _said(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SurvivalError(
            f"The second place {folder} cannot be used: {error.strerror or error}. Look at its owner, mode and space."
        ) from error
