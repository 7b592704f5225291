"""What a buyer holds and what asking for access takes, as its pages show both; nothing is changed here."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from catalog import listings
from exchange import parties, restraints
from exchange.errors import Frozen, NotFound, RequestInvalid
from exchange.identity import Role, organisation_names
from exchange.operations import buying, entitlements, gates, licensing, listing, pricing
from exchange.operations.terms import NANO, decimal_text, money
from exchange.store import our_id
from settlement import ledger, licences, orders
from settlement.errors import GrantMissing, OrderError
from settlement.ledger import chart
from settlement.prices import PricePlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market


def access_form(market: Market, actor: Actor, dataset: str) -> dict[str, Any]:
    """What a request for access to a dataset says: its plans, its licence, what law asks of the parties, and
    what the organisation has already. Raises NotFound.
    """
    actor.require(Role.BUYER)
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        view = listing.published(session, dataset)
        plans = pricing.offered(view.plans, actor, view.org, now.date())
        mine = [one for one in orders.grants_of(session, org=actor.org) if one.dataset == view.dataset_id]
        return {
            "slug": view.slug,
            "title": view.title,
            "state": view.state,
            "provider": organisation_names(session, [view.org]).get(view.org, view.org),
            "offers": pricing.summaries(plans),
            "licence": listing.licence_document(licences.find_licence(session, view.licence_id)),
            "law": gates.of(view).regime.identities or None,
            "identified": parties.find(session, actor.org) is not None,
            "held": _held(session, [one for one in mine if orders.state_at(one, now) == "active"], now),
            "decided_within_days": market.settings.request_days,
        }

    return market.store.read(look)


def grants(
    market: Market,
    actor: Actor,
    *,
    state: Literal["active", "suspended"] | None = None,
    limit: int,
    page_token: str | None = None,
) -> dict[str, Any]:
    """The organisation's grants, newest first, each with its plan in words and what it stands at.

    Of one ``state`` where it is given, at most ``limit`` at a time. Raises RequestInvalid for a page token
    that this did not give.
    """
    actor.require(Role.BUYER)
    now, before = market.store.clock(), _place(page_token)

    def look(session: Session) -> dict[str, Any]:
        found = orders.grants_page(
            session, org=actor.org, now=now, state=state, before=before, limit=limit + 1
        )
        shown, more = found[:limit], len(found) > limit
        return {
            "items": _held(session, shown, now),
            "next_page_token": f"{shown[-1].issued_at}_{shown[-1].id}" if more else None,
        }

    return market.store.read(look)


def _place(token: str | None) -> tuple[str, str] | None:
    """Where a page begins. Raises RequestInvalid for a token that no page gave."""
    if token is None:
        return None
    at, _, last = token.partition("_")
    if our_id(last) is None or len(at) != 32:
        raise RequestInvalid("the page token was not given by this list")
    return at, last


def usable(market: Market, actor: Actor, grant_id: str) -> dict[str, Any] | None:
    """A grant of the organisation's under which it may ask now; None for any other id."""
    actor.require(Role.BUYER)
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any] | None:
        try:
            found = orders.require_active(orders.find_grant(session, grant_id, org=actor.org), now)
        except OrderError:
            return None
        return _held(session, [found], now)[0] if found.org == actor.org else None

    return market.store.read(look)


def grant(market: Market, actor: Actor, grant_id: str) -> dict[str, Any]:
    """One grant with the plan and the licence of another term, and what that changes; with the state of its
    dataset's listing, and as ``frozen`` the id of a freeze that stops it. Raises GrantMissing.
    """
    actor.require(Role.BUYER)
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        found = orders.find_grant(session, grant_id, org=actor.org)
        if found.org != actor.org:
            raise GrantMissing("There is no such grant.")
        (told,), state = _held(session, [found], now), listing.any_view(session, found.dataset).state
        frozen = _frozen(session, found)
        if frozen is not None or state == listings.WITHDRAWN:
            told["acts"] = [act for act in told["acts"] if act == "end"]
        renewal = _renewal(session, found, actor, now)
        return {
            **told,
            **_licence(session, found),
            "renewal": renewal,
            "listing": state,
            "frozen": frozen,
        }

    return market.store.read(look)


def _renewal(session: Session, one: orders.Grant, actor: Actor, now: datetime) -> dict[str, Any] | None:
    """The plan that another term would be under; None where it is offered no longer."""
    view, held = listing.any_view(session, one.dataset), PricePlan.from_document(json.loads(one.plan))
    if view.state != listings.PUBLISHED:
        return None
    try:
        return pricing.summary(buying.renewal_plan(view, held, actor, now))
    except NotFound:
        return None


def _frozen(session: Session, one: orders.Grant) -> str | None:
    try:
        restraints.require_free(session, **licensing.frozen_by(session, one))
    except Frozen as freeze:
        return str(freeze.details["freeze"])
    return None


def _held(session: Session, grants: Sequence[orders.Grant], now: datetime) -> list[dict[str, Any]]:
    """What each grant is, allows and stands at, in a number of statements that does not grow with theirs."""
    plans = {one.id: PricePlan.from_document(json.loads(one.plan)) for one in grants}
    states = {one.id: orders.state_at(one, now) for one in grants}
    paid_for = [(one, plans[one.id]) for one in grants if states[one.id] == "active"]
    periods, credit = _periods(session, paid_for, now), _credit(session, plans)
    told = []
    for one, document in zip(grants, buying.grant_documents(session, grants), strict=True):
        plan, state, period = plans[one.id], states[one.id], periods.get(one.id)
        told.append(
            {
                **document,
                "state": state,
                "issued_at": one.issued_at,
                "offer": pricing.summary(plan),
                "credit": credit.get(one.id),
                "period": period,
                "acts": _acts(plan, state, period),
            }
        )
    return told


def _acts(plan: PricePlan, state: str, period: dict[str, Any] | None) -> list[str]:
    """What its buyer can do with a grant: renew, end, pay, top-up."""
    if state not in ("active", "expired"):
        return []
    acts = ["renew"]
    if state == "active":
        acts += ["top-up"] if plan.kind == "credits" else []
        acts += ["pay"] if period is not None and not period["paid"] else []
        acts.append("end")
    return acts


def _periods(
    session: Session, grants: Sequence[tuple[orders.Grant, PricePlan]], now: datetime
) -> dict[str, dict[str, Any]]:
    """The subscriptions' periods of today, by grant."""
    ours = [(one, plan) for one, plan in grants if plan.period is not None]
    left = entitlements.included_left(session, ours, now)
    told = {}
    for one, plan in ours:
        number, rho = entitlements.current_period(one, plan, now), left.get(one.id)
        told[one.id] = {
            "length": plan.period,
            "ends": entitlements.period_start(one, plan, number + 1).isoformat(),
            "paid": rho is not None,
            "rho_left": decimal_text(rho or 0, NANO),
        }
    return told


def _credit(session: Session, plans: Mapping[str, PricePlan]) -> dict[str, dict[str, Any]]:
    """What is left of the credit of those grants whose plan sells any."""
    sold = {id_: plan.currency for id_, plan in plans.items() if plan.kind == "credits"}
    held = ledger.balances(session, *((chart.grant_credit(id_, unit), unit) for id_, unit in sold.items()))
    left = zip(sold.items(), held, strict=True)
    return {id_: money(balance.available, currency) for (id_, currency), balance in left}


def _licence(session: Session, one: orders.Grant) -> dict[str, Any]:
    """The licence on offer, and what it changes against the one that the grant was accepted under."""
    accepted = licences.find_acceptance(session, one.acceptance_id, org=one.org)
    before = licences.find_licence(session, accepted.licence_id)
    now = licences.find_licence(session, listing.any_view(session, one.dataset).licence_id)
    return {
        "licence": listing.licence_document(now),
        "changes": [asdict(change) for change in licences.compare(before, now)],
        "must_accept": licences.is_material(before, now),
    }
