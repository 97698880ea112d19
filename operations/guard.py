"""Runs one command so that nothing of it outlives the worker that asked for it.

Started by ``operations.commands`` as ``python -I -S guard.py CONTROL_FD PARENT_PID -- PROGRAM ARGUMENT...`` in a
session of its own. It imports nothing but a few small modules, because it is started once per command.

Over the control socket it takes ``T`` (ask the command to end) and ``K`` (end everything), and says one word at the
end: ``X<code>`` exit code, ``S<number>`` ended by that signal, ``E<errno>`` the program could not be started. The end
of the file on that socket means that the worker is gone. The kernel tells that even when the worker was SIGKILLed, and
a parent-death signal says it a second time. In both cases everything below the guard is killed, grandchildren that
moved into another session included: the guard is their sub-reaper, so it has no children left only when none lives.
A command that ends by itself may leave a process behind only in a session of its own, as a service does.
"""

import ctypes
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
KILL_WITHIN_S = 10
WATCHED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """The kernel's prctl; raises OSError."""
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def start(argv: list[str], control: int, guard_pid: int) -> int:
    """Fork the command; returns its process id. A failing exec is told to the runner by the child itself."""
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)  # the pipe is shared with the guard, which must not take our signals for its own
        # Python ignores the last two for itself; an ignored signal would stay ignored in the command.
        for number in (*WATCHED, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard_pid:
            os._exit(125)
        os.execvp(argv[0], argv)  # noqa: S606 - without a shell is the point
    except OSError as error:
        os.write(control, b"E%d\n" % (error.errno or 0))
    finally:
        os._exit(127)


def processes() -> dict[int, tuple[int, int]]:
    """Every visible process: id -> (parent, process group)."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            found[int(name)] = (int(fields[1]), int(fields[2]))
    return found


def below(me: int, *, group_only: bool) -> list[int]:
    """The processes that belong to the command: those in its group and, unless ``group_only``, all its descendants."""
    table = processes()
    mine = {pid for pid, (_, group) in table.items() if group == me and pid != me}
    if not group_only:
        family = {me}
        grown = True
        while grown:
            more = {pid for pid, (parent, _) in table.items() if parent in family} - family
            family |= more
            grown = bool(more)
        mine |= family - {me}
    return sorted(mine)


def kill_all(*, group_only: bool = False) -> None:
    """SIGKILL what is below and reap it, again and again until nothing is left (a process may fork meanwhile)."""
    me = os.getpid()
    give_up = time.monotonic() + KILL_WITHIN_S
    while time.monotonic() < give_up:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return  # usually at once, without a look at all the processes of the machine
        pids = below(me, group_only=group_only)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        if group_only and not pids:
            return
        time.sleep(0.002)


def ask_to_end() -> None:
    """SIGTERM to the command's whole group, the guard itself left out."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        os.killpg(0, signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def reap(child: int) -> int | None:
    """Collect every child that ended; returns the wait status of the command when it is among them."""
    status = None
    try:
        while True:
            pid, value = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                status = value
    except ChildProcessError:
        pass
    return status


def watch(child: int, control: int, wake: int) -> int:
    """Wait for the command; returns its wait status. Ends the process itself when everything has to be killed."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == wake:
                signals = os.read(wake, 512)
                if signals.strip(bytes([signal.SIGCHLD])):
                    kill_all()
                    os._exit(137)
                status = reap(child)
                if status is not None:
                    return status
            else:
                try:
                    words = os.read(control, 64)
                except OSError:
                    words = b""
                if not words or b"K" in words:
                    kill_all()
                    tell(control, b"S%d\n" % signal.SIGKILL)
                    os._exit(137)
                ask_to_end()


def tell(control: int, word: bytes) -> None:
    """Say the one word about the end; a runner that is gone cannot hear it and that is fine."""
    try:
        os.write(control, word)
    except OSError:
        pass


def main() -> None:
    """Start, watch, clean up, report."""
    control, parent, argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[4:]
    os.set_inheritable(control, False)
    os.umask(0o077)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in WATCHED:
        signal.signal(number, lambda *_: None)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(137)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = start(argv, control, os.getpid())
    status = watch(child, control, wake_read)
    kill_all(group_only=True)
    if os.WIFSIGNALED(status):
        tell(control, b"S%d\n" % os.WTERMSIG(status))
        os._exit(128 + os.WTERMSIG(status))
    tell(control, b"X%d\n" % os.WEXITSTATUS(status))
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()
