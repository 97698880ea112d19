"""Email by SMTP: one connection for a batch."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass, field
from email.header import Header
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import format_datetime, formataddr, parseaddr

from django.utils import timezone

from contacts.senders.base import Message, NotTaken, Sender, Unreachable

LETTER = compat32.clone(linesep="\r\n", max_line_length=None)  # subjects are cut at 300 characters
LONGEST_LINE = 900  # servers may cut off what is longer than 998


@dataclass(frozen=True)
class MailServer:
    """Where mail is handed in. `tls` is STARTTLS, `ssl` is TLS from the first byte."""

    host: str
    port: int = 25
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ssl: bool = False
    sender: str = "Ops Portal <ops-portal@localhost>"
    timeout_s: float = 10.0


class Smtp(Sender):
    """Hands mail to one server."""

    def __init__(self, server: MailServer) -> None:
        self.server = server
        self.through = f"mail server {server.host}" if server.host else "mail server"
        self._session: smtplib.SMTP | None = None

    def send(self, message: Message, to: str) -> str:
        to = _written(to)
        mail = letter(message, to, self.server.sender)
        again = self._session is not None  # a connection left open may have been closed by the server meanwhile
        try:
            return self._hand_in(mail, to)
        except (smtplib.SMTPServerDisconnected, ConnectionError) as error:
            self.close()
            if not again:
                raise Unreachable(self._no_answer(error)) from None
        try:
            return self._hand_in(mail, to)
        except (smtplib.SMTPServerDisconnected, ConnectionError) as error:
            self.close()
            raise Unreachable(self._no_answer(error)) from None

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                session.quit()
            except (OSError, smtplib.SMTPException):
                session.close()

    def _hand_in(self, mail: bytes, to: str) -> str:
        session = self._open()
        try:
            session.sendmail(parseaddr(self.server.sender)[1], [to], mail)
        except (smtplib.SMTPServerDisconnected, ConnectionError):
            raise
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            raise NotTaken(f"The mail server refused {to}: {code} {_text(said)}.") from None
        except smtplib.SMTPResponseException as error:
            self.close()
            raise NotTaken(f"The mail server did not take it: {error.smtp_code} {_text(error.smtp_error)}.") from None
        except smtplib.SMTPException as error:
            self.close()
            raise NotTaken(f"The mail server did not take it ({type(error).__name__}).") from None
        except TimeoutError as error:
            self.close()
            raise Unreachable(self._no_answer(error)) from None
        except OSError as error:
            self.close()
            raise NotTaken(f"The mail could not be handed in: {_reason(error)}.") from None
        return "Taken by the mail server."

    def _open(self) -> smtplib.SMTP:
        if self._session is None:
            self._session = self._connect()
        return self._session

    def _connect(self) -> smtplib.SMTP:
        server = self.server
        if not server.host:
            raise NotTaken("No mail server is set. Set EMAIL_HOST and restart the portal.")
        context = ssl.create_default_context()
        try:
            session = (
                smtplib.SMTP_SSL(server.host, server.port, timeout=server.timeout_s, context=context)
                if server.ssl
                else smtplib.SMTP(server.host, server.port, timeout=server.timeout_s)
            )
        except (OSError, smtplib.SMTPException) as error:
            raise Unreachable(self._no_answer(error)) from None
        try:
            if server.tls:
                session.starttls(context=context)
            if server.user:
                session.login(server.user, server.password)
        except smtplib.SMTPAuthenticationError:
            session.close()
            raise NotTaken(
                f"{server.host} does not accept the user and password. Correct EMAIL_USER and EMAIL_PASSWORD."
            ) from None
        except (OSError, smtplib.SMTPException) as error:
            session.close()
            raise Unreachable(self._no_answer(error)) from None
        return session

    def _no_answer(self, error: Exception) -> str:
        where = f"{self.server.host}, port {self.server.port}"
        return f"The mail server {where} cannot be reached: {_reason(error)}."


def letter(message: Message, to: str, sender: str) -> bytes:
    """The message as a mail. Made by the older half of the email package, which takes a sixth of the time of the
    newer."""
    plain = message.text or message.subject
    mail = MIMEText(plain, "plain", "us-ascii" if _is_simple(plain) else "utf-8")
    mail["Subject"] = _header(" ".join(message.subject.split()))
    mail["From"] = formataddr(parseaddr(sender))
    mail["To"] = to
    mail["Date"] = format_datetime(timezone.now())
    mail["Message-ID"] = f"<{message.reference}@{parseaddr(sender)[1].rpartition('@')[2] or 'localhost'}>"
    mail["Auto-Submitted"] = "auto-generated"
    if message.urgent:
        mail["Importance"] = "high"
        mail["X-Priority"] = "1"
    return mail.as_bytes(policy=LETTER)


def _written(address: str) -> str:
    """As servers take it: ASCII, the domain in its international form. Raises NotTaken."""
    local, at, domain = address.strip().rpartition("@")
    try:
        plain = f"{local}{at}{domain.encode('idna').decode('ascii')}"
        plain.encode("ascii")
    except UnicodeError:
        plain = ""
    if not local or not domain or any(ord(char) <= 32 or char in "<>,;" for char in plain) or not plain:
        raise NotTaken(f"“{address}” is not an email address. Correct it on the page of the contact.")
    return plain


def _header(text: str) -> str:
    return text if text.isascii() else Header(text, "utf-8").encode()


def _is_simple(text: str) -> bool:
    return text.isascii() and all(len(line) < LONGEST_LINE for line in text.splitlines())


def _text(said: object) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return " ".join(text.split())[:300].rstrip(".")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return _text(getattr(error, "strerror", None) or error or type(error).__name__)
