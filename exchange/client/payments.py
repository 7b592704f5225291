"""Money in and out: top-ups, the wallet's history, payouts; and the operator's part of the books."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exchange.client import html
from exchange.client.connection import Connection, read
from exchange.client.errors import ExchangeError
from exchange.client.price import Price

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST_POLL_S, _LONGEST_POLL_S = 0.5, 10.0
_MOVING = ("requested", "open", "failed")


class StillUnpaid(ExchangeError, TimeoutError):
    """The money has not arrived within the time that ``wait`` was given."""

    codes = ("top_up_open",)
    hint = "Pay on the page that `url` names, or look at `x.top_ups()` later."


@dataclass(frozen=True)
class TopUp:
    """A top-up of the own wallet. ``url`` is the page to pay on while ``state`` is "open".

    Other states are "requested", "failed" (the page stands, another try may follow), "expired" and "paid".
    """

    id: str
    state: str
    amount: Price
    received: Price
    url: str | None
    document: dict[str, Any] = field(repr=False)
    _connection: Connection = field(repr=False, compare=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], connection: Connection) -> TopUp:
        """Read a top-up."""
        return cls(
            id=document["top_up"],
            state=document["state"],
            amount=price(document["amount"]),
            received=price(document["received"]),
            url=document.get("url"),
            document=dict(document),
            _connection=connection,
        )

    def refresh(self) -> TopUp:
        """The top-up as it stands now."""
        return read(TopUp.from_document, self._connection.get(f"/v1/top-ups/{self.id}"), self._connection)

    def wait(self, *, timeout_s: float = 600.0) -> TopUp:
        """Wait until it is paid or has expired. Raises :class:`StillUnpaid` (a ``TimeoutError``)."""
        made, pause, began = self, _FIRST_POLL_S, time.monotonic()
        while made.state in _MOVING:
            if time.monotonic() - began + pause > timeout_s:
                raise StillUnpaid(f"the top-up {self.id} is not paid yet")
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_POLL_S)
            made = made.refresh()
        return made

    def _repr_html_(self) -> str:
        names = ("id", "state", "amount", "received", "url")
        return html.facts([(name, getattr(self, name)) for name in names], caption="Top-up")


def top_up(
    connection: Connection, amount: str, currency: str, *, saved: bool, idempotency_key: str | None
) -> TopUp:
    """Ask for a top-up."""
    body = {"amount": amount, "currency": currency, "saved": saved}
    return read(TopUp.from_document, connection.post("/v1/top-ups", body, key=idempotency_key), connection)


def price(document: Mapping[str, Any]) -> Price:
    """Read an amount."""
    return Price(str(document["amount"]), str(document["currency"]), int(document["amount_minor"]))


class Treasury:
    """The operator's part of the books. Every method returns the exchange's documents."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def top_ups(self) -> list[dict[str, Any]]:
        """Every top-up, newest first."""
        return self._items("/v1/top-ups")

    def refund(
        self, payment: str, amount: str, currency: str, *, reason: str, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Give a payment back, in whole or in part. Raises ``Conflict`` beyond payment or wallet."""
        body = {"payment": payment, "amount": amount, "currency": currency, "reason": reason}
        return self._post("/v1/refunds", body, idempotency_key)

    def refunds(self) -> list[dict[str, Any]]:
        """Every refund, newest first."""
        return self._items("/v1/refunds")

    def disputes(self) -> list[dict[str, Any]]:
        """Every dispute, with who bears it."""
        return self._items("/v1/disputes")

    def propose_credit(
        self, org: str, amount: str, currency: str, *, reference: str, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Propose to credit a wallet for a bank transfer; another operator confirms it."""
        body = {"org": org, "amount": amount, "currency": currency, "reference": reference}
        return self._post("/v1/credits", body, idempotency_key)

    def confirm_credit(self, credit: str, *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Confirm a proposed credit, as another operator."""
        return self._post(f"/v1/credits/{credit}/confirm", {}, idempotency_key)

    def decline_credit(self, credit: str, *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Decline a proposed credit, as another operator."""
        return self._post(f"/v1/credits/{credit}/decline", {}, idempotency_key)

    def credits(self) -> list[dict[str, Any]]:
        """Proposed credits, newest first."""
        return self._items("/v1/credits")

    def close(self, period: str | None = None) -> list[dict[str, Any]]:
        """Close a month (YYYY-MM, the last one by default); returns the payouts that it made."""
        body = {} if period is None else {"period": period}
        items: list[dict[str, Any]] = self._post("/v1/payouts/close", body, None)["items"]
        return items

    def approve_payout(self, payout: str, *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Let one transfer go although automatic payouts are held."""
        return self._post(f"/v1/payouts/{payout}/approve", {}, idempotency_key)

    def confirm_payout(
        self, payout: str, *, reference: str, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Note that a payout was sent by bank."""
        return self._post(f"/v1/payouts/{payout}/confirm", {"reference": reference}, idempotency_key)

    def recover(self, payout: str, amount: str, *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Ask some of a transfer back, towards what the provider owes after lost disputes."""
        return self._post(f"/v1/payouts/{payout}/recover", {"amount": amount}, idempotency_key)

    def reconcile(self) -> dict[str, Any]:
        """Compare Stripe's balance transactions with the ledger now."""
        return self._post("/v1/reconciliation", {}, None)

    def reconciliation(self) -> dict[str, Any]:
        """The last reconciliation; empty before the first."""
        found: dict[str, Any] = self._connection.get("/v1/reconciliation")
        return found

    def _items(self, path: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._connection.get(path)["items"]
        return items

    def _post(self, path: str, body: dict[str, Any], key: str | None) -> dict[str, Any]:
        done: dict[str, Any] = self._connection.post(path, body, key=key)
        return done
