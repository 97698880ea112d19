"""Another machine, reached with the OpenSSH client.

The host key is pinned and nothing else is trusted; the key of the account is given as a file in memory. No
configuration, agent or known host of the worker's user has a say.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catalog.connectors.base import Connector, Endpoint
from catalog.connectors.far import carried, far_vector, shell_line
from catalog.exceptions import CatalogError
from operations.background import Background
from operations.commands import Command, Result

CONNECT_TIMEOUT_S = 10
ALIVE_EVERY_S, ALIVE_TIMES = 5, 3
OPEN_WITHIN_S = 30.0
FAILED = 255  # what ssh itself ends with

# What ssh says -> what it means. The first match counts.
_EXPLANATIONS = (
    (
        r"IDENTIFICATION HAS CHANGED|Host key verification failed|No .* host key is known",
        "{place} shows another host key than the pinned one. Nothing was sent. If the machine was set up anew, an "
        "administrator compares the fingerprint and pins the new key; if not, somebody else may answer there.",
    ),
    (
        r"Load key .*(invalid format|error in libcrypto|incorrect passphrase)|no such identity",
        "The private key of {place} cannot be used. Store an OpenSSH key without a passphrase at its reference.",
    ),
    (
        r"Permission denied|Too many authentication failures|No more authentication methods",
        "{place} does not let “{user}” in with this key. Put its public key into authorized_keys there, or correct the "
        "user or the key reference of this host.",
    ),
    (
        r"Could not resolve hostname|Name or service not known|Temporary failure in name resolution",
        "The host name of {place} is not known here. Correct it, or repair the name service.",
    ),
    (
        r"Connection refused",
        "Nothing answers on the SSH port of {place}. Start sshd there, open the firewall or correct the port.",
    ),
    (
        r"timed out|No route to host|Network is unreachable|not responding",
        "{place} does not answer. Check address, network and firewall.",
    ),
    (
        r"forwarding .*(prohibited|disabled|denied)|administratively prohibited",
        "{place} does not allow forwarding. Set AllowTcpForwarding and AllowStreamLocalForwarding in its sshd_config.",
    ),
    (
        r"closed by remote host|Connection reset|Broken pipe|Connection closed|kex_exchange_identification",
        "The connection to {place} broke off. Look at the network and at sshd there, then try again.",
    ),
)


class SshConnector(Connector):
    """A machine with sshd. `host_keys` are lines of type and base64, as in a .pub file."""

    kind = "ssh"

    def __init__(
        self,
        *,
        address: str,
        port: int,
        user: str,
        private_key: str,
        host_keys: tuple[str, ...],
        expected_hostname: str = "",
        inner: Connector | None = None,
    ) -> None:
        super().__init__(expected_hostname=expected_hostname, inner=inner)
        self.address, self.port, self.user = address, port, user
        self._private_key, self.host_keys = private_key, host_keys

    @property
    def place(self) -> str:
        return f"{self.address}" if self.port == 22 else f"{self.address}:{self.port}"

    @property
    def _depth(self) -> int:
        """How many machines come before; it tells the secrets of one from those of another."""
        return self.inner._depth + 1 if isinstance(self.inner, SshConnector) else 0

    def _secrets(self) -> dict[str, str]:
        """The files that ssh reads, by the variable that will hold their path."""
        if not self.host_keys:
            raise CatalogError(f"No host key is pinned for {self.place}. An administrator checks and pins it first.")
        known = "".join(f"opsportal-host {key}\n" for key in self.host_keys)
        key = self._private_key if self._private_key.endswith("\n") else f"{self._private_key}\n"
        mine = {f"OPS_SSH_KEY_{self._depth}": key, f"OPS_SSH_KNOWN_{self._depth}": known}
        return {**mine, **(self.inner._secrets() if isinstance(self.inner, SshConnector) else {})}

    def _vector(self, *extra: str) -> tuple[str, ...]:
        """ssh with everything decided here, up to and including the address."""
        options = [
            "BatchMode=yes",
            f"IdentityFile=${{OPS_SSH_KEY_{self._depth}}}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile=${{OPS_SSH_KNOWN_{self._depth}}}",
            "GlobalKnownHostsFile=/dev/null",
            "HostKeyAlias=opsportal-host",
            "CheckHostIP=no",
            "UpdateHostKeys=no",
            "ControlMaster=no",
            "ControlPath=none",
            "PermitLocalCommand=no",
            "ForwardAgent=no",
            "ForwardX11=no",
            "EscapeChar=none",
            "LogLevel=ERROR",
            f"ConnectTimeout={CONNECT_TIMEOUT_S}",
            f"ServerAliveInterval={ALIVE_EVERY_S}",
            f"ServerAliveCountMax={ALIVE_TIMES}",
            *self._proxy(),
        ]
        flags = [word for option in options for word in ("-o", option)]
        return ("ssh", "-F", "none", "-T", *flags, "-l", self.user, "-p", str(self.port), *extra, "--", self.address)

    def _proxy(self) -> list[str]:
        """Through the machine before this one. ssh hands the line to a shell and replaces what begins with %."""
        if self.inner is None:
            return []
        if not isinstance(self.inner, SshConnector):
            raise CatalogError(f"{self.place} can be reached over another SSH host only, not over {self.inner.place}.")
        destination = f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
        line = shell_line(self.inner._vector("-W", destination)).replace("%", "%%")
        return [f"ProxyCommand={line}"]

    def wrap(self, command: Command) -> Command:
        # exec, so that no login shell stands between sshd and the script, which watches its parent.
        line = "exec " + shell_line(far_vector(command, self.expected_hostname, "group"))
        argv = (*self._vector(), line)
        carrier = carried(command, argv, self.place, self.expected_hostname, self._explain)
        return dataclasses.replace(carrier, secret_files=self._secrets())

    def _explain(self, result: Result) -> str:
        return self.sentence(result.stderr) if result.code == FAILED else ""

    def sentence(self, said: str) -> str:
        """What ssh meant, or an empty text when it is not known."""
        for pattern, sentence in _EXPLANATIONS:
            if re.search(pattern, said, re.IGNORECASE):
                return sentence.format(place=self.place, user=self.user)
        return ""

    @contextmanager
    def forward(self, host: str, port: int, folder: Path) -> Iterator[Endpoint]:
        socket = folder / f".s.PGSQL.{port}"
        far = (
            f"{host}/.s.PGSQL.{port}"
            if host.startswith("/")
            else f"[{host}]:{port}"
            if ":" in host
            else f"{host}:{port}"
        )
        extra = ("-N", "-o", "ExitOnForwardFailure=yes", "-o", "StreamLocalBindMask=0177", "-L", f"{socket}:{far}")
        command = Command(self._vector(*extra), secret_files=self._secrets(), timeout_s=7 * 24 * 3600)
        self._assert_identity()
        with Background(command) as tunnel:
            self._wait_for(socket, tunnel)
            try:
                yield Endpoint(str(folder), port, is_open=lambda: tunnel.running)
            finally:
                socket.unlink(missing_ok=True)

    def _assert_identity(self) -> None:
        """A tunnel runs no program that could ask for the name, so it is asked beforehand; the key is the same."""
        if self.expected_hostname:
            from operations.commands import run_checked

            run_checked(self.wrap(Command(("true",), timeout_s=OPEN_WITHIN_S)))

    def _wait_for(self, socket: Path, tunnel: Background) -> None:
        give_up = time.monotonic() + OPEN_WITHIN_S
        while not socket.exists():
            said = "\n".join(tunnel.lines)
            if not tunnel.running:
                raise CatalogError(
                    self.sentence(said)
                    or f"The tunnel to {self.place} could not be opened: {said or 'no word of ssh'}."
                )
            if time.monotonic() > give_up:
                raise CatalogError(
                    f"{self.place} did not open the tunnel within {OPEN_WITHIN_S:g} s. Check the network."
                )
            time.sleep(0.02)
