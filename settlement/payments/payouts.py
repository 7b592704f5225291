"""Money out: one payout for each provider, currency and period, split into clawback, holdback and a transfer.

    waiting -> sent | failed      (failed: the money is payable again, with the next period)

What is paid is held in the ledger from the moment the period is closed, so no payout can exceed what is
payable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Row, func, select, update

from settlement import ledger
from settlement.errors import AmountInvalid, PaymentMissing, PaymentState
from settlement.ledger import Leg, chart
from settlement.payments import outbox
from settlement.payments.facts import to_stripe
from settlement.payments.parking import ParentMissing
from settlement.payments.postings import available, booked, journal_id, post_once, posted, posted_before
from settlement.payments.tables import connected_account, payout, recovery
from settlement.schema import insert_once, timestamp, waiting_first

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy.orm import Session

    from settlement.payments.facts import AccountSeen, Transferred


@dataclass(frozen=True, slots=True)
class Payout:
    """What one provider gets for one period: ``gross = clawback + holdback + amount``, in minor units.

    ``method`` is "stripe" (a transfer), "bank" (an operator sends it) or "none" (nothing is left to send).
    ``state`` is "waiting", "sent", "failed" or "nothing".
    """

    id: str
    provider: str
    currency: str
    period: str
    gross_minor: int
    clawback_minor: int
    holdback_minor: int
    amount_minor: int
    method: str
    destination: str | None
    state: str
    reserve_journal: str | None
    approved_by: str | None
    reference: str | None
    closed_at: str
    sent_at: str | None
    release_at: str
    released: bool


@dataclass(frozen=True, slots=True)
class _Split:
    gross: int
    clawback: int
    holdback: int

    @property
    def amount(self) -> int:
        return self.gross - self.clawback - self.holdback


def close_period(
    session: Session,
    *,
    id: str,  # noqa: A002
    item: str,
    provider: str,
    currency: str,
    period: str,
    until: datetime,
    holdback_percent: int,
    holdback_for: timedelta,
    now: datetime,
) -> Payout | None:
    """Settle what a provider earned before ``until`` and was not paid; None where there is nothing.

    What it owes after lost disputes comes first, then the holdback (rounded up), then the transfer, which
    goes into the outbox as ``item`` if the provider has an active account at Stripe. A period is closed once.
    """
    kept = select(payout).where(
        payout.c.provider == provider, payout.c.currency == currency, payout.c.period == period
    )
    row = session.execute(kept).one_or_none()
    if row is not None:
        return _from_row(row)
    payable = chart.provider_payable(provider, currency)
    earned = posted_before(session, payable, timestamp(until))
    gross = min(available(session, payable), earned)
    if gross <= 0:
        return None
    clawback = min(gross, _owed(session, provider, currency))
    split = _Split(gross, clawback, -((clawback - gross) * holdback_percent // 100))
    account = _active_account(session, provider)
    method = (
        ("stripe" if account and _sendable(split.amount, currency) else "bank") if split.amount else "none"
    )
    made = Payout(
        id=id,
        provider=provider,
        currency=currency,
        period=period,
        gross_minor=gross,
        clawback_minor=split.clawback,
        holdback_minor=split.holdback,
        amount_minor=split.amount,
        method=method,
        destination=account if method == "stripe" else None,
        state="waiting" if split.amount else "nothing",
        reserve_journal=journal_id(f"payout:{id}:reserved") if split.amount else None,
        approved_by=None,
        reference=None,
        closed_at=timestamp(now),
        sent_at=None,
        release_at=timestamp(now + holdback_for),
        released=split.holdback == 0,
    )
    session.execute(payout.insert().values({name: getattr(made, name) for name in Payout.__slots__}))
    _book(session, made, now)
    if method == "stripe":
        outbox.put(session, id=item, kind="transfer", subject=id, body=_transfer(made, item), now=now)
    return made


def find_payout(session: Session, payout_id: str, *, provider: str | None = None) -> Payout:
    """A payout; PaymentMissing for an unknown one, and for another provider's where ``provider`` is given."""
    row = session.execute(select(payout).where(payout.c.id == payout_id)).one_or_none()
    if row is None or provider not in (None, row.provider):
        raise PaymentMissing("There is no such payout.")
    return _from_row(row)


def payouts_of(session: Session, provider: str | None = None) -> list[Payout]:
    """Payouts, newest first: a provider's, or all."""
    query = select(payout).order_by(payout.c.closed_at.desc(), payout.c.id)
    if provider is not None:
        query = query.where(payout.c.provider == provider)
    return [_from_row(row) for row in session.execute(query)]


def page_of_payouts(
    session: Session, provider: str | None, *, limit: int, after: tuple[int, str, str] | None
) -> list[Payout]:
    """The same page by page, those first that wait to be sent; ``after`` is a :func:`place_of`."""
    query = select(payout) if provider is None else select(payout).where(payout.c.provider == provider)
    waits, order = payout.c.state == "waiting", (payout.c.closed_at, payout.c.id)
    return [
        _from_row(row)
        for row in session.execute(waiting_first(query, waits, *order, limit=limit, after=after))
    ]


def place_of(one: Payout) -> tuple[int, str, str]:
    """Where a payout stands among all."""
    return int(one.state != "waiting"), one.closed_at, one.id


def payable_providers(session: Session) -> list[tuple[str, str]]:
    """(provider, currency) of every provider with something payable."""
    held = ledger.account.c
    query = select(held.owner, held.unit).where(
        held.kind == "provider_payable",
        held.credits_posted - held.debits_posted - held.debits_pending > 0,
    )
    return [(row.owner, row.unit) for row in session.execute(query.order_by(held.owner, held.unit))]


def approve(session: Session, payout_id: str, *, actor: str) -> Payout:
    """Let a transfer go although automatic payouts are held. PaymentState unless it waits for Stripe."""
    found = find_payout(session, payout_id)
    if found.state != "waiting" or found.method != "stripe":
        raise PaymentState(f"Payout {payout_id} is {found.state} and goes by {found.method}.")
    session.execute(update(payout).where(payout.c.id == payout_id).values(approved_by=actor))
    return find_payout(session, payout_id)


def confirm_bank(session: Session, payout_id: str, *, reference: str, actor: str, now: datetime) -> Payout:
    """An operator sent the payout by bank, under the bank's ``reference``. PaymentState unless it waits for
    that.
    """
    found = find_payout(session, payout_id)
    if found.state != "waiting" or found.method != "bank" or found.reserve_journal is None:
        raise PaymentState(f"Payout {payout_id} is {found.state} and goes by {found.method}.")
    key = f"bank:payout:{reference}"
    _resolve(session, found, key=key, kind="payout_sent", phase="post", actor=actor, now=now)
    values = {"state": "sent", "reference": reference, "approved_by": actor, "sent_at": timestamp(now)}
    session.execute(update(payout).where(payout.c.id == payout_id).values(values))
    return find_payout(session, payout_id)


def fail(session: Session, payout_id: str, now: datetime) -> None:
    """Stripe refused the transfer for good: its amount is payable again."""
    found = find_payout(session, payout_id)
    if found.state != "waiting":
        return
    key = f"payout:{payout_id}:voided"
    _resolve(session, found, key=key, kind="payout_voided", phase="void", actor="stripe", now=now)
    session.execute(update(payout).where(payout.c.id == payout_id).values(state="failed"))


def apply(session: Session, fact: Transferred, now: datetime) -> None:
    """Book a transfer that Stripe made, and what came back of it, each once."""
    item = outbox.find_item(session, fact.item)
    if item is None:
        raise ParentMissing(fact.item)
    if item.kind != "transfer":
        return
    found = find_payout(session, item.subject)
    key = f"stripe:{fact.transfer}:transferred"
    if found.state == "waiting" and not booked(session, key):
        _resolve(session, found, key=key, kind="payout_sent", phase="post", actor="stripe", now=now)
        outbox.done(session, item.id, fact.transfer)
        values = {"state": "sent", "reference": fact.transfer, "sent_at": timestamp(now)}
        session.execute(update(payout).where(payout.c.id == found.id).values(values))
    for reversal, amount in fact.reversals:
        reversed_back(session, found, reversal=reversal, amount_minor=amount, now=now)


def reversed_back(
    session: Session, found: Payout, *, reversal: str, amount_minor: int, now: datetime
) -> None:
    """A reversal brought money back from a provider: towards what it owes."""
    legs = [
        Leg(
            found.currency,
            debit=chart.external_stripe(found.currency),
            credit=chart.provider_clawback(found.provider, found.currency),
            amount=amount_minor,
        )
    ]
    post_once(session, key=f"stripe:{reversal}:reversed", kind="transfer_reversed", legs=legs, now=now)


def due(session: Session, now: datetime) -> bool:
    """Whether a holdback's time is over."""
    query = select(payout.c.id).where(payout.c.released.is_(False), payout.c.release_at <= timestamp(now))
    return session.execute(query.limit(1)).first() is not None


def is_due(session: Session, *, provider: str, currency: str, period: str, until: datetime) -> bool:
    """Whether a period is still to be closed for a provider, and something of it is payable."""
    kept = select(payout.c.id).where(
        payout.c.provider == provider, payout.c.currency == currency, payout.c.period == period
    )
    if session.scalar(kept) is not None:
        return False
    payable = chart.provider_payable(provider, currency)
    return min(available(session, payable), posted_before(session, payable, timestamp(until))) > 0


def release_holdbacks(session: Session, now: datetime) -> int:
    """Give back holdbacks whose time is over, as far as disputes left them; returns how many."""
    rows = session.execute(
        select(payout)
        .where(payout.c.released.is_(False), payout.c.release_at <= timestamp(now))
        .order_by(payout.c.release_at, payout.c.id)
    ).all()
    for row in rows:
        held = chart.provider_holdback(row.provider, row.currency)
        part = min(row.holdback_minor, available(session, held))
        if part:
            payable = chart.provider_payable(row.provider, row.currency)
            legs = [Leg(row.currency, debit=held, credit=payable, amount=part)]
            key = f"payout:{row.id}:released"
            post_once(session, key=key, kind="holdback_released", legs=legs, now=now)
        session.execute(update(payout).where(payout.c.id == row.id).values(released=True))
    return len(rows)


def give_back(session: Session, account: str, currency: str, *, key: str, now: datetime) -> None:
    """Make payable what a won dispute returned of a payable's holdback, or of a debt that was paid meanwhile.

    A holdback keeps what payouts will still release of it; what is above that would be released by nobody.
    """
    provider = account.split(":")[1]
    kept = select(func.coalesce(func.sum(payout.c.holdback_minor), 0)).where(
        payout.c.provider == provider, payout.c.currency == currency, payout.c.released.is_(False)
    )
    held, debt = chart.provider_holdback(provider, currency), chart.provider_clawback(provider, currency)
    parts = (
        (held, available(session, held) - int(session.scalar(kept) or 0)),
        (debt, posted(session, debt)),
    )
    legs = [Leg(currency, debit=of, credit=account, amount=part) for of, part in parts if part > 0]
    post_once(session, key=key, kind="holdback_released", legs=legs, now=now)


def ask_back(
    session: Session,
    *,
    id: str,  # noqa: A002
    item: str,
    payout_id: str,
    amount_minor: int,
    actor: str,
    now: datetime,
) -> None:
    """Ask money back of a sent transfer, towards what the provider owes; into the outbox as ``item``.

    PaymentState where the payout was not sent by Stripe; AmountInvalid above its amount or above the debt,
    less what was asked back before.
    """
    found = find_payout(session, payout_id)
    if found.state != "sent" or found.method != "stripe":
        raise PaymentState(f"Payout {payout_id} is {found.state} and goes by {found.method}.")
    asked = select(func.coalesce(func.sum(recovery.c.amount_minor), 0)).where(
        recovery.c.payout == payout_id, recovery.c.state != "refused"
    )
    left = found.amount_minor - int(session.scalar(asked) or 0)
    if not 0 < amount_minor <= min(left, _owed(session, found.provider, found.currency)):
        raise AmountInvalid("Only what the provider owes after lost disputes can be asked back, and once.")
    session.execute(
        recovery.insert().values(
            id=id,
            payout=payout_id,
            amount_minor=amount_minor,
            currency=found.currency,
            state="requested",
            requested_by=actor,
            requested_at=timestamp(now),
        )
    )
    body = {
        "transfer": found.reference,
        "amount": to_stripe(amount_minor, found.currency),
        "metadata": {"outbox": item, "recovery": id},
    }
    outbox.put(session, id=item, kind="reversal", subject=id, body=body, now=now)


def recovered(session: Session, recovery_id: str, *, reversal: str, now: datetime) -> None:
    """Stripe reversed the transfer: the provider's debt is smaller by it."""
    row = session.execute(select(recovery).where(recovery.c.id == recovery_id)).one()
    found = find_payout(session, row.payout)
    reversed_back(session, found, reversal=reversal, amount_minor=row.amount_minor, now=now)
    session.execute(update(recovery).where(recovery.c.id == recovery_id).values(state="recovered"))


def not_recovered(session: Session, recovery_id: str) -> None:
    """The provider's balance at Stripe does not cover the reversal: the debt stays for later settlements."""
    refused = update(recovery).where(recovery.c.id == recovery_id, recovery.c.state == "requested")
    session.execute(refused.values(state="refused"))


def connect(session: Session, *, account: str, org: str, now: datetime) -> None:
    """Keep a provider's connected account, once."""
    values = {
        "account": account,
        "org": org,
        "active": False,
        "seen_created": 0,
        "seen_event": "",
        "created_at": timestamp(now),
    }
    session.execute(insert_once(session, connected_account).values(values).on_conflict_do_nothing())


def account_of(session: Session, org: str) -> tuple[str, bool] | None:
    """A provider's connected account, and whether transfers to it are possible."""
    row = session.execute(select(connected_account).where(connected_account.c.org == org)).one_or_none()
    return None if row is None else (row.account, row.active)


def is_connected(session: Session, account: str) -> bool:
    """Whether an account at Stripe is one of our providers'."""
    known = select(connected_account.c.account).where(connected_account.c.account == account)
    return session.scalar(known) is not None


def see_account(session: Session, fact: AccountSeen) -> None:
    """Keep the newest state of a connected account; ties go to the larger event id."""
    seen = session.execute(
        select(connected_account).where(connected_account.c.account == fact.account)
    ).one_or_none()
    if seen is None:
        raise ParentMissing(fact.account)
    if (fact.created, fact.event) > (seen.seen_created, seen.seen_event):
        values = {"active": fact.active, "seen_created": fact.created, "seen_event": fact.event}
        session.execute(
            update(connected_account).where(connected_account.c.account == fact.account).values(values)
        )


def _owed(session: Session, provider: str, currency: str) -> int:
    """A provider's debt after lost disputes, less what a transfer's reversal is asked to bring back of it."""
    asked = (
        select(func.coalesce(func.sum(recovery.c.amount_minor), 0))
        .join(payout, payout.c.id == recovery.c.payout)
        .where(payout.c.provider == provider, payout.c.currency == currency, recovery.c.state == "requested")
    )
    debt = -posted(session, chart.provider_clawback(provider, currency))
    return max(0, debt - int(session.scalar(asked) or 0))


def _book(session: Session, made: Payout, now: datetime) -> None:
    payable = chart.provider_payable(made.provider, made.currency)
    parts = (
        (chart.provider_clawback(made.provider, made.currency), made.clawback_minor),
        (chart.provider_holdback(made.provider, made.currency), made.holdback_minor),
    )
    legs = [Leg(made.currency, debit=payable, credit=to, amount=part) for to, part in parts if part]
    post_once(session, key=f"payout:{made.id}:settled", kind="payout_settled", legs=legs, now=now)
    if made.amount_minor:
        world = chart.external_stripe if made.method == "stripe" else chart.external_bank
        key = f"payout:{made.id}:reserved"
        ledger.reserve(
            session,
            journal=journal_id(key),
            kind="payout_reserved",
            business_key=key,
            actor="payouts",
            now=now,
            legs=[Leg(made.currency, debit=payable, credit=world(made.currency), amount=made.amount_minor)],
        )


def _resolve(
    session: Session,
    found: Payout,
    *,
    key: str,
    kind: str,
    phase: ledger.Resolution,
    actor: str,
    now: datetime,
) -> None:
    assert found.reserve_journal is not None
    ledger.resolve(
        session,
        pending_journal=found.reserve_journal,
        journal=journal_id(key),
        kind=kind,
        business_key=key,
        actor=actor,
        now=now,
        phases=phase,
    )


def _transfer(made: Payout, item: str) -> dict[str, object]:
    return {
        "amount": to_stripe(made.amount_minor, made.currency),
        "currency": made.currency.lower(),
        "destination": made.destination,
        "transfer_group": item,
        "description": f"Period {made.period}",
        "metadata": {"outbox": item, "payout": made.id, "provider": made.provider, "period": made.period},
    }


def _sendable(amount_minor: int, currency: str) -> bool:
    try:
        to_stripe(amount_minor, currency)
    except AmountInvalid:
        return False
    return True


def _active_account(session: Session, provider: str) -> str | None:
    found = account_of(session, provider)
    return found[0] if found and found[1] else None


def _from_row(row: Row[tuple[object, ...]]) -> Payout:
    return Payout(**row._asdict())
