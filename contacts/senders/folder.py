"""Email into a folder: for trying the portal out where there is no mail server."""

from __future__ import annotations

import os
import re
from pathlib import Path

from django.utils import timezone

from contacts.senders.base import Message, NotTaken, Sender
from contacts.senders.smtp import letter


class Folder(Sender):
    """Writes each mail as a file of its own, whose name begins with the time, so that the newest is the last."""

    def __init__(self, folder: str, sender: str) -> None:
        self.folder, self.sender = Path(folder), sender
        self.through = f"folder {folder}"

    def send(self, message: Message, to: str) -> str:
        safe = re.sub(r"[^\w.@+-]", "_", to)
        path = self.folder / f"{timezone.now():%Y%m%dT%H%M%S%fZ}-{safe}.eml"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(letter(message, to, self.sender))
        except OSError as error:
            raise NotTaken(f"The mail could not be written to {self.folder}: {error.strerror}.") from None
        return f"Written to {path}."
