"""A provider's desk: what it lists and how much of it is used, who asks and what is known of them, what it
earns.

Nothing here is told to anybody but the provider, and nothing of it is data of the people in the tables.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from catalog import listings
from exchange import identity, parties
from exchange.alerts import spent
from exchange.identity import Role
from exchange.operations import buying, domain_accounts, gates, listing, pricing, revising
from exchange.operations.policy_changes import between
from exchange.operations.terms import budgets, money
from settlement import invoices, ledger, licences, orders
from settlement.ledger import chart
from settlement.prices import PricePlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.identity import Actor
    from exchange.market import Market

MOST_LISTINGS, MOST_REQUESTS, MOST_VERSIONS, MOST_GRANTS, MONTHS = 50, 50, 20, 100, 12
_LONGEST_SLUG = 128
_ACCOUNTS = {
    "payable": chart.provider_payable,
    "holdback": chart.provider_holdback,
    "clawback": chart.provider_clawback,
}
STATES = ("open", "approved", "declined")


def overview(market: Market, actor: Actor, *, page_token: str | None = None) -> dict[str, Any]:
    """The listings with state, use and budget, 50 at a time by name, how many there are, how many requests
    wait, and what is owed to the provider.
    """
    after = (page_token or "")[:_LONGEST_SLUG]
    actor.require(Role.PROVIDER)
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        found = listings.own_listings(session, actor.org, after=after, limit=MOST_LISTINGS + 1)
        own = found[:MOST_LISTINGS]
        waiting, held = _waiting(session, actor.org), _holders(session, actor.org)
        domains = sorted({one.domain for one in own if one.domain and one.state != "draft"})
        accounts = {one["domain"]: one for one in budgets(session, domains)}
        recent = spent.entries_since(session, domains, _days_ago(now, 30))
        return {
            "listings": [
                {
                    "slug": one.slug,
                    "title": one.title,
                    "state": one.state,
                    "version_number": one.version_number,
                    "newest_number": one.newest_number,
                    "budget": accounts.get(one.domain or ""),
                    "answers": recent.get(one.domain or "", 0),
                    "waiting": waiting.get(one.dataset_id, 0),
                    "buyers": held.get(one.dataset_id, 0),
                }
                for one in own
            ],
            "listed": listings.count_own(session, actor.org),
            "next_page_token": own[-1].slug if len(found) > MOST_LISTINGS else None,
            "waiting": sum(waiting.values()),
            "first": _requests(session, actor.org, "open", now, limit=5),
            "balances": _balances(session, actor.org),
        }

    return market.store.read(look)


def inbox(market: Market, actor: Actor, *, state: str) -> dict[str, Any]:
    """Requests for the provider's datasets with facts about who asks: those that wait, the first to lapse
    first, or the latest that were decided. At most 50, and how many wait in all.
    """
    actor.require(Role.PROVIDER)
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        found = _requests(session, actor.org, state, now, limit=MOST_REQUESTS)
        return {"items": found, "waiting": sum(_waiting(session, actor.org).values())}

    return market.store.read(look)


def request(market: Market, actor: Actor, request_id: str) -> dict[str, Any]:
    """One request with facts about who asks. Raises RequestMissing for everybody but its provider."""
    actor.require(Role.PROVIDER)
    now = market.store.clock()
    return market.store.read(lambda session: _request(session, actor.org, request_id, now))


def grant(market: Market, actor: Actor, grant_id: str) -> dict[str, Any]:
    """A grant on an own dataset, with who holds it and its plan in words. Raises GrantMissing."""
    actor.require(Role.PROVIDER)
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        return _grant(session, orders.find_grant(session, grant_id, org=actor.org), now)

    return market.store.read(look)


def own_listing(market: Market, actor: Actor, dataset: str) -> dict[str, Any]:
    """A listing for its owner: versions and what changed, who has access, the budget and its forecast.

    Raises NotFound for another's and unknown ones alike.
    """
    actor.require(Role.PROVIDER)
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        own = listing.own(session, actor, dataset)
        views = listings.versions_of(session, own.id, limit=MOST_VERSIONS)
        on_offer = next((one for one in views if one.version_id == own.version_id), None)
        held = orders.grants_on(session, dataset=own.id)
        return {
            "dataset": own.id,
            "slug": own.slug,
            "title": views[0].title if views else own.slug,
            "state": own.state,
            "version": own.version_id,
            "plans": pricing.summaries(on_offer.plans) if on_offer else [],
            "licence": licences.find_licence(session, on_offer.licence_id).title if on_offer else None,
            "versions": _versions(views, own.version_id),
            "course": domain_accounts.course(session, on_offer.domain, now.date()) if on_offer else None,
            "grants": [_grant(session, one, now) for one in held[:MOST_GRANTS]],
            "in_force": sum(orders.state_at(one, now) in ("active", "suspended") for one in held),
            "waiting": _waiting(session, actor.org).get(own.id, 0),
            "beyond": revising.beyond(session, on_offer) if on_offer else [],
            "tables": [table.name for table in on_offer.tables] if on_offer else [],
        }

    return market.store.read(look)


def earnings(market: Market, actor: Actor) -> dict[str, Any]:
    """By currency: what is owed to the provider, and what each of the last 12 months brought."""
    actor.require(Role.PROVIDER)
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        months = _months(now)
        found = []
        for balance in _balances(session, actor.org):
            currency = balance["currency"]
            earned = invoices.earned_by_month(session, actor.org, currency, since=f"{months[0]}-01")
            by_month = [(month, *earned.get(month, (0, 0))) for month in months]
            found.append(
                {
                    **balance,
                    "months": [{"month": m, "net_minor": net, "entries": n} for m, net, n in by_month],
                }
            )
        return {"currencies": found}

    return market.store.read(look)


def _requests(
    session: Session, provider: str, state: str, now: datetime, *, limit: int
) -> list[dict[str, Any]]:
    asked = orders.access_request.c
    order = (asked.deadline, asked.id) if state == "open" else (asked.decided_at.desc(), asked.id)
    found = select(asked.id).where(asked.provider == provider, asked.state == state)
    ids = session.scalars(found.order_by(*order).limit(limit)).all()
    return [_request(session, provider, one, now) for one in ids]


def _request(session: Session, provider: str, request_id: str, now: datetime) -> dict[str, Any]:
    told = buying.document_of(session, request_id, provider)
    found = orders.find_request(session, request_id, org=provider)
    view = listing.any_view(session, found.dataset)
    plan = PricePlan.from_document(json.loads(found.plan))
    accepted = licences.find_acceptance(session, found.acceptance_id, org=found.org)
    return {
        **told,
        "title": view.title,
        "requested_by": found.actor,
        "decided_at": found.decided_at,
        "clock": clock(found.requested_at, found.deadline, now) if found.state == "open" else None,
        "price": pricing.summary(plan),
        "most_nano": plan.allowance_rho_nano,
        "buys_out": plan.buys_out,
        "role": accepted.role,
        "publishes": bool(accepted.publishes),
        "asker": _asker(session, found, view),
    }


def clock(begun: str, deadline: str | None, now: datetime) -> dict[str, Any]:
    """How long a request waits and what is left until it lapses, in whole hours, rounded down."""
    waits = now - datetime.fromisoformat(begun)
    until = datetime.fromisoformat(deadline) if deadline else now
    left = max(until - now, timedelta())
    return {
        "waits_h": int(waits / timedelta(hours=1)),
        "left_h": int(left / timedelta(hours=1)),
        "of_h": max(1, int((until - datetime.fromisoformat(begun)) / timedelta(hours=1))),
        "until": deadline,
    }


def _asker(session: Session, found: orders.AccessRequest, view: ListingView) -> dict[str, Any]:
    """Who asks: the organisation, since when it is here, and what it had of this provider before.

    Who it is in law is shown where the law of the data asks both parties; elsewhere whether it is on record.
    """
    table = identity.organisation.c
    org = session.execute(select(table.name, table.created_at).where(table.id == found.org)).one()
    law, known = gates.of(view).regime.identities, parties.find(session, found.org)
    held, domain = orders.access_grant.c, view.domain
    before = select(func.count()).where(held.org == found.org, held.provider == found.provider)
    return {
        "name": org.name,
        "since": org.created_at,
        "law": law,
        "recorded": known is not None,
        "identity": known if law else None,
        "grants": int(session.scalar(before) or 0),
        "spent_nano": spent.of_organisation(session, domain, found.org),
    }


def _waiting(session: Session, provider: str) -> dict[str, int]:
    asked = orders.access_request.c
    found = select(asked.dataset, func.count()).where(asked.provider == provider, asked.state == "open")
    return {dataset: int(count) for dataset, count in session.execute(found.group_by(asked.dataset))}


def _holders(session: Session, provider: str) -> dict[str, int]:
    held = orders.access_grant.c
    found = select(held.dataset, func.count(held.org.distinct())).where(
        held.provider == provider, held.state.in_(("active", "suspended"))
    )
    return {dataset: int(count) for dataset, count in session.execute(found.group_by(held.dataset))}


def _grant(session: Session, one: orders.Grant, now: datetime) -> dict[str, Any]:
    plan = PricePlan.from_document(json.loads(one.plan))
    names = identity.organisation_names(session, [one.org])
    return {
        **buying.grant_document(session, one),
        "state": orders.state_at(one, now),
        "holder": names.get(one.org, one.org),
        "issued_at": one.issued_at,
        "price": pricing.summary(plan)["in_words"],
        "credit": plan.kind == "credits",
    }


def _versions(views: Sequence[ListingView], offered: str | None) -> list[dict[str, Any]]:
    """The versions, each with what it tells more and less of than the one that was offered before it."""
    told = []
    for place, view in enumerate(views):
        before = next((one for one in views[place + 1 :] if one.published_at is not None), None)
        told.append(
            {
                "version": view.version_id,
                "number": view.version_number,
                "published_at": view.published_at.isoformat() if view.published_at else None,
                "on_offer": view.version_id == offered,
                "against": before.version_number if before else None,
                "changes": [] if before is None else _changes(before, view),
            }
        )
    return told


def _changes(before: ListingView, view: ListingView) -> list[dict[str, str]]:
    """What differs between two versions: of data, licence and prices that they differ, of the policy how."""
    found = [
        {"what": what, "before": "", "after": "", "way": "other"}
        for what, differs in (
            ("data", _files(before) != _files(view)),
            ("licence", before.licence_id != view.licence_id),
            ("prices", list(before.plans) != list(view.plans)),
            ("declarations", before.declarations != view.declarations),
        )
        if differs
    ]
    more = [_change(one.what, one.before, one.after, "more") for one in between(before, view)]
    less = [_change(one.what, one.after, one.before, "less") for one in between(view, before)]
    return found + more + less


def _change(what: str, before: str, after: str, way: str) -> dict[str, str]:
    return {"what": what, "before": before, "after": after, "way": way}


def _files(view: ListingView) -> dict[str, tuple[str, ...]]:
    return {table.name: table.objects for table in view.tables}


def _balances(session: Session, org: str) -> list[dict[str, Any]]:
    """By currency: what is payable, held back and owed after disputes (below zero), and their sum."""
    found = []
    for currency in invoices.currencies_of(session, org):
        names = [of(org, currency) for of in _ACCOUNTS.values()]
        held = [one.posted for one in ledger.balances(session, *((name, currency) for name in names))]
        parts = dict(zip(_ACCOUNTS, held, strict=True)) | {"total": sum(held)}
        told = {name: money(amount, currency) for name, amount in parts.items()}
        found.append({"currency": currency, **told})
    return found


def _months(now: datetime) -> list[str]:
    """The last 12 months, this one included, the earliest first."""
    last = now.year * 12 + now.month - 1
    return [f"{place // 12:04d}-{place % 12 + 1:02d}" for place in range(last - MONTHS + 1, last + 1)]


def _days_ago(now: datetime, days: int) -> str:
    return (now.date() - timedelta(days=days)).isoformat()
