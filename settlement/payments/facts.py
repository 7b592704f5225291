"""What a Stripe event says happened, as facts. Pure: what is booked is a function of the set of facts alone.

An event's own time and the order of arrival never enter an entry. Stripe documents both: events may come
twice and in any order (https://docs.stripe.com/webhooks, "Handle duplicate events", "Event ordering").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from settlement.errors import AmountInvalid
from settlement.money import AMOUNT_LIMIT, exponent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Currencies that Stripe counts in other steps than ISO 4217 does: Stripe's steps in one of ours, and the
# reverse.
_FINER = {"ISK": 100, "UGX": 100}
_COARSER = {"MGA": 100}


@dataclass(frozen=True, slots=True)
class Captured:
    """A payment arrived: ``received_minor`` of the top-up that its metadata names."""

    payment_intent: str
    top_up: str
    received_minor: int
    currency: str
    at: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A top-up was not paid, or its checkout moved on: its state alone changes."""

    top_up: str
    state: str
    payment_intent: str | None
    customer: str | None


@dataclass(frozen=True, slots=True)
class Refunded:
    """A refund left Stripe's balance; ``failed`` says that it came back."""

    refund: str
    payment_intent: str
    amount_minor: int
    currency: str
    ours: str | None
    failed: bool
    at: int


@dataclass(frozen=True, slots=True)
class Disputed:
    """A dispute as one event shows it; the facts of several events add up."""

    dispute: str
    payment_intent: str
    amount_minor: int
    currency: str
    reason: str
    withdrawn: bool
    reinstated: bool
    outcome: str
    at: int


@dataclass(frozen=True, slots=True)
class Transferred:
    """A transfer of ours to a provider, and the reversals of it that are known: (id, amount)."""

    transfer: str
    item: str
    amount_minor: int
    currency: str
    reversals: tuple[tuple[str, int], ...]
    at: int


@dataclass(frozen=True, slots=True)
class AccountSeen:
    """A connected account and whether transfers to it are possible; the newest event counts."""

    account: str
    active: bool
    created: int
    event: str


Fact = Captured | Ended | Refunded | Disputed | Transferred | AccountSeen


def to_stripe(amount_minor: int, currency: str) -> int:
    """Our minor units as Stripe counts them (https://docs.stripe.com/currencies). AmountInvalid where it
    cannot.

    Three-decimal currencies are charged in steps of ten; ariary in whole units.
    """
    finer, coarser = _FINER.get(currency, 1), _COARSER.get(currency, 1)
    step = 10 if exponent_of(currency) == 3 else coarser
    if amount_minor % step:
        raise AmountInvalid(
            f"Stripe moves {currency} in steps of {step} minor units only.", hint="Round the amount."
        )
    return amount_minor * finer // coarser


def from_stripe(amount: object, currency: object) -> tuple[int, str]:
    """Stripe's amount and currency as ours; the sign stays. AmountInvalid for what the books cannot hold."""
    code = str(currency).upper()
    exponent_of(code)
    if not isinstance(amount, int) or isinstance(amount, bool) or abs(amount) >= AMOUNT_LIMIT // 100:
        raise AmountInvalid("The amount of a Stripe object is not an integer that the books can hold.")
    finer = _FINER.get(code, 1)
    if amount % finer:
        raise AmountInvalid(f"Stripe's amount has a fraction of {code} that the books do not keep.")
    return amount // finer * _COARSER.get(code, 1), code


def facts_of(event: Mapping[str, Any]) -> Fact | None:
    """What an event says, or None for a kind that the books do not need, or an object that is not ours.

    Of a provider's connected account only its state is: a payment there is not the exchange's, whatever its
    metadata name.
    """
    kind = str(event["type"])
    if event.get("account") and kind != "account.updated":
        return None
    read = _READERS.get(kind)
    return read(event, event["data"]["object"]) if read else None


def _captured(_: Mapping[str, Any], paid: Mapping[str, Any]) -> Fact | None:
    top_up = (paid.get("metadata") or {}).get("top_up")
    if not top_up:
        return None
    amount, currency = from_stripe(paid["amount_received"], paid["currency"])
    return Captured(paid["id"], top_up, amount, currency, paid["created"])


def _ended(state: str) -> Callable[[Mapping[str, Any], Mapping[str, Any]], Fact | None]:
    def read(_: Mapping[str, Any], seen: Mapping[str, Any]) -> Fact | None:
        top_up = (seen.get("metadata") or {}).get("top_up")
        if not top_up:
            return None
        intent = seen["id"] if seen.get("object") == "payment_intent" else seen.get("payment_intent")
        return Ended(top_up, state, intent, seen.get("customer"))

    return read


def _refunded(_: Mapping[str, Any], refund: Mapping[str, Any]) -> Fact | None:
    if not refund.get("payment_intent"):
        return None
    amount, currency = from_stripe(refund["amount"], refund["currency"])
    return Refunded(
        refund=refund["id"],
        payment_intent=refund["payment_intent"],
        amount_minor=amount,
        currency=currency,
        ours=(refund.get("metadata") or {}).get("refund"),
        failed=refund.get("status") in ("failed", "canceled"),
        at=refund["created"],
    )


def _disputed(event: Mapping[str, Any], dispute: Mapping[str, Any]) -> Fact | None:
    if not dispute.get("payment_intent"):
        return None
    amount, currency = from_stripe(dispute["amount"], dispute["currency"])
    moved = [one["amount"] for one in dispute.get("balance_transactions") or [] if isinstance(one, dict)]
    kind, status = str(event["type"]), str(dispute["status"])
    reinstated = kind.endswith("funds_reinstated") or any(step > 0 for step in moved)
    return Disputed(
        dispute=dispute["id"],
        payment_intent=dispute["payment_intent"],
        amount_minor=amount,
        currency=currency,
        reason=str(dispute.get("reason") or "general")[:100],
        withdrawn=kind.endswith("funds_withdrawn") or reinstated or any(step < 0 for step in moved),
        reinstated=reinstated,
        outcome={"won": "won", "lost": "lost", "warning_closed": "warning"}.get(status, "open"),
        at=dispute["created"],
    )


def _transferred(_: Mapping[str, Any], transfer: Mapping[str, Any]) -> Fact | None:
    item = (transfer.get("metadata") or {}).get("outbox")
    if not item:
        return None
    amount, currency = from_stripe(transfer["amount"], transfer["currency"])
    back = (transfer.get("reversals") or {}).get("data") or []
    reversals = tuple(sorted((one["id"], from_stripe(one["amount"], one["currency"])[0]) for one in back))
    return Transferred(transfer["id"], item, amount, currency, reversals, transfer["created"])


def _account(event: Mapping[str, Any], account: Mapping[str, Any]) -> Fact | None:
    able = (account.get("capabilities") or {}).get("transfers") == "active"
    active = bool(able and account.get("payouts_enabled"))
    return AccountSeen(account["id"], active, event["created"], event["id"])


_READERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Fact | None]] = {
    "payment_intent.succeeded": _captured,
    "payment_intent.payment_failed": _ended("failed"),
    "payment_intent.canceled": _ended("expired"),
    "checkout.session.completed": _ended("open"),
    "checkout.session.expired": _ended("expired"),
    **dict.fromkeys(
        ("refund.created", "refund.updated", "refund.failed", "charge.refund.updated"), _refunded
    ),
    **dict.fromkeys(
        (
            "charge.dispute.created",
            "charge.dispute.updated",
            "charge.dispute.closed",
            "charge.dispute.funds_withdrawn",
            "charge.dispute.funds_reinstated",
        ),
        _disputed,
    ),
    **dict.fromkeys(("transfer.created", "transfer.updated", "transfer.reversed"), _transferred),
    "account.updated": _account,
}
