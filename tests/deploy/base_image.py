"""The Dockerfile's base image, made of this machine's own Debian packages: nothing is downloaded.

It has what `python:3.11-slim-bookworm` has and the Dockerfile uses: the essential packages, apt, and Python 3.11 with
venv. Its apt knows an empty repository, so installing what is there already works without a network.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from pathlib import Path

BASE = "python:3.11-slim-bookworm"
PACKAGES = ("apt", "ca-certificates", "openssh-client", "passwd", "python3.11", "python3.11-venv")
NAME = re.compile(r"(?:^|[,|] ?)([a-z0-9][a-z0-9.+-]+)")
MERGED = re.compile("^/(bin|lib|lib64|sbin)(?=/|$)")
SOURCE = "deb [trusted=yes] file:/var/local/empty ./\n"


def packages() -> set[str]:
    """The essential packages, ours, and all that these depend on and that is installed."""
    form = "${Package}\t${Essential}\t${Depends}, ${Pre-Depends}\t${Provides}\t${db:Status-Status}\n"
    listed = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout
    rows = [row for line in listed.splitlines() if (row := line.split("\t"))[4] == "installed"]
    needs = {name: NAME.findall(depends) for name, _, depends, _, _ in rows}
    providers = {virtual: name for name, _, _, provides, _ in rows for virtual in NAME.findall(provides)}
    todo = [*PACKAGES, *(name for name, essential, *_ in rows if essential == "yes")]
    found: set[str] = set()
    while todo:
        name = todo.pop()
        name = name if name in needs else providers.get(name, "")
        if name and name not in found:
            found.add(name)
            todo += needs[name]
    return found


def write(place: Path) -> None:
    """A tar of the image's files, for `docker import`."""
    chosen = packages()
    listed = subprocess.run(["dpkg", "-L", *chosen], capture_output=True, text=True, check=True).stdout
    paths = {MERGED.sub(r"/usr/\1", line) for line in listed.splitlines() if line.startswith("/") and line != "/."}
    skip = ("/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/info")
    with tarfile.open(place, "w") as tar:
        for name in ("bin", "lib", "lib64", "sbin"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(entry)
        for path in sorted(paths):
            if not path.startswith(skip) and (Path(path).is_symlink() or Path(path).exists()):
                tar.add(path, arcname=path[1:], recursive=False)
        for name, text in _texts(chosen).items():
            entry = tarfile.TarInfo(name)
            data = text.encode()
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))


def _texts(chosen: set[str]) -> dict[str, str]:
    """What the packages' own scripts would have written."""
    masters = Path("/usr/share/base-passwd")
    status = Path("/var/lib/dpkg/status").read_text().split("\n\n")
    kept = [part for part in status if part.partition("\n")[0].removeprefix("Package: ") in chosen]
    return {
        "etc/passwd": (masters / "passwd.master").read_text().replace(":*:", ":x:"),
        "etc/group": (masters / "group.master").read_text().replace(":*:", ":x:"),
        "etc/apt/sources.list": SOURCE,
        "var/local/empty/Packages": "",
        "var/lib/dpkg/status": "\n\n".join(kept) + "\n",
    }
