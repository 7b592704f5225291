"""What the journeys of money do again and again: buy, connect an account, close a month."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from exchange.audit.entry import Entry
from exchange.identity import SYSTEM, new_id
from exchange.store import Tx
from settlement import ledger
from settlement.ledger import chart, entries
from settlement.money import Money
from tests.market.till import Counter


@dataclass(frozen=True)
class Purchase:
    """What a wallet buys, without a query."""

    amount_minor: int
    kind: ClassVar[str] = "test.bought"
    refused: ClassVar[str] = "test.refused"

    def entry(self) -> Entry:
        """The audit entry."""
        return Entry(kind=self.kind, outcome="done")


def balance(till: Counter, account: str, currency: str = "USD") -> ledger.Balance:
    """What an account holds."""
    return till.stand.market.store.read(lambda session: ledger.balance(session, account, currency))


def provider(till: Counter) -> str:
    """The provider's organisation."""
    return till.stand.orgs["provider"]


def connect(till: Counter) -> str:
    """The provider's account at Stripe, active."""
    reply = till.stand.post("provider", "/v1/payouts/onboarding")
    assert reply.status_code == 200, reply.text
    account = till.world.all("account")[0]["id"]
    till.world.activate(account)
    till.deliver()
    return str(account)


def closed(till: Counter) -> dict[str, Any]:
    """The provider's payout of the month that has just ended."""
    till.pass_time(days=32)
    reply = till.stand.post("operator", "/v1/payouts/close", {})
    assert reply.status_code == 200, reply.text
    [made] = reply.json()["items"]
    return dict(made)


def spend(till: Counter) -> None:
    """Take all but a cent out of the wallet, for a purchase of the provider's."""
    buyer, left = till.stand.orgs["buyer"], till.stand.wallet().available - 1

    def work(tx: Tx) -> dict[str, Any]:
        chart.open_provider(tx.session, provider(till), "USD")
        journal = ledger.post(
            tx.session,
            journal=new_id("jnl"),
            kind="test_purchase",
            business_key=new_id("test"),
            actor="test",
            now=tx.now,
            legs=entries.charge(
                buyer=buyer, provider=provider(till), price=Money(left, "USD"), fee_basis_points=1000
            ),
        )
        return {"journal": journal}

    till.stand.market.store.perform(SYSTEM, Purchase(left), work)


def spend_opening(till: Counter, opening: int) -> None:
    """Spend what the wallet had before the journey."""
    if opening > 1:
        spend(till)
    till.world.add_funds(20_000, "usd")  # what came by bank is paid out by Stripe


def closed_again(till: Counter) -> dict[str, Any]:
    """The payout of a month more."""
    till.pass_time(days=32)
    items = till.stand.post("operator", "/v1/payouts/close", {}).json()["items"]
    [made] = items
    return dict(made)
