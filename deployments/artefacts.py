"""Checksums of artefacts, as the host that runs them computes them too."""

from __future__ import annotations

from pathlib import Path

from deployments.drivers.agent import files
from deployments.exceptions import DeploymentError


def checksum(path: Path) -> str:
    """`sha256:` and 64 hexadecimal digits of a file or a folder; how a folder is read: `files.checksum_of`.

    Raises DeploymentError when it cannot be read, or holds links or devices.
    """
    try:
        return str(files.checksum_of(str(path)))
    except files.Trouble as trouble:
        raise DeploymentError(trouble.sentence) from trouble
    except OSError as error:
        raise DeploymentError(f"{path} cannot be read ({error.strerror}).") from error
