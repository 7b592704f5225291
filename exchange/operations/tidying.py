"""What has ended and is of no use: records of signing in, and uploads that nobody goes on with.

Batch after batch, each a command with an entry, so that no transaction is long however much there is.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import and_, delete, or_, select

from exchange import authorizations, credentials, listing_drafts, notifications, quarantine, restraints
from exchange.audit.entry import Entry, ObjectGroup
from exchange.identity import SYSTEM
from exchange.operations.uploading import folder
from exchange.persons import accounts, factors, sessions, throttling

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement
    from sqlalchemy.orm import Session

    from exchange.market import Market
    from exchange.store import Tx

KEEPERS = (
    authorizations,
    credentials,
    accounts,
    factors,
    sessions,
    throttling,
    notifications,
    listing_drafts,
)
"""Whoever keeps records that end says which of them are over."""

_RECORDS, _UPLOADS = 1_000, 100
ABANDONED = timedelta(days=1)


@dataclass(frozen=True)
class ForgetRecords:
    """Forget records that ended."""

    table: str
    before: str
    kind: ClassVar[str] = "records.forgotten"
    refused: ClassVar[str] = "records.kept"

    def entry(self) -> Entry:
        """The audit entry: the table; a record of somebody is not named."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="exchange", id=self.table))


@dataclass(frozen=True)
class PurgeUploads:
    """Forget uploads that nobody went on with."""

    uploads: tuple[str, ...]
    kind: ClassVar[str] = "uploads.purged"
    refused: ClassVar[str] = "uploads.kept"

    def entry(self) -> Entry:
        """The audit entry: the quarantine."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="exchange", id="quarantine"))


def tidy(market: Market) -> int:
    """Forget every record that is over, but of organisations that a legal hold is on; returns how many."""
    now = market.store.clock()
    return sum(
        _forget(market, key, _unheld(key, ended), now.isoformat(timespec="microseconds"))
        for keeper in KEEPERS
        for key, ended in keeper.over(now)
    )


def purge_uploads(market: Market) -> int:
    """Purge uploads that began a day ago and got no bytes for a day, but of organisations that a legal hold
    is on, and those that a draft of a listing waits with; returns how many.

    First they are forgotten, then their bytes go. A process that dies between leaves files of uploads that
    nobody knows, which the next round removes.
    """
    place, purged, after = folder(market), 0, ""
    before = market.store.clock() - ABANDONED
    day = ABANDONED.total_seconds()
    held = restraints.held_organisations()
    needed = listing_drafts.waiting_uploads(market.store.clock())
    begun = partial(quarantine.begun, before=before, but=held, needed=needed, limit=_UPLOADS)
    while found := market.store.read(partial(begun, after=after)):
        after = found[-1]
        gone = _forget_uploads(market, tuple(quarantine.untouched(place, found, day)))
        for upload in gone:
            quarantine.discard(place, upload)
        purged += len(gone)
    names = quarantine.files(place)
    while some := list(itertools.islice(names, _UPLOADS)):
        nobodys = set(some) - market.store.read(partial(quarantine.known, ids=some))
        for upload in quarantine.untouched(place, nobodys, day):
            quarantine.discard(place, upload)
    return purged


def _forget_uploads(market: Market, ids: tuple[str, ...]) -> list[str]:
    """Forget those of these that no hold is on when they go: it may have come since they were listed."""

    def work(tx: Tx) -> dict[str, Any]:
        held, needed = restraints.held_organisations(), listing_drafts.waiting_uploads(tx.now)
        return {"uploads": quarantine.forget(tx.session, ids, but=held, needed=needed)}

    return market.store.perform(SYSTEM, PurgeUploads(ids), work).value["uploads"] if ids else []


def _unheld(key: Column[Any], ended: ColumnElement[bool]) -> ColumnElement[bool]:
    """Of records that name their organisation, those of one that is not held."""
    org = key.table.c.get("org")
    return (
        ended if org is None else and_(ended, or_(org.is_(None), org.not_in(restraints.held_organisations())))
    )


def _forget(market: Market, key: Column[Any], ended: ColumnElement[bool], before: str) -> int:
    name, total = str(key.table.name), 0

    def is_left(session: Session) -> bool:
        return session.execute(select(key).where(ended).limit(1)).first() is not None

    def work(tx: Tx) -> dict[str, Any]:
        some = select(key).where(ended).limit(_RECORDS)
        gone = tx.session.execute(delete(key.table).where(key.in_(some), ended))
        return {"records": int(gone.rowcount)}  # type: ignore[attr-defined]

    while market.store.read(is_left):
        total += int(market.store.perform(SYSTEM, ForgetRecords(name, before), work).value["records"])
    return total
