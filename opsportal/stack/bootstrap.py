"""Makes the virtual environment and the system packages that tests want. Plain Python, before anything is installed.

    python3 opsportal/stack/bootstrap.py .venv requirements.txt [--system-packages]

Calls pip only when a requirements file (or what it includes) has changed since the last time.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
# Programs that some tests drive, and the Debian packages that bring them.
SYSTEM_PACKAGES = {
    "age": "age",
    "sqlite3": "sqlite3",
    "zstd": "zstd",
    "chromium": "chromium",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "dockerd": "docker.io",
    "kubectl": "kubernetes-client",
    "docker-compose": "docker-compose",
    "systemd-analyze": "systemd",
    "nginx": "nginx",
}


def main(argv: list[str]) -> int:
    """Exit code; everything that goes wrong is one sentence on stderr."""
    flags = [a for a in argv if a.startswith("--")]
    place, requirements = [CHECKOUT / a for a in argv if not a.startswith("--")]
    if sys.version_info[:2] != (3, 11):
        return _fail(f"The portal needs Python 3.11; this is {sys.version.split()[0]}. Use make PYTHON=python3.11 ...")
    lock = os.open(CHECKOUT, os.O_RDONLY)  # two first starts side by side must not build it both
    fcntl.flock(lock, fcntl.LOCK_EX)
    wanted = _digest(requirements)
    stamp = place / "installed" / f"{requirements.stem}.sha256"
    if not (stamp.exists() and stamp.read_text() == wanted and _runs(place / "bin" / "python")):
        if problem := _install(place, requirements):
            return _fail(problem)
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(wanted)
    if "--system-packages" in flags:
        _install_system_packages()
    return 0


def _digest(requirements: Path) -> str:
    """Hash of a requirements file, of those it includes, and of the constraints."""
    parts = hashlib.sha256(sys.version.encode())
    seen: list[Path] = []
    todo = [requirements]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.append(path)
        text = path.read_text()
        parts.update(text.encode())
        for line in text.splitlines():
            if line.startswith(("-r ", "-c ")):
                todo.append(path.parent / line[3:].strip())
    return parts.hexdigest()


def _runs(python: Path) -> bool:
    return _succeeds([str(python), "-c", ""])


def _succeeds(argv: list[str]) -> bool:
    try:
        return subprocess.run(argv, capture_output=True).returncode == 0
    except OSError:
        return False


def _install(place: Path, requirements: Path) -> str | None:
    """Make the environment if need be and install into it; what went wrong, or None."""
    python = place / "bin" / "python"
    if not _runs_pip(python) and not (_runs(python) and _outside_pip(python)):
        print(f"Making {place.name} ...", flush=True)
        if problem := _make_environment(place):
            return problem
    print(f"Installing {requirements.name} ...", flush=True)
    pip = [str(python), "-m", "pip"] if _runs_pip(python) else _outside_pip(python)
    if pip is None:
        return f"{place} has no pip. Remove that folder and run make again."
    done = subprocess.run(
        [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r", str(requirements)], cwd=CHECKOUT
    )
    return None if done.returncode == 0 else "pip could not install the requirements; its messages are above."


def _make_environment(place: Path) -> str | None:
    python = place / "bin" / "python"
    kind = ["--clear"] if _has_ensurepip() else ["--clear", "--without-pip"]
    if "--without-pip" in kind and _outside_pip(python) is None:
        # Debian splits the part of Python that makes environments into a package of its own.
        if os.geteuid() != 0 or not _apt_install(["python3-venv"]):
            return "Python cannot make virtual environments here. As root: apt-get install python3-venv; then again."
        kind = ["--clear"]
    done = subprocess.run([sys.executable, "-m", "venv", *kind, str(place)])
    return None if done.returncode == 0 else f"The virtual environment could not be made in {place}; see above."


def _has_ensurepip() -> bool:
    return _succeeds([sys.executable, "-m", "ensurepip", "--version"])


def _runs_pip(python: Path) -> bool:
    return _succeeds([str(python), "-m", "pip", "--version"])


def _outside_pip(python: Path) -> list[str] | None:
    """The system's pip, working on our environment instead of on the system."""
    return [sys.executable, "-m", "pip", "--python", str(python)] if _runs_pip(Path(sys.executable)) else None


def _install_system_packages() -> None:
    """As root, add what is missing; tests that need it say so when it stays missing."""
    missing = sorted({package for program, package in SYSTEM_PACKAGES.items() if not _which(program)})
    if missing and os.geteuid() == 0:
        _apt_install(missing)


def _which(program: str) -> str | None:
    """Where it is; servers lie where an ordinary user's PATH does not lead."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _apt_install(packages: list[str]) -> bool:
    if not shutil.which("apt-get"):
        return False
    print(f"Installing the Debian packages {' '.join(packages)} ...", flush=True)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    done = subprocess.run(install, env=env, capture_output=True, text=True)
    if done.returncode != 0:  # the package lists may be missing or old
        subprocess.run(["apt-get", "update", "-qq"], env=env, capture_output=True)
        done = subprocess.run(install, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr.strip(), file=sys.stderr)
    return done.returncode == 0


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
