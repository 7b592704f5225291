"""The buyer's way to the data: request, licence acceptance, approval, grant; and the wallet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import select

from catalog import listings
from exchange import notifications, restraints
from exchange.approvals import Wanted
from exchange.audit.entry import Entry, MoneyGroup, ObjectGroup, PrivacyGroup
from exchange.errors import ApprovalNeeded, LicenceNotShown, NotFound, RequestInvalid
from exchange.identity import Role, new_id
from exchange.operations import (
    accepting,
    approving,
    domains,
    entitlements,
    gates,
    licensing,
    listing,
    pricing,
    settling,
)
from exchange.operations.terms import NANO, moment, money
from settlement import ledger, licences, orders
from settlement.ledger import chart, entries
from settlement.prices import PricePlan
from settlement.schema import timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx


_STOPPED = ("suspended", "withdrawn")


@dataclass(frozen=True)
class RequestAccess:
    """Ask for access under a plan, for a purpose, in a territory, having accepted the licence.

    ``plan_sha256`` is the plan as it was shown, where the request shall be of no other.
    """

    dataset: str
    plan: str
    purpose: str
    territory: str
    accept_licence: bool
    licence_sha256: str
    role: str = ""
    publishes: bool = False
    until: str = ""
    plan_sha256: str = ""
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
    max_rho_nano: int | None = None
    until: str = ""
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
    and so is the organisation's open request for the same: running a notebook twice asks once.
    """

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.BUYER)
        view = listing.published(tx.session, command.dataset)
        licence = licences.find_licence(tx.session, view.licence_id)
        restraints.require_free(
            tx.session, dataset=view.dataset_id, organisation=actor.org, licence=licence.id
        )
        gates.check_parties(tx.session, view, actor.org)
        plan = _plan(view, command.plan, actor, tx.now)
        require_shown(plan, command.plan_sha256)
        until = end_of(command.until, tx.now)
        held = _held(tx, actor, view, command, plan)
        if held is not None and command.licence_sha256 in ("", licence.text_sha256):
            tx.record(kind="access.confirmed", object=_object(view, "grant", held.id))
            return document_of(tx.session, held.request_id, actor.org, repeated=True)
        waiting = _waiting(tx, actor, view, command, plan, until)
        if waiting is not None and command.licence_sha256 in ("", licence.text_sha256):
            return confirmed(tx, view, waiting)
        listings.require_new_buyers(view)
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
            valid_until=until,
            decided_within=timedelta(days=market.settings.request_days),
        )
        tx.record(object=_object(view, "request", request.id))
        settle_request(tx, market, request, plan, view)
        return document_of(tx.session, request.id, actor.org)

    with approving.filing(market, actor):
        return market.store.perform(actor, command, work, key=key).value


def decide(
    market: Market,
    actor: Actor,
    request_id: str,
    *,
    approved: bool,
    reason: str = "",
    max_rho_nano: int | None = None,
    until: str = "",
    key: str | None = None,
) -> dict[str, Any]:
    """A provider's decision; approving issues the grant, with less rho or an earlier end where it says so."""
    command = DecideRequest(request_id, approved, reason, max_rho_nano, until)

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.PROVIDER)
        verdict = orders.approve if approved else orders.decline
        request = verdict(
            tx.session, request_id, provider=actor.org, decided_by=actor.ref, reason=reason, now=tx.now
        )
        tx.record(kind="access.approved" if approved else "access.declined")
        entitlements.release_up_front(tx, request.id)
        view = listing.published(tx.session, request.dataset) if approved else None
        slug = view.slug if view else listing.any_view(tx.session, request.dataset).slug
        text = f"Your request for {slug} was {request.state}{f': {reason}' if reason else '.'}"
        tell(tx, request.org, f"access.{request.state}", request.id, slug, text)
        if view is not None:
            restraints.require_free(tx.session, **licensing.frozen_by(tx.session, request))
            gates.check_parties(tx.session, view, request.org)
            plan = PricePlan.from_document(json.loads(request.plan))
            _issue(tx, market, request, plan, view, max_rho_nano=max_rho_nano, until=end_of(until, tx.now))
        return document_of(tx.session, request_id, actor.org)

    with approving.filing(market, actor):
        return market.store.perform(actor, command, work, key=key).value


def settle_request(
    tx: Tx, market: Market, request: orders.AccessRequest, plan: PricePlan, view: ListingView
) -> None:
    """What follows a request: its grant where the plan approves at once, else a hold and a decision due."""
    if request.state == "approved":
        _issue(tx, market, request, plan, view)
        text = f"{tx.actor.name} got access to {view.slug} under the plan {plan.name}."
        return tell(tx, request.provider, "access.granted", request.id, view.slug, text)
    entitlements.hold_up_front(tx, request, plan)
    due = (request.deadline or "")[:10]
    asks = "a renewal of its access" if request.renews else "access"
    text = f"{tx.actor.name} asks for {asks} to {view.slug} under the plan {plan.name}; decide by {due}."
    return tell(tx, request.provider, "access.requested", request.id, view.slug, text)


def tell(tx: Tx, org: str, kind: str, subject: str, slug: str, text: str) -> None:
    """Notify an organisation of the fact of this transaction."""
    notifications.notify(tx.session, org, kind, subject=subject, dataset=slug, text=text, now=tx.now)


def show_request(market: Market, actor: Actor, request_id: str) -> dict[str, Any]:
    """One request, for its buyer or its provider. Raises RequestMissing for everybody else."""
    return market.store.read(lambda session: document_of(session, request_id, actor.org))


def requests(market: Market, actor: Actor, *, state: str | None, granted: bool = True) -> dict[str, Any]:
    """A provider's inbox, or a buyer's own requests, newest first.

    ``granted``: also those that have led to access.
    """
    actor.require(Role.BUYER, Role.PROVIDER)

    def look(session: Session) -> dict[str, Any]:
        table = orders.access_request
        mine = table.c.provider if actor.role == Role.PROVIDER else table.c.org
        found = select(table).where(mine == actor.org).order_by(table.c.requested_at.desc()).limit(200)
        if state is not None:
            found = found.where(table.c.state == state)
        if not granted:
            found = found.where(table.c.id.not_in(select(orders.access_grant.c.request_id)))
        asked = [orders.AccessRequest(**row._asdict()) for row in session.execute(found)]
        return {"items": _documents(session, asked)}

    return market.store.read(look)


def grants(market: Market, actor: Actor) -> dict[str, Any]:
    """A buyer's grants, or those on a provider's datasets, with what is left of each allowance."""
    actor.require(Role.BUYER, Role.PROVIDER)
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        if actor.role == Role.PROVIDER:
            found = orders.grants_from(session, provider=actor.org)
        else:
            found = orders.grants_of(session, org=actor.org)
        told = zip(grant_documents(session, found), found, strict=True)
        return {"items": [{**document, "state": orders.state_at(one, now)} for document, one in told]}

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
    (document,) = grant_documents(session, [grant])
    return document


def grant_documents(session: Session, grants: Sequence[orders.Grant]) -> list[dict[str, Any]]:
    """Grants as their buyer sees them, in a number of statements that does not grow with theirs."""
    names = listings.names_of(session, {one.dataset for one in grants})
    left = settling.allowances_left(session, grants, {id_: domain for id_, (_, domain) in names.items()})
    return [
        {
            "grant": grant.id,
            "dataset": grant.dataset,
            "slug": names[grant.dataset][0],
            "plan": grant.plan_name,
            "purpose": grant.purpose,
            "territory": grant.territory,
            "state": grant.state,
            "rho_nano_allowance": grant.allowance_rho_nano,
            "rho_nano_remaining": left[grant.id],
            "until": grant.valid_until,
            "acceptance": grant.acceptance_id,
            "org": grant.org,
            "reason": grant.reason,
        }
        for grant in grants
    ]


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


def _waiting(
    tx: Tx,
    actor: Actor,
    view: ListingView,
    command: RequestAccess,
    plan: PricePlan,
    until: datetime | None,
) -> orders.AccessRequest | None:
    """The organisation's open request for the same, under the licence version that is in force."""
    same = (plan.sha256, command.purpose, command.territory, timestamp(until) if until else None)
    declared = (view.licence_id, command.role or str(actor.role), command.publishes)
    for one in orders.open_requests(tx.session, org=actor.org, dataset=view.dataset_id, now=tx.now):
        if one.renews is None and same == (one.plan_sha256, one.purpose, one.territory, one.valid_until):
            accepted = licences.find_acceptance(tx.session, one.acceptance_id, org=actor.org)
            if declared == (accepted.licence_id, accepted.role, bool(accepted.publishes)):
                return one
    return None


def confirmed(tx: Tx, view: ListingView, waiting: orders.AccessRequest) -> dict[str, Any]:
    """An open request, given again as it is."""
    tx.record(kind="access.confirmed", object=_object(view, "request", waiting.id))
    return document_of(tx.session, waiting.id, waiting.org, repeated=True)


def _issue(
    tx: Tx,
    market: Market,
    request: orders.AccessRequest,
    plan: PricePlan,
    view: ListingView,
    *,
    max_rho_nano: int | None = None,
    until: datetime | None = None,
) -> None:
    """Issue the grant, book its allowance and what is paid up front, in one entry.

    Nothing is taken from the domain before a query, but by a buy-out.
    """
    domain, most = listing.domain_of(view), entitlements.allowance(tx.session, plan, listing.domain_of(view))
    if max_rho_nano is not None and plan.buys_out:
        raise RequestInvalid("a buy-out takes all that is left: it is approved or declined as a whole")
    allowed = most if max_rho_nano is None else min(most, max_rho_nano)
    _require_approval(tx, market, request, plan, allowed)
    grant = orders.issue_grant(
        tx.session,
        id=new_id("grt"),
        request_id=request.id,
        org=request.org,
        allowance_rho_nano=allowed,
        now=tx.now,
        valid_until=until,
    )
    chart.open_grant(tx.session, grant.id, domain)
    chart.open_domain_buyer(tx.session, domain, request.org)
    chart.open_buyer(tx.session, request.org, plan.currency)
    issued = entries.allowance_issued(grant.id, domain, rho_nano=grant.allowance_rho_nano)
    paid = entitlements.up_front(tx, market, grant, plan, domain)
    journal = entitlements.post(tx, "allowance_issued", f"grant:{grant.id}:issued", [*issued, *paid], plan)
    tx.record(
        money=MoneyGroup(
            currency=plan.currency if plan.up_front_minor else None,
            amount_minor=plan.up_front_minor or None,
            journal=journal,
        ),
        privacy=PrivacyGroup(domain=domain, remaining_after=grant.allowance_rho_nano),
    )


def _require_approval(
    tx: Tx, market: Market, request: orders.AccessRequest, plan: PricePlan, rho_nano: int
) -> None:
    """Use up the approval of a grant above the settings' limit. Raises ApprovalNeeded without one.

    A buy-out's is of all that is left, which every question of others changes: at most what its domain was
    granted.
    """
    limit = market.settings.grant_approval_rho
    if not limit or rho_nano <= limit * 10**NANO:
        return
    view = listing.any_view(tx.session, request.dataset)
    amount: dict[str, Any] = {"rho_nano": rho_nano}
    if plan.buys_out:
        most, _ = domains.granted(tx.session, listing.domain_of(view))
        amount = {"rho_nano": most, "all_that_is_left": True}
    wanted = Wanted(
        approving.GRANT,
        {
            "dataset": request.dataset,
            "slug": view.slug,
            "org": request.org,
            "plan": plan.name,
            "plan_sha256": plan.sha256,
            "purpose": request.purpose,
            "territory": request.territory,
            **amount,
        },
    )
    standing = approving.standing(tx.session, wanted, tx.now)
    if standing is None:
        raise ApprovalNeeded(f"a compliance officer approves a grant of more than rho {limit}", wanted)
    approving.use(tx, standing)


def document_of(session: Session, request_id: str, org: str, *, repeated: bool = False) -> dict[str, Any]:
    """A request as its buyer and its provider see it, with the grant that it led to."""
    (document,) = _documents(session, [orders.find_request(session, request_id, org=org)])
    return {**document, "repeated": repeated}


def _documents(session: Session, requests: Sequence[orders.AccessRequest]) -> list[dict[str, Any]]:
    """Requests with the grants that they led to, in a number of statements that does not grow with theirs."""
    names = listings.names_of(session, {one.dataset for one in requests})
    accepted = licences.find_acceptances(session, {one.acceptance_id for one in requests})
    issued = orders.grants_for(session, {one.id for one in requests})
    grants = dict(zip(issued, grant_documents(session, list(issued.values())), strict=True))
    return [
        {
            "request": request.id,
            "dataset": request.dataset,
            "slug": names[request.dataset][0],
            "org": request.org,
            "plan": request.plan_name,
            "purpose": request.purpose,
            "territory": request.territory,
            "state": request.state,
            "outcome": request.seen_state,
            "reason": request.reason,
            "requested_at": request.requested_at,
            "decide_by": request.deadline if request.state == "open" else None,
            "renews": request.renews,
            "until": request.valid_until,
            "repeated": False,
            "grant": grants.get(request.id),
            "acceptance": {
                "id": acceptance.id,
                "licence": acceptance.licence_id,
                "shown_sha256": acceptance.shown_sha256,
                "accepted_at": acceptance.accepted_at,
                "digest": acceptance.digest,
            },
        }
        for request in requests
        for acceptance in (accepted[request.acceptance_id],)
    ]


def end_of(until: str, now: datetime) -> datetime | None:
    """The end that a request names, which must lie ahead; None where it names none."""
    if not until:
        return None
    end = moment("until", until)
    if end <= now:
        raise RequestInvalid("until lies in the past")
    return end


def require_shown(plan: PricePlan, sha256: str) -> None:
    """Raise RequestInvalid where a plan is another than the one that was shown; empty where none was."""
    if sha256 not in ("", plan.sha256):
        raise RequestInvalid(
            f"the plan {plan.name} has changed since it was shown",
            hint="Read what it costs now and send again.",
        )


def renewal_plan(view: ListingView, held: PricePlan, actor: Actor, now: datetime) -> PricePlan:
    """The plan of another term: that of the same name today, or the one held where the name has gone.

    Raises NotFound where it is offered to the buyer no longer.
    """
    named = [one for one in view.plans if one["name"] == held.name] or [dict(held.document)]
    for document in pricing.offered(named, actor, view.org, now.date()):
        return PricePlan.from_document(document)
    raise NotFound(
        f"the plan {held.name} is no longer offered to your organisation",
        hint="Request access under a plan that is.",
    )


def _plan(view: ListingView, name: str, actor: Actor, now: datetime) -> PricePlan:
    offered = pricing.offered(view.plans, actor, view.org, now.date())
    for document in offered:
        if document["name"] == name:
            return PricePlan.from_document(document)
    names = ", ".join(document["name"] for document in offered)
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
