"""One environment on this host: its folder, lock and fence, its slots and their programs, its releases."""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import socket
import time

from deployments.drivers.agent.files import Trouble, checksum_of, copy_folder, read_json, unpack, write_whole
from deployments.drivers.agent.processes import alive, become, connections, end, name_of, owner_of_port, session_of

LOCK_WITHIN_S = 20.0
PROBE_S = 2.0
LOG_TAIL_BYTES = 64 * 1024
LOG_MOST_BYTES = 64 * 1024 * 1024
LOG_KEPT_BYTES = 1024 * 1024
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
STATUS = re.compile(rb"HTTP/\d\.\d (\d{3})\b")
CONNECTED = ("02", "03")  # in /proc/net/unix: not yet accepted, accepted


class Place:
    """One environment on this host. `wish` is the request: settings, artefact, token, environment of the program."""

    def __init__(self, wish, slots, ports):
        self.wish = wish
        self.slots, self.ports = slots, ports
        self.root = wish["root"]
        if not os.path.isabs(self.root) or ".." in self.root.split("/"):
            raise Trouble("The folder of the environment must be an absolute path without “..”.")
        self.by_socket = wish.get("proxy") == "socket_link"

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def make(self):
        """The folders. Those that the proxy goes through are open to it, whatever mask this was started with."""
        for folder in (self.root, self.path("slots"), *(self.path("slots", slot) for slot in self.slots)):
            self.open_folder(folder)
        os.makedirs(self.path("releases"), mode=0o755, exist_ok=True)

    @staticmethod
    def open_folder(path):
        if not os.path.isdir(path):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o755)  # noqa: S103  the proxy's user has to come through

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

    def configured(self, slot):
        """Where the slot's program is to listen, by the settings."""
        return self.path("slots", slot, "app.sock") if self.by_socket else self.ports[slot]

    def address(self, slot):
        """Where it listens. What was started before the settings were changed stays where it is."""
        return self.state(slot).get("listens") or self.configured(slot)

    def shown(self, slot):
        return written(self.address(slot))

    def known(self):
        """All slots that there are."""
        return list(self.slots)

    def called(self, slot):
        """The slot in a sentence."""
        return f"the {slot} slot"

    def state(self, slot):
        return read_json(self.path("slots", slot, "state.json"))

    def runs(self, slot):
        known = self.state(slot)
        return bool(known.get("pid")) and alive(known["pid"], known.get("start_time"))

    def ask(self, slot, timeout_s=PROBE_S):
        """One health check: (good, milliseconds, what was wrong)."""
        began, address = time.monotonic(), self.address(slot)
        try:
            by_path = isinstance(address, str)
            with socket.socket(socket.AF_UNIX if by_path else socket.AF_INET) as connection:
                connection.settimeout(timeout_s)
                connection.connect(address if by_path else ("127.0.0.1", address))
                status = status_of(connection, self.wish.get("ready_path") or "/")
            wrong = "" if status < 400 else f"it answered with {status}"
        except OSError as error:
            wrong = f"it does not answer ({error.strerror or error or type(error).__name__})"
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

    def start(self, slot, version, folder, **more):
        """Start the program in a session of its own. It writes down itself who it is, and `more`, before it becomes the
        program: whoever dies in between, there is no process without a record."""
        listens = self.configured(slot)
        values = {
            "{port}": "" if self.by_socket else str(listens),
            "{socket}": listens if self.by_socket else "",
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
                os.unlink(listens)
        checksum = self.release(version).get("checksum", "")
        record = {"version": version, "checksum": checksum, "listens": listens, "since": time.time(), **more}
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
        if end(lambda: session_of(known["pid"], known.get("start_time"))):
            raise Trouble(f"The program of {self.called(slot)} (process {known['pid']}) does not end. End it by hand.")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path("slots", slot, "state.json"))

    def put_down(self, slot):
        """End the slot's program; what it was stays written down, so that it can be started again."""
        known = self.state(slot)
        self.stop(slot)
        if known:
            known.pop("pid", None)
            write_whole(self.path("slots", slot, "state.json"), json.dumps(known))

    def assert_port_free(self, slot):
        """The port where the slot's program is to listen."""
        if self.by_socket:
            return
        port = self.configured(slot)
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError as error:
                who = owner_of_port(port)
                raise Trouble(
                    f"Port {port} of {self.called(slot)} cannot be used ({error.strerror})"
                    + (f": {name_of(who)} (process {who}) has it." if who else ".")
                    + " End that program, or choose another port."
                ) from None

    def mine(self):
        """Processes that this place started."""
        known = (self.state(slot) for slot in self.known())
        return {pid for each in known if each.get("pid") for pid in session_of(each["pid"], each.get("start_time"))}

    def last_lines(self, slot, count):
        try:
            with open(self.path("slots", slot, "out.log"), "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        return [line for line in lines if line.strip()][-count:]

    def cap_log(self, slot):
        """A log that has become too long begins anew; its end stays in `out.log.1`. The program writes on, for it
        appends."""
        log = self.path("slots", slot, "out.log")
        with contextlib.suppress(OSError), open(log, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size > LOG_MOST_BYTES:
                file.seek(size - LOG_KEPT_BYTES)
                with open(f"{log}.1", "wb") as kept:
                    kept.write(file.read(LOG_KEPT_BYTES))
                file.truncate(0)

    def name_in(self, file, address):
        """The proxy reads in this file where to go from now on."""
        scratch = f"{file}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        if self.by_socket:
            os.symlink(address, scratch)
            os.replace(scratch, file)
        else:
            write_whole(file, str(address), mode=0o644)

    def named_in(self, file):
        """What the file names, as `address` writes it; empty when there is none."""
        try:
            if self.by_socket:
                return os.path.normpath(os.path.join(os.path.dirname(file), os.readlink(file)))
            with open(file) as opened:
                return opened.read().strip()
        except OSError:
            return ""

    def in_flight(self, slot):
        """Connections that the slot's program is serving, or has still to accept. Exact where the proxy keeps none open
        between requests."""
        address = self.address(slot)
        if isinstance(address, str):
            with open("/proc/net/unix") as file:
                rows = [line.rstrip("\n").split(None, 7) for line in file]
            return sum(len(row) == 8 and row[7] == address and row[5] in CONNECTED for row in rows)
        return sum(row[3] == "01" and int(row[1].rpartition(":")[2], 16) == address for row in connections())


def status_of(connection, path):
    """The status code that a GET is answered with. The standard library's client takes longer to load than all else
    that an agent does, and this is done while users are served."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    with connection.makefile("rb") as answer:
        found = STATUS.match(answer.readline(1024))
        if found is None:
            raise OSError("no answer in HTTP")
        answer.read(65536)
    return int(found[1])


def written(address):
    """Where something listens, for people."""
    return address if isinstance(address, str) else f"127.0.0.1:{address}"
