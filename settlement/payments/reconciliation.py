"""Stripe's balance transactions against the ledger: every one is matched, or is a break of a named class.

    missing_in_ledger   Stripe moved money that no entry explains
    missing_at_stripe   an entry of a day ago that Stripe's list does not have
    amount_differs      both have it, with different amounts
    currency_differs    both have it, in different currencies
    duplicate           a second transaction for one entry
    unknown_type        a kind of transaction that the books have no rule for
    balance_differs     Stripe's balance is not the sum of its own list
    event_waits         an event whose parent did not come within a day
    outcome_unknown     a call whose outcome is still unknown after a day

Stripe's fees, and what goes between it and the platform's bank, are known from the list alone, so they are
booked from it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Row, bindparam, case, func, select, update

from settlement.documents import canonical
from settlement.ledger import Leg, chart, journal, transfer
from settlement.payments import parking
from settlement.payments.facts import from_stripe
from settlement.payments.postings import booked, post_once
from settlement.payments.tables import balance_transaction, outbox, reconciliation
from settlement.schema import insert_once, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.orm import Session

#: What may still be on its way between Stripe's list and the ledger.
GRACE = timedelta(days=1)
#: How long reconciliations must have been clean before payouts go by themselves, and how fresh the last one
#: is.
CLEAN_FOR, FRESH = timedelta(days=2), timedelta(hours=26)
#: Transactions this far back are read again with every run.
OVERLAP = timedelta(days=3)

_CAPTURES = {"charge", "payment"}
_NAMED = {
    "refund": "refunded",
    "payment_refund": "refunded",
    "refund_failure": "returned",
    "payment_failure_refund": "returned",
    "transfer": "transferred",
    "transfer_refund": "reversed",
}
_FEES = {"stripe_fee", "stripe_fx_fee", "tax_fee"}
_TO_BANK = {
    "payout": "paid_out",
    "payout_failure": "payout_returned",
    "payout_cancel": "payout_returned",
    "topup": "topped_up",
    "topup_reversal": "topup_returned",
}
_OF_EVENTS = ("captured", "refunded", "returned", "withdrawn", "reinstated", "transferred", "reversed")


@dataclass(frozen=True, slots=True)
class Movement:
    """One balance transaction as Stripe lists it: amounts in Stripe's units, ``amount - fee = net``.

    ``source`` is the object that it is about; of a charge, ``payment_intent`` is the payment.
    """

    id: str
    type: str
    amount: int
    fee: int
    net: int
    currency: str
    source: str
    payment_intent: str | None
    created: int


@dataclass(frozen=True, slots=True)
class Break:
    """Something that does not match: its class, what it is about, and an amount where there is one."""

    kind: str
    about: str
    amount_minor: int | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One reconciliation: when, how many transactions it knew, and its breaks."""

    id: str
    ran_at: str
    transactions: int
    breaks: tuple[Break, ...]

    @property
    def clean(self) -> bool:
        """True without breaks."""
        return not self.breaks


def read_from(session: Session) -> int:
    """Unix time from which Stripe's list is read: three days before the newest transaction known, or 0."""
    newest = session.scalar(select(func.max(balance_transaction.c.created)))
    return max(0, newest - int(OVERLAP.total_seconds())) if newest else 0


def reconcile(
    session: Session,
    *,
    id: str,  # noqa: A002
    movements: Iterable[Movement],
    balances: Mapping[str, int] | None,
    now: datetime,
) -> Run:
    """Take Stripe's list in, match what can be matched, book fees, and keep the run with all that is broken.

    ``balances``: Stripe's own balance by currency in its units, available and pending together.
    """
    for one in movements:
        _keep(session, one, now)
    for row in session.execute(
        select(balance_transaction)
        .where(balance_transaction.c.verdict != "matched")
        .order_by(balance_transaction.c.created, balance_transaction.c.id)
    ).all():
        verdict = _verdict(session, row, now)
        session.execute(
            update(balance_transaction).where(balance_transaction.c.id == row.id).values(verdict=verdict)
        )
    breaks = (*_unmatched(session), *_unexplained(session, now), *_balances(session, balances))
    breaks = (*breaks, *_waiting(session, now))
    known = int(session.scalar(select(func.count()).select_from(balance_transaction)) or 0)
    run = Run(id, timestamp(now), known, breaks)
    session.execute(
        reconciliation.insert().values(
            id=id,
            ran_at=run.ran_at,
            transactions=known,
            breaks=len(breaks),
            document=canonical([asdict(one) for one in breaks]),
        )
    )
    return run


def latest_run(session: Session) -> Run | None:
    """The last reconciliation."""
    row = session.execute(
        select(reconciliation).order_by(reconciliation.c.ran_at.desc(), reconciliation.c.id).limit(1)
    ).one_or_none()
    if row is None:
        return None
    breaks = tuple(Break(**one) for one in json.loads(row.document))
    return Run(row.id, row.ran_at, row.transactions, breaks)


def pays_by_itself(session: Session, now: datetime) -> bool:
    """Whether two clean days allow automatic payouts.

    The last run is clean and fresh, none of the last two days found a break, and one of two days ago or more
    was clean too.
    """
    query = select(reconciliation.c.ran_at, reconciliation.c.breaks)
    rows = session.execute(query.order_by(reconciliation.c.ran_at.desc())).all()
    if not rows or rows[0].ran_at < timestamp(now - FRESH):
        return False
    for row in rows:
        if row.breaks:
            return False
        if row.ran_at <= timestamp(now - CLEAN_FOR):
            return True
    return False


def effect(session: Session, key: str, account: str) -> int | None:
    """What the entry with this key posted to an account (credits positive); None without such an entry."""
    head = session.scalar(_ENTRY_WITH, {"key": key})
    return None if head is None else int(session.scalar(_POSTED_TO, {"entry": head, "to": account}) or 0)


_ENTRY_WITH = select(journal.c.id).where(journal.c.business_key == bindparam("key"))
_ACCOUNT = bindparam("to", type_=transfer.c.credit.type)
_POSTED_TO = select(
    func.coalesce(
        func.sum(case((transfer.c.credit == _ACCOUNT, transfer.c.amount), else_=-transfer.c.amount)), 0
    )
).where(
    transfer.c.journal == bindparam("entry"),
    transfer.c.phase.in_(("single", "post")),
    (transfer.c.credit == _ACCOUNT) | (transfer.c.debit == _ACCOUNT),
)


def _keep(session: Session, one: Movement, now: datetime) -> None:
    amount, currency = from_stripe(one.amount, one.currency)
    values = {
        "id": one.id,
        "type": one.type,
        "amount_minor": amount,
        "fee_minor": from_stripe(one.fee, one.currency)[0],
        "net_minor": from_stripe(one.net, one.currency)[0],
        "currency": currency,
        "source": one.source,
        "matches": _key(one),
        "created": one.created,
        "verdict": "new",
        "seen_at": timestamp(now),
    }
    session.execute(insert_once(session, balance_transaction).values(values).on_conflict_do_nothing())


def _key(one: Movement) -> str | None:
    """The business key of the entry that explains a transaction; None for a type without a rule."""
    if one.type in _CAPTURES:
        return f"stripe:{one.payment_intent or one.source}:captured"
    if one.type in _NAMED:
        return f"stripe:{one.source}:{_NAMED[one.type]}"
    if one.type == "adjustment" and one.source.startswith(("dp_", "du_")):
        return f"stripe:{one.source}:{'withdrawn' if one.amount < 0 else 'reinstated'}"
    if one.type in _TO_BANK:
        return f"stripe:{one.source}:{_TO_BANK[one.type]}"
    return f"stripe:{one.id}:charged" if one.type in _FEES else None


def _verdict(session: Session, row: Row[tuple[object, ...]], now: datetime) -> str:
    if row.matches is None:
        return "unknown_type"
    _book_from_list(session, row, now)
    taken = select(balance_transaction.c.id).where(
        balance_transaction.c.matches == row.matches,
        balance_transaction.c.verdict == "matched",
        balance_transaction.c.id != row.id,
    )
    if session.scalar(taken) is not None:
        return "duplicate"
    if not booked(session, row.matches):
        return "missing_in_ledger"
    moved = effect(session, row.matches, chart.external_stripe(row.currency))
    if moved == 0:
        return "currency_differs"
    if moved != -row.amount_minor:
        return "amount_differs"
    _book_fee(session, row, now)
    return "matched"


def _book_from_list(session: Session, row: Row[tuple[object, ...]], now: datetime) -> None:
    world = chart.external_stripe(row.currency)
    if row.type in _TO_BANK:
        other, kind = chart.external_bank(row.currency), "stripe_paid_out"
    elif row.type in _FEES:
        other, kind = chart.platform_stripe_fees(row.currency), "stripe_fee"
    else:
        return
    if row.amount_minor:
        chart.open_currency(session, row.currency)
        sides = (other, world) if row.amount_minor < 0 else (world, other)
        legs = [Leg(row.currency, debit=sides[0], credit=sides[1], amount=abs(row.amount_minor))]
        post_once(session, key=row.matches, kind=kind, legs=legs, now=now, at=row.created)


def _book_fee(session: Session, row: Row[tuple[object, ...]], now: datetime) -> None:
    if row.fee_minor:
        sides = chart.platform_stripe_fees(row.currency), chart.external_stripe(row.currency)
        debit, credit = sides if row.fee_minor > 0 else sides[::-1]
        legs = [Leg(row.currency, debit=debit, credit=credit, amount=abs(row.fee_minor))]
        post_once(session, key=f"stripe:{row.id}:fee", kind="stripe_fee", legs=legs, now=now, at=row.created)


def _unmatched(session: Session) -> list[Break]:
    rows = session.execute(
        select(balance_transaction)
        .where(balance_transaction.c.verdict != "matched")
        .order_by(balance_transaction.c.created, balance_transaction.c.id)
    )
    return [Break(row.verdict, row.id, row.amount_minor, row.currency) for row in rows]


def _unexplained(session: Session, now: datetime) -> list[Break]:
    """Entries of a day ago, about what Stripe moved, that no transaction of its list matches."""
    matched = select(balance_transaction.c.matches).where(balance_transaction.c.matches.is_not(None))
    query = select(journal.c.business_key).where(
        journal.c.business_key.startswith("stripe:"),
        journal.c.recorded_at < timestamp(now - GRACE),
        journal.c.business_key.not_in(matched),
    )
    keys = [key for key in session.scalars(query.order_by(journal.c.position)) if key.endswith(_OF_EVENTS)]
    return [Break("missing_at_stripe", key) for key in keys]


def _balances(session: Session, balances: Mapping[str, int] | None) -> list[Break]:
    if balances is None:
        return []
    listed: dict[str, int] = defaultdict(int)
    sums = select(balance_transaction.c.currency, func.sum(balance_transaction.c.net_minor))
    for currency, total in session.execute(sums.group_by(balance_transaction.c.currency)):
        listed[currency] = int(total)
    told = dict(from_stripe(amount, currency)[::-1] for currency, amount in balances.items())
    return [
        Break("balance_differs", f"balance:{currency}", told.get(currency, 0) - listed[currency], currency)
        for currency in sorted({*told, *listed})
        if told.get(currency, 0) != listed[currency]
    ]


def _waiting(session: Session, now: datetime) -> list[Break]:
    old = timestamp(now - GRACE)
    found = [Break("event_waits", row.id) for row in parking.waiting(session) if row.parked_at < old]
    lost = select(outbox.c.id).where(
        outbox.c.state.in_(("unknown", "failed500", "sending")), outbox.c.first_sent_at < old
    )
    return found + [Break("outcome_unknown", item) for item in session.scalars(lost.order_by(outbox.c.id))]
