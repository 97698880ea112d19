"""What escalations are about, as the rooms that own it know it.

An escalation names its subject by type and number only. Whoever owns subjects that not everybody may touch says so
here when the portal starts; without a word, the permission to answer escalations is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from contacts.models import Escalation
from core.models import User


@dataclass(frozen=True)
class Owner:
    """may_act     whether a person may act on the escalation of this subject
    said        what others may read of a reason that somebody has typed; keeps the rest where it may stand. Called in
                the transaction of the change, with the subject locked
    """

    may_act: Callable[[User, int], bool]
    said: Callable[[User | None, int, str], str]


_owners: dict[str, Owner] = {}


def register(subject_type: str, owner: Owner) -> None:
    """`subject_type` is a model, such as incidents.incident."""
    _owners[subject_type] = owner


def may_act(user: User, row: Escalation) -> bool:
    owner = _owners.get(row.subject_type)
    return owner is None or owner.may_act(user, row.subject_id)


def said(user: User | None, row: Escalation, reason: str) -> str:
    owner = _owners.get(row.subject_type)
    return reason if owner is None or not reason else owner.said(user, row.subject_id, reason)
