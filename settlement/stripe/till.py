"""Calls to Stripe. Every error says whether money may have moved: refused, not begun, or nobody knows.

Calls that move money come from the outbox under its idempotency key, and are never repeated here: the SDK's
own retries are off.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import stripe

from settlement.errors import StripeBusy, StripeFailed, StripeRefused, StripeShort, StripeUnknown
from settlement.money import format_amount
from settlement.payments.facts import Fact, Refunded, Transferred, facts_of, to_stripe
from settlement.payments.reconciliation import Movement
from settlement.stripe.webhooks import API_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from settlement.money import Money
    from settlement.payments.outbox import Item

#: Seconds to connect and to wait for a reply.
TIMEOUT = (5.0, 30.0)
_SHORT = {"balance_insufficient", "insufficient_funds", "insufficient_balance"}
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Checkout:
    """Where a buyer pays: the session's id and page, or the payment made with the saved method."""

    session: str | None
    url: str | None
    payment_intent: str | None


@dataclass(frozen=True, slots=True)
class Sent:
    """What a call of the outbox made at Stripe; ``fact`` is what its event will say too."""

    id: str
    fact: Fact | None


class Till:
    """Stripe's API with one key. Safe to share between threads.

    Raises of every call: StripeRefused (for good, nothing moved; StripeShort for want of balance), StripeBusy
    (not begun), StripeUnknown (it may have happened; StripeFailed where the answer is a saved failure).
    """

    def __init__(
        self, key: str, *, api_base: str = "", timeout: float | tuple[float, float] = TIMEOUT
    ) -> None:
        self.livemode = key.startswith(("sk_live", "rk_live"))
        client = stripe.StripeClient(
            key,
            stripe_version=API_VERSION,
            base_addresses={"api": api_base.rstrip("/")} if api_base else None,
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=timeout),
        )
        self._v1: Any = client.v1

    def customer(self, org: str, name: str) -> str:
        """The customer of an organisation: one for ever, by the key."""
        with _told():
            made = self._v1.customers.create(
                {"name": name, "metadata": {"org": org}}, {"idempotency_key": f"customer:{org}"}
            )
        return str(made["id"])

    def checkout(self, *, top_up: str, customer: str, amount: Money, back: str) -> Checkout:
        """A page on which a buyer pays a top-up and its method is saved; ``back`` is where it returns to."""
        meta = {"top_up": top_up}
        price = {
            "currency": amount.currency.lower(),
            "unit_amount": to_stripe(amount.amount_minor, amount.currency),
            "product_data": {"name": f"Wallet top-up {format_amount(amount.amount_minor, amount.currency)}"},
        }
        params = {
            "mode": "payment",
            "customer": customer,
            "client_reference_id": top_up,
            "line_items": [{"price_data": price, "quantity": 1}],
            "metadata": meta,
            "payment_intent_data": {"metadata": meta, "setup_future_usage": "off_session"},
            "success_url": f"{back}?top_up={top_up}&paid=1",
            "cancel_url": f"{back}?top_up={top_up}",
        }
        with _told():
            made = self._v1.checkout.sessions.create(params, {"idempotency_key": f"{top_up}:checkout"})
        known = made.to_dict()
        return Checkout(known["id"], known["url"], known.get("payment_intent"))

    def charge_saved(self, *, top_up: str, customer: str, amount: Money) -> Checkout:
        """Pay a top-up with the customer's saved method, the newest. StripeRefused where there is none."""
        with _told():
            methods = self._v1.customers.payment_methods.list(customer, {"limit": 1})
            if not methods["data"]:
                raise StripeRefused(
                    "No payment method is saved yet.", hint="Top up once without the saved method."
                )
            params = {
                "amount": to_stripe(amount.amount_minor, amount.currency),
                "currency": amount.currency.lower(),
                "customer": customer,
                "payment_method": methods["data"][0]["id"],
                "off_session": True,
                "confirm": True,
                "metadata": {"top_up": top_up},
            }
            made = self._v1.payment_intents.create(params, {"idempotency_key": f"{top_up}:saved"})
        return Checkout(None, None, made["id"])

    def find_payment(self, *, top_up: str, customer: str) -> Checkout | None:
        """The payment that was made for a top-up, if there is one: after a call of unknown outcome."""
        with _told():
            for one in self._v1.payment_intents.list(
                {"customer": customer, "limit": _PAGE}
            ).auto_paging_iter():
                if _meta(one).get("top_up") == top_up:
                    return Checkout(None, None, one["id"])
        return None

    def account(self, org: str) -> str:
        """A new account for a provider, one for ever by the key; Stripe asks it for what it must know."""
        params = {
            "controller": {
                "fees": {"payer": "application"},
                "losses": {"payments": "application"},
                "requirement_collection": "stripe",
                "stripe_dashboard": {"type": "express"},
            },
            "capabilities": {"transfers": {"requested": True}},
            "metadata": {"org": org},
        }
        with _told():
            made = self._v1.accounts.create(params, {"idempotency_key": f"account:{org}"})
        return str(made["id"])

    def onboarding(self, account: str, *, back: str) -> str:
        """The address at which a provider tells Stripe who it is; it works once and for minutes."""
        params = {
            "account": account,
            "type": "account_onboarding",
            "refresh_url": f"{back}?again=1",
            "return_url": back,
        }
        with _told():
            return str(self._v1.account_links.create(params)["url"])

    def send(self, item: Item) -> Sent:
        """Make the call that an item of the outbox stands for, as it was written down."""
        options = {"idempotency_key": item.key}
        with _told():
            if item.kind == "transfer":
                made = self._v1.transfers.create(item.body, options)
            elif item.kind == "refund":
                made = self._v1.refunds.create(item.body, options)
            else:
                body = {name: value for name, value in item.body.items() if name != "transfer"}
                made = self._v1.transfers.reversals.create(item.body["transfer"], body, options)
        return _sent(item, made)

    def look_up(self, item: Item) -> Sent | None:
        """What Stripe has of an item, by the metadata that it was sent with; None where it has nothing."""
        with _told():
            if item.kind == "transfer":
                found = self._v1.transfers.list({"transfer_group": item.id, "limit": _PAGE})
            elif item.kind == "refund":
                found = self._v1.refunds.list({"payment_intent": item.body["payment_intent"], "limit": _PAGE})
            else:
                found = self._v1.transfers.reversals.list(item.body["transfer"], {"limit": _PAGE})
            for made in found.auto_paging_iter():
                if _meta(made).get("outbox") == item.id:
                    return _sent(item, made)
        return None

    def movements(self, since: int) -> Iterator[Movement]:
        """Balance transactions from a moment on (Unix time), newest first."""
        params = {"created": {"gte": since}, "limit": _PAGE, "expand": ["data.source"]}
        with _told():
            for one in self._v1.balance_transactions.list(params).auto_paging_iter():
                yield _movement(one)

    def balances(self) -> dict[str, int]:
        """Stripe's balance by currency in its units: available and pending together."""
        with _told():
            told = self._v1.balance.retrieve().to_dict()
        held: dict[str, int] = {}
        for part in [*told["available"], *told["pending"]]:
            code = str(part["currency"]).upper()
            held[code] = held.get(code, 0) + int(part["amount"])
        return held


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Stripe's errors as ours: what decides is whether the call may have acted."""
    try:
        yield
    except stripe.RateLimitError as error:
        raise StripeBusy("Stripe takes no more requests for the moment.") from error
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise StripeBusy(
            "Stripe does not accept the exchange's key.", hint="The operator checks EXCHANGE_STRIPE_KEY."
        ) from error
    except stripe.APIConnectionError as error:
        raise StripeUnknown("Stripe's reply did not arrive.") from error
    except stripe.StripeError as error:
        raise _by_status(error) from error


def _by_status(error: stripe.StripeError) -> Exception:
    status, code = error.http_status or 0, str(error.code or "refused")
    if status == 409:
        return StripeBusy("The same call to Stripe is in flight.")
    if status >= 500 or not status:
        return StripeFailed("Stripe failed at its side.")
    if code in _SHORT:
        return StripeShort(f"Stripe refused the call for want of balance ({code}).")
    return StripeRefused(f"Stripe refused the call ({code}).")


def _meta(made: Any) -> dict[str, Any]:
    return made.to_dict().get("metadata") or {}


def _sent(item: Item, made: Any) -> Sent:
    kinds = {"transfer": "transfer.created", "refund": "refund.updated"}
    fact = _fact(kinds[item.kind], made) if item.kind in kinds else None
    assert fact is None or isinstance(fact, Refunded | Transferred)
    return Sent(str(made["id"]), fact)


def _fact(kind: str, made: Any) -> Fact | None:
    return facts_of({"type": kind, "data": {"object": made.to_dict()}})


def _movement(made: Any) -> Movement:
    one = made.to_dict()
    source = one["source"]
    about = source if isinstance(source, str) else source["id"]
    intent = None if isinstance(source, str) else source.get("payment_intent")
    return Movement(
        id=one["id"],
        type=one["type"],
        amount=one["amount"],
        fee=one["fee"],
        net=one["net"],
        currency=str(one["currency"]).upper(),
        source=str(about or one["id"]),
        payment_intent=intent if isinstance(intent, str) else None,
        created=one["created"],
    )
