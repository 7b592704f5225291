"""A stand with an account at the Stripe double, and what arrives there carried to the exchange's door."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from exchange.config import Secret
from exchange.operations import treasury
from exchange.web import create_app
from settlement import payments
from settlement.stripe import Till
from tests.market.stand import Stand
from tests.stripe_double import Delivery, StripeDouble, running


class Counter:
    """The exchange and its Stripe: who pays, what is delivered, what the worker does."""

    def __init__(self, stand: Stand, stripe: StripeDouble) -> None:
        self.stand, self.stripe, self.world = stand, stripe, stripe.world
        self.delivered = 0

    def top_up(self, amount: str = "100.00", currency: str = "USD", **more: Any) -> dict[str, Any]:
        """Ask for a top-up as the buyer."""
        reply = self.stand.post("buyer", "/v1/top-ups", {"amount": amount, "currency": currency, **more})
        assert reply.status_code == 201, reply.text
        made: dict[str, Any] = reply.json()
        return made

    def paid(self, amount: str = "100.00", currency: str = "USD") -> dict[str, Any]:
        """A top-up that was paid on its page and told of; returns the payment at Stripe."""
        made = self.top_up(amount, currency)
        intent = self.world.pay(made["url"].rpartition("/")[2])
        self.deliver()
        return intent

    def send(self, delivery: Delivery, **headers: str) -> httpx.Response:
        """One webhook at the door."""
        sent = {"Stripe-Signature": delivery.signature, "Content-Type": "application/json", **headers}
        return self.stand.call(None, "POST", "/v1/webhooks/stripe", content=delivery.payload, headers=sent)

    def deliver(self) -> list[str]:
        """Every event that was not delivered yet, in order; what became of each."""
        outcomes = []
        for event in self.world.events[self.delivered :]:
            reply = self.send(self.world.delivery(event))
            assert reply.status_code == 200, reply.text
            outcomes.append(reply.json()["outcome"])
        self.delivered = len(self.world.events)
        return outcomes

    def work(self) -> dict[str, int]:
        """One round of the worker."""
        return treasury.work_once(self.stand.market)

    def fingerprint(self) -> str:
        """The hash of everything that Stripe caused in the ledger."""
        return self.stand.market.store.read(payments.fingerprint)

    def pass_time(self, **shift: float) -> None:
        """Let time pass for the exchange and for Stripe."""
        self.stand.clock.advance(**shift)


@contextmanager
def counter(stand: Stand) -> Iterator[Counter]:
    """Give a stand an account at a fresh Stripe double."""
    with running(clock=stand.clock) as stripe:
        settings = dataclasses.replace(
            stand.market.settings, stripe_webhook_secret=Secret(stripe.world.secret)
        )
        till = Till(stripe.key, api_base=stripe.url, timeout=5.0)
        stand.market = dataclasses.replace(stand.market, settings=settings, till=till)
        stand.app = create_app(stand.market)
        stand.app.logger.disabled = True
        stand.http.close()
        stand.http = httpx.Client(
            transport=httpx.WSGITransport(app=stand.app), base_url="http://market.test", timeout=60
        )
        yield Counter(stand, stripe)
