"""What is not kept for ever: answers, for so many days, the keys under which calls may be repeated, what let
somebody in and has ended, and uploads that nobody goes on with. What a legal hold is on is kept all the same.

Of an answer its bytes go, and the released numbers behind it that no other answer stands on. Its row, its
entries and its receipt stay, and verify; nothing was returned, so nothing is charged back.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from catalog.errors import CatalogError
from exchange import data_keys, queries, restraints, store
from exchange.audit.entry import Entry, ObjectGroup, QueryGroup, ResultGroup
from exchange.errors import InProgress, LegalHold, MarketError
from exchange.identity import SYSTEM
from exchange.operations import results, settling, tidying

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.market import Market
    from exchange.store import Tx

_ANSWERS, _KEYS = 100, 5_000
"""At most so many are read at a time, and forgotten in one transaction."""

_LOG = logging.getLogger("exchange.worker")


@dataclass(frozen=True)
class ExpireAnswer:
    """Cease to keep the answer of a query."""

    query: str
    kind: ClassVar[str] = "answer.expired"
    refused: ClassVar[str] = "answer.kept"

    def entry(self) -> Entry:
        """The audit entry: the query."""
        about = ObjectGroup(type="query", id=self.query)
        return Entry(kind=self.kind, outcome="done", object=about, query=QueryGroup(id=self.query))


@dataclass(frozen=True)
class ForgetKeys:
    """Forget idempotency keys that were used before a moment."""

    before: str
    kind: ClassVar[str] = "keys.forgotten"
    refused: ClassVar[str] = "keys.kept"

    def entry(self) -> Entry:
        """The audit entry: the exchange as a whole."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="exchange", id="keys"))


def round_once(market: Market) -> dict[str, int]:
    """Expire what is due and forget what is old, with copies in the database's files; returns counts. What a
    legal hold is on is kept, and ``held`` says how many answers that is.
    """
    gone = {
        "answers": _expire_answers(market),
        "keys": _forget_keys(market),
        "records": tidying.tidy(market),
        "uploads": _purge_uploads(market),
        "held": _held(market),
    }
    market.store.scrub()
    return gone


def noted(market: Market) -> bool:
    """Note which released numbers stand behind results that were kept before that was noted with them.

    Returns whether it is known of all: one that cannot be read is looked at again the next time.
    """
    after, known = "", True
    while rows := market.store.read(partial(queries.unnoted, after=after, limit=_ANSWERS)):
        for row in rows:
            known &= _note(market, row)
        after = rows[-1].id
    return known


def _note(market: Market, row: Row[Any]) -> bool:
    try:
        behind = results.released_of(market.vault.read(row.result_sha256))
    except (CatalogError, MarketError, OSError, ValueError) as error:
        _LOG.warning("the answer of %s cannot be read: %s", row.id, type(error).__name__)
        return False
    market.store.jot(lambda session, _: queries.note_released(session, row.id, behind or ""))
    return True


def _expire_answers(market: Market) -> int:
    """Batch after batch, until nothing is left that is due."""
    until, unheld = _expires_before(market), restraints.unheld()
    known, expired = noted(market), 0
    while due := market.store.read(
        lambda session: queries.kept_until(session, until, limit=_ANSWERS, only=unheld)
    ):
        expired += sum(_expire(market, row, known=known) for row in due)
        if len(due) < _ANSWERS:
            break
    return expired


def _held(market: Market) -> int:
    until = _expires_before(market)
    return market.store.read(lambda session: restraints.kept_by_holds(session, due_before=until))


def _expires_before(market: Market) -> datetime:
    return market.store.clock() - timedelta(days=market.settings.answer_days)


def _expire(market: Market, row: Row[Any], *, known: bool) -> bool:
    """First the books say that the answer is gone, and its key goes with that; then it goes itself. A process
    that dies between leaves bytes that nobody can read, and that :mod:`exchange.operations.collecting` finds.

    Args:
        known: whether all answers name the released numbers behind them; else those stay.
    """
    behind, unneeded = row.released_sha256 if known else None, list[str]()

    def work(tx: Tx) -> dict[str, Any]:
        restraints.require_unheld_query(tx.session, row.id)
        queries.expire_result(tx.session, row.id, at=tx.now)
        unneeded[:] = _locked_away(tx.session, {row.result_sha256, behind} if behind else {row.result_sha256})
        tx.record(
            object=settling.subject(row.id, row.refines, row.version, row.slug),
            result=ResultGroup(sha256=row.result_sha256, bytes=row.result_bytes),
        )
        return {"query": row.id}

    try:
        market.store.perform(SYSTEM, ExpireAnswer(row.id), work)
    except (InProgress, LegalHold):
        return False  # another worker was first, or an officer, a moment ago
    for stored in unneeded:
        _discard(market, stored)
    return True


def _locked_away(session: Session, digests: set[str]) -> list[str]:
    """Forget the keys of what no answer stands on; the objects that held it."""
    unused = digests - queries.named(session, digests)
    return [data_keys.forget(session, sha256) or sha256 for sha256 in unused]


def _discard(market: Market, stored: str) -> None:
    try:
        market.objects.discard(stored)
    except (CatalogError, OSError) as error:  # it is collected later
        _LOG.warning("an object of an expired answer was not removed: %s", type(error).__name__)


def _purge_uploads(market: Market) -> int:
    """The quarantine may be of a web process's user alone: what else is no longer kept goes all the same."""
    try:
        return tidying.purge_uploads(market)
    except OSError as error:
        _LOG.warning("abandoned uploads are not purged: %s", type(error).__name__)
        return 0


def _forget_keys(market: Market) -> int:
    """Batch after batch, each a command of its own, until none is left that is old enough."""
    before = market.store.clock() - timedelta(days=market.settings.idempotency_days)
    stamp, forgotten = before.isoformat(timespec="microseconds"), 0
    held = restraints.held_organisations()
    while market.store.read(lambda session: store.oldest_key(session, but=held) or stamp) < stamp:
        done = market.store.perform(SYSTEM, ForgetKeys(stamp), lambda tx: _forget(tx, before))
        forgotten += done.value["keys"]
        if done.value["keys"] < _KEYS:
            break
    return forgotten


def _forget(tx: Tx, before: datetime) -> dict[str, Any]:
    held = restraints.held_organisations()
    return {"keys": store.forget_keys(tx.session, before, but=held, limit=_KEYS)}
