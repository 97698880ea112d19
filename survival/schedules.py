"""The portal's own backup is scheduled without anybody having to ask for it."""

from __future__ import annotations

from django.conf import settings

from operations.standing import Standing, declare
from survival import actions


def _preview() -> str:
    return f"The portal's database and secrets are sealed and put into {settings.PORTAL_BACKUP_DIR}."


declare(
    Standing(
        handler=actions.BACKUP,
        name="Back up the portal",
        cron=lambda: settings.PORTAL_BACKUP_CRON,
        permission="survival.back_up_portal",
        request=actions.request_backup,
        preview=_preview,
        at_once=True,
    )
)
