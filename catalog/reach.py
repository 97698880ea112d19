"""From rows to connectors: how a `Host` is reached. Secrets are read when this is called."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from catalog.connectors import (
    ComposeConnector,
    Connector,
    ContainerConnector,
    Endpoint,
    KubectlConnector,
    LocalConnector,
    SshConnector,
)
from catalog.exceptions import CatalogError
from catalog.models import Host
from catalog.secrets import SecretReference

LONGEST_SOCKET = 100  # the kernel takes 107 bytes; room for a port of five digits
LONGEST_WAY = 4


def connector_for(host: Host | None) -> Connector:
    """The way to a host; None is the worker's own machine, whichever that is.

    Raises CatalogError when a secret cannot be read or the way has no end.
    """
    return _connector(host, LONGEST_WAY) if host is not None else LocalConnector()


def _connector(host: Host, left: int) -> Connector:
    if left == 0:
        raise CatalogError(f"{host} lies behind too many other hosts, or behind itself. Correct “via” in the catalog.")
    inner = _connector(host.via, left - 1) if host.via is not None and host.via.kind != Host.Kind.LOCAL else None
    expected = host.expected_hostname
    match Host.Kind(host.kind):
        case Host.Kind.LOCAL:
            return LocalConnector(expected_hostname=expected)
        case Host.Kind.SSH:
            return SshConnector(
                address=host.address,
                port=host.port or 22,
                user=host.user,
                private_key=SecretReference.parse(host.key_ref).resolve(),
                host_keys=host.host_key_lines,
                expected_hostname=expected,
                inner=inner,
            )
        case Host.Kind.DOCKER:
            return ContainerConnector(
                container=host.container, socket=host.docker_socket, expected_hostname=expected, inner=inner
            )
        case Host.Kind.COMPOSE:
            return ComposeConnector(
                service=host.container,
                file=host.compose_file,
                project=host.compose_project,
                socket=host.docker_socket,
                expected_hostname=expected,
                inner=inner,
            )
        case Host.Kind.KUBECTL:
            reference = host.kubeconfig_ref
            return KubectlConnector(
                pod=host.container,
                namespace=host.namespace,
                context=host.context,
                container=host.pod_container,
                kubeconfig=SecretReference.parse(reference).resolve() if reference else "",
                expected_hostname=expected,
                inner=inner,
            )


@contextmanager
def forwarded(via: Host, host: str, port: int, owner: str) -> Iterator[Endpoint]:
    """A way from this machine to `host`:`port` as `via` sees it. `owner` names the folder of its socket."""
    folder = _folder(owner)
    try:
        with connector_for(via).forward(host, port, folder) as endpoint:
            yield endpoint
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _folder(owner: str) -> Path:
    """A private folder with a path short enough for a socket. What others left there long ago is removed."""
    base = Path(settings.DATA_DIR) / "ways"
    if len(os.fsencode(base / owner / ".s.PGSQL.65535")) > LONGEST_SOCKET:
        base = Path("/tmp") / f"opsportal-{hashlib.sha256(os.fsencode(base)).hexdigest()[:12]}"  # noqa: S108
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if base.stat().st_uid != os.geteuid():
        raise CatalogError(f"The folder {base} belongs to somebody else. Remove it, then try again.")
    for left in base.iterdir():
        if time.time() - left.stat().st_mtime > 7 * 86400:
            shutil.rmtree(left, ignore_errors=True)
    folder = base / owner
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder
