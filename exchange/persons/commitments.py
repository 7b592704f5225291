"""Whom an entry of the log concerns: the leaf says it by a commitment, which can be opened while the person's
key is there, and never after (docs/decisions/0038-erasure.md).

An entry concerns the person or the member that it is about, else the person who acted.
"""

from __future__ import annotations

import dataclasses
import hmac
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from exchange.data_keys import data_key
from exchange.persons import subjects
from exchange.persons.tables import membership, person

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.orm import Session

    from exchange.audit.entry import Entry

_PERSON = "per_"


def committed(session: Session, entry: Entry) -> Entry:
    """The entry with its commitment, where it concerns a person who is not erased."""
    for who in _concerned(session, entry.object, entry.actor):
        found = _opening(session, who, str(entry.id))
        if found is not None and entry.id is not None:
            return dataclasses.replace(entry, pii_commitment=_value(found))
    return entry


def opening(session: Session, document: Mapping[str, Any]) -> dict[str, str] | None:
    """What opens a leaf's commitment: ``login``, ``person`` and ``salt`` (hex), which anybody can hold
    against it. None where it has none, and where the person was erased.
    """
    for who in _concerned(session, document["object"], document["actor"]):
        found = _opening(session, who, document["id"])
        if found is not None and hmac.compare_digest(_value(found), document["pii_commitment"] or ""):
            return found
    return None


def _concerned(session: Session, about: Any, actor: Any) -> Iterator[str]:
    """Ids of persons, the nearest first."""
    about, actor = about or {}, actor or {}
    if about.get("type") == "member" and about.get("id"):
        found = select(membership.c.person).where(membership.c.id == about["id"])
        yield from session.scalars(found).all()
    for one in (about.get("id"), actor.get("ref")):
        if one and one.startswith(_PERSON):
            yield one


def _opening(session: Session, who: str, entry_id: str) -> dict[str, str] | None:
    keys = data_key.c
    found = select(person.c.sealed, keys.object, keys.master, keys.wrapped).join(
        data_key, keys.object == person.c.id
    )
    row = session.execute(found.where(person.c.id == who)).one_or_none()
    if row is None:
        return None
    keeper = subjects.of(session)
    known = keeper.opened(row, person.name, row.sealed)
    return {"login": known["login"], "person": who, "salt": keeper.salt(row, entry_id).hex()}


def _value(opening: Mapping[str, str]) -> str:
    identity = {name: opening[name] for name in ("login", "person")}
    return subjects.commitment(bytes.fromhex(opening["salt"]), identity)
