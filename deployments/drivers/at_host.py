"""Runs on the host of an application: a few things at once, under a lock and behind a fence. Standard library only.

It is sent by `deployments.drivers.hosts` as the standard input of `python3 -I -`, with the request behind it, so
neither a secret nor a version is ever an argument. Works with Python 3.8 and later.

The fence is a file with the latest token (operation, attempt) that has acted here. Whoever acts holds the lock beside
it until its commands have ended; an earlier token is refused. Standard output is one JSON object; what commands say
while they act goes to standard error as it comes.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

KEPT_BYTES = 1 << 16
SMALL_BYTES = 1 << 16
ANSWER_BYTES = 60_000  # whoever reads the answer keeps so much of it


class Trouble(Exception):
    """Nothing was done; the message is a sentence."""


def replace(path: str, text: str, mode: int) -> None:
    """The whole file by rename, durable; it keeps the mode and the owner it had."""
    path = os.path.realpath(path)
    fresh = f"{path}.ops-{os.getpid()}"
    try:
        had = os.stat(path)
    except FileNotFoundError:
        had = None
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            os.fchmod(descriptor, stat.S_IMODE(had.st_mode) if had else mode)
            if had and os.geteuid() == 0:
                os.fchown(descriptor, had.st_uid, had.st_gid)
            file.flush()
            os.fsync(descriptor)
        os.rename(fresh, path)
    except OSError as error:
        raise Trouble(f"{path} cannot be written: {error.strerror}. Check the permissions of its folder.") from error


def read(path: str, most: int = -1) -> str | None:
    """A file as text, at most so many characters; None when there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(most)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Trouble(f"{path} cannot be read: {error.strerror}. Check its permissions.") from error


def name_in(line: str) -> str:
    """Which variable a line of an environment file sets."""
    name = line.partition("=")[0].strip()
    return name[len("export ") :].strip() if name.startswith("export ") else name


def set_variables(path: str, values: dict[str, str | None], defaults: dict[str, str]) -> None:
    """Lines NAME='value' of an environment file; None takes the line away. All other lines stay as they are.

    `defaults` are set only where the file says nothing of them.
    """
    lines = (read(path) or "").splitlines()
    there = {name_in(line) for line in lines}
    values = {**{name: value for name, value in defaults.items() if name not in there}, **values}
    kept = [line for line in lines if name_in(line) not in values]
    kept += [f"{name}='{value}'" for name, value in values.items() if value is not None]
    replace(path, "".join(f"{line}\n" for line in kept), 0o600)


class Fence:
    """The lock, and beside it the latest token and what drivers noted."""

    def __init__(self, path: str) -> None:
        self.path, self.state = path, f"{path}.json"
        self.lock = -1

    def known(self) -> dict[str, Any]:
        text = read(self.state)
        try:
            return {"token": [0, 0], "notes": {}, **json.loads(text or "{}")}
        except ValueError:
            raise Trouble(f"{self.state} is damaged. See that nothing is under way there, then remove it.") from None

    def enter(self, token: list[int], wait_s: float) -> list[int] | None:
        """Take the lock. Returns the later token that forbids it, or None."""
        try:
            self.lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Trouble(f"{self.path} cannot be opened: {error.strerror}. Check the permissions there.") from error
        give_up = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > give_up:
                    raise Trouble("An earlier attempt is still at work there. Wait until it has ended.") from None
                time.sleep(0.1)
        known = self.known()
        if known["token"] > token:
            return list(known["token"])
        self.keep(token, {})
        return None

    def keep(self, token: list[int], notes: dict[str, Any]) -> None:
        text = json.dumps({"token": token, "notes": {**self.known()["notes"], **notes}}, sort_keys=True)
        replace(self.state, text, 0o600)


def carry(argv: list[str], request: dict[str, Any]) -> dict[str, Any]:
    """Run one command to its end, or to the limit. It is in a session of its own, as at a terminal."""
    environment = {**os.environ, **request.get("env", {})}
    said = {"out": bytearray(), "err": bytearray()}
    loud = request.get("token") is not None
    try:
        process = subprocess.Popen(
            argv,
            env=environment,
            cwd=request.get("cwd") or None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return {"code": 127, "out": "", "err": f"{argv[0]} could not be started: {reason}"}

    def end(*_: object) -> None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def stop(*_: object) -> None:
        end()
        os._exit(143)

    def take(name: str, stream: Any) -> None:
        while True:
            data = os.read(stream.fileno(), 65536)
            if not data:
                return
            said[name] += data
            del said[name][:-KEPT_BYTES]
            if loud:
                sys.stderr.buffer.write(data)
                sys.stderr.buffer.flush()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    pairs = (("out", process.stdout), ("err", process.stderr))
    readers = [threading.Thread(target=take, args=pair, daemon=True) for pair in pairs]
    for reader in readers:
        reader.start()
    late = False
    try:
        code = process.wait(request.get("limit_s", 60))
    except subprocess.TimeoutExpired:
        late = True
        end()
        code = process.wait()
    for reader in readers:
        reader.join(1)  # what it left running may hold the streams for ever
    code = 128 - code if code < 0 else code
    out, err = (bytes(said[name]).decode("utf-8", "replace") for name in ("out", "err"))
    return {"code": code, "out": out, "err": err, "late": late}


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def ask(url: str, limit_s: float) -> dict[str, Any]:
    """One GET, past every proxy and without following anything: code (0: no answer), milliseconds, what went wrong."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirects)
    began = time.monotonic()
    problem = ""
    try:
        with opener.open(url, timeout=limit_s) as response:
            response.read(SMALL_BYTES)
            code = response.status
    except urllib.error.HTTPError as error:
        code = error.code
        error.close()
    except (OSError, ValueError) as error:
        code, problem = 0, str(getattr(error, "reason", error))
    except Exception as error:  # an answer that is no HTTP has many shapes
        code, problem = 0, f"{type(error).__name__}: {error}"
    return {"url": url, "code": code, "ms": 1000 * (time.monotonic() - began), "problem": problem}


def examine(path: str) -> dict[str, Any]:
    kind = "folder" if os.path.isdir(path) else "file" if os.path.isfile(path) else ""
    return {"kind": kind, "reads": os.access(path, os.R_OK), "runs": os.access(path, os.X_OK)}


def connections(port: int) -> int:
    """Open TCP connections to or from a port, as this host sees them."""
    count, wanted = 0, f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in (read(table) or "").splitlines()[1:]:
            words = line.split()
            count += words[3] == "01" and (words[1].endswith(wanted) or words[2].endswith(wanted))
    return count


def look(request: dict[str, Any], answer: dict[str, Any]) -> None:
    """All that changes nothing."""
    answer["read"] = {path: read(path, SMALL_BYTES) for path in request.get("read", ())}
    answer["paths"] = {path: examine(path) for path in request.get("examine", ())}
    answer["connections"] = {str(port): connections(port) for port in request.get("connections", ())}
    answer["answers"] = []
    for url, port_file in request.get("ask", ()):
        port = (read(port_file, 100) or "").strip() if port_file else ""
        if "{port}" in url and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            answer["answers"].append({"url": url, "code": 0, "ms": 0, "problem": f"{port_file} names no port"})
        else:
            answer["answers"].append(ask(url.replace("{port}", port), request.get("ask_limit_s", 3)))


def act(request: dict[str, Any], fence: Fence, answer: dict[str, Any]) -> None:
    """All that changes something: behind the fence, in this order, up to the first command that fails."""
    token = list(request["token"])
    answer["fenced"] = fence.enter(token, request.get("wait_s", 20))
    if answer["fenced"]:
        return
    fence.keep(token, request.get("notes", {}))
    for path, values in request.get("variables", {}).items():
        set_variables(path, values, request.get("defaults", {}))
    for path, text in request.get("files", {}).items():
        replace(path, text, 0o644)


def fitted(answer: dict[str, Any]) -> str:
    """The answer as JSON; where it is too long, only the ends of what commands said."""
    length = KEPT_BYTES
    while len(text := json.dumps(answer)) > ANSWER_BYTES and length > 100:
        length //= 2
        for said in answer["commands"]:
            said["out"], said["err"] = said["out"][-length:], said["err"][-length:]
    return text


def main(request: dict[str, Any]) -> None:
    answer: dict[str, Any] = {"fenced": None, "trouble": "", "commands": [], "notes": {}}
    try:
        fence = Fence(request["fence"])
        if request.get("token") is not None:
            act(request, fence, answer)
        if not answer["fenced"]:
            for argv in request.get("commands", ()):
                answer["commands"].append(carry(argv, request))
                if answer["commands"][-1]["code"] and not request.get("all"):
                    break
            look(request, answer)
        answer["notes"] = fence.known()["notes"]
    except Trouble as trouble:
        answer["trouble"] = str(trouble)
    sys.stdout.write(fitted(answer))
    sys.stdout.flush()
