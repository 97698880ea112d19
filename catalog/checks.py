"""Configuration errors of the catalog, found by `manage.py check`."""

import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register


@register()
def secret_prefix(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """References to variables must not reach the portal's own environment."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*_", settings.SECRET_ENV_PREFIX):
        return []
    return [
        Error(
            "SECRET_ENV_PREFIX does not set the variables with secrets of targets apart from all others.",
            hint="Give a prefix of letters that ends with “_”, such as OPS_SECRET_.",
            id="catalog.E001",
        )
    ]


@register()
def secret_folders(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """References to files must reach folders made for secrets only, which strangers cannot write to."""
    messages: list[CheckMessage] = []
    for folder in map(Path, settings.SECRET_DIRS):
        if not folder.is_absolute():
            messages.append(
                Error(
                    f"The folder {folder} in SECRET_DIRS is not an absolute path.",
                    hint="Write the whole path, beginning with “/”.",
                    id="catalog.E002",
                )
            )
        elif _too_wide(folder.resolve()):
            messages.append(
                Error(
                    f"The folder {folder} in SECRET_DIRS holds more than secrets of targets.",
                    hint="Name a folder made for secrets alone, such as /run/secrets.",
                    id="catalog.E003",
                )
            )
        elif folder.is_dir() and folder.stat().st_mode & stat.S_IWOTH:
            messages.append(
                Warning(
                    f"Everybody on this machine may write to {folder}, a folder in SECRET_DIRS.",
                    hint=f"Take that right away: chmod o-w {folder}",
                    id="catalog.W001",
                )
            )
    return messages


def _too_wide(folder: Path) -> bool:
    """Whether a folder contains the portal's code, its data or the system's configuration."""
    precious = (settings.BASE_DIR, settings.DATA_DIR, Path("/etc/passwd"), Path("/proc/self"))
    return any(folder == place or folder in place.parents for place in map(Path, precious))
