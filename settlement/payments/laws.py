"""L8, L10 and L11: what must always hold of money in and out. Each yields sentences; none: the law holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from settlement import ledger
from settlement.ledger import chart, journal, transfer
from settlement.payments.events import stored_facts
from settlement.payments.facts import Captured, Disputed, Fact, Refunded, Transferred
from settlement.payments.reconciliation import effect
from settlement.payments.tables import balance_transaction, dispute, outbox, payout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

_OF_EVENTS = (
    "payment_captured",
    "payment_refunded",
    "refund_returned",
    "dispute_withdrawn",
    "dispute_reinstated",
    "payout_sent",
    "transfer_reversed",
)


def check_events(session: Session) -> list[str]:
    """L8: the entries of Stripe's events are those that the set of stored events makes, in whatever order it
    came.

    Replies to our own calls may have booked what an event is still to tell.
    """
    wanted: dict[str, tuple[int, str]] = {}
    for fact in stored_facts(session):
        wanted |= dict(_entries(session, fact))
    findings = []
    for key, (amount, currency) in sorted(wanted.items()):
        moved = effect(session, key, chart.external_stripe(currency))
        if moved is None:
            findings.append(f"{key} is told by an event and is not in the ledger")
        elif abs(moved) != amount:
            findings.append(f"{key} moved {abs(moved)}, its events say {amount}")
    replied = set(session.scalars(select(outbox.c.stripe_id).where(outbox.c.stripe_id.is_not(None))))
    query = select(journal.c.business_key).where(
        journal.c.kind.in_(_OF_EVENTS), journal.c.business_key.startswith("stripe:")
    )
    for key in session.scalars(query.order_by(journal.c.business_key)):
        if key not in wanted and key.split(":")[1] not in replied:
            findings.append(f"{key} is in the ledger and no event tells it")
    return findings


def check_reconciled(session: Session) -> list[str]:
    """L10: what matched of the Stripe account equals Stripe's balance transactions, one for one."""
    findings: list[str] = []
    rows = session.execute(
        select(balance_transaction)
        .where(balance_transaction.c.verdict == "matched")
        .order_by(balance_transaction.c.id)
    ).all()
    seen: set[str] = set()
    for row in rows:
        account = chart.external_stripe(row.currency)
        fee = effect(session, f"stripe:{row.id}:fee", account) or 0
        if row.matches in seen:
            findings.append(f"{row.id} is matched with {row.matches}, which another transaction explains")
        seen.add(row.matches)
        if (effect(session, row.matches, account) or 0) != -row.amount_minor:
            findings.append(f"{row.id} moved another amount than {row.matches}")
        if fee != row.fee_minor or row.net_minor != row.amount_minor - row.fee_minor:
            findings.append(f"{row.id} has another fee or net than the ledger")
    stray = (
        select(journal.c.business_key)
        .join(transfer, transfer.c.journal == journal.c.id)
        .where(
            transfer.c.phase.in_(("single", "post")),
            (transfer.c.debit.startswith("external:stripe:"))
            | (transfer.c.credit.startswith("external:stripe:")),
            ~journal.c.business_key.startswith("stripe:"),
        )
        .distinct()
    )
    return findings + [f"{key} moves Stripe's account and is not Stripe's" for key in session.scalars(stray)]


def check_payouts(session: Session) -> list[str]:
    """L11: no payout is made twice, none is above what was payable less clawback, holdback and disputes."""
    findings: list[str] = []
    for row in session.execute(select(payout).order_by(payout.c.id)).all():
        world = chart.external_stripe if row.method == "stripe" else chart.external_bank
        key = (
            f"stripe:{row.reference}:transferred"
            if row.method == "stripe"
            else f"bank:payout:{row.reference}"
        )
        sent = effect(session, key, world(row.currency)) if row.reference else None
        if row.state == "sent" and sent != row.amount_minor:
            findings.append(f"{row.id} is sent and its entry did not move its amount")
        if row.state != "sent" and sent is not None:
            findings.append(f"{row.id} is {row.state} and has an entry that sent it")
        taken = effect(
            session, f"payout:{row.id}:settled", chart.provider_payable(row.provider, row.currency)
        )
        if (taken or 0) != -(row.clawback_minor + row.holdback_minor):
            findings.append(f"{row.id} kept back another amount than its entry")
        held = session.scalar(
            select(func.sum(transfer.c.amount)).where(transfer.c.journal == row.reserve_journal)
        )
        if int(held or 0) != row.amount_minor:
            findings.append(f"{row.id} holds another amount than it pays")
        ended = session.scalar(
            select(func.count())
            .select_from(transfer)
            .where(transfer.c.pending_id == ledger.transfer_id(str(row.reserve_journal), 0))
        )
        if (ended or 0) != (row.state in ("sent", "failed")):
            findings.append(f"{row.id} is {row.state} and its hold is not resolved accordingly")
    calls = (
        select(outbox.c.subject)
        .where(outbox.c.kind == "transfer")
        .group_by(outbox.c.subject)
        .having(func.count() > 1)
    )
    return findings + [f"{subject} is in the outbox twice" for subject in session.scalars(calls)]


#: Law -> its check.
CHECKS = {"L8": check_events, "L10": check_reconciled, "L11": check_payouts}


def _entries(session: Session, fact: Fact) -> Iterator[tuple[str, tuple[int, str]]]:
    """The entries that a fact stands for: business key -> amount and currency."""
    match fact:
        case Captured():
            yield f"stripe:{fact.payment_intent}:captured", (fact.received_minor, fact.currency)
        case Refunded():
            yield f"stripe:{fact.refund}:refunded", (fact.amount_minor, fact.currency)
            if fact.failed:
                yield f"stripe:{fact.refund}:returned", (fact.amount_minor, fact.currency)
        case Disputed():
            kept = session.scalar(select(dispute.c.amount_minor).where(dispute.c.id == fact.dispute))
            amount = fact.amount_minor if kept is None else kept
            if fact.withdrawn:
                yield f"stripe:{fact.dispute}:withdrawn", (amount, fact.currency)
            if fact.reinstated:
                yield f"stripe:{fact.dispute}:reinstated", (amount, fact.currency)
        case Transferred():
            item = outbox_subject(session, fact.item)
            if item is not None:
                yield f"stripe:{fact.transfer}:transferred", (fact.amount_minor, fact.currency)
                for reversal, amount in fact.reversals:
                    yield f"stripe:{reversal}:reversed", (amount, fact.currency)
        case _:
            return


def outbox_subject(session: Session, item: str) -> str | None:
    """The payout of a transfer's item."""
    query = select(outbox.c.subject).where(outbox.c.id == item, outbox.c.kind == "transfer")
    return session.scalar(query)
