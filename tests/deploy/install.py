"""An installed portal: the checkout's files under another path, with programs that the portal's account can run."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

from opsportal.stack.identity import Account

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = ("gunicorn", "celery")


def install(place: Path, account: Account) -> Account:
    """Fill `place`, which stands for /opt/opsportal. Returns the account: root itself where nobody else can run it."""
    place.mkdir(mode=0o755)
    for entry in CHECKOUT.iterdir():
        if entry.name not in (".venv", ".git", "var"):
            (place / entry.name).symlink_to(entry)
    own = CHECKOUT / ".venv"
    if account.try_run([str(own / "bin" / "python"), "-c", "import django"]) is None:
        (place / ".venv").symlink_to(own)
        return account
    # The environment hangs on a Python in somebody's closed home; the system's runs the same packages.
    other = shutil.which("python3.11", path="/usr/local/bin:/usr/bin")
    if other and _environment(Path(other), place / ".venv", account):
        return account
    shutil.rmtree(place / ".venv", ignore_errors=True)
    (place / ".venv").symlink_to(own)
    return replace(account, uid=0, gid=0, dropped=False)


def _environment(python: Path, place: Path, account: Account) -> bool:
    if subprocess.run([str(python), "-m", "venv", "--without-pip", str(place)], capture_output=True).returncode != 0:
        return False
    packages = place / "lib" / "python3.11" / "site-packages"
    (packages / "portal.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    for name in PROGRAMS:
        script = (CHECKOUT / ".venv" / "bin" / name).read_text().splitlines(keepends=True)
        (place / "bin" / name).write_text("".join([f"#!{place}/bin/python\n", *script[1:]]))
        (place / "bin" / name).chmod(0o755)
    return account.try_run([str(place / "bin" / "python"), "-c", "import django, redis"]) is None
