"""Webhooks: verified, stored and applied in one transaction; nothing is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange.audit.entry import Entry, MoneyGroup, ObjectGroup
from exchange.errors import StripeMissing
from exchange.identity import Actor
from settlement.errors import WebhookRefused
from settlement.payments import events, facts, payouts, postings
from settlement.stripe import verified

if TYPE_CHECKING:
    from exchange.market import Market
    from exchange.store import Tx

#: Whose word a webhook is.
STRIPE = Actor(ref="stripe", org="stripe", name="Stripe", role="system", auth="webhook")


@dataclass(frozen=True)
class ReceiveEvent:
    """Take in an event of Stripe's, once by its id."""

    event: str
    kind: ClassVar[str] = "payment_event.received"
    refused: ClassVar[str] = "payment_event.refused"

    def entry(self) -> Entry:
        """The audit entry: the event by Stripe's id."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="payment_event", id=self.event))


def receive(market: Market, actor: Actor, *, payload: bytes, signature: str | None) -> dict[str, Any]:
    """Take a webhook in; the same event again changes nothing. Raises WebhookRefused, StripeMissing."""
    secrets = [one.strip() for one in market.settings.stripe_webhook_secret.split(",") if one.strip()]
    if market.till is None or not secrets:
        raise StripeMissing("this exchange expects no webhooks of Stripe")
    with market.store.refusing(actor, ReceiveEvent("")):
        event = verified(
            payload,
            signature,
            secrets=secrets,
            livemode=market.till.livemode,
            connected=lambda account: market.store.read(lambda s: payouts.is_connected(s, account)),
            now=market.store.clock(),
        )
        fact = _fact(event)

    def work(tx: Tx) -> dict[str, Any]:
        outcome = events.receive(tx.session, payload=payload, now=tx.now)
        if isinstance(fact, facts.Captured) and outcome == "applied":
            journal = postings.journal_id(f"stripe:{fact.payment_intent}:captured")
            tx.record(
                money=MoneyGroup(
                    currency=fact.currency,
                    amount_minor=fact.received_minor,
                    journal=journal,
                )
            )
        return {"outcome": outcome}

    done = market.store.perform(actor, ReceiveEvent(event["id"]), work, key=event["id"])
    return {"received": True, "outcome": "duplicate" if done.replayed else done.value["outcome"]}


def _fact(event: dict[str, Any]) -> facts.Fact | None:
    """What the event says. Raises WebhookRefused for an object of an unknown shape."""
    try:
        return facts.facts_of(event)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise WebhookRefused("The webhook's object does not have the shape of its kind.") from None
