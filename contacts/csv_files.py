"""Contacts as a CSV file: out, and in again with nothing lost.

One line is one contact. The column `ways` holds every way in order, one a line of the cell: `sms: +49 170 1 [private]`.
Instead of it a list that comes from elsewhere may have columns `email`, `sms`, `phone`, `push` and `chat`. Only columns
that are there are changed. What somebody wrote where an address is still missing becomes an empty way.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError

from catalog.models import BusinessHours
from contacts.exceptions import ContactsError
from contacts.models import Contact, Way
from contacts.ways import cleaned, is_gap
from core.export import FORMULA_STARTS
from core.models import User

MOST_LINES = 5000
MOST_BYTES = 1_000_000
TEXTS = ("title", "organisation", "support_tier", "time_zone", "notes")
COLUMNS = ("name", "kind", *TEXTS, "business_hours", "account", "active", "ways")
KINDS = tuple(Way.Kind.values)
GAP = "missing"
# What other lists call the same.
OTHER_NAMES = {
    "role": "title",
    "job title": "title",
    "company": "organisation",
    "organization": "organisation",
    "e-mail": "email",
    "mail": "email",
    "email address": "email",
    "mobile": "sms",
    "telephone": "phone",
    "phone number": "phone",
    "timezone": "time_zone",
    "user": "account",
    "username": "account",
    "type": "kind",
    "full name": "name",
}
_ENTRY = re.compile(r"(?P<kind>[a-z]+)\s*:\s*(?P<address>.*?)(?:\s+\[(?P<label>[^\]]*)\])?", re.IGNORECASE)
_BETWEEN = re.compile(rf"\n|;(?=\s*(?:{'|'.join(KINDS)})\s*:)", re.IGNORECASE)
YES, NO = ("yes", "true", "1", "active", "on"), ("no", "false", "0", "inactive", "off")


@dataclass
class Line:
    """A line of the file: the contact as it would be, and what that changes. `ways` None leaves the ways alone."""

    number: int
    contact: Contact
    ways: list[Way] | None = None
    changes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def is_new(self) -> bool:
        return self.contact.pk is None

    @property
    def missing(self) -> int:
        """Ways that still lack an address."""
        return sum(1 for way in self.ways or () if not way.address)


# --- out ----------------------------------------------------------------------------------------------------------


class _Echo:
    """A file for csv.writer that hands each line on instead of keeping it."""

    def write(self, line: str) -> str:
        return line


def written(contacts: Iterable[Contact]) -> Iterator[str]:
    """The file, line by line. The contacts come with their ways."""
    writer = csv.writer(_Echo())
    yield writer.writerow(COLUMNS)
    for contact in contacts:
        yield writer.writerow([_protected(_cell(contact, column)) for column in COLUMNS])


def _cell(contact: Contact, column: str) -> str:
    if column == "ways":
        return "\n".join(_way_text(way) for way in contact.ways.all())
    if column == "account":
        return contact.user.username if contact.user else ""
    if column == "business_hours":
        return str(contact.business_hours or "")
    if column == "active":
        return "yes" if contact.active else "no"
    return str(getattr(contact, column))


def _way_text(way: Way) -> str:
    label = f" [{way.label}]" if way.label or way.address.endswith("]") else ""
    return f"{way.kind}: {way.address or GAP}{label}"


def _protected(text: str) -> str:
    """Spreadsheet programs run a cell that begins so."""
    return f"'{text}" if text.startswith((*FORMULA_STARTS, "'")) else text


# --- in -----------------------------------------------------------------------------------------------------------


def decoded(data: bytes) -> str:
    """Raises ContactsError for what is no text."""
    if len(data) > MOST_BYTES:
        raise ContactsError("The file is larger than 1 MB. Bring it in in parts.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ContactsError("The file is not UTF-8 text. Save it as “CSV UTF-8” and choose it again.") from None
    if "\0" in text:
        raise ContactsError("The file is no CSV file. Save the list as “CSV UTF-8” and choose it again.")
    return text


def read(text: str) -> list[Line]:
    """Every line with what it would change or what is wrong with it. Nothing is saved.

    Raises ContactsError when the file as a whole cannot be read.
    """
    head = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = _columns(next(reader, []))
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ContactsError(
            f"Line {reader.line_num} is no CSV ({error}). Correct it and choose the file again."
        ) from None
    if not rows:
        raise ContactsError("The file has no contacts below its first line.")
    if len(rows) > MOST_LINES:
        raise ContactsError(f"The file has more than {MOST_LINES:,} contacts. Bring it in in parts.")
    return _Reader(columns).lines(rows)


def _columns(head: Sequence[str]) -> list[str]:
    found = []
    for cell in head:
        plain = cell.strip().lower()
        found.append(OTHER_NAMES.get(plain, plain.replace(" ", "_")))
    if "name" not in found:
        raise ContactsError(
            f"The first line names the columns, and “name” must be one. Known are: {', '.join(COLUMNS)}."
        )
    names = {*COLUMNS, *KINDS}
    if unknown := [cell for cell, name in zip(head, found, strict=True) if name not in names and cell.strip()]:
        raise ContactsError(
            f"The column “{unknown[0].strip()}” is not known. Remove or rename it; known are: "
            f"{', '.join((*COLUMNS, *KINDS))}."
        )
    if twice := {name for name in found if name and found.count(name) > 1}:
        raise ContactsError(f"The column “{twice.pop()}” is there twice. Remove one.")
    if "ways" in found and set(KINDS) & set(found):
        raise ContactsError("Give either the column “ways” or columns for each kind of way, not both.")
    return found


class _Reader:
    """Compares lines with what is there; asks the database once for everything."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns
        rows = Contact.objects.with_ways().select_related("user", "business_hours")
        self.known = {contact.name: contact for contact in rows}
        self.hours = {str(row): row for row in BusinessHours.objects.all()}
        self.users = {user.username: user for user in User.objects.all()}
        self.taken_users = {contact.user_id: contact.name for contact in self.known.values() if contact.user_id}

    def lines(self, rows: Sequence[tuple[int, Sequence[str]]]) -> list[Line]:
        seen: dict[str, int] = {}
        lines = []
        for number, row in rows:
            line = self._line(number, row)
            name = line.contact.name
            if name in seen:
                line.errors.append(f"“{name}” stands in line {seen[name]} already.")
            seen.setdefault(name, number)
            lines.append(line)
        return lines

    def _line(self, number: int, row: Sequence[str]) -> Line:
        cells = {name: _plain(cell) for name, cell in zip(self.columns, row, strict=False) if name}
        known = self.known.get(cells.get("name", ""))
        line = Line(number, known or Contact(name=cells.get("name", "")))
        if len(row) > len(self.columns):
            line.errors.append("The line has more cells than the first line. Put texts with commas into quotes.")
            return line
        before = {name: getattr(line.contact, name) for name in (*TEXTS, "kind", "active")}
        before |= {"business_hours": line.contact.business_hours, "account": line.contact.user}
        for name, cell in cells.items():
            if name not in ("name", "ways", *KINDS):
                self._set(line, name, cell)
        self._set_ways(line, cells)
        self._check(line)
        if not line.errors:
            self._compare(line, before)
        return line

    def _set(self, line: Line, name: str, cell: str) -> None:
        contact = line.contact
        if name in TEXTS:
            setattr(contact, name, "" if is_gap(cell) else cell)
            if name == "time_zone" and not contact.time_zone:
                contact.time_zone = "UTC"
        elif name == "kind":
            kinds = {text.lower(): value for value, label in Contact.Kind.choices for text in (value, label)}
            contact.kind = kinds.get(cell.lower(), "") or ("internal" if not cell else "")
            if not contact.kind:
                line.errors.append(f"“{cell}” is no kind. Write internal, vendor or provider.")
                contact.kind = Contact.Kind.INTERNAL
        elif name == "active":
            if cell and cell.lower() not in (*YES, *NO):
                line.errors.append(f"“{cell}” is neither yes nor no.")
            contact.active = cell.lower() not in NO
        elif name == "business_hours":
            contact.business_hours = self._found(line, self.hours, cell, "There are no business hours called")
        elif name == "account":
            contact.user = user = self._found(line, self.users, cell, "There is no account called")
            if user is not None and self.taken_users.setdefault(user.pk, contact.name) != contact.name:
                line.errors.append(f"The account {cell} belongs to {self.taken_users[user.pk]}.")

    @staticmethod
    def _found(line: Line, rows: dict[str, Any], name: str, otherwise: str) -> Any:
        if not name or is_gap(name):
            return None
        if name not in rows:
            line.errors.append(f"{otherwise} “{name}”.")
        return rows.get(name)

    def _set_ways(self, line: Line, cells: dict[str, str]) -> None:
        if "ways" in cells:
            entries = [text.strip() for text in _BETWEEN.split(cells["ways"]) if text.strip()]
            line.ways = [way for text in entries if (way := _way(line, text)) is not None]
        elif given := [kind for kind in self.columns if kind in KINDS]:
            old = list(line.contact.ways.all()) if line.contact.pk else []
            line.ways = _merged(line, old, {kind: cells.get(kind, "") for kind in given})
        if line.ways is not None:
            twice = {(way.kind, way.address) for way in line.ways}
            if len(twice) != len(line.ways):
                line.errors.append("A way stands there twice.")

    @staticmethod
    def _check(line: Line) -> None:
        try:
            line.contact.full_clean(validate_unique=False, validate_constraints=False, exclude=["user"])
        except ValidationError as error:
            line.errors += [f"{name}: {text}" for name, texts in error.message_dict.items() for text in texts]
        for way in line.ways or ():
            try:
                way.full_clean(exclude=["contact"], validate_unique=False, validate_constraints=False)
            except ValidationError as error:
                line.errors += error.messages

    @staticmethod
    def _compare(line: Line, before: dict[str, Any]) -> None:
        if line.is_new:
            line.changes.append("new")
            return
        contact = line.contact
        after = {name: contact.user if name == "account" else getattr(contact, name) for name in before}
        line.changes = [
            f"{name.replace('_', ' ')}: {_shown(before[name])} → {_shown(after[name])}"
            for name in before
            if before[name] != after[name]
        ]
        if line.ways is not None:
            old, new = [[_way_text(way) for way in ways] for ways in (contact.ways.all(), line.ways)]
            if old != new:
                line.changes.append(f"ways: {_shown('; '.join(old))} → {_shown('; '.join(new))}")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value not in (None, "") else "not set"


def _plain(cell: str) -> str:
    """Without the sign that keeps spreadsheet programs from running it."""
    text = cell.strip().replace("\r\n", "\n").replace("\r", "\n")
    return text[1:] if text.startswith("'") and text[1:].startswith((*FORMULA_STARTS, "'")) else text


def _way(line: Line, text: str) -> Way | None:
    entry = _ENTRY.fullmatch(text)
    if entry is None or entry["kind"].lower() not in KINDS:
        line.errors.append(f"“{text}” is no way. Write, for example, sms: +49 170 1234567.")
        return None
    address, label = entry["address"], entry["label"] or ""
    if not address and label:  # `sms: [Insert phone number]`
        address, label = f"[{label}]", ""
    return _checked(line, entry["kind"].lower(), address, label)


def _checked(line: Line, kind: str, address: str, label: str = "") -> Way:
    try:
        address = cleaned(kind, address)
    except ValidationError as error:
        line.errors += error.messages
    return Way(kind=kind, address=address, label=label.strip())


def _merged(line: Line, old: Sequence[Way], cells: dict[str, str]) -> list[Way]:
    """Each kind that has a column gets what stands there, where the ways of that kind were; the others stay."""
    new = {
        kind: [_checked(line, kind, text) for text in re.split(r"[;\n]", cell) if text.strip()]
        for kind, cell in cells.items()
    }
    labels = {(way.kind, way.address): way.label for way in old}
    for way in [way for ways in new.values() for way in ways]:
        way.label = labels.get((way.kind, way.address), "")
    merged: list[Way] = []
    for way in old:
        if way.kind not in new:
            merged.append(Way(kind=way.kind, address=way.address, label=way.label))
        elif new[way.kind]:
            merged.append(new[way.kind].pop(0))
    return merged + [way for ways in new.values() for way in ways]


def missing_rights(lines: Sequence[Line], by: User) -> str:
    """Why this person may not save them; empty when they may."""
    news = any(line.is_new for line in lines if line.changes)
    changed = any(not line.is_new for line in lines if line.changes)
    if news and not by.has_perm("contacts.add_contact"):
        return "Your role does not allow you to add contacts. Ask an administrator."
    if changed and not by.has_perm("contacts.change_contact"):
        return "Your role does not allow you to change contacts. Ask an administrator."
    return ""
