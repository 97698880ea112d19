"""By which ways a message can reach its reader, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings

from catalog.exceptions import CatalogError
from catalog.secrets import SecretReference
from contacts.models import Channel, Contact, Notification, Provider, Way
from contacts.models.notifications import Outlet
from contacts.senders.base import TIMEOUT_S, NotTaken, Sender
from contacts.senders.folder import Folder
from contacts.senders.smtp import MailServer, Smtp
from contacts.senders.webhook import Webhook
from contacts.ways import dialled

MAIL = "mail"


@dataclass(frozen=True)
class Route:
    """One try: an address, and through what. `lane` names what is shared with other messages that go the same way."""

    kind: str
    address: str
    lane: str
    outlet: Outlet | None = None

    def open(self) -> Sender:
        """What takes the message. Raises NotTaken when it cannot be opened."""
        if self.lane == MAIL:
            return mail_sender()
        if self.outlet is None:
            word = Way.Kind(self.kind).label.lower()
            raise NotTaken(f"No provider for this way ({word}) is switched on. Add one under Providers.")
        try:
            url = SecretReference.parse(self.outlet.url_ref).resolve()
        except CatalogError as error:
            raise NotTaken(error.message) from None
        name = str(self.outlet)
        if isinstance(self.outlet, Channel) and self.outlet.kind == Channel.Kind.WEBHOOK:
            return Webhook(name, url, networks=self.outlet.networks)
        from contacts.senders.services import Length, Service  # brings apprise with it, which only senders need

        length = {"sms": Length.SHORT, "phone": Length.SPOKEN}.get(self.kind, Length.FULL)
        return Service(name, url, networks=self.outlet.networks, length=length)

    @property
    def to(self) -> str:
        return dialled(self.kind, self.address)

    @property
    def through(self) -> str:
        """Its name in the log, also where nothing could be opened."""
        return mail_sender().through if self.lane == MAIL else str(self.outlet or "no provider")


@dataclass(frozen=True)
class Routes:
    """What can be tried. Without any, `why_none` says what has to be mended first."""

    tries: tuple[Route, ...] = ()
    why_none: str = ""

    @property
    def first(self) -> str:
        """What readers see as the way: messages that would go the same way are put together."""
        return self.tries[0].kind if self.tries else ""

    @property
    def lane(self) -> str:
        return self.tries[0].lane if self.tries else "none"


def mail_sender() -> Sender:
    """The mail server; without one the folder for trying things out, if that is set."""
    if settings.EMAIL_DIR and not settings.EMAIL_HOST:
        return Folder(settings.EMAIL_DIR, settings.EMAIL_FROM)
    return Smtp(mail_server())


def sends_mail() -> bool:
    """Whether mail goes anywhere."""
    return bool(settings.EMAIL_HOST or settings.EMAIL_DIR)


def mail_server() -> MailServer:
    return MailServer(
        host=settings.EMAIL_HOST,
        port=settings.EMAIL_PORT,
        user=settings.EMAIL_USER,
        password=settings.EMAIL_PASSWORD,
        tls=settings.EMAIL_USE_TLS,
        ssl=settings.EMAIL_USE_SSL,
        sender=settings.EMAIL_FROM,
        timeout_s=min(settings.EMAIL_TIMEOUT, TIMEOUT_S),
    )


def providers() -> list[Provider]:
    """Those that may be used, in the order in which they are tried."""
    return list(Provider.objects.filter(enabled=True).order_by("rank", "pk"))


def routes_of(notification: Notification, known: Iterable[Provider]) -> Routes:
    if notification.contact is not None:
        return _to_contact(notification.contact, notification.way, notification.only_way_id, known)
    assert notification.channel is not None  # one of them, by constraint
    return to_channel(notification.channel)


def _to_contact(contact: Contact, asked: str, only: int | None, known: Iterable[Provider]) -> Routes:
    """The way that was asked for first, the others in the order of their rank; each through every provider for it."""
    if not contact.active:
        return Routes(why_none=f"{contact} is switched off, so nobody is told through this contact.")
    ways = [way for way in contact.ways.all() if way.address and only in (None, way.pk)]
    if not ways:
        return Routes(why_none=f"{contact} has no address. Add one on the page of the contact, then try again.")
    ways.sort(key=lambda way: way.kind != asked)  # stable: the rest stays in order
    return Routes(tuple(route for way in ways for route in to_way(way.kind, way.address, known)))


def to_way(kind: str, address: str, known: Iterable[Provider]) -> list[Route]:
    if kind == Way.Kind.EMAIL:
        return [Route(kind, address, MAIL)]
    through = [Route(kind, address, f"provider {one.pk}", one) for one in known if one.kind == kind]
    return through or [Route(kind, address, "none")]


def why_no_channel(channel: Channel) -> str:
    """Why nothing can be sent to this channel; empty where something can."""
    if not channel.enabled:
        return "is switched off"
    if channel.is_missing:
        return "has no address yet"
    if channel.kind == Channel.Kind.HAND:
        return f"is used by hand: tell them yourself at {channel.address}"
    return ""


def to_channel(channel: Channel) -> Routes:
    if why := why_no_channel(channel):
        return Routes(why_none=f"{channel} {why}.")
    if channel.kind == Channel.Kind.EMAIL:
        return Routes((Route(channel.kind, channel.address, MAIL),))
    return Routes((Route(channel.kind, channel.address, f"channel {channel.pk}", channel),))
