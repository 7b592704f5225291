"""Money in and out: top-ups, refunds, disputes, payouts, bank credits, reconciliation, Stripe's webhooks."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from exchange.operations import paying, paying_out, receiving, refunding, treasury
from exchange.web.api.body import body, idempotency_key, keyed, takes
from exchange.web.auth import actor, caller, market

payments = Blueprint("payments", __name__, url_prefix="/v1")

_LONGEST = 200
_REFUND = {"payment": str, "amount": str, "currency": str, "reason": str}
_CREDIT = {"org": str, "amount": str, "currency": str, "reference": str}


@payments.post("/webhooks/stripe")
def webhook() -> Response:
    """Take in a signed event of Stripe's; answers at once and calls nothing."""
    sent = request.get_data()
    signature = request.headers.get("Stripe-Signature")
    return jsonify(receiving.receive(market(), caller(receiving.STRIPE), payload=sent, signature=signature))


@payments.post("/top-ups")
@takes({"amount": str, "currency": str, "saved": bool}, required=("amount", "currency"))
@keyed
def top_up() -> tuple[Response, int]:
    """Ask for a top-up of the own wallet: the page to pay on, or a payment with the saved method."""
    given = body()
    made = paying.top_up(
        market(),
        actor(),
        amount=given["amount"],
        currency=given["currency"],
        saved=given.get("saved", False),
        key=idempotency_key(),
    )
    return jsonify(made), 201


@payments.get("/top-ups")
def top_ups() -> Response:
    """A buyer's top-ups, newest first; all for an operator."""
    return jsonify(paying.list_top_ups(market(), actor()))


@payments.get("/top-ups/<top_up_id>")
def show_top_up(top_up_id: str) -> Response:
    """One top-up: its state, and what was received."""
    return jsonify(paying.show_top_up(market(), actor(), top_up_id))


@payments.get("/wallet/history")
def history() -> Response:
    """What moved in the own wallets, oldest first, with the balance after it."""
    return jsonify(paying.history(market(), actor()))


@payments.post("/refunds")
@takes(_REFUND, required=tuple(_REFUND))
@keyed
def refund() -> tuple[Response, int]:
    """Give a payment back, in whole or in part; privacy that was spent stays spent."""
    given = body()
    made = refunding.refund(
        market(),
        actor(),
        payment=given["payment"][:_LONGEST],
        amount=given["amount"],
        currency=given["currency"],
        reason=given["reason"][:_LONGEST],
        key=idempotency_key(),
    )
    return jsonify(made), 201


@payments.get("/refunds")
def refunds() -> Response:
    """A buyer's refunds, newest first; all for an operator."""
    return jsonify(refunding.list_refunds(market(), actor()))


@payments.get("/disputes")
def disputes() -> Response:
    """Every dispute, who bears it, and what is in suspense."""
    return jsonify(refunding.list_disputes(market(), actor()))


@payments.post("/credits")
@takes(_CREDIT, required=tuple(_CREDIT))
@keyed
def propose() -> tuple[Response, int]:
    """Propose to credit a wallet for a bank transfer; another operator confirms it."""
    given = body()
    return jsonify(refunding.propose_credit(market(), actor(), **given, key=idempotency_key())), 201


@payments.get("/credits")
def credits() -> Response:  # noqa: A001
    """Proposed credits, newest first."""
    return jsonify(refunding.list_credits(market(), actor()))


@payments.post("/credits/<credit>/confirm")
@keyed
def confirm_credit(credit: str) -> Response:
    """Confirm and book a proposed credit, as another operator than the one who proposed it."""
    return jsonify(refunding.decide_credit(market(), actor(), credit, confirmed=True, key=idempotency_key()))


@payments.post("/credits/<credit>/decline")
@keyed
def decline_credit(credit: str) -> Response:
    """Decline a proposed credit, as another operator."""
    return jsonify(refunding.decide_credit(market(), actor(), credit, confirmed=False, key=idempotency_key()))


@payments.get("/payouts")
def payouts() -> Response:
    """A provider's payouts, newest first; all for an operator."""
    return jsonify(paying_out.list_payouts(market(), actor()))


@payments.post("/payouts/onboarding")
def onboard() -> Response:
    """The address at which a provider tells Stripe who it is, so that payouts reach it."""
    return jsonify(paying_out.onboard(market(), actor()))


@payments.post("/payouts/close")
@takes({"period": str})
def close() -> Response:
    """Close a month for every provider with something payable."""
    given = body()
    return jsonify(paying_out.close(market(), actor(), period=given.get("period")))


@payments.post("/payouts/<payout>/approve")
@keyed
def approve(payout: str) -> Response:
    """Let one transfer go although automatic payouts are held."""
    return jsonify(paying_out.approve(market(), actor(), payout, key=idempotency_key()))


@payments.post("/payouts/<payout>/confirm")
@takes({"reference": str}, required=("reference",))
@keyed
def confirm(payout: str) -> Response:
    """Note that a payout was sent by bank, under the bank's reference."""
    reference = body()["reference"]
    return jsonify(paying_out.confirm(market(), actor(), payout, reference=reference, key=idempotency_key()))


@payments.post("/payouts/<payout>/recover")
@takes({"amount": str}, required=("amount",))
@keyed
def recover(payout: str) -> Response:
    """Ask some of a transfer back, towards what the provider owes after lost disputes."""
    amount = body()["amount"]
    return jsonify(paying_out.recover(market(), actor(), payout, amount=amount, key=idempotency_key()))


@payments.get("/reconciliation")
def reconciliation() -> Response:
    """The last reconciliation with its breaks."""
    return jsonify(treasury.latest(market(), actor()))


@payments.post("/reconciliation")
def reconcile() -> Response:
    """Compare Stripe's balance transactions with the ledger now."""
    return jsonify(treasury.reconcile(market(), actor()))
