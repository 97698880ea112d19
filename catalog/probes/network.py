"""Ports: does something answer, does nothing answer, does Redis say PONG."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from django import forms

from catalog.connectors import LocalConnector
from catalog.probes.base import Finding, PlainField, Probe, State, Surroundings, bounded
from catalog.secrets import validate_secret_reference
from catalog.validators import validate_host_name
from core.outbound import Dial, OutboundFailed, connect
from operations.commands import Command
from operations.exceptions import CommandFailed


class PortForm(forms.Form):
    host = PlainField(max_length=253, validators=[validate_host_name])
    port = forms.IntegerField(min_value=1, max_value=65535)
    limit_s = forms.FloatField(label="Warn above (seconds)", required=False, min_value=0.001, max_value=300)


class RedisForm(PortForm):
    password_ref = PlainField(
        label="Password reference", required=False, max_length=500, validators=[validate_secret_reference]
    )
    user = PlainField(required=False, max_length=100)


class FreeForm(forms.Form):
    port = forms.IntegerField(min_value=1, max_value=65535, help_text="Nothing may listen there.")


@contextmanager
def connection(around: Surroundings, host: str, port: int) -> Iterator[socket.socket]:
    """To a port, over the way that leads there, or directly and guarded."""
    if around.forward is None:
        sock, _ = connect(host, port, allow=around.allow, timeout_s=around.timeout_s)
        with sock:
            sock.settimeout(around.timeout_s)
            yield sock
        return
    with around.forward(host, port) as endpoint, socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(around.timeout_s)
        sock.connect(f"{endpoint.host}/.s.PGSQL.{endpoint.port}")
        yield sock


def dialler(around: Surroundings, stack: ExitStack) -> Dial | None:
    """Opens connections over the way that leads there; None where they are direct. The way ends with the stack."""
    if around.forward is None:
        return None
    forward = cache(lambda host, port: stack.enter_context(around.forward(host, port)))  # type: ignore[misc]

    def dial(host: str, port: int) -> socket.socket:
        endpoint = forward(host, port)
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(around.timeout_s)
        sock.connect(f"{endpoint.host}/.s.PGSQL.{endpoint.port}")
        return sock

    return dial


class TcpProbe(Probe):
    """Something accepts connections on a port."""

    kind = "tcp"
    label = "TCP port"
    form = PortForm

    def shown(self) -> str:
        return f"{self.parameters['host']}:{self.parameters['port']}"

    def ask(self, around: Surroundings) -> Finding:
        began = time.monotonic()
        with connection(around, self.parameters["host"], self.parameters["port"]) as sock:
            if around.forward is not None:
                self._still_there(sock)
        seconds = time.monotonic() - began
        return bounded(Finding(State.OK, f"Connected in {seconds:.3f} s.", seconds), self.parameters.get("limit_s"))

    def _still_there(self, sock: socket.socket) -> None:
        """A way accepts by itself and closes at once when nobody answers at its end; a service waits to be asked."""
        sock.settimeout(2)
        try:
            if sock.recv(1, socket.MSG_PEEK) == b"":
                raise OutboundFailed(f"Nothing answers at {self.shown()} as seen from there.")
        except TimeoutError:
            pass


class RedisProbe(Probe):
    """Redis answers PONG.

    Source: the Redis serialization protocol specification (RESP).
    """

    kind = "redis"
    label = "Redis PING"
    form = RedisForm

    def shown(self) -> str:
        return f"{self.parameters['host']}:{self.parameters['port']}"

    def ask(self, around: Surroundings) -> Finding:
        reference = self.parameters.get("password_ref")
        with connection(around, self.parameters["host"], self.parameters["port"]) as sock:
            stream = sock.makefile("rb")
            if reference:
                user = [self.parameters["user"]] if self.parameters.get("user") else []
                answer = _command(sock, stream, "AUTH", *user, around.secret(reference))
                if answer != b"+OK":
                    return Finding(State.BAD, f"Redis refused the password: {answer[1:80].decode('utf-8', 'replace')}.")
            began = time.monotonic()
            answer = _command(sock, stream, "PING")
            seconds = time.monotonic() - began
        if answer != b"+PONG":
            return Finding(State.BAD, f"Redis said {answer[:80].decode('utf-8', 'replace')} instead of PONG.", seconds)
        return bounded(Finding(State.OK, f"PONG after {seconds:.3f} s.", seconds), self.parameters.get("limit_s"))


def _command(sock: socket.socket, stream: object, *words: str) -> bytes:
    parts = [word.encode() for word in words]
    request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    try:
        sock.sendall(request)
        answer: bytes = stream.readline(1000)  # type: ignore[attr-defined]
    except OSError as error:
        raise OutboundFailed(f"Redis did not answer: {error.strerror or error}.") from error
    if not answer:
        raise OutboundFailed("Redis closed the connection without an answer.")
    return answer.rstrip(b"\r\n")


class PortFreeProbe(Probe):
    """Nothing listens on a port of the host, asked before something is to be started there.

    The kernel's own tables are read, because `lsof` ends with 1 both for a free port and for a mistake.
    """

    kind = "port_free"
    label = "Port is free"
    form = FreeForm

    def shown(self) -> str:
        return f"port {self.parameters['port']}"

    def ask(self, around: Surroundings) -> Finding:
        port = self.parameters["port"]
        command = Command(("cat", "/proc/net/tcp", "/proc/net/tcp6"), timeout_s=around.timeout_s)
        try:
            listing = around.run(around.connector.wrap(command)).stdout.decode("ascii", "replace")
        except CommandFailed as error:
            if isinstance(around.connector, LocalConnector) or error.result.code != 1:
                raise
            listing = error.result.stdout.decode("ascii", "replace")  # a machine without IPv6 has only the first table
        if any(_listens(line, port) for line in listing.splitlines()):
            return Finding(State.BAD, f"Something listens on port {port}. Stop it, or choose another port.")
        return Finding(State.OK, f"Nothing listens on port {port}.")


def _listens(line: str, port: int) -> bool:
    """A line of /proc/net/tcp: number, local address:port in hex, remote, state (0A = LISTEN)."""
    fields = line.split()
    return len(fields) > 3 and fields[3] == "0A" and fields[1].rpartition(":")[2] == f"{port:04X}"
