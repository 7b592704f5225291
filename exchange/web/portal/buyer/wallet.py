"""The wallet: what it has, what moved in it, and the ways to fill it."""

from __future__ import annotations

from typing import Any

from flask import redirect, render_template, request, url_for

from exchange.identity import Actor, Role
from exchange.operations import buying, invoicing, paying, refunding
from exchange.store import REFUSALS
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.buyer.forms import kept, key_of
from exchange.web.portal.pages import form, visitor_page

_LINES = 50
_FIRST_CURRENCY = "USD"
_ENDED = ("stripe_refused", "stripe_short")


@portal.get("/wallet")
@visitor_page(Role.BUYER)
def wallet_page(visitor: Actor) -> Any:
    """Balances, postings and top-ups. Stripe's page leads back here and names the top-up."""
    back = request.args.get("top_up")
    if back:
        return redirect(url_for("portal.top_up_page", top_up_id=back, paid=request.args.get("paid")))
    typed = {name: request.args.get(name, "")[:24] for name in ("amount", "currency")}
    return render_template("buyer/wallet.html", **_values(visitor, typed))


@portal.post("/wallet/top-ups")
@visitor_page(Role.BUYER)
def top_up(visitor: Actor) -> Any:
    """Ask for a top-up; it is paid on Stripe's page, to which the next page leads."""
    amount, currency = form("amount", 40).strip(), form("currency", 8).strip().upper()
    saved = form("saved") == "yes"
    key = key_of("top-up", amount, currency, saved)
    try:
        made = paying.top_up(market(), visitor, amount=amount, currency=currency, saved=saved, key=key)
    except REFUSALS as refusal:
        # The same mark again: after an outcome that is not known the same form must not pay twice. One that
        # Stripe refused for good has ended, so that sending it again is another.
        ended = getattr(refusal, "code", "") in _ENDED
        typed = {
            "amount": amount,
            "currency": currency,
            "saved": "yes" if saved else "",
            "once": "" if key is None or ended else form("once", 24),
        }
        return kept(refusal, "buyer/wallet.html", **_values(visitor, typed))
    return redirect(url_for("portal.top_up_page", top_up_id=made["top_up"]))


@portal.get("/wallet/top-ups/<top_up_id>")
@visitor_page(Role.BUYER)
def top_up_page(visitor: Actor, top_up_id: str) -> str:
    """One top-up: the way to Stripe's page, or what became of it."""
    found = paying.show_top_up(market(), visitor, top_up_id)
    told = bool(request.args.get("paid"))
    return render_template("buyer/top_up.html", found=found, told=told)


def _values(visitor: Actor, typed: dict[str, str]) -> dict[str, Any]:
    wallet = buying.wallet(market(), visitor)["balances"]
    # They come currency by currency: by time, none of them hides another where the list is cut.
    lines = sorted(_by_entry(paying.history(market(), visitor)["items"]), key=lambda one: str(one["at"]))[
        ::-1
    ]
    everything = request.args.get("all") == "1"
    known = wallet[0]["currency"] if wallet else _FIRST_CURRENCY
    return {
        "balances": wallet,
        "lines": lines if everything else lines[:_LINES],
        "hidden_lines": 0 if everything else max(0, len(lines) - _LINES),
        "in_words": invoicing.in_words,
        "top_ups": paying.list_top_ups(market(), visitor)["items"][:_LINES],
        "refunds": refunding.list_refunds(market(), visitor)["items"][:_LINES],
        "takes_cards": market().till is not None,
        "typed": {**typed, "currency": typed["currency"] or known},
    }


def _by_entry(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of one entry - the provider's part of a charge and the exchange's - as one."""
    merged: list[dict[str, Any]] = []
    for one in lines:
        last = merged[-1] if merged else None
        if last and (last["journal"], last["currency"]) == (one["journal"], one["currency"]):
            merged[-1] = {**one, "amount_minor": last["amount_minor"] + one["amount_minor"]}
        else:
            merged.append(one)
    return merged
