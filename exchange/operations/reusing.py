"""What an organisation was told before of a version, and what that spares: released numbers serve again.

A sum over the same bounded rows is charged once. Asked for no more rho than was paid it is free, however the
statement around it is written; asked for more, it costs the difference in rho, and where all that is asked is
the same question, the difference in price (docs/decisions/0009-refinement-costs-the-difference.md).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import add
from typing import TYPE_CHECKING, Any

import privacy
from catalog.errors import NotFound
from exchange import queries
from exchange.operations import listing, results
from settlement.prices import charge

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.market import Market
    from exchange.operations.quoting import Question
    from settlement.prices import Charge, PricePlan, Standing

_MOST_ANSWERS = 8  # so many earlier answers are looked at, the dearest first
_REMEMBERED = 32


@dataclass(frozen=True)
class Reuse:
    """What is known of a plan's question before it is asked.

    ``latest`` is the organisation's settled query of the same question for which most was spent, ``refines``
    the same id where the plan draws more noise on top of it. What was spent on it, and paid, in all its steps
    is ``rho_before_nano`` and ``paid_before_minor``; both are 0 where nothing is refined. What an allowance
    covered of it was not priced: ``priced_before_nano`` is the rest. A question about public tables has no
    digest: there is nothing to spare.
    """

    question_sha256: str | None
    latest: str | None = None
    refines: str | None = None
    rho_before_nano: int = 0
    paid_before_minor: int = 0
    priced_before_nano: int = 0

    def charge(self, plan: PricePlan, standing: Standing, rho_nano: int) -> Charge:
        """What so much more rho costs under a price plan, with what is left of what was paid for."""
        return charge(
            plan,
            standing,
            rho_nano,
            before_nano=self.priced_before_nano,
            paid_minor=self.paid_before_minor,
        )


def with_earlier(
    market: Market, org: str, view: ListingView, asked: Question, plan: privacy.Plan, currency: str
) -> tuple[privacy.Plan, Reuse]:
    """The plan with all that the organisation was told before, and what becomes of its price."""
    if not plan.private:
        return plan, Reuse(None)
    same, question = {"org": org, "version": view.version_id}, question_sha256(plan)

    def look(session: Session) -> tuple[Row[Any] | None, list[Row[Any]]]:
        told = queries.told_before(session, **same, bounds=plan.bound_digests, limit=_MOST_ANSWERS)
        latest = queries.asked_before(session, **same, question_sha256=question)
        return latest, [*([latest] if latest else []), *(row for row in told if row != latest)]

    latest, told = market.store.read(look)
    earlier = [one for row in told if (one := _released(market, row)) is not None]
    if not earlier:
        return plan, Reuse(question, latest.id if latest else None)
    whole = plan.cost.rho_nano
    plan = listing.planned(view, asked.sql, asked.ask, asked.options, earlier=reduce(add, earlier))
    return plan, _reuse(plan, whole, question, latest, currency)


def question_sha256(plan: privacy.Plan) -> str:
    """Names the sums over bounded rows that a plan asks for, whatever their noise and the public part."""
    asked = [[one.bound_digest, sorted(one.sums.values())] for one in plan.releases]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _reuse(
    plan: privacy.Plan, whole_nano: int, question: str, latest: Row[Any] | None, currency: str
) -> Reuse:
    """``whole_nano`` is what the plan would spend without the earlier numbers."""
    if latest is None:
        return Reuse(question)
    spared = min(whole_nano - plan.cost.rho_nano, latest.rho_before_nano + latest.rho_nano)
    if spared == 0 or plan.cost.rho_nano == 0:
        return Reuse(question, latest.id)
    paid = latest.paid_before_minor + latest.worth_minor if latest.currency == currency else 0
    priced = min(spared, latest.priced_before_nano + latest.rho_nano - latest.covered_nano)
    return Reuse(question, latest.id, latest.id, spared, paid, priced)


def _released(market: Market, row: Row[Any]) -> privacy.Released | None:
    """The numbers behind a settled answer, whose bytes are fixed by the log; None where none are kept."""
    try:
        kept = results.released_of(market.vault.read(row.result_sha256))
        return None if kept is None else _parsed(kept, market.vault.read)
    except (privacy.ReleasedInvalid, NotFound, FileNotFoundError):
        return None  # of an earlier format, or expired a moment ago: the question is then asked anew


@lru_cache(maxsize=_REMEMBERED)
def _parsed(sha256: str, read: Any) -> privacy.Released:
    return privacy.Released.from_bytes(read(sha256))
