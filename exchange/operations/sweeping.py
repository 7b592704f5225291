"""What a dead process left behind: every query, and every release of a profile, whose lease ended is resolved
once, whoever sweeps first.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from exchange import profiles, queries
from exchange.errors import InProgress
from exchange.identity import SYSTEM
from exchange.operations import profiling, restraining, settling
from settlement.errors import SettlementError

if TYPE_CHECKING:
    from exchange.market import Market


def sweep(market: Market) -> dict[str, int]:
    """Void what never started, forfeit what started without a result, settle what has one; returns counts.

    Before that, what a freeze was to end is ended, whatever its lease.

    A started release of a profile has no result to settle: it is kept and charged in one transaction.
    """
    done = {**restraining.sweep(market), "settled": 0}
    now = market.store.clock()
    left = [
        partial(_resolve, market, row.id, row.state)
        for row in market.store.read(lambda session: queries.stale(session, now))
    ]
    left += [
        partial(profiling.resolve, market, row)
        for row in market.store.read(lambda session: profiles.stale(session, now))
    ]
    for resolve in left:
        try:
            ending, ended = resolve()
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
