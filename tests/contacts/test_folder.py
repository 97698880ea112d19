"""Mail into a folder: what the demo uses in place of a mail server."""

from __future__ import annotations

import email
import stat

import pytest

from contacts.routes import Route, mail_sender
from contacts.senders.base import Message, NotTaken

LINK = "https://ops.example.org/answer/x/"
MESSAGE = Message(reference="n-1", subject="The shop is down", text=f"Look at it.\n{LINK}", short="")


@pytest.fixture
def folder(settings, tmp_path):
    settings.EMAIL_HOST, settings.EMAIL_DIR = "", str(tmp_path / "mail")
    return tmp_path / "mail"


def test_each_mail_is_a_file_that_only_we_can_read(folder):
    mail_sender().send(MESSAGE, "ann@example.org")
    mail_sender().send(MESSAGE, "../ben@example.org")
    first, second = sorted(folder.iterdir())
    assert first.name.endswith("Z-ann@example.org.eml") and second.name.endswith("Z-.._ben@example.org.eml")
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    read = email.message_from_bytes(first.read_bytes())
    assert read["Subject"] == "The shop is down" and read["To"] == "ann@example.org"
    assert LINK in read.get_payload()


def test_a_mail_server_goes_first(folder, settings):
    settings.EMAIL_HOST = "mail.example.org"
    assert Route("email", "a@example.org", "mail").through == "mail server mail.example.org"


def test_a_folder_that_cannot_be_written_is_said(folder):
    folder.write_text("a file is in the way")
    with pytest.raises(NotTaken, match="could not be written"):
        mail_sender().send(MESSAGE, "ann@example.org")
