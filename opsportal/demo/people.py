"""One person a role, with a password that is made once per installation and easy to type."""

from __future__ import annotations

import secrets
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.db import transaction

from core.models import User
from core.roles import Role
from opsportal.stack.folders import write_private

FILE = "demo-sign-ins.txt"
WORDS = """
    amber anchor apple arrow autumn barley basil beacon birch bridge bronze canvas cedar chalk cliff clover cobalt
    copper coral cotton crane delta dune ember falcon fern field flint forest garnet ginger glacier harbor hazel
    heron indigo island ivory jasper juniper kelp lagoon lamp lantern larch lemon linen lotus maple marble meadow
    mint mist mosaic moss nectar nickel oak oasis olive onyx opal orchard otter paper pearl pebble pine plum poppy
    prairie quartz quill rain raven reed ridge river rocket rowan saffron sage sail sand shell silver slate sparrow
    spruce stone summit sunset tango teal thistle tide timber topaz tulip valley velvet violet walnut willow winter
    yarrow zephyr
""".split()  # noqa: SIM905 - a list of this length is a page


@dataclass(frozen=True)
class Person:
    """Somebody of the trading company's operations team."""

    role: Role
    first_name: str
    last_name: str
    time_zone: str

    @property
    def username(self) -> str:
        return f"{self.first_name}.{self.last_name}".lower()


PEOPLE = (
    Person(Role.MANAGER, "Maria", "Manager", "Europe/Berlin"),
    Person(Role.RESPONDER, "Robin", "Responder", "Europe/Berlin"),
    Person(Role.OPERATOR, "Olga", "Operator", "Europe/Berlin"),
    Person(Role.APPROVER, "Anton", "Approver", "Europe/Lisbon"),
    Person(Role.ADMINISTRATOR, "Ada", "Administrator", "Europe/London"),
)


def new_password() -> str:
    """Such as tide-lamp-47-mint: three words of about a hundred and a number, and sign-in attempts are counted."""
    first, second, third = (secrets.choice(WORDS) for _ in range(3))
    return f"{first}-{second}-{10 + secrets.randbelow(90)}-{third}"


def read_sign_ins(data_dir: Path) -> dict[str, str]:
    """User name -> password as written down at the first start; empty when there is no such file."""
    try:
        lines = (data_dir / FILE).read_text().splitlines()
    except FileNotFoundError:
        return {}
    rows = [line.split("\t") for line in lines]
    return {row[1]: row[2] for row in rows if len(row) == 3}


class Team:
    """Passwords, and their slow hashes worked out in the background while the server makes the data."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        known = read_sign_ins(data_dir)
        self.passwords = {person.username: known.get(person.username) or new_password() for person in PEOPLE}
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._hashes: dict[str, Future[str]] = {
            name: self._pool.submit(make_password, password) for name, password in self.passwords.items()
        }

    def save(self) -> dict[Role, User]:
        """Create the people, or give them these passwords again."""
        users = {}
        with transaction.atomic():
            for person in PEOPLE:
                user, _ = User.objects.get_or_create(
                    username=person.username,
                    defaults={
                        "first_name": person.first_name,
                        "last_name": person.last_name,
                        "email": f"{person.username}@hansewerk.example",
                        "time_zone": person.time_zone,
                    },
                )
                user.password = self._hashes[person.username].result()
                user.save(update_fields=["password"])
                user.groups.set([Group.objects.get(name=person.role.value)])
                users[person.role] = user
        self._pool.shutdown()
        return users

    def write_file(self) -> None:
        """Write the sign-ins where the stack reads them; call it when the people are there for good."""
        rows = [f"{person.role.value}\t{person.username}\t{self.passwords[person.username]}" for person in PEOPLE]
        write_private(self.data_dir / FILE, "\n".join(rows) + "\n")


def existing() -> dict[Role, User]:
    """The demo's people that are there."""
    users = User.objects.in_bulk([person.username for person in PEOPLE], field_name="username")
    return {person.role: users[person.username] for person in PEOPLE if person.username in users}
