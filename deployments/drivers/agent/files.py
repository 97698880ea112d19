"""Files: written whole, read, counted, unpacked."""

import hashlib
import json
import os
import shutil
import stat


class Trouble(Exception):
    """A sentence for a person. `kind`: refused, fenced or not_ready."""

    def __init__(self, sentence, kind="refused"):
        super().__init__(sentence)
        self.sentence, self.kind = sentence, kind


def write_whole(path, text, mode=None):
    """Replace a file so that whoever reads it sees the old text or the new one, also after a crash."""
    scratch = f"{path}.new"
    with open(scratch, "w") as file:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def read_json(path):
    try:
        with open(path) as file:
            value = json.load(file)
        return value if isinstance(value, dict) else {}
    except (OSError, ValueError):
        return {}


def file_sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def walk(folder):
    """Every regular file below the folder as (relative path, whole path), sorted. Anything else raises Trouble."""
    found = []
    for base, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(base, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                found.append((os.path.relpath(path, folder), path))
            elif not stat.S_ISDIR(mode):
                raise Trouble(f"{path} is neither a file nor a folder. A release has no links and no devices.")
    return sorted(found)


def checksum_of(path):
    """`sha256:` of a file, or of a folder: SHA-256 over one line a file, sorted by path,
    `<sha256 of the content> <x or -> <path>` with a line end, x for a file that its owner may execute."""
    if not os.path.isdir(path):
        return f"sha256:{file_sha256(path)}"
    digest = hashlib.sha256()
    for name, whole in walk(path):
        executable = "x" if os.stat(whole).st_mode & stat.S_IXUSR else "-"
        digest.update(f"{file_sha256(whole)} {executable} {name}\n".encode("utf-8", "surrogateescape"))
    return f"sha256:{digest.hexdigest()}"


def size_of(path):
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(whole) for _, whole in walk(path))


def copy_folder(source, target):
    os.makedirs(target)
    for name, whole in walk(source):
        place = os.path.join(target, name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        shutil.copy2(whole, place, follow_symlinks=False)


def unpack(source, target):
    """A tar (plain or compressed) or zip. Only files and folders, only below the target."""
    import tarfile  # here, for every other request would wait for them to load
    import zipfile

    os.makedirs(target)
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    put(target, member.filename, archive.open(member), bool(member.external_attr >> 16 & 0o100))
        return
    try:
        with tarfile.open(source) as archive:
            for entry in archive:
                if entry.isreg():
                    put(target, entry.name, archive.extractfile(entry), bool(entry.mode & 0o100))
                elif not entry.isdir():
                    raise Trouble(f"{source} holds {entry.name}, which is neither a file nor a folder.")
    except tarfile.TarError as error:
        raise Trouble(f"{source} cannot be unpacked ({error}). Give a tar or a zip file.") from None


def put(target, name, content, executable):
    parts = name.replace("\\", "/").split("/")
    if name.startswith("/") or ".." in parts:
        raise Trouble(f"The archive holds a file “{name}”, which leads out of its folder.")
    place = os.path.join(target, *[part for part in parts if part not in ("", ".")])
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with content, open(place, "xb") as file:
        shutil.copyfileobj(content, file)
    os.chmod(place, 0o755 if executable else 0o644)
