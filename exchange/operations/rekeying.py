"""Master keys: a new one is made, every data key is wrapped under it, and the old one is retired.

Objects stay as they are: of each, some eighty bytes in a table are written anew, in batches that hold nobody
up. Queries go on: a process that meets a key that it does not know reads the file of keys again. A rotation
that was interrupted is taken up where it ended, by the next call.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from catalog import listings
from exchange import data_keys, queries
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import MasterKeyInUse, MasterKeyMissing, NotFound
from exchange.identity import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.market import Market
    from exchange.store import Tx

AT_ONCE, PASSES = 500, 2
"""Data keys that are wrapped anew in one transaction; how often a rotation goes through all of them."""


@dataclass(frozen=True)
class RotateKeys:
    """Put new objects under a new master key."""

    master_key: str
    kind: ClassVar[str] = "keys.rotated"
    refused: ClassVar[str] = "keys.not_rotated"

    def entry(self) -> Entry:
        """The audit entry: the key by its id."""
        return Entry(
            kind=self.kind, outcome="done", object=ObjectGroup(type="master_key", id=self.master_key)
        )


@dataclass(frozen=True)
class RetireKey:
    """Cease to need a master key."""

    master_key: str
    kind: ClassVar[str] = "keys.retired"
    refused: ClassVar[str] = "keys.not_retired"

    def entry(self) -> Entry:
        """The audit entry: the key by its id."""
        return Entry(
            kind=self.kind, outcome="done", object=ObjectGroup(type="master_key", id=self.master_key)
        )


def listed(market: Market) -> dict[str, Any]:
    """The master keys, the newest first, what is under each, and how much is stored in plain by an older
    release.
    """

    def look(session: Session) -> tuple[list[Row[Any]], str, int]:
        plain = listings.plain_parts(session) + queries.plain_results(session)
        return list(data_keys.masters(session)), data_keys.current(session), plain

    rows, current, plain = market.store.read(look)
    here = market.vault.ring.ids()
    keys = [
        {
            "id": row.id,
            "state": "retired" if row.retired_at else "current" if row.id == current else "old",
            "made_at": row.made_at,
            "objects": row.objects,
            "in_file": row.id in here,
        }
        for row in rows
    ]
    return {"keys": keys, "plain_objects": plain}


def rotate(market: Market, *, tell: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Make a new master key the current one and wrap every data key under it.

    Where something is still under another key than the current one, an earlier rotation was interrupted: it
    is ended, and no key is made. A key that somebody added to the file is taken before one is made.

    Args:
        tell: told how many data keys are wrapped anew, and of how many, batch by batch.

    Raises:
        OSError: the file of master keys cannot be written.
        MasterKeyMissing, MasterKeyWrong: a data key cannot be unwrapped; those before it are done.
    """
    market.vault.require()
    rows = market.store.read(data_keys.masters)
    current = market.store.read(data_keys.current)
    resumed = any(row.objects for row in rows if row.id != current)
    if not resumed:
        current = _new_key(market, {row.id for row in rows})
    rewrapped = _rewrap_all(market, current, tell)
    return {"current": current, "resumed": resumed, "rewrapped": rewrapped}


def retire(market: Market, key_id: str) -> dict[str, Any]:
    """Say that a master key is needed no more, and remove it from the file.

    Raises:
        NotFound: there is no such master key.
        MasterKeyInUse: it is the current one, or something is under it.
        OSError: the file of master keys cannot be written; the key is retired, and this may be called again.
    """

    def work(tx: Tx) -> dict[str, Any]:
        found = {row.id: row for row in data_keys.masters(tx.session)}.get(key_id)
        if found is None:
            raise NotFound(f"there is no master key {key_id}")
        if key_id == data_keys.current(tx.session):
            raise MasterKeyInUse(f"{key_id} is the current master key")
        if found.objects:
            raise MasterKeyInUse(f"{found.objects} data keys are still under {key_id}")
        if found.retired_at is None:
            data_keys.retire(tx.session, key_id, now=tx.now)
        return {"id": key_id}

    market.store.perform(SYSTEM, RetireKey(key_id), work)
    market.vault.ring.remove(key_id)
    return {"id": key_id, "state": "retired"}


def _new_key(market: Market, known: set[str]) -> str:
    """A master key that the database does not know yet, first in the file and then in the database: a process
    that is told of it finds it.
    """
    ring = market.vault.ring
    added = [one for one in ring.ids() if one not in known]
    made = added[-1] if added else ring.add()
    proof = ring.proof_of(made)

    def work(tx: Tx) -> dict[str, Any]:
        data_keys.register(tx.session, made, proof, now=tx.now)
        return {"id": made}

    market.store.perform(SYSTEM, RotateKeys(made), work)
    return made


def _rewrap_all(market: Market, current: str, tell: Callable[[int, int], None] | None) -> int:
    """Wrap what is under other keys, and then what came to be under them behind that walk: a process that did
    not know the new key yet wrote it.
    """
    whole = sum(row.objects for row in market.store.read(data_keys.masters) if row.id != current)
    done = 0
    for _ in range(PASSES):
        for batch in _walk(market, current):
            done += batch
            if tell is not None:
                tell(done, max(whole, done))
    return done


def _walk(market: Market, current: str) -> Iterator[int]:
    """Go once through what is under other keys; how many were wrapped anew, batch by batch."""
    ring, after = market.vault.ring, ""
    while rows := market.store.read(
        partial(data_keys.under_others, master=current, after=after, limit=AT_ONCE)
    ):
        if not ring.knows(current):  # else all would hang on what is in this process's memory alone
            raise MasterKeyMissing(f"the master key {current} is not in {ring.path} any more")
        keys = [(row, ring.unwrap(row.master, row.wrapped, row.object)) for row in rows]
        wrapped = [(row, ring.wrap(current, key, row.object)) for row, key in keys]

        def write(session: Session, _: datetime, batch: list[tuple[Row[Any], str]] = wrapped) -> int:
            return sum(data_keys.rewrap(session, row, current, text) for row, text in batch)

        yield market.store.jot(write)
        after = rows[-1].object
