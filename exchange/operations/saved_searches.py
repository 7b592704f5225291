"""Searches of the log that an officer keeps under a name. They are the person's own, or the token's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import delete as delete_from
from sqlalchemy import func, insert, or_, select, update

from exchange import authorizations
from exchange.alerts.tables import saved_search
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import NotFound, RequestInvalid
from exchange.identity import Role, new_id
from exchange.operations.auditing import FILTERS, TIMES, note_reading
from exchange.operations.terms import moment
from exchange.store import our_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Outcome, Tx

MOST = 50
_LONGEST_NAME, _LONGEST_FILTER = 80, 200
_READERS = (Role.OFFICER, Role.OPERATOR)


@dataclass(frozen=True)
class SaveSearch:
    """Keep a search under a name."""

    name: str
    filters: str
    kind: ClassVar[str] = "search.saved"
    refused: ClassVar[str] = "search.refused"

    def entry(self) -> Entry:
        """The audit entry: a search. Neither its name nor what is searched for is in it."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="search"))


@dataclass(frozen=True)
class RenameSearch:
    """Give a saved search another name."""

    search: str
    name: str
    kind: ClassVar[str] = "search.renamed"
    refused: ClassVar[str] = "search.refused"

    def entry(self) -> Entry:
        """The audit entry: the search."""
        return Entry(
            kind=self.kind, outcome="done", object=ObjectGroup(type="search", id=our_id(self.search))
        )


@dataclass(frozen=True)
class DeleteSearch:
    """Delete a saved search."""

    search: str
    kind: ClassVar[str] = "search.deleted"
    refused: ClassVar[str] = "search.refused"

    def entry(self) -> Entry:
        """The audit entry: the search."""
        return Entry(
            kind=self.kind, outcome="done", object=ObjectGroup(type="search", id=our_id(self.search))
        )


def searches(market: Market, actor: Actor) -> dict[str, Any]:
    """One's own saved searches, by name."""
    note_reading(market, actor, "searches", "")
    return market.store.read(lambda session: {"items": of_owner(session, actor)})


def of_owner(session: Session, actor: Actor) -> list[dict[str, Any]]:
    """The same for a page that notes its reading itself."""
    found = select(saved_search).where(*_own(actor)).order_by(saved_search.c.name)
    return [_told(row) for row in session.execute(found)]


def save(
    market: Market, actor: Actor, name: str, filters: Mapping[str, Any], *, key: str | None = None
) -> dict[str, Any]:
    """Save filters of the log's search under a name, at most 50.

    Raises RequestInvalid for a name that one has already, and for filters that the search does not know.
    """

    def work(tx: Tx) -> dict[str, Any]:
        tx.actor.require(*_READERS)
        wanted = _filters(filters)
        held = select(func.count()).select_from(saved_search).where(*_own(tx.actor))
        if tx.session.execute(held).scalar_one() >= MOST:
            raise RequestInvalid(f"you have {MOST} saved searches", hint="Delete one that you do not need.")
        made = {"id": new_id("sea"), "name": _free_name(tx.session, tx.actor, name)}
        owner = {"org": tx.actor.org, "owner": tx.actor.ref}
        at = tx.now.isoformat(timespec="microseconds")
        kept = json.dumps(wanted, sort_keys=True)
        tx.session.execute(insert(saved_search).values(**made, **owner, filters=kept, created_at=at))
        tx.record(object=ObjectGroup(type="search", id=made["id"]))
        return {"search": made["id"]}

    command = SaveSearch(name[:_LONGEST_NAME], json.dumps(filters, sort_keys=True, default=str))
    return _after(market, actor, market.store.perform(actor, command, work, key=key))


def rename(
    market: Market, actor: Actor, search_id: str, name: str, *, key: str | None = None
) -> dict[str, Any]:
    """Give one of one's own another name. Raises NotFound, RequestInvalid."""

    def work(tx: Tx) -> dict[str, Any]:
        tx.actor.require(*_READERS)
        row = _find(tx.session, tx.actor, search_id)
        if row.name != name.strip():
            fresh = _free_name(tx.session, tx.actor, name)
            tx.session.execute(update(saved_search).where(saved_search.c.id == search_id).values(name=fresh))
        return {"search": search_id}

    command = RenameSearch(search_id, name[: _LONGEST_NAME + 1])
    return _after(market, actor, market.store.perform(actor, command, work, key=key))


def delete(market: Market, actor: Actor, search_id: str, *, key: str | None = None) -> dict[str, Any]:
    """Delete one of one's own. Raises NotFound."""

    def work(tx: Tx) -> dict[str, Any]:
        tx.actor.require(*_READERS)
        _find(tx.session, tx.actor, search_id)
        tx.session.execute(delete_from(saved_search).where(saved_search.c.id == search_id))
        return {"search": search_id}

    return market.store.perform(actor, DeleteSearch(search_id), work, key=key).value


def forget(session: Session, person: str) -> None:
    """Delete what a person saved, also by programs that the person let in."""
    programs = authorizations.of_subject(person)
    theirs = or_(saved_search.c.owner == person, saved_search.c.owner.in_(programs))
    session.execute(delete_from(saved_search).where(theirs))


def _after(market: Market, actor: Actor, done: Outcome) -> dict[str, Any]:
    """The search as it is now: no outcome that is kept for repeats holds its name or filters."""
    search_id = done.value["search"]
    return market.store.read(lambda session: _told(_find(session, actor, search_id)))


def _own(actor: Actor) -> tuple[ColumnElement[bool], ...]:
    return saved_search.c.org == actor.org, saved_search.c.owner == actor.ref


def _find(session: Session, actor: Actor, search_id: str) -> Row[Any]:
    found = select(saved_search).where(saved_search.c.id == search_id, *_own(actor))
    row = session.execute(found).one_or_none()
    if row is None:
        raise NotFound("there is no such saved search")
    return row


def _free_name(session: Session, actor: Actor, name: str) -> str:
    name = name.strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise RequestInvalid(f"a saved search's name has 1 to {_LONGEST_NAME} printable characters")
    same = select(saved_search.c.id).where(*_own(actor), saved_search.c.name == name)
    if session.execute(same).first() is not None:
        raise RequestInvalid("you have a saved search of this name", hint="Choose another name.")
    return name


def _filters(given: Mapping[str, Any]) -> dict[str, str]:
    """The filters that are not empty. Raises RequestInvalid, which names one that there is not."""
    unknown = sorted(set(given) - set(FILTERS))
    if unknown:
        raise RequestInvalid("a filter that the search does not know", hint=f"Known: {', '.join(FILTERS)}.")
    wanted = {name: value.strip() if isinstance(value, str) else value for name, value in given.items()}
    wanted = {name: value for name, value in wanted.items() if value}
    for name, value in wanted.items():
        if not isinstance(value, str) or len(value) > _LONGEST_FILTER:
            raise RequestInvalid(f"the filter {name} is a text of at most {_LONGEST_FILTER} characters")
        if name in TIMES:
            moment(name, value)
    if not wanted:
        raise RequestInvalid("there is nothing to save", hint="Give at least one filter.")
    return wanted


def _told(row: Row[Any]) -> dict[str, Any]:
    return {
        "search": row.id,
        "name": row.name,
        "filters": json.loads(row.filters),
        "created_at": row.created_at,
    }
