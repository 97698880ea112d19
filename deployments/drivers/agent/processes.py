"""Processes and sockets of this host, as the kernel tells of them."""

import contextlib
import json
import os
import signal
import time

from deployments.drivers.agent.files import write_whole

END_WITHIN_S = 15.0


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


def portals_unit(cgroup):
    """The portal's unit of systemd in which a process runs, by the text of its `/proc/<pid>/cgroup`; empty: none.

    What it starts ends with it (KillMode=mixed).
    """
    name = cgroup.strip().rpartition("/")[2]
    return name if name.startswith("opsportal-") and name.endswith(".service") else ""


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


def end(left):
    """Ask processes to end, then make them. `left()` names those that still live, so that nobody who has got a number
    since is signalled. Returns those that do not end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        give_up = time.monotonic() + END_WITHIN_S
        while left() and time.monotonic() < give_up:
            reap()
            time.sleep(0.02)
    return left()


def owner_of_port(port):
    """Who listens on a port: its process id, None when it cannot be seen."""
    inodes = {row[9] for row in connections() if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            for fd in os.listdir(f"/proc/{name}/fd"):
                target = os.readlink(f"/proc/{name}/fd/{fd}")
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    return int(name)
        except OSError:
            continue
    return None


def name_of(pid):
    """The program's name, as the kernel knows it; empty: there is none."""
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
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


def become(argv, environment, folder, log, state, record):
    """In the child: a session of its own, the record, the program. Never returns."""
    try:
        os.setsid()
        os.umask(0o022)  # the portal's own is stricter, and no program expects that
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
