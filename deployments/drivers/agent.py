"""The slot agent: what blue-green does on the host itself. One file, nothing but Python 3.9 and its standard library.

The portal sends this text with a JSON request behind it as the standard input of `python3 -I -`, and reads a JSON
answer: neither a secret nor a version is ever an argument, nothing is installed. All that stays is the folder `root`:

    releases/<version>/        the artefact, brought there whole and checked; releases/<version>.json says with what
    slots/blue, slots/green    state.json (process id, its start time, version, address), out.log
    lock                       held around every change
    fence.json                 the latest token that acted: an earlier one is refused
    active_port, active.sock   what the proxy reads, replaced by rename. It alone says which slot is live

A process is known by its id and its start time, so that no stranger with a used-again id is ever signalled.
"""

import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import stat
import sys
import tarfile
import time
import zipfile

SLOTS = ("blue", "green")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
LOCK_WITHIN_S = 20.0
END_WITHIN_S = 15.0
SLICE_S = 0.8
PROBE_S = 2.0
MARGIN_BYTES = 50 * 1024 * 1024
LOG_TAIL_BYTES = 64 * 1024
SAMPLE_BYTES = 8 * 1024 * 1024
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
COMBINED = re.compile(rb'" (\d{3}) ')


class Trouble(Exception):
    """A sentence for a person. `kind`: refused, fenced or not_ready."""

    def __init__(self, sentence, kind="refused"):
        super().__init__(sentence)
        self.sentence, self.kind = sentence, kind


# -- files -------------------------------------------------------------------------------------------------------------


def write_whole(path, text):
    """Replace a file so that whoever reads it sees the old text or the new one, also after a crash."""
    scratch = f"{path}.new"
    with open(scratch, "w") as file:
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


# -- processes ---------------------------------------------------------------------------------------------------------


def stat_of(pid):
    """(state, session, start time in ticks) of a process; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[3]), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def alive(pid, started):
    found = stat_of(pid)
    return found is not None and found[0] not in "ZX" and found[2] == started


def session_of(leader, started):
    """Processes of the session that the leader began. None at all when its id belongs to somebody else by now."""
    found = stat_of(leader)
    if found is not None and found[2] != started:
        return []
    mine = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            other = stat_of(name)
            if other is not None and other[1] == leader and other[0] not in "ZX":
                mine.append(int(name))
    return mine


def owner_of_port(port):
    """The process that listens on a port, as “nginx (process 12)”; empty when it cannot be seen."""
    inodes = {row[9] for row in connections() if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            for fd in os.listdir(f"/proc/{name}/fd"):
                target = os.readlink(f"/proc/{name}/fd/{fd}")
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    with open(f"/proc/{name}/comm") as file:
                        return f"{file.read().strip()} (process {name})"
        except OSError:
            continue
    return ""


def connections():
    """The lines of the kernel's tables of TCP sockets, split."""
    rows = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                rows += [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue
    return [row for row in rows if len(row) > 9]


# -- the place ---------------------------------------------------------------------------------------------------------


class Place:
    """One environment on this host. `wish` is the request: settings, artefact, token, environment of the program."""

    def __init__(self, wish):
        self.wish = wish
        self.root = wish["root"]
        if not os.path.isabs(self.root) or ".." in self.root.split("/"):
            raise Trouble("The folder of the environment must be an absolute path without “..”.")
        self.by_socket = wish.get("proxy") == "socket_link"
        self.file = wish.get("file") or self.path("active.sock" if self.by_socket else "active_port")
        self.ports = {"blue": wish.get("blue"), "green": wish.get("green")}

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def make(self):
        for slot in SLOTS:
            os.makedirs(self.path("slots", slot), mode=0o755, exist_ok=True)
        os.makedirs(self.path("releases"), mode=0o755, exist_ok=True)

    @contextlib.contextmanager
    def changing(self):
        """The lock, and the fence: whoever comes with an earlier token than one that was here changes nothing."""
        self.make()
        with open(self.path("lock"), "a") as file:
            give_up = time.monotonic() + LOCK_WITHIN_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if error.errno not in (errno.EAGAIN, errno.EACCES):
                        raise
                if time.monotonic() > give_up:
                    raise Trouble(f"Somebody else is changing {self.root}. Try again in a moment.")
                time.sleep(0.02)
            token, seen = list(self.wish["token"]), read_json(self.path("fence.json")).get("token", [0, 0])
            if token < seen:
                raise Trouble("A later attempt has begun to act here; this one changes nothing any more.", "fenced")
            if token > seen:
                write_whole(self.path("fence.json"), json.dumps({"token": token}))
            yield

    # -- slots ---------------------------------------------------------------------------------------------------------

    def address(self, slot):
        return self.path("slots", slot, "app.sock") if self.by_socket else self.ports[slot]

    def shown(self, slot):
        return self.address(slot) if self.by_socket else f"127.0.0.1:{self.ports[slot]}"

    def state(self, slot):
        return read_json(self.path("slots", slot, "state.json"))

    def runs(self, slot):
        known = self.state(slot)
        return bool(known.get("pid")) and alive(known["pid"], known.get("start_time"))

    def live(self):
        """The slot that the proxy's file names; None: it names none of them."""
        try:
            if self.by_socket:
                target = os.path.join(os.path.dirname(self.file), os.readlink(self.file))
                return next((slot for slot in SLOTS if os.path.normpath(target) == self.address(slot)), None)
            with open(self.file) as file:
                said = file.read().strip()
            return next((slot for slot in SLOTS if said == str(self.ports[slot])), None)
        except OSError:
            return None

    def idle(self):
        live = self.live()
        return next(slot for slot in SLOTS if slot != live)

    def slot_with(self, version):
        """The slot that runs this version: one that waits for traffic before the live one."""
        live = self.live()
        mine = [slot for slot in SLOTS if self.state(slot).get("version") == version and self.runs(slot)]
        return next((slot for slot in mine if slot != live), mine[0] if mine else None)

    def ask(self, slot, timeout_s=PROBE_S):
        """One health check: (good, milliseconds, what was wrong)."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("localhost", timeout=timeout_s)
        try:
            if self.by_socket:
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.settimeout(timeout_s)
                connection.sock.connect(self.address(slot))
            else:
                connection.sock = socket.create_connection(("127.0.0.1", self.address(slot)), timeout_s)
            connection.request("GET", self.wish.get("ready_path") or "/", headers={"Connection": "close"})
            answer = connection.getresponse()
            answer.read(65536)
            wrong = "" if answer.status < 400 else f"it answered with {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            wrong = f"it does not answer ({getattr(error, 'strerror', None) or error or type(error).__name__})"
        finally:
            connection.close()
        return not wrong, (time.monotonic() - began) * 1000, wrong

    # -- artefacts -----------------------------------------------------------------------------------------------------

    def release(self, version):
        """What was brought there under this version, when it is whole."""
        known = read_json(self.path("releases", f"{version}.json"))
        return known if known and os.path.isdir(self.path("releases", version)) else {}

    def bring(self, artefact):
        """The artefact in a folder of its own, checked before it gets its name. What is there already is kept."""
        version, wanted = artefact["version"], artefact.get("checksum", "")
        if self.release(version) and (not wanted or self.release(version).get("checksum") == wanted):
            return self.path("releases", version)
        source = artefact.get("source", "")
        if not source:
            raise Trouble(f"{version} is not here any more. Deploy it again from its source.")
        if not os.path.exists(source):
            raise Trouble(f"There is nothing at {source} on this host. Bring the release there, or correct its source.")
        found = checksum_of(source)
        if wanted and found != wanted:
            raise Trouble(f"{source} is not the release that was asked for: its checksum is {found}, not {wanted}.")
        scratch = self.path("releases", f".{version}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            if os.path.isdir(source):
                copy_folder(source, scratch)
            else:
                unpack(source, scratch)
            target = self.path("releases", version)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path("releases", f"{version}.json"))
            shutil.rmtree(target, ignore_errors=True)
            os.rename(scratch, target)
            write_whole(self.path("releases", f"{version}.json"), json.dumps({"checksum": found, "source": source}))
            return target
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    # -- starting and stopping -----------------------------------------------------------------------------------------

    def start(self, slot, version, folder):
        """Start the program in a session of its own. It writes down itself who it is, before it becomes the program:
        whoever dies in between, there is no process without a record."""
        values = {
            "{port}": "" if self.by_socket else str(self.ports[slot]),
            "{socket}": str(self.address(slot)) if self.by_socket else "",
            "{folder}": folder,
            "{version}": version,
            "{slot}": slot,
        }
        argv = []
        for word in self.wish["argv"]:
            for name, value in values.items():
                word = word.replace(name, value)
            argv.append(word)
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment.update(self.wish.get("environment") or {})
        environment.update(self.wish.get("secrets") or {})
        environment.update({"OPS_SLOT": slot, "OPS_VERSION": version})
        log = self.path("slots", slot, "out.log")
        with contextlib.suppress(OSError):
            os.replace(log, f"{log}.1")
        if self.by_socket:
            with contextlib.suppress(OSError):
                os.unlink(self.address(slot))
        checksum = self.release(version).get("checksum", "")
        record = {"version": version, "checksum": checksum, "address": self.shown(slot), "since": time.time()}
        child = os.fork()
        if child == 0:
            become(argv, environment, folder, log, self.path("slots", slot, "state.json"), record)
        give_up = time.monotonic() + 5
        while self.state(slot).get("pid") != child:
            if time.monotonic() > give_up or os.waitpid(child, os.WNOHANG)[0]:
                raise Trouble(f"{argv[0]} could not be started. {' '.join(self.last_lines(slot, 2))}".strip())
            time.sleep(0.005)

    def stop(self, slot):
        """End the slot's program: it is asked to, then made to."""
        known = self.state(slot)
        if not known.get("pid"):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in session_of(known["pid"], known.get("start_time")):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            give_up = time.monotonic() + END_WITHIN_S
            while session_of(known["pid"], known.get("start_time")) and time.monotonic() < give_up:
                reap()
                time.sleep(0.02)
        if session_of(known["pid"], known.get("start_time")):
            raise Trouble(f"The program in the {slot} slot (process {known['pid']}) does not end. End it by hand.")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path("slots", slot, "state.json"))

    def assert_port_free(self, slot):
        if self.by_socket:
            return
        port = self.ports[slot]
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError as error:
                who = owner_of_port(port)
                raise Trouble(
                    f"Port {port} of the {slot} slot cannot be used ({error.strerror})"
                    + (f": {who} has it." if who else ".")
                    + " End that program, or choose another port."
                ) from None

    def last_lines(self, slot, count):
        try:
            with open(self.path("slots", slot, "out.log"), "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        return [line for line in lines if line.strip()][-count:]

    def point(self, slot):
        """The proxy reads this from now on."""
        if self.by_socket:
            scratch = f"{self.file}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(scratch)
            os.symlink(self.address(slot), scratch)
            os.replace(scratch, self.file)
        else:
            write_whole(self.file, str(self.ports[slot]))

    def in_flight(self, slot):
        """Connections that the slot's program is serving. Exact where the proxy keeps none open between requests."""
        if self.by_socket:
            address = self.address(slot)
            with open("/proc/net/unix") as file:
                rows = [line.split() for line in file]
            return sum(len(row) == 8 and row[7] == address and row[5] == "03" for row in rows)
        port = self.ports[slot]
        return sum(row[3] == "01" and int(row[1].rpartition(":")[2], 16) == port for row in connections())


def become(argv, environment, folder, log, state, record):
    """In the child: a session of its own, the record, the program. Never returns."""
    try:
        os.setsid()
        os.chdir(folder)
        nothing = os.open(os.devnull, os.O_RDONLY)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        os.dup2(nothing, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.closerange(3, 1024)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        found = stat_of(os.getpid())
        write_whole(state, json.dumps({**record, "pid": os.getpid(), "start_time": found[2] if found else 0}))
        os.execvpe(argv[0], argv, environment)  # noqa: S606  without a shell is the point
    except BaseException as error:
        os.write(2, f"{argv[0] if argv else 'nothing'}: {error}\n".encode("utf-8", "replace"))
    finally:
        os._exit(127)


def reap():
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def copy_folder(source, target):
    os.makedirs(target)
    for name, whole in walk(source):
        place = os.path.join(target, name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        shutil.copy2(whole, place, follow_symlinks=False)


def unpack(source, target):
    """A tar (plain or compressed) or zip. Only files and folders, only below the target."""
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


# -- requests ----------------------------------------------------------------------------------------------------------


def demand_version(version):
    if not VERSION.fullmatch(version) or ".." in version:
        raise Trouble("A version has letters, digits, “.”, “_”, “+” and “-” only.")
    return version


def look(place, wish):
    """Both slots, what is live, what could be made live. Changes nothing."""
    live, slots = place.live(), []
    for slot in SLOTS:
        known, runs = place.state(slot), place.runs(slot)
        good, ms, wrong = place.ask(slot) if runs else (False, None, "")
        slots.append(
            {
                "name": slot,
                "version": known.get("version", ""),
                "running": runs,
                "ready": good,
                "live": slot == live,
                "address": place.shown(slot),
                "since": known.get("since"),
                "answer_ms": round(ms, 1) if ms is not None else None,
                "note": wrong if runs else ("It has ended." if known else ""),
            }
        )
    present = []
    with contextlib.suppress(OSError):
        names = [name[:-5] for name in os.listdir(place.path("releases")) if name.endswith(".json")]
        present = sorted(
            (name for name in names if place.release(name)),
            key=lambda name: -os.path.getmtime(place.path("releases", f"{name}.json")),
        )
    version, sentence = "", "Nothing is live."
    if live is not None:
        mine = next(each for each in slots if each["name"] == live)
        version = mine["version"] if mine["running"] else ""
        sentence = f"Traffic goes to the {live} slot, {mine['address']}, which runs {mine['version']}."
        if not mine["running"]:
            sentence = f"Traffic goes to the {live} slot, {mine['address']}, and nothing runs there."
    return {"live": version, "slot": live, "slots": slots, "present": present, "sentence": sentence}


def preflight(place, wish):
    """Everything that can be known before anything is changed."""
    found = []

    def note(name, good, sentence, fix=""):
        found.append({"name": name, "good": good, "sentence": sentence, "fix": fix})

    folder = place.root
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    who = f"user {os.geteuid()}"
    writable = os.access(folder, os.W_OK | os.X_OK)
    info = os.stat(folder)
    owner = f"it belongs to user {info.st_uid}, group {info.st_gid}, mode {stat.S_IMODE(info.st_mode):o}"
    note(
        "permissions",
        writable,
        f"{folder} can be written by {who}." if writable else f"{folder} cannot be written by {who}: {owner}.",
        "" if writable else "Give it to the user that deploys.",
    )
    artefact = wish["artefact"]
    source, version = artefact.get("source", ""), demand_version(artefact["version"])
    need = 0
    if place.release(version) and place.release(version).get("checksum") == artefact.get("checksum"):
        note("artefact", True, f"{version} is here already.")
    elif not source or not os.path.exists(source):
        note(
            "artefact", False, f"There is nothing at {source or 'its source'} on this host.", "Bring the release there."
        )
    else:
        need = size_of(source)
        found_sum = checksum_of(source)
        good = not artefact.get("checksum") or artefact["checksum"] == found_sum
        note(
            "artefact",
            good,
            f"The checksum of {source} is {found_sum}.",
            "" if good else "It is another one than asked for.",
        )
    free = shutil.disk_usage(folder).free
    enough = free > need * 2 + MARGIN_BYTES
    note("disk", enough, f"{free // 1048576} MiB are free in {folder}.", "" if enough else "Free some space there.")
    idle = place.idle()
    try:
        if not place.runs(idle):
            place.assert_port_free(idle)
        note("port", True, f"The {idle} slot, {place.shown(idle)}, is free for the new version.")
    except Trouble as trouble:
        note("port", False, trouble.sentence)
    if proxy := wish.get("proxy_address"):
        host, _, port = proxy.rpartition(":")
        try:
            socket.create_connection((host or "127.0.0.1", int(port)), 2).close()
            note("proxy", True, f"The proxy answers at {proxy}.")
        except (OSError, ValueError) as error:
            note("proxy", False, f"The proxy does not answer at {proxy} ({error}).", "Start it first.")
    return {"checks": found}


def prepare(place, wish):
    """The version runs in the slot that is not live. One that runs there already, from this artefact, is kept warm."""
    artefact = wish["artefact"]
    version = demand_version(artefact["version"])
    with place.changing():
        idle = place.idle()
        known = place.state(idle)
        same = known.get("version") == version and artefact.get("checksum", "") in ("", known.get("checksum"))
        if same and place.runs(idle) and not wish.get("anew") and place.ask(idle)[0]:
            return {"slot": idle, "warm": True}
        folder = place.bring(artefact)
        place.stop(idle)
        place.assert_port_free(idle)
        place.start(idle, version, folder)
        return {"slot": idle, "warm": False}


def ready(place, wish):
    """Ask for less than a second; the caller asks again. A program that has ended is an answer at once."""
    version, until, wrong = wish["artefact"]["version"], time.monotonic() + SLICE_S, ""
    while True:
        slot = place.slot_with(version)
        if slot is None:
            mine = [each for each in SLOTS if place.state(each).get("version") == version]
            lines = place.last_lines(mine[0], 5) if mine else []
            raise Trouble(f"{version} has ended. Its last words: {' / '.join(lines) or 'none'}", "not_ready")
        good, ms, wrong = place.ask(slot, min(PROBE_S, max(0.1, until - time.monotonic() + 0.2)))
        if good:
            return {"ready": True, "slot": slot, "ms": ms}
        if time.monotonic() > until:
            return {"ready": False, "slot": slot, "note": wrong, "lines": place.last_lines(slot, 5)}
        time.sleep(0.03)


def switch(place, wish):
    """Point the proxy at the slot with this version, after a last look at it. The fence is asked under the lock."""
    version = demand_version(wish["artefact"]["version"])
    with place.changing():
        slot = place.slot_with(version)
        if slot is None:
            raise Trouble(f"{version} does not run here, so no traffic goes to it.")
        good, _, wrong = place.ask(slot)
        if not good:
            raise Trouble(f"{version} is not ready: {wrong}. No traffic goes to it.", "not_ready")
        if slot != place.live():
            place.point(slot)
        return {"slot": slot}


def drain(place, wish):
    """How many connections the slots that are not live still serve; the caller asks again."""
    live = place.live()
    return {"left": sum(place.in_flight(slot) for slot in SLOTS if slot != live and place.runs(slot))}


def discard(place, wish):
    """Stop the version in the slot that is not live."""
    version = wish["artefact"]["version"]
    with place.changing():
        live = place.live()
        for slot in SLOTS:
            if slot != live and place.state(slot).get("version") == version:
                place.stop(slot)
    return {}


def start(place, wish):
    """What is live runs, if it did not."""
    with place.changing():
        live = place.live()
        known = place.state(live) if live else {}
        version = known.get("version") or wish.get("version", "")
        if live is None or not version:
            raise Trouble("Nothing is live here. Deploy a release first.")
        if not place.runs(live):
            place.stop(live)
            place.assert_port_free(live)
            place.start(live, version, place.bring({"version": demand_version(version)}))
    return {"version": version}


def stop(place, wish):
    """Stop what is live. What it was stays written down, so that it can be started again."""
    with place.changing():
        live = place.live()
        if live is not None:
            known = place.state(live)
            place.stop(live)
            if known:
                known.pop("pid", None)
                write_whole(place.path("slots", live, "state.json"), json.dumps(known))
    return {}


def leftovers(place, wish):
    """Versions and half-written folders that nothing needs."""
    keep = set(wish.get("keep", ())) | {place.state(slot).get("version") for slot in SLOTS if place.runs(slot)}
    live = place.live()
    if live:
        keep.add(place.state(live).get("version"))
    found = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(place.path("releases"))):
            if os.path.isdir(place.path("releases", name)) and name not in keep:
                found.append({"name": name, "bytes": size_of(place.path("releases", name))})
    return {"found": found}


def cleanup(place, wish):
    with place.changing():
        found = leftovers(place, wish)["found"]
        for each in found:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place.path("releases", f"{each['name']}.json"))
            shutil.rmtree(place.path("releases", each["name"]))
    return {"found": found}


def logs(place, wish):
    for slot in SLOTS:
        if place.state(slot).get("version") == wish["version"]:
            return {"lines": place.last_lines(slot, wish.get("lines", 40))}
    return {"lines": []}


def sample(place, wish):
    """Requests and errors in the proxy's access log since the last look of the same operation."""
    path, memory = wish["access_log"], place.path("sample.json")
    try:
        info = os.stat(path)
    except OSError as error:
        raise Trouble(f"The access log {path} cannot be read ({error.strerror}).") from None
    known = read_json(memory)
    begin = [wish["token"][0], info.st_ino]
    offset = known.get("offset", 0) if known.get("of") == begin else None
    requests = errors = 0
    if offset is None or offset > info.st_size:
        offset = info.st_size if offset is None else 0
    with open(path, "rb") as file:
        file.seek(max(offset, info.st_size - SAMPLE_BYTES))
        text = file.read()
        whole = text.rfind(b"\n") + 1
        for line in text[:whole].splitlines():
            status = status_in(line)
            requests += status > 0
            errors += status >= 500
        offset = file.tell() - len(text) + whole
    place.make()
    write_whole(memory, json.dumps({"of": begin, "offset": offset}))
    return {"requests": requests, "errors": errors}


def status_in(line):
    """The status code in a line of Caddy's JSON or of nginx's combined log; 0 when there is none."""
    if line.startswith(b"{"):
        try:
            return int(json.loads(line).get("status", 0))
        except (ValueError, TypeError):
            return 0
    found = COMBINED.search(line)
    return int(found[1]) if found else 0


REQUESTS = {
    function.__name__: function
    for function in (
        look,
        preflight,
        prepare,
        ready,
        switch,
        drain,
        discard,
        start,
        stop,
        leftovers,
        cleanup,
        logs,
        sample,
    )
}


def main(wish):
    try:
        answer = REQUESTS[wish["do"]](Place(wish), wish)
    except Trouble as trouble:
        answer = {"trouble": trouble.kind, "sentence": trouble.sentence}
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        answer = {"trouble": "refused", "sentence": f"{error.strerror or error}{where}."}
    sys.stdout.write(json.dumps(answer))
