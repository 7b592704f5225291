"""Price plans of a listing: checked together, and shown to those whom they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exchange.errors import RequestInvalid
from exchange.identity import Role
from exchange.operations.terms import NANO, decimal_text, money
from settlement.prices import PricePlan, check_menu

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from exchange.identity import Actor
    from exchange.market import Market

_PLANS_PER_LISTING = 20


def check_plans(documents: Sequence[Mapping[str, Any]]) -> list[PricePlan]:
    """The plans of a listing, each in good form and none beaten by the others.

    Raises RequestInvalid, PriceInvalid, and PriceArbitrage with purchases that beat a price.
    """
    if len(documents) > _PLANS_PER_LISTING:
        raise RequestInvalid(f"a listing has at most {_PLANS_PER_LISTING} price plans")
    plans = [PricePlan.from_document(document) for document in documents]
    if len({plan.name for plan in plans}) != len(plans):
        raise RequestInvalid("two plans have the same name")
    check_menu(plans)
    return plans


def check(market: Market, actor: Actor, documents: Sequence[Any]) -> dict[str, Any]:
    """What publishing would say of these plans, before anything is uploaded."""
    del market
    actor.require(Role.PROVIDER)
    return {"plans": [summary(plan) for plan in check_plans(tables(documents))]}


def offered(
    documents: Iterable[dict[str, Any]], actor: Actor, owner: str, today: date
) -> list[dict[str, Any]]:
    """The plans that a reader sees: of private offers those made to it, while they stand; its own all."""
    if actor.org == owner or actor.role in (Role.OFFICER, Role.OPERATOR):
        return list(documents)
    return [one for one in documents if _is_offered(one, actor, today)]


def summaries(documents: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Plans for people, of their documents."""
    return [summary(PricePlan.from_document(document)) for document in documents]


def summary(plan: PricePlan) -> dict[str, Any]:
    """A plan for people: what is paid when."""
    return {
        "name": plan.name,
        "kind": plan.kind,
        "currency": plan.currency,
        "approval": plan.approval,
        "organisation": plan.organisation or None,
        "offered_until": plan.offered_until.isoformat() if plan.offered_until else None,
        "max_rho": decimal_text(plan.allowance_rho_nano, NANO) if plan.allowance_rho_nano else None,
        "up_front": money(plan.up_front_minor, plan.currency),
        "in_words": in_words(plan),
        "sha256": plan.sha256,
    }


def in_words(plan: PricePlan) -> str:
    """What is paid when, in a sentence."""
    now, each = _text(plan.up_front_minor, plan.currency), _each(plan)
    if plan.buys_out:
        return f"{now} for all that is left of the privacy budget"
    if plan.period is not None:
        rho = decimal_text(plan.included_nano, NANO)
        return f"{now} each {plan.period} with rho {rho} included; beyond it {each}"
    if plan.monthly_cap_minor is not None:
        return f"{each}; a calendar month at most {_text(plan.monthly_cap_minor, plan.currency)}"
    if plan.up_front_minor:
        return f"credit of {now} paid up front, spent by {each}"
    return each


def _each(plan: PricePlan) -> str:
    """What a query costs: "0.05 USD a query + 20.00 USD per unit of rho, at most 5.00 USD"."""
    curve, parts = plan.curve, []
    if curve.fee_minor:
        parts.append(f"{_text(curve.fee_minor, plan.currency)} a query")
    rates = [_text(tier.minor_per_rho, plan.currency) for tier in curve.tiers]
    falling = f", falling to {rates[-1]}" if len(rates) > 1 else ""
    if len(rates) > 1 or curve.tiers[0].minor_per_rho:
        parts.append(f"{rates[0]} per unit of rho{falling}")
    cap = f", at most {_text(curve.cap_minor, plan.currency)}" if curve.cap_minor is not None else ""
    return (" + ".join(parts) or "nothing") + cap


def _is_offered(document: Mapping[str, Any], actor: Actor, today: date) -> bool:
    if not document.get("organisation"):
        return True
    return PricePlan.from_document(document).offered_to(actor.name, actor.org, today=today)


def tables(documents: Sequence[Any]) -> list[dict[str, Any]]:
    """Price plans as they came, each of them a table. Raises RequestInvalid."""
    if not all(isinstance(one, dict) for one in documents):
        raise RequestInvalid("each plan is a table of its fields")
    return list(documents)


def _text(amount_minor: int, currency: str) -> str:
    shown = money(amount_minor, currency)
    return f"{shown['amount']} {shown['currency']}"
