"""Disputes: Stripe takes a payment back; whoever has its money now puts it into suspense until the bank
decides.

An event books only what Stripe moved: ``stripe:<dispute>:withdrawn`` and ``:reinstated``, between Stripe and
suspense. Who bears it is worked out by ``cover``, from the ledger as it stands: the wallet for what is
unspent, providers and platform for what the payment bought, payments being spent first in, first out. A lost
dispute turns what could not be moved into what is owed: by a provider as clawback, taken from its later
settlements, by a buyer as receivable, collected from the wallet as soon as it covers it. A won one gives all
back, as payable what would have been by then.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Row, and_, or_, select, update

from settlement import ledger
from settlement.ledger import Leg, chart
from settlement.money import allocate
from settlement.payments import parking, payouts
from settlement.payments.postings import available, booked, moment, post_once, reverse_once
from settlement.payments.tables import dispute, dispute_share
from settlement.schema import insert_once, timestamp

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from settlement.payments.facts import Disputed

_RANK = {"open": 0, "warning": 1, "lost": 2, "won": 3}


_UNSETTLED = and_(
    dispute.c.withdrawn.is_(True),
    or_(
        and_(dispute.c.covered.is_(False), dispute.c.reinstated.is_(False)),
        and_(dispute.c.borne.is_(False), dispute.c.outcome == "lost", dispute.c.reinstated.is_(False)),
        and_(dispute.c.covered.is_(True), dispute.c.returned.is_(False), dispute.c.reinstated.is_(True)),
    ),
)


@dataclass(frozen=True, slots=True)
class Dispute:
    """A payment that its bank takes back; ``outcome`` is "open", "won", "lost" or "warning" (an inquiry's
    end).
    """

    id: str
    payment_intent: str
    org: str
    amount_minor: int
    currency: str
    reason: str
    withdrawn: bool
    reinstated: bool
    outcome: str
    covered: bool
    borne: bool
    returned: bool
    opened_at: str


def disputes(session: Session) -> list[Dispute]:
    """Every dispute, newest first."""
    rows = session.execute(select(dispute).order_by(dispute.c.opened_at.desc(), dispute.c.id))
    return [Dispute(**row._asdict()) for row in rows]


def shares_of(session: Session, dispute_id: str) -> list[tuple[str, int, int]]:
    """Who bears a dispute: (account, share, moved to suspense), in minor units."""
    query = select(dispute_share).where(dispute_share.c.dispute == dispute_id)
    rows = session.execute(query.order_by(dispute_share.c.account))
    return [(row.account, row.share_minor, row.moved_minor) for row in rows]


def apply(session: Session, fact: Disputed, now: datetime) -> None:
    """Book what Stripe moved. What one event does not say another did stays."""
    paid = parking.payment_of(session, fact.payment_intent)
    row = _row_of(session, fact, paid)
    sides = chart.platform_dispute_suspense(fact.currency), chart.external_stripe(fact.currency)
    if fact.withdrawn:
        legs = [Leg(fact.currency, debit=sides[0], credit=sides[1], amount=row.amount_minor)]
        key = f"stripe:{fact.dispute}:withdrawn"
        post_once(session, key=key, kind="dispute_withdrawn", legs=legs, now=now, at=fact.at)
    if fact.reinstated:
        legs = [Leg(fact.currency, debit=sides[1], credit=sides[0], amount=row.amount_minor)]
        key = f"stripe:{fact.dispute}:reinstated"
        post_once(session, key=key, kind="dispute_reinstated", legs=legs, now=now, at=fact.at)
    session.execute(
        update(dispute)
        .where(dispute.c.id == row.id)
        .values(
            withdrawn=row.withdrawn or fact.withdrawn,
            reinstated=row.reinstated or fact.reinstated,
            outcome=max(row.outcome, fact.outcome, key=lambda name: _RANK[name]),
        )
    )


def due(session: Session) -> bool:
    """Whether a dispute's shares are not where they belong, or a wallet covers what it owes for one."""
    if session.execute(select(dispute.c.id).where(_UNSETTLED).limit(1)).first() is not None:
        return True
    return any(available(session, wallet) >= owed for _, wallet, owed in _owed(session))


def settle(session: Session, now: datetime) -> int:
    """Bring every dispute's shares where its state says that they belong; returns how many moved."""
    open_ones = session.execute(
        select(dispute).where(_UNSETTLED).order_by(dispute.c.opened_at, dispute.c.id)
    ).all()
    for row in open_ones:
        _settle(session, Dispute(**row._asdict()), now)
    return len(open_ones)


def collect(session: Session, now: datetime) -> int:
    """Take what buyers owe after lost disputes from wallets that cover it, oldest first; returns how many."""
    done = 0
    for one, wallet, owed in _owed(session):
        if available(session, wallet) < owed:
            continue
        owes = chart.buyer_receivable(one.org, one.currency)
        legs = [Leg(one.currency, debit=wallet, credit=owes, amount=owed)]
        post_once(session, key=f"dispute:{one.id}:collected", kind="dispute_collected", legs=legs, now=now)
        done += 1
    return done


def _owed(session: Session) -> list[tuple[Dispute, str, int]]:
    """Lost disputes of which a buyer still owes a share: the dispute, the wallet, the amount."""
    lost = select(dispute).where(dispute.c.borne.is_(True), dispute.c.reinstated.is_(False))
    owed = []
    for row in session.execute(lost.order_by(dispute.c.opened_at, dispute.c.id)):
        one = Dispute(**row._asdict())
        wallet = chart.buyer_prepaid(one.org, one.currency)
        rest = sum(share - moved for account, share, moved in shares_of(session, one.id) if account == wallet)
        if rest and not booked(session, f"dispute:{one.id}:collected"):
            owed.append((one, wallet, rest))
    return owed


def _settle(session: Session, one: Dispute, now: datetime) -> None:
    values: dict[str, object] = {}
    if one.reinstated:
        for step in ("collected", "borne", "covered"):
            of, key = f"dispute:{one.id}:{step}", f"dispute:{one.id}:{step}_returned"
            reverse_once(session, of=of, key=key, kind="dispute_returned", now=now)
        for account, _, _ in shares_of(session, one.id):
            if account.startswith("provider:"):
                key = f"dispute:{one.id}:given_back:{account}"
                payouts.give_back(session, account, one.currency, key=key, now=now)
        values["returned"] = True
    else:
        if not one.covered:
            _cover(session, one, now)
            values["covered"] = True
        if one.outcome == "lost":
            _bear(session, one, now)
            values["borne"] = True
    session.execute(update(dispute).where(dispute.c.id == one.id).values(values))


def _cover(session: Session, one: Dispute, now: datetime) -> None:
    suspense = chart.platform_dispute_suspense(one.currency)
    legs: list[Leg] = []
    taken: dict[str, int] = defaultdict(int)
    for account, share in _shares(session, one).items():
        moved = 0
        for source in _sources(account, one.currency):
            there = share if source.startswith("platform:") else available(session, source) - taken[source]
            part = min(share - moved, max(0, there))
            if part:
                legs.append(Leg(one.currency, debit=source, credit=suspense, amount=part))
                taken[source] += part
                moved += part
        session.execute(
            dispute_share.insert().values(
                dispute=one.id, account=account, share_minor=share, moved_minor=moved
            )
        )
    post_once(session, key=f"dispute:{one.id}:covered", kind="dispute_covered", legs=legs, now=now)


def _bear(session: Session, one: Dispute, now: datetime) -> None:
    suspense = chart.platform_dispute_suspense(one.currency)
    legs = []
    for account, share, moved in shares_of(session, one.id):
        if share > moved:
            owner = account.split(":")[1]
            if account.startswith("provider:"):
                owes = chart.provider_clawback(owner, one.currency)
            else:
                owes = chart.buyer_receivable(owner, one.currency)
            legs.append(Leg(one.currency, debit=owes, credit=suspense, amount=share - moved))
    post_once(session, key=f"dispute:{one.id}:borne", kind="dispute_borne", legs=legs, now=now)


def _sources(account: str, currency: str) -> list[str]:
    """Where a share is taken from: a provider's payable, then what is held back of it for such cases."""
    if account.startswith("provider:"):
        return [account, chart.provider_holdback(account.split(":")[1], currency)]
    return [account]


def _shares(session: Session, one: Dispute) -> dict[str, int]:
    """Account -> share of the disputed amount; they add up to it exactly."""
    wallet = chart.buyer_prepaid(one.org, one.currency)
    unspent, bought = _spent_of(session, wallet, f"stripe:{one.payment_intent}:captured")
    from_wallet = min(one.amount_minor, unspent)
    rest = one.amount_minor - from_wallet
    accounts = sorted(bought)
    shares: dict[str, int] = defaultdict(int)
    shares[wallet] = from_wallet
    if rest and accounts:
        parts = allocate(rest, [bought[account] for account in accounts])
        for account, part in zip(accounts, parts, strict=True):
            earns = account.startswith("platform:") or ":payable:" in account
            shares[account if earns and account != _suspense(one) else wallet] += part
    else:
        shares[wallet] += rest
    return {account: share for account, share in sorted(shares.items()) if share}


def _suspense(one: Dispute) -> str:
    return chart.platform_dispute_suspense(one.currency)


def _spent_of(session: Session, wallet: str, capture: str) -> tuple[int, dict[str, int]]:
    """What is unspent of one payment, and what the rest went to: counterpart account -> amount.

    Money is spent first in, first out, by the dates of the facts.
    """
    lines = sorted(ledger.statement(session, wallet), key=lambda line: (line.effective_at, line.business_key))
    lots = [(line.business_key, line.signed_amount) for line in lines if line.signed_amount > 0]
    left = [amount for _, amount in lots]
    bought: dict[str, int] = defaultdict(int)
    position = 0
    for line in lines:
        spent = -line.signed_amount
        while spent > 0 and position < len(lots):
            part = min(spent, left[position])
            left[position] -= part
            spent -= part
            if part and lots[position][0] == capture:
                bought[line.counterpart] += part
            position += not left[position]
    return sum(rest for (key, _), rest in zip(lots, left, strict=True) if key == capture), bought


def _row_of(session: Session, fact: Disputed, paid: Row[tuple[object, ...]]) -> Row[tuple[object, ...]]:
    values = {
        "id": fact.dispute,
        "payment_intent": fact.payment_intent,
        "org": paid.org,
        "amount_minor": fact.amount_minor,
        "currency": fact.currency,
        "reason": fact.reason,
        "withdrawn": False,
        "reinstated": False,
        "outcome": "open",
        "covered": False,
        "borne": False,
        "returned": False,
        "opened_at": timestamp(moment(fact.at)),
    }
    session.execute(insert_once(session, dispute).values(values).on_conflict_do_nothing())
    return session.execute(select(dispute).where(dispute.c.id == fact.dispute)).one()
