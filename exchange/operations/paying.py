"""The buyer's way to pay: a top-up at Stripe, its state, and the wallet's history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import select

from exchange.audit.entry import Entry, MoneyGroup, ObjectGroup
from exchange.errors import RequestInvalid
from exchange.identity import Role, new_id
from exchange.operations.terms import money
from settlement import ledger
from settlement.errors import StripeRefused
from settlement.ledger import chart
from settlement.money import Money, parse_amount
from settlement.payments import top_ups

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx
    from settlement.payments.top_ups import TopUp
    from settlement.stripe import Checkout


@dataclass(frozen=True)
class RequestTopUp:
    """Ask for a top-up of the own wallet."""

    amount_minor: int
    currency: str
    saved: bool
    kind: ClassVar[str] = "top_up.requested"
    refused: ClassVar[str] = "top_up.refused"

    def entry(self) -> Entry:
        """The audit entry: a top-up, with its amount."""
        amount = MoneyGroup(currency=self.currency, amount_minor=self.amount_minor)
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="top_up"), money=amount)


@dataclass(frozen=True)
class MoveTopUp:
    """Note what Stripe made of a top-up: its page or payment, or nothing."""

    top_up: str
    state: str
    kind: ClassVar[str] = "top_up.moved"
    refused: ClassVar[str] = "top_up.refused"

    def entry(self) -> Entry:
        """The audit entry: the top-up."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="top_up", id=self.top_up))


def top_up(
    market: Market, actor: Actor, *, amount: str, currency: str, saved: bool, key: str | None
) -> dict[str, Any]:
    """Ask for a top-up: the reply names the page to pay on, or the payment with the saved method.

    The wallet is credited when Stripe tells that the money came. Raises StripeMissing, AmountInvalid,
    StripeRefused, StripeUnknown; after the last, the same key asks again without paying twice.
    """
    actor.require(Role.BUYER)
    till = market.stripe()
    wanted = Money(parse_amount(amount, currency), currency)
    if not wanted.amount_minor:
        raise RequestInvalid("the amount must be above zero")
    command = RequestTopUp(wanted.amount_minor, currency, saved)

    def work(tx: Tx) -> dict[str, Any]:
        made = top_ups.request_top_up(
            tx.session,
            id=new_id("top"),
            org=actor.org,
            actor=actor.ref,
            amount=wanted,
            saved_method=saved,
            now=tx.now,
        )
        tx.record(object=ObjectGroup(type="top_up", id=made.id))
        return {"top_up": made.id}

    asked = market.store.perform(actor, command, work, key=key)
    made = _found(market, actor, asked.value["top_up"])
    if made.state != "requested":
        return document(made)
    customer = market.store.read(lambda session: top_ups.customer_of(session, actor.org))
    try:
        customer = customer or till.customer(actor.org, actor.name)
        if saved:
            known = till.find_payment(top_up=made.id, customer=customer) if asked.replayed else None
            at_stripe = known or till.charge_saved(top_up=made.id, customer=customer, amount=wanted)
        else:
            back = f"{market.settings.base_url.rstrip('/')}/wallet"
            at_stripe = till.checkout(top_up=made.id, customer=customer, amount=wanted, back=back)
    except StripeRefused:
        _move(market, actor, made.id, None, customer)
        raise
    _move(market, actor, made.id, at_stripe, customer)
    return document(_found(market, actor, made.id))


def list_top_ups(market: Market, actor: Actor) -> dict[str, Any]:
    """A buyer's top-ups, or all for an operator, newest first."""
    actor.require(Role.BUYER, Role.OPERATOR)
    org = None if actor.role == Role.OPERATOR else actor.org
    return {"items": [document(one) for one in market.store.read(lambda s: top_ups.top_ups_of(s, org))]}


def show_top_up(market: Market, actor: Actor, top_up_id: str) -> dict[str, Any]:
    """One top-up. Raises PaymentMissing, for another organisation's too."""
    actor.require(Role.BUYER)
    return document(_found(market, actor, top_up_id))


def history(market: Market, actor: Actor) -> dict[str, Any]:
    """What moved in a buyer's wallets, oldest first, each with the balance after it."""
    actor.require(Role.BUYER)

    def look(session: Session) -> dict[str, Any]:
        held = ledger.account
        units = session.scalars(
            select(held.c.unit)
            .where(held.c.owner == actor.org, held.c.kind == "buyer_prepaid")
            .order_by(held.c.unit)
        ).all()
        lines = [
            {
                "journal": line.journal,
                "kind": line.kind,
                "at": line.recorded_at,
                **money(line.signed_amount, unit),
                "balance": money(line.balance, unit)["amount"],
            }
            for unit in units
            for line in ledger.statement(session, chart.buyer_prepaid(actor.org, unit))
        ]
        return {"items": lines}

    return market.store.read(look)


def document(made: TopUp) -> dict[str, Any]:
    """A top-up as it is shown."""
    return {
        "top_up": made.id,
        "state": made.state,
        "amount": money(made.amount_minor, made.currency),
        "received": money(made.received_minor, made.currency),
        "payment": made.payment_intent,
        "url": made.url if made.state == "open" else None,
        "saved_method": made.saved_method,
        "requested_at": made.requested_at,
    }


def _found(market: Market, actor: Actor, top_up_id: str) -> TopUp:
    return market.store.read(lambda session: top_ups.find_top_up(session, top_up_id, org=actor.org))


def _move(market: Market, actor: Actor, id_: str, made: Checkout | None, customer: str | None) -> None:
    def work(tx: Tx) -> dict[str, Any]:
        if customer:
            top_ups.remember_customer(tx.session, org=actor.org, customer=customer, now=tx.now)
        if made is None:
            top_ups.ended(tx.session, id_, "failed")
        else:
            top_ups.opened(
                tx.session, id_, checkout=made.session, url=made.url, payment_intent=made.payment_intent
            )
        return {}

    market.store.perform(actor, MoveTopUp(id_, "failed" if made is None else "open"), work)
