"""Refunds and disputes as the operator sees them, and bank transfers that need two operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import authorizations
from exchange.audit.entry import Entry, MoneyGroup, ObjectGroup
from exchange.identity import Role, new_id
from exchange.operations.administering import checked_credit
from exchange.operations.terms import money, place, token_of
from settlement.money import Money, parse_amount
from settlement.payments import bank_credits, disputes, refunds

if TYPE_CHECKING:
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx
    from settlement.payments.bank_credits import BankCredit
    from settlement.payments.disputes import Dispute
    from settlement.payments.refunds import Refund


@dataclass(frozen=True)
class RequestRefund:
    """Give a payment back, in whole or in part."""

    payment: str
    amount_minor: int
    currency: str
    reason: str
    kind: ClassVar[str] = "refund.requested"
    refused: ClassVar[str] = "refund.refused"

    def entry(self) -> Entry:
        """The audit entry: a refund, with its amount."""
        amount = MoneyGroup(currency=self.currency, amount_minor=self.amount_minor)
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="refund"), money=amount)


@dataclass(frozen=True)
class ProposeCredit:
    """Propose to credit a wallet for a bank transfer above the limit."""

    org: str
    amount_minor: int
    currency: str
    reference: str
    kind: ClassVar[str] = "credit.proposed"
    refused: ClassVar[str] = "credit.refused"

    def entry(self) -> Entry:
        """The audit entry: a credit, with its amount."""
        amount = MoneyGroup(currency=self.currency, amount_minor=self.amount_minor)
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="credit"), money=amount)


@dataclass(frozen=True)
class DecideCredit:
    """Confirm or decline a proposed credit, as another operator."""

    credit: str
    confirmed: bool
    kind: ClassVar[str] = "credit.decided"
    refused: ClassVar[str] = "credit.refused"

    def entry(self) -> Entry:
        """The audit entry: the credit."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="credit", id=self.credit[:64]))


def refund(
    market: Market,
    actor: Actor,
    *,
    payment: str,
    amount: str,
    currency: str,
    reason: str,
    key: str | None,
) -> dict[str, Any]:
    """Hold a refund in the wallet; the worker sends it. RefundTooLarge beyond payment or wallet."""
    actor.require(Role.OPERATOR)
    market.stripe()
    minor = parse_amount(amount, currency)
    command = RequestRefund(payment, minor, currency, reason)

    def work(tx: Tx) -> dict[str, Any]:
        made = refunds.request_refund(
            tx.session,
            id=new_id("rfd"),
            item=new_id("out"),
            payment_intent=payment,
            amount=Money(minor, currency),
            reason=reason,
            actor=actor.ref,
            now=tx.now,
        )
        tx.record(object=ObjectGroup(type="refund", id=made.id))
        return _refund(made)

    return market.store.perform(actor, command, work, key=key).value


def list_refunds(market: Market, actor: Actor) -> dict[str, Any]:
    """A buyer's refunds, or all for an operator."""
    actor.require(Role.BUYER, Role.OPERATOR)
    org = None if actor.role == Role.OPERATOR else actor.org
    return {"items": [_refund(one) for one in market.store.read(lambda s: refunds.refunds_of(s, org))]}


def list_disputes(market: Market, actor: Actor) -> dict[str, Any]:
    """Every dispute with who bears it, newest first; for operators."""
    actor.require(Role.OPERATOR)

    def look(session: Any) -> list[dict[str, Any]]:
        return [_dispute(one, disputes.shares_of(session, one.id)) for one in disputes.disputes(session)]

    return {"items": market.store.read(look)}


def propose_credit(
    market: Market, actor: Actor, *, org: str, amount: str, currency: str, reference: str, key: str | None
) -> dict[str, Any]:
    """Propose a credit for a bank transfer; another operator decides. The same again returns it."""
    actor.require(Role.OPERATOR)
    org_id, minor = checked_credit(market, org=org, amount=amount, currency=currency, reference=reference)
    command = ProposeCredit(org_id, minor, currency, reference)

    def work(tx: Tx) -> dict[str, Any]:
        made = bank_credits.propose(
            tx.session,
            id=new_id("crd"),
            org=org_id,
            amount=Money(minor, currency),
            reference=reference,
            actor=authorizations.subject_of(tx.session, actor.ref),
            now=tx.now,
        )
        tx.record(object=ObjectGroup(type="credit", id=made.id))
        return _credit(made)

    return market.store.perform(actor, command, work, key=key).value


def decide_credit(
    market: Market, actor: Actor, credit: str, *, confirmed: bool, key: str | None
) -> dict[str, Any]:
    """Confirm and book a proposed credit, or decline it. SecondOperatorNeeded for the one who proposed it,
    with whatever token or program.
    """
    actor.require(Role.OPERATOR)

    def work(tx: Tx) -> dict[str, Any]:
        journal = new_id("jnl")
        subject = authorizations.subject_of(tx.session, actor.ref)
        made = bank_credits.decide(
            tx.session, credit, journal=journal, confirmed=confirmed, actor=subject, now=tx.now
        )
        if confirmed:
            tx.record(
                money=MoneyGroup(
                    currency=made.currency,
                    amount_minor=made.amount_minor,
                    journal=journal,
                )
            )
        return _credit(made)

    return market.store.perform(actor, DecideCredit(credit, confirmed), work, key=key).value


def list_credits(market: Market, actor: Actor) -> dict[str, Any]:
    """Proposed credits, newest first; for operators."""
    actor.require(Role.OPERATOR)
    return {"items": [_credit(one) for one in market.store.read(bank_credits.proposals)]}


def page_of_credits(market: Market, actor: Actor, *, limit: int, page_token: str | None) -> dict[str, Any]:
    """The same page by page, those first that wait. Raises RequestInvalid for a token of no page."""
    after = place(page_token)
    actor.require(Role.OPERATOR)
    found = market.store.read(
        lambda session: bank_credits.page_of_proposals(session, limit=limit + 1, after=after)
    )
    more = len(found) > limit
    return {
        "items": [_credit(one) for one in found[:limit]],
        "next_page_token": token_of(bank_credits.place_of(found[limit - 1])) if more else None,
    }


def _refund(made: Refund) -> dict[str, Any]:
    return {
        "refund": made.id,
        "payment": made.payment_intent,
        "org": made.org,
        "state": made.state,
        "amount": money(made.amount_minor, made.currency),
        "reason": made.reason,
        "requested_at": made.requested_at,
    }


def _dispute(one: Dispute, shares: list[tuple[str, int, int]]) -> dict[str, Any]:
    return {
        "dispute": one.id,
        "payment": one.payment_intent,
        "org": one.org,
        "outcome": one.outcome,
        "amount": money(one.amount_minor, one.currency),
        "reason": one.reason,
        "opened_at": one.opened_at,
        "shares": [
            {
                "account": account,
                "share": money(share, one.currency)["amount"],
                "in_suspense": money(moved, one.currency)["amount"],
            }
            for account, share, moved in shares
        ],
    }


def _credit(made: BankCredit) -> dict[str, Any]:
    return {
        "credit": made.id,
        "org": made.org,
        "state": made.state,
        "amount": money(made.amount_minor, made.currency),
        "reference": made.reference,
        "proposed_by": made.proposed_by,
        "decided_by": made.decided_by,
        "proposed_at": made.proposed_at,
    }
