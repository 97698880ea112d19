"""References to secrets: where a password is, never the password itself.

`env:OPS_SECRET_ERP` names an environment variable of the process that needs it, `file:/run/secrets/erp` a file.
Whoever may edit a target chooses the reference *and* the host it is sent to, so a reference reaches only what was set
aside for this: variables with `settings.SECRET_ENV_PREFIX`, files below `settings.SECRET_DIRS`, and of those none that
holds a secret of the portal itself.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from django.conf import settings
from django.core.exceptions import ValidationError

from catalog.exceptions import CatalogError

MAX_BYTES = 64 * 1024
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FORM = "Write env:NAME for an environment variable or file:/absolute/path for a file."


@dataclass(frozen=True)
class SecretReference:
    """Where a secret is kept. Printing it shows the place, which is no secret."""

    scheme: str
    name: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> "SecretReference":
        """Read a reference and refuse what it may not reach. Reads no secret; the place may still be empty.

        Raises CatalogError.
        """
        scheme, separator, name = text.partition(":")
        if not separator or scheme not in ("env", "file"):
            # The text is not repeated: somebody who pasted a password instead must not see it in a log.
            raise CatalogError(f"This is not a reference to a secret. {FORM}")
        if not name or any(ord(char) < 32 or ord(char) == 127 for char in name):
            raise CatalogError(f"The reference to a secret has no usable name. {FORM}")
        reference = cls(scheme, name)
        if scheme == "env":
            reference._check_variable()
        else:
            reference._locate()
        return reference

    def resolve(self) -> str:
        """Return the secret. Raises CatalogError with a sentence that names the place, never the content."""
        value = self._read_variable() if self.scheme == "env" else self._read_file()
        if not value:
            raise CatalogError(f"The secret {self} is empty. Put the password there and try again.")
        if "\x00" in value:
            raise CatalogError(
                f"The secret {self} is not text: it contains a NUL byte. Store the password as plain text."
            )
        if value in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
            raise CatalogError(
                f"{self} holds the portal's own signing key, which never leaves it. Name another secret."
            )
        return value

    # --- environment variables ----------------------------------------------------------------------------------------

    def _check_variable(self) -> None:
        prefix = settings.SECRET_ENV_PREFIX
        if not ENV_NAME.fullmatch(self.name):
            raise CatalogError(
                f"The name of an environment variable has letters, digits and “_” only, for example {prefix}ERP."
            )
        if not self.name.startswith(prefix) or self.name == prefix:
            raise CatalogError(
                f"The environment variable {self.name} is not open to references. "
                f"Use a variable whose name begins with {prefix}."
            )

    def _read_variable(self) -> str:
        self._check_variable()
        value = os.environ.get(self.name)
        if value is None:
            raise CatalogError(
                f"The environment variable {self.name} is not set in this process. "
                "Set it where the portal's web and worker processes start, then restart them."
            )
        return value

    # --- files --------------------------------------------------------------------------------------------------------

    def _locate(self) -> Path:
        """Return the path with symbolic links followed. Raises CatalogError when it is not below a secret folder."""
        if not self.name.startswith("/"):
            raise CatalogError(f"The file of a secret needs an absolute path. {FORM}")
        try:
            path = Path(self.name).resolve()
        except (OSError, RuntimeError, ValueError):  # RuntimeError: a loop of symbolic links
            raise CatalogError(
                f"The path {self.name} cannot be followed. Name the file of the secret directly."
            ) from None
        self._check_place(path)
        return path

    def _check_place(self, path: Path) -> None:
        folders = [Path(folder).resolve() for folder in settings.SECRET_DIRS]
        if not any(folder in path.parents for folder in folders):
            allowed = " or ".join(str(folder) for folder in folders) or "a folder named in SECRET_DIRS"
            raise CatalogError(
                f"{self.name} does not lie below a folder for secrets. Put the file below {allowed} and name it there."
            )
        owner = _setting_read_from(path)
        if owner:
            raise CatalogError(f"{self.name} is the portal's own secret ({owner}). Name the file of this password.")

    def _read_file(self) -> str:
        path = self._locate()
        try:
            # O_NONBLOCK: opening a pipe must not hang. O_NOFOLLOW: links were followed above and checked.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY)
        except FileNotFoundError:
            raise CatalogError(f"The secret file {self.name} does not exist. Create it and try again.") from None
        except PermissionError:
            raise CatalogError(
                f"The secret file {self.name} may not be read by the portal's user. Give that user read permission."
            ) from None
        except OSError as error:
            raise CatalogError(
                f"The secret file {self.name} cannot be opened ({error.strerror}). Check the file and try again."
            ) from None
        try:
            # A folder on the way may have been replaced by a link between the check and the opening.
            self._check_place(Path(os.readlink(f"/proc/self/fd/{fd}")))
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise CatalogError(f"{self.name} is not a regular file. Name the file that holds the password.")
            content = os.read(fd, MAX_BYTES + 1)  # one read returns all of a regular file of this size
        finally:
            os.close(fd)
        if len(content) > MAX_BYTES:
            raise CatalogError(
                f"The secret file {self.name} is larger than 64 KiB, so it holds no password. Name another."
            )
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise CatalogError(
                f"The secret file {self.name} is not UTF-8 text. Store the password as plain text."
            ) from None
        return text.removesuffix("\n").removesuffix("\r")


def store(name: str, secret: str) -> Path:
    """Write a secret into a new file of the first folder for secrets, readable by the portal's user alone.

    Raises CatalogError when that folder cannot be written.
    """
    if not settings.SECRET_DIRS:
        raise CatalogError("No folder for secrets is set. Set SECRET_DIRS, or give a reference instead of a password.")
    folder = Path(settings.SECRET_DIRS[0])
    path = folder / f"{name}-{token_hex(4)}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(fd, "w", encoding="utf-8", newline="") as file:
            file.write(secret)
    except OSError as error:
        raise CatalogError(
            f"The password could not be kept in {folder} ({error.strerror}). Give the portal's user the right to write "
            "there, or give a reference instead."
        ) from None
    return path


def _setting_read_from(path: Path) -> str:
    """Return the `X_FILE` variable that makes this file one of the portal's own settings, or an empty string."""
    for name, value in os.environ.items():
        if not name.endswith("_FILE") or name.startswith(settings.SECRET_ENV_PREFIX) or not value.startswith("/"):
            continue
        try:
            if Path(value).resolve() == path:
                return name
        except (OSError, RuntimeError, ValueError):
            continue
    return ""


def validate_secret_reference(value: str) -> None:
    """Model field validator: the reference has a known form and reaches only what is set aside for secrets.

    Whether the secret is there is not asked: the process that needs it may run on another host.
    """
    try:
        SecretReference.parse(value)
    except CatalogError as error:
        raise ValidationError(error.message, code="secret_reference") from None
