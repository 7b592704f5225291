"""The operator's pages of money: bank transfers that two confirm, payouts, where books and bank differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import redirect, render_template, request, url_for

from exchange.errors import ConfirmationNeeded
from exchange.identity import Role
from exchange.operations import paying_out, refunding, supervising, treasury
from exchange.store import REFUSALS
from exchange.web.auth import log_refusal, market
from exchange.web.portal import portal
from exchange.web.portal.operating import proof_due, prove
from exchange.web.portal.pages import form, once_key, refused_form, visitor_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.identity import Actor

_TRANSFERS, _PAYOUTS = "portal.bank_transfers", "portal.payouts"
_TYPED = ("org", "amount", "currency", "reference")


@portal.get("/operator/transfers")
@visitor_page(Role.OPERATOR)
def bank_transfers(visitor: Actor) -> str:
    """Bank transfers that arrived: propose a credit, confirm what another operator proposed."""
    return _transfers(visitor)


@portal.post("/operator/transfers")
@visitor_page(Role.OPERATOR)
def propose_transfer(visitor: Actor) -> Any:
    """Propose to credit a wallet; another operator confirms it."""
    given = {name: form(name, 200).strip() for name in _TYPED}
    try:
        prove()
        refunding.propose_credit(market(), visitor, **given, key=once_key("credit"))
    except REFUSALS as refusal:
        return refused_form(_transfers(visitor, refusal=refusal, typed=given), refusal)
    return redirect(url_for(_TRANSFERS))


@portal.post("/operator/transfers/<credit>/confirm")
@visitor_page(Role.OPERATOR)
def confirm_transfer(visitor: Actor, credit: str) -> Any:
    """Confirm and book a proposed credit, as another operator than the one who proposed it."""
    key = once_key("confirm", credit)
    return _done(
        _TRANSFERS,
        lambda: refunding.decide_credit(market(), visitor, credit, confirmed=True, key=key),
        lambda refusal: _transfers(visitor, refusal=refusal),
    )


@portal.post("/operator/transfers/<credit>/decline")
@visitor_page(Role.OPERATOR)
def decline_transfer(visitor: Actor, credit: str) -> Any:
    """Decline a proposed credit, as another operator."""
    key = once_key("decline", credit)
    return _done(
        _TRANSFERS,
        lambda: refunding.decide_credit(market(), visitor, credit, confirmed=False, key=key),
        lambda refusal: _transfers(visitor, refusal=refusal),
    )


@portal.get("/operator/payouts")
@visitor_page(Role.OPERATOR)
def payouts(visitor: Actor) -> str:
    """Payouts with what waits for an operator, and the last reconciliation with its breaks."""
    return _payouts(visitor)


@portal.post("/operator/payouts/close")
@visitor_page(Role.OPERATOR)
def close_month(visitor: Actor) -> Any:
    """Close the last month for every provider with something payable; closed ones stay as they are."""
    return _done(
        _PAYOUTS,
        lambda: paying_out.close(market(), visitor, period=form("period", 7).strip() or None),
        lambda refusal: _payouts(visitor, refusal=refusal),
    )


@portal.post("/operator/payouts/<payout>/approve")
@visitor_page(Role.OPERATOR)
def approve_payout(visitor: Actor, payout: str) -> Any:
    """Let one transfer go although automatic payouts are held."""
    key = once_key("approve", payout)
    return _done(
        _PAYOUTS,
        lambda: paying_out.approve(market(), visitor, payout, key=key),
        lambda refusal: _payouts(visitor, refusal=refusal),
    )


@portal.post("/operator/payouts/<payout>/confirm")
@visitor_page(Role.OPERATOR)
def confirm_payout(visitor: Actor, payout: str) -> Any:
    """Note that a payout was sent by bank, under the bank's reference."""
    reference, key = form("reference", 200).strip(), once_key("sent", payout)
    return _done(
        _PAYOUTS,
        lambda: paying_out.confirm(market(), visitor, payout, reference=reference, key=key),
        lambda refusal: _payouts(visitor, refusal=refusal, typed={payout: reference}),
    )


@portal.post("/operator/reconciliation")
@visitor_page(Role.OPERATOR)
def reconcile(visitor: Actor) -> Any:
    """Compare Stripe's list and balance with the ledger now."""
    return _done(
        _PAYOUTS,
        lambda: treasury.reconcile(market(), visitor),
        lambda refusal: _payouts(visitor, refusal=refusal),
    )


def _done(back: str, act: Callable[[], Any], page: Callable[[Exception], str]) -> Any:
    """Do it where the operator has just shown who it is, else ask for that first; a refusal is told here."""
    try:
        prove()
        act()
    except ConfirmationNeeded as refusal:
        log_refusal(refusal)
        return redirect(url_for("portal.confirm", next=url_for(back)))
    except REFUSALS as refusal:
        return refused_form(page(refusal), refusal)
    return redirect(url_for(back))


def _transfers(visitor: Actor, **more: Any) -> str:
    found = supervising.bank_transfers(market(), visitor, page_token=request.args.get("page"))
    typed = more.pop("typed", {})
    return render_template("operator/transfers.html", found=found, typed=typed, proof=proof_due(), **more)


def _payouts(visitor: Actor, **more: Any) -> str:
    token = request.args.get("page")
    found = paying_out.page_of_payouts(market(), visitor, limit=supervising.PAGE, page_token=token)
    names = supervising.names(market(), {one["provider"] for one in found["items"]})
    return render_template(
        "operator/payouts.html",
        found=found,
        names=names,
        run=treasury.latest(market(), visitor),
        stripe=market().till is not None,
        last=paying_out.last_period(market().store.clock()),
        typed=more.pop("typed", {}),
        **more,
    )
