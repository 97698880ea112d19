"""Connections into a place that offers nothing but running a program: each one is served by a program that copies.

The program is whichever the place has of a few that are common in images: socat, nc, python3, perl or bash. It connects
to the service from inside and copies between that connection and its own standard input and output.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from catalog.connectors.base import Endpoint
from operations import commands
from operations.commands import Command, Result
from operations.exceptions import CommandFailed

LIMIT_S = 7 * 24 * 3600
PIECE_BYTES = 64 * 1024

_PYTHON = """
import socket, sys, threading
kind, place, port = sys.argv[1:4]
if kind == "unix":
    s = socket.socket(socket.AF_UNIX); s.connect(place)
else:
    s = socket.create_connection((place, int(port)))
def out():
    while True:
        data = s.recv(65536)
        if not data:
            break
        sys.stdout.buffer.write(data); sys.stdout.buffer.flush()
    import os; os._exit(0)
threading.Thread(target=out, daemon=True).start()
while True:
    data = sys.stdin.buffer.read1(65536)
    if not data:
        break
    s.sendall(data)
s.shutdown(socket.SHUT_WR)
threading.Event().wait(5)
""".strip()

_PERL = """
use IO::Socket; use IO::Select; $| = 1;
my ($kind, $place, $port) = @ARGV;
my $s = $kind eq "unix" ? IO::Socket::UNIX->new(Peer => $place)
  : IO::Socket::INET->new(PeerAddr => $place, PeerPort => $port);
die "cannot connect: $!" unless $s;
my $sel = IO::Select->new($s, \\*STDIN);
while (1) {
  for my $r ($sel->can_read) {
    my $n = sysread($r, my $b, 65536);
    exit 0 if !$n && $r == $s;
    if (!$n) { $sel->remove($r); shutdown($s, 1); next }
    my $o = $r == $s ? *STDOUT : $s;
    my $w = 0; while ($w < $n) { my $k = syswrite($o, $b, $n - $w, $w); exit 1 unless $k; $w += $k }
  }
}
""".strip()

# $1 unix or tcp, $2 socket or host, $3 port, $4 and $5 the programs above.
SCRIPT = r"""
if command -v socat >/dev/null 2>&1; then
  if [ "$1" = unix ]; then exec socat - "UNIX-CONNECT:$2"; else exec socat - "TCP:$2:$3"; fi
fi
if command -v python3 >/dev/null 2>&1; then exec python3 -I -c "$4" "$1" "$2" "$3"; fi
if command -v perl >/dev/null 2>&1 && perl -MIO::Socket -e 1 2>/dev/null; then exec perl -e "$5" "$1" "$2" "$3"; fi
if command -v nc >/dev/null 2>&1; then
  if [ "$1" = unix ]; then exec nc -U "$2"; else exec nc "$2" "$3"; fi
fi
if [ "$1" = tcp ] && command -v bash >/dev/null 2>&1; then
  exec bash -c 'exec 3<>"/dev/tcp/$1/$2"; cat <&3 & cat >&3; wait' relay "$2" "$3"
fi
echo "opsportal: no program here can copy a connection: install socat, python3, perl or nc" >&2
exit 123
"""


def relay_command(host: str, port: int) -> Command:
    """The copying program for one connection, to be run in the place."""
    where = ("unix", f"{host}/.s.PGSQL.{port}", "") if host.startswith("/") else ("tcp", host, str(port))
    return Command(("sh", "-c", SCRIPT, "opsportal", *where, _PYTHON, _PERL), timeout_s=LIMIT_S)


class _Relay:
    """Listens on a socket of its own and starts one program per connection."""

    def __init__(self, path: Path, command: Command) -> None:
        self.command = command
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []
        self.said = ""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        path.chmod(0o600)
        self.listener.listen(16)
        self.listener.settimeout(0.2)

    def serve(self) -> None:
        while not self.stop.is_set():
            try:
                connection, _ = self.listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            thread = threading.Thread(target=self._carry, args=(connection,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _carry(self, connection: socket.socket) -> None:
        """Copy in both directions until either side has ended."""
        with connection, connection.makefile("rb", buffering=0) as source:

            def should_stop() -> str | None:
                return "no longer needed" if self.stop.is_set() else None

            try:
                result = commands.run(
                    self.command,
                    stdin=_Pumped(source),  # type: ignore[arg-type]  # what is read of it is all that is needed
                    on_stdout=_sender(connection),
                    should_stop=should_stop,
                    poll_s=0.05,
                )
                self._note(result)
            except CommandFailed as error:
                self._note(error.result)
            except OSError:
                pass  # the client has gone
            finally:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _note(self, result: Result) -> None:
        if result.code and result.stderr:
            self.said = result.stderr


class _Pumped:
    """A stream without a file descriptor of its own to hand over, so that the runner copies it."""

    def __init__(self, source: object) -> None:
        self.read = source.read  # type: ignore[attr-defined]


def _sender(connection: socket.socket) -> Callable[[bytes], None]:
    return connection.sendall


@contextmanager
def relayed(wrap: Callable[[Command], Command], host: str, port: int, folder: Path) -> Iterator[Endpoint]:
    """A socket in `folder` whose connections reach `host`:`port` in the place that `wrap` leads to."""
    path = folder / f".s.PGSQL.{port}"
    relay = _Relay(path, wrap(relay_command(host, port)))
    server = threading.Thread(target=relay.serve, daemon=True)
    server.start()
    try:
        yield Endpoint(str(folder), port)
    finally:
        relay.stop.set()
        relay.listener.close()
        server.join(5)
        for thread in relay.threads:
            thread.join(commands.GRACE_S + 5)
        path.unlink(missing_ok=True)
