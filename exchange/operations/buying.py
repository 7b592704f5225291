"""The buyer's way to the data: request, licence acceptance, approval, grant; and the wallet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import select

from exchange.audit.entry import Entry, LicenceGroup, MoneyGroup, ObjectGroup, PrivacyGroup, ResultGroup
from exchange.errors import LicenceNotShown, NotFound
from exchange.identity import Role, new_id
from exchange.operations import accepting, licensing, listing, settling
from exchange.operations.terms import money
from settlement import ledger, licences, orders
from settlement.ledger import chart, entries
from settlement.prices import PricePlan

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx


_STOPPED = ("suspended", "withdrawn")


@dataclass(frozen=True)
class RequestAccess:
    """Ask for access under a plan, for a purpose, in a territory, having accepted the licence."""

    dataset: str
    plan: str
    purpose: str
    territory: str
    accept_licence: bool
    licence_sha256: str
    role: str = ""
    publishes: bool = False
    kind: ClassVar[str] = "access.requested"
    refused: ClassVar[str] = "access.refused"

    def entry(self) -> Entry:
        """The audit entry: the dataset asked for, and the declared purpose."""
        return Entry(
            kind=self.kind,
            outcome="done",
            object=ObjectGroup(type="dataset", dataset=self.dataset[:200]),
        )


@dataclass(frozen=True)
class DecideRequest:
    """Approve or decline a request."""

    request: str
    approved: bool
    reason: str
    kind: ClassVar[str] = "access.decided"
    refused: ClassVar[str] = "access.refused"

    def entry(self) -> Entry:
        """The audit entry: the request, with the outcome in its kind."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="request", id=self.request[:64]))


def request_access(
    market: Market, actor: Actor, command: RequestAccess, *, key: str | None
) -> dict[str, Any]:
    """Record the acceptance and the request; an instant plan issues the grant in the same transaction.

    An active grant for the same plan, purpose and territory under the licence in force is returned as it is,
    so that running a notebook twice asks once.
    """

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.BUYER)
        view = listing.published(tx.session, command.dataset)
        licence = licences.find_licence(tx.session, view.licence_id)
        plan = _plan(view, command.plan)
        held = _held(tx, actor, view, command, plan)
        if held is not None and command.licence_sha256 in ("", licence.text_sha256):
            tx.record(kind="access.confirmed", object=_object(view, "grant", held.id))
            return _requested(tx.session, held.request_id, actor.org, repeated=True)
        if not command.accept_licence or command.licence_sha256 not in ("", licence.text_sha256):
            raise LicenceNotShown("the licence must be accepted, in the version that is in force")
        given = accepting.Given((command.purpose,), command.territory, command.role, command.publishes)
        accepted = accepting.record(tx, view, licence, given)
        request = orders.request_access(
            tx.session,
            id=new_id("req"),
            dataset=view.dataset_id,
            provider=view.org,
            org=actor.org,
            actor=actor.ref,
            purpose=command.purpose,
            territory=command.territory,
            plan=plan,
            acceptance_id=accepted.id,
            now=tx.now,
        )
        tx.record(
            object=_object(view, "request", request.id),
            licence=LicenceGroup(
                acceptance_id=accepted.id, odrl_sha256=licence.odrl_sha256, purpose=command.purpose
            ),
            result=ResultGroup(sha256=accepted.digest),
        )
        if request.state == "approved":
            _issue(tx, request, plan, listing.domain_of(view))
        return _requested(tx.session, request.id, actor.org)

    return market.store.perform(actor, command, work, key=key).value


def decide(
    market: Market, actor: Actor, request_id: str, *, approved: bool, reason: str = "", key: str | None = None
) -> dict[str, Any]:
    """A provider's decision; approving issues the grant."""
    command = DecideRequest(request_id, approved, reason)

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.PROVIDER)
        verdict = orders.approve if approved else orders.decline
        request = verdict(
            tx.session, request_id, provider=actor.org, decided_by=actor.ref, reason=reason, now=tx.now
        )
        tx.record(kind="access.approved" if approved else "access.declined")
        if approved:
            view = listing.published(tx.session, request.dataset)
            _issue(tx, request, PricePlan.from_document(json.loads(request.plan)), listing.domain_of(view))
        return _requested(tx.session, request_id, actor.org)

    return market.store.perform(actor, command, work, key=key).value


def show_request(market: Market, actor: Actor, request_id: str) -> dict[str, Any]:
    """One request, for its buyer or its provider. Raises RequestMissing for everybody else."""
    return market.store.read(lambda session: _requested(session, request_id, actor.org))


def requests(market: Market, actor: Actor, *, state: str | None) -> dict[str, Any]:
    """A provider's inbox, or a buyer's own requests, newest first."""

    actor.require(Role.BUYER, Role.PROVIDER)

    def look(session: Session) -> dict[str, Any]:
        table = orders.access_request
        mine = table.c.provider if actor.role == Role.PROVIDER else table.c.org
        found = select(table.c.id).where(mine == actor.org).order_by(table.c.requested_at.desc()).limit(200)
        if state is not None:
            found = found.where(table.c.state == state)
        return {"items": [_requested(session, one, actor.org) for one in session.scalars(found)]}

    return market.store.read(look)


def grants(market: Market, actor: Actor) -> dict[str, Any]:
    """A buyer's grants with what is left of each allowance."""
    actor.require(Role.BUYER)
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        found = orders.grants_of(session, org=actor.org)
        return {
            "items": [{**grant_document(session, one), "state": orders.state_at(one, now)} for one in found]
        }

    return market.store.read(look)


def wallet(market: Market, actor: Actor) -> dict[str, Any]:
    """A buyer's prepaid balances by currency; empty before the first top-up."""
    actor.require(Role.BUYER)

    def look(session: Session) -> dict[str, Any]:
        held = ledger.account
        rows = session.execute(
            select(held.c.id, held.c.unit).where(held.c.owner == actor.org, held.c.kind == "buyer_prepaid")
        )
        return {"balances": [_balance(session, row.id, row.unit) for row in rows]}

    return market.store.read(look)


def grant_document(session: Session, grant: orders.Grant) -> dict[str, Any]:
    """A grant as its buyer sees it."""
    view = listing.any_view(session, grant.dataset)
    left = settling.allowance_left(session, grant, listing.domain_of(view))
    return {
        "grant": grant.id,
        "dataset": grant.dataset,
        "slug": view.slug,
        "plan": grant.plan_name,
        "purpose": grant.purpose,
        "territory": grant.territory,
        "state": grant.state,
        "rho_nano_allowance": grant.allowance_rho_nano,
        "rho_nano_remaining": left,
        "until": grant.valid_until,
        "acceptance": grant.acceptance_id,
    }


def _held(tx: Tx, actor: Actor, view: Any, command: RequestAccess, plan: PricePlan) -> orders.Grant | None:
    """An active grant for the same use, under the licence version that is in force.

    Raises GrantSuspended or GrantWithdrawn where a grant under this plan was stopped: asking again does not
    start it again.
    """
    for grant in orders.grants_of(tx.session, org=actor.org):
        if (grant.dataset, grant.plan_name) == (view.dataset_id, plan.name) and grant.state in _STOPPED:
            orders.require_active(grant, tx.now)
        same = (grant.dataset, grant.purpose, grant.territory, grant.plan_sha256) == (
            view.dataset_id,
            command.purpose,
            command.territory,
            plan.sha256,
        )
        if same and orders.state_at(grant, tx.now) == "active":
            accepted = licences.find_acceptance(tx.session, grant.acceptance_id, org=actor.org)
            declared = (accepted.licence_id, accepted.role, bool(accepted.publishes))
            if declared == (view.licence_id, command.role or str(actor.role), command.publishes):
                licensing.in_force(tx.session, grant, view.licence_id, tx.now)
                return grant
    return None


def _issue(tx: Tx, request: orders.AccessRequest, plan: PricePlan, domain: str) -> None:
    """Issue the grant and book its allowance; nothing is taken from the domain before a query."""
    grant = orders.issue_grant(
        tx.session,
        id=new_id("grt"),
        request_id=request.id,
        org=request.org,
        allowance_rho_nano=plan.allowance_rho_nano,
        now=tx.now,
    )
    chart.open_grant(tx.session, grant.id, domain)
    chart.open_domain_buyer(tx.session, domain, request.org)
    chart.open_buyer(tx.session, request.org, plan.currency)
    journal = ledger.post(
        tx.session,
        journal=new_id("jnl"),
        kind="allowance_issued",
        business_key=f"grant:{grant.id}:issued",
        actor=tx.actor.ref,
        now=tx.now,
        legs=entries.allowance_issued(grant.id, domain, rho_nano=grant.allowance_rho_nano),
    )
    digest = ledger.journal_digest(tx.session, journal)
    tx.record(
        money=MoneyGroup(journal=journal, journal_sha256=digest),
        privacy=PrivacyGroup(domain=domain, remaining_after=grant.allowance_rho_nano),
    )


def _requested(session: Session, request_id: str, org: str, *, repeated: bool = False) -> dict[str, Any]:
    request = orders.find_request(session, request_id, org=org)
    acceptance = licences.find_acceptance(session, request.acceptance_id, org=request.org)
    found = session.execute(
        select(orders.access_grant.c.id).where(orders.access_grant.c.request_id == request_id)
    ).scalar_one_or_none()
    grant = orders.find_grant(session, found, org=org) if found else None
    return {
        "request": request.id,
        "dataset": request.dataset,
        "org": request.org,
        "plan": request.plan_name,
        "purpose": request.purpose,
        "territory": request.territory,
        "state": request.state,
        "reason": request.reason,
        "requested_at": request.requested_at,
        "repeated": repeated,
        "grant": grant_document(session, grant) if grant else None,
        "acceptance": {
            "id": acceptance.id,
            "licence": acceptance.licence_id,
            "shown_sha256": acceptance.shown_sha256,
            "accepted_at": acceptance.accepted_at,
            "digest": acceptance.digest,
        },
    }


def _plan(view: Any, name: str) -> PricePlan:
    for document in view.plans:
        if document["name"] == name:
            return PricePlan.from_document(document)
    names = ", ".join(document["name"] for document in view.plans)
    raise NotFound(f"the dataset has no plan {name!r}", hint=f"Its plans: {names}.")


def _balance(session: Session, account: str, currency: str) -> dict[str, Any]:
    held = ledger.balance(session, account, currency)
    shown = money(held.available, currency)
    return {
        "currency": currency,
        "available": shown["amount"],
        "available_minor": held.available,
        "reserved": money(held.pending_out, currency)["amount"],
    }


def _object(view: Any, kind: str, id: str) -> ObjectGroup:  # noqa: A002
    return ObjectGroup(type=kind, id=id, version=view.version_id, dataset=view.slug)
