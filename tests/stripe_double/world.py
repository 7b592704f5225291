"""What the double remembers: objects, balances, balance transactions, saved replies, events and faults."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import stripe

Object = dict[str, Any]
_RATE, _FIXED = 29, 30  # 2.9 % and 30 minor units, as a card costs


class Refusal(Exception):
    """An answer of Stripe's that is an error."""

    def __init__(self, status: int, kind: str, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.body = {"error": {"type": kind, "code": code, "message": message or code}}


@dataclass(frozen=True)
class Delivery:
    """A webhook on its way: the bytes and the signature."""

    event: str
    payload: bytes
    signature: str


@dataclass
class World:
    """One Stripe account. ``faults`` counts how often each named fault is still to happen.

    drop_reply (act, then close the connection), refuse_connection (close it without acting), saved_500 (do
    not act, answer 500 for ever under the key), acted_500 (act, and answer so), in_flight_409, busy_429,
    failed_reversal, short_balance.
    """

    secret: str
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    faults: Counter[str] = field(default_factory=Counter)
    objects: dict[str, Object] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)
    transactions: list[Object] = field(default_factory=list)
    balance: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    saved: dict[str, tuple[str, datetime, int, Object]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)

    def now(self) -> int:
        """Unix time."""
        return int(self.clock().timestamp())

    def keep(self, prefix: str, kind: str, **values: Any) -> Object:
        """A new object."""
        made = {"id": f"{prefix}_{next(self._numbers):08d}", "object": kind, "created": self.now()}
        made |= {"livemode": False, **values}
        self.objects[made["id"]] = made
        return made

    def all(self, kind: str, **matching: Any) -> list[Object]:
        """Objects of a kind, newest first."""
        found = [one for one in self.objects.values() if one["object"] == kind]
        return [one for one in found[::-1] if all(one.get(name) == value for name, value in matching.items())]

    def found(self, id: str) -> Object:  # noqa: A002
        """An object by its id."""
        if id not in self.objects:
            raise Refusal(404, "invalid_request_error", "resource_missing")
        return self.objects[id]

    def move(self, source: Object, kind: str, amount: int, *, fee: int = 0, currency: str = "") -> None:
        """A balance transaction."""
        code = currency or source["currency"]
        self.balance[code] += amount - fee
        made = self.keep(
            "txn",
            "balance_transaction",
            type=kind,
            amount=amount,
            fee=fee,
            net=amount - fee,
            currency=code,
            source=source["id"],
        )
        self.transactions.append(made)

    def tell(self, kind: str, about: Object, *, account: str | None = None) -> Object:
        """An event about an object as it stands."""
        event = {
            "id": f"evt_{next(self._numbers):08d}",
            "object": "event",
            "api_version": stripe.api_version,
            "created": self.now(),
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": kind,
            "data": {"object": json.loads(json.dumps(about))},
        }
        self.events.append(event if account is None else {**event, "account": account})
        return self.events[-1]

    def delivery(self, event: Object, *, secret: str | None = None, at: int | None = None) -> Delivery:
        """The webhook of an event, signed now unless said otherwise."""
        payload = json.dumps(event, indent=2)
        sign = stripe.WebhookSignature.generate_signature_header
        header = sign(payload, secret or self.secret, self.now() if at is None else at)
        return Delivery(event["id"], payload.encode(), header)

    # what people and banks do

    def pay(self, session_or_intent: str) -> Object:
        """The buyer pays on the page."""
        with self.lock:
            found = self.found(session_or_intent)
            if found["object"] == "checkout.session":
                found |= {"status": "complete", "payment_status": "paid"}
                intent = self.keep(
                    "pi",
                    "payment_intent",
                    amount=found["amount_total"],
                    currency=found["currency"],
                    customer=found["customer"],
                    metadata=found["payment_intent_metadata"],
                )
                found["payment_intent"] = intent["id"]
                self.keep("pm", "payment_method", customer=found["customer"], type="card")
                self.succeed(intent)
                self.tell("checkout.session.completed", found)
                return intent
            return self.succeed(found)

    def succeed(self, intent: Object) -> Object:
        """A payment arrives."""
        amount = intent["amount"]
        charge = self.keep(
            "ch",
            "charge",
            amount=amount,
            currency=intent["currency"],
            payment_intent=intent["id"],
        )
        intent |= {"status": "succeeded", "amount_received": amount, "latest_charge": charge["id"]}
        self.move(charge, "charge", amount, fee=amount * _RATE // 1000 + _FIXED)
        self.tell("payment_intent.succeeded", intent)
        return intent

    def refund(self, intent: Object, amount: int, metadata: Object | None = None) -> Object:
        """A refund leaves, whoever asked for it."""
        earlier = self.all("refund", payment_intent=intent["id"])
        gone = sum(one["amount"] for one in earlier if one["status"] != "failed")
        if amount > intent["amount_received"] - gone:
            raise Refusal(400, "invalid_request_error", "amount_too_large")
        made = self.keep(
            "re",
            "refund",
            amount=amount,
            currency=intent["currency"],
            payment_intent=intent["id"],
            status="succeeded",
            metadata=metadata or {},
        )
        self.move(made, "refund", -amount)
        self.tell("refund.created", made)
        return made

    def fail_refund(self, refund: str) -> None:
        """A refund comes back from the buyer's bank."""
        found = self.found(refund)
        found["status"] = "failed"
        self.move(found, "refund_failure", found["amount"])
        self.tell("refund.failed", found)

    def dispute(self, intent: Object, amount: int | None = None) -> Object:
        """The buyer's bank takes a payment back."""
        made = self.keep(
            "du",
            "dispute",
            amount=intent["amount_received"] if amount is None else amount,
            currency=intent["currency"],
            payment_intent=intent["id"],
            reason="fraudulent",
            status="needs_response",
            balance_transactions=[],
        )
        self.tell("charge.dispute.created", made)
        self.move(made, "adjustment", -made["amount"], fee=1500)
        self.tell("charge.dispute.funds_withdrawn", made)
        return made

    def close_dispute(self, dispute: str, *, won: bool) -> None:
        """The bank decides."""
        found = self.found(dispute)
        found["status"] = "won" if won else "lost"
        if won:
            self.move(found, "adjustment", found["amount"])
            self.tell("charge.dispute.funds_reinstated", found)
        self.tell("charge.dispute.closed", found)

    def add_funds(self, amount: int, currency: str) -> None:
        """The platform sends money from its bank."""
        self.move(self.keep("tu", "topup", currency=currency), "topup", amount)

    def activate(self, account: str) -> None:
        """A provider told Stripe who it is."""
        found = self.found(account)
        found |= {"capabilities": {"transfers": "active"}, "payouts_enabled": True, "details_submitted": True}
        self.tell("account.updated", found, account=account)
