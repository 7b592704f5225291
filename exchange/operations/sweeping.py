"""What a dead process left behind: every query whose lease ended is resolved once, whoever sweeps first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange import queries
from exchange.errors import InProgress
from exchange.identity import SYSTEM
from exchange.operations import settling
from settlement.errors import SettlementError

if TYPE_CHECKING:
    from exchange.market import Market


def sweep(market: Market) -> dict[str, int]:
    """Void what never started, forfeit what started without a result, settle what has one; returns counts."""
    done = {"voided": 0, "forfeited": 0, "settled": 0}
    now = market.store.clock()
    for row in market.store.read(lambda session: queries.stale(session, now)):
        try:
            ending, ended = _resolve(market, row.id, row.state)
            done[ending] += ended
        except (InProgress, SettlementError):
            continue  # another process was first; its entry is in the log
    return done


def _resolve(market: Market, query_id: str, state: str) -> tuple[str, bool]:
    """How the query ended, and whether it was this sweeper that ended it."""
    if state == queries.RESERVED:
        return "voided", settling.void(market, SYSTEM, query_id)
    if state == queries.EXECUTING:
        return "forfeited", settling.forfeit(market, SYSTEM, query_id, code="lease_ended")
    return "settled", settling.settle(market, SYSTEM, query_id)
