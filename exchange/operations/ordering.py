"""What becomes of a grant and of a request: suspended, resumed, withdrawn, renewed, paid for, taken back.

What time brings - deadlines, ends, new periods - is done by the worker in rounds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import select

from catalog import listings
from exchange import restraints
from exchange.audit import log
from exchange.audit.entry import Entry, MoneyGroup, ObjectGroup
from exchange.errors import LicenceNotShown, MarketError, RequestInvalid
from exchange.identity import SYSTEM, Role, new_id
from exchange.notifications import told
from exchange.operations import accepting, approving, buying, entitlements, gates, licensing, listing
from settlement import ledger, licences, orders
from settlement.errors import GrantMissing, OrderError, SettlementError
from settlement.money import Money
from settlement.prices import PricePlan
from settlement.schema import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx


@dataclass(frozen=True)
class MoveGrant:
    """Suspend, resume, withdraw, end, pay or top up a grant; ``reason`` is what the other side reads."""

    grant: str
    move: str
    reason: str = ""
    number: int = 0
    kind: ClassVar[str] = "grant.moved"
    refused: ClassVar[str] = "grant.refused"

    def entry(self) -> Entry:
        """The audit entry: the grant."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="grant", id=self.grant[:64]))


@dataclass(frozen=True)
class RenewGrant:
    """Ask for another term of a grant; ``licence_sha256`` is the text accepted, where it is a new one.

    ``plan_sha256`` is the plan as it was shown, where the term shall be under no other.
    """

    grant: str
    until: str
    accept_licence: bool
    licence_sha256: str
    plan_sha256: str = ""
    kind: ClassVar[str] = "access.requested"
    refused: ClassVar[str] = "access.refused"

    def entry(self) -> Entry:
        """The audit entry: the grant to be renewed."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="grant", id=self.grant[:64]))


@dataclass(frozen=True)
class CloseRequest:
    """Take an own request back, or end one that was not decided in time."""

    request: str
    kind: ClassVar[str] = "access.cancelled"
    refused: ClassVar[str] = "access.refused"

    def entry(self) -> Entry:
        """The audit entry: the request."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="request", id=self.request[:64]))


_ENDED = "grant.ended"
"""The entry of a buyer that ends its grant."""
_MOVES: dict[str, tuple[Callable[..., orders.Grant], str]] = {
    "suspend": (orders.suspend_grant, "suspended"),
    "resume": (orders.resume_grant, "resumed"),
    "withdraw": (orders.withdraw_grant, "withdrawn"),
}


def move(
    market: Market, actor: Actor, grant_id: str, verb: str, *, reason: str, key: str | None
) -> dict[str, Any]:
    """Suspend, resume or withdraw a grant on an own dataset; its holder is told why.

    Withdrawing gives back credit that was not spent. Raises GrantMissing, OrderError.
    """
    if not 0 < len(reason) <= 1000:
        raise RequestInvalid("a reason of 1 to 1000 characters is needed: the buyer reads it")
    change, done = _MOVES[verb]

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.PROVIDER)
        grant = change(tx.session, grant_id, org=actor.org, reason=reason, now=tx.now)
        journal = entitlements.end_credit(tx, market, grant, earned=False) if verb == "withdraw" else None
        _record(tx, f"grant.{done}", grant, journal)
        _tell_holder(tx, grant, f"grant.{done}", f"was {done}: {reason}")
        return buying.grant_document(tx.session, grant)

    return market.store.perform(actor, MoveGrant(grant_id, verb, reason), work, key=key).value


def end(market: Market, actor: Actor, grant_id: str, *, key: str | None) -> dict[str, Any]:
    """Let an own grant end: a subscription with the period that is paid, anything else at once."""

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.BUYER)
        grant, plan = _own(tx.session, actor, grant_id)
        until = tx.now
        number = 0 if plan.period is None else entitlements.current_period(grant, plan, tx.now)
        # A period that is not paid ends now: until its end its fee would still be taken.
        if plan.period is not None and entitlements.is_open(tx.session, grant, number):
            until = entitlements.period_start(grant, plan, number + 1)
        ended = orders.end_grant_at(tx.session, grant_id, org=actor.org, until=until, now=tx.now)
        _record(tx, _ENDED, ended, None)
        slug = listing.any_view(tx.session, grant.dataset).slug
        text = f"{actor.name} ends its access to {slug} on {until.date()}."
        buying.tell(tx, grant.provider, "grant.ended", grant.id, slug, text)
        return buying.grant_document(tx.session, ended)

    return market.store.perform(actor, MoveGrant(grant_id, "end"), work, key=key).value


def top_up(market: Market, actor: Actor, grant_id: str, *, key: str | None) -> dict[str, Any]:
    """Buy another bundle of credit for an own grant. Raises PaymentRequired, OrderError."""

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.BUYER)
        grant, plan = _own(tx.session, actor, grant_id)
        orders.require_active(grant, tx.now)
        _require_free(tx.session, grant)
        if plan.kind != "credits":
            raise OrderError(f"The plan {plan.name} sells no credit.")
        journal = entitlements.buy_credit(tx, grant, plan)
        _record(tx, "grant.topped_up", grant, journal, Money(plan.up_front_minor, plan.currency))
        return buying.grant_document(tx.session, grant)

    return market.store.perform(actor, MoveGrant(grant_id, "top-up"), work, key=key).value


def pay(market: Market, actor: Actor, grant_id: str, *, key: str | None) -> dict[str, Any]:
    """Pay the subscription's period of today, where it is not paid. Raises PaymentRequired, OrderError."""

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.BUYER)
        return _pay(tx, market, *_own(tx.session, actor, grant_id))

    return market.store.perform(actor, MoveGrant(grant_id, "pay"), work, key=key).value


def renew(market: Market, actor: Actor, command: RenewGrant, *, key: str | None) -> dict[str, Any]:
    """Ask for another term under the plan of the same name today.

    The provider decides, since it brings a new allowance.
    Where the dataset has another licence version than the one accepted, it must be accepted first. The same
    renewal that is open already is returned as it is. Raises OrderError where another one of the grant is.
    """

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.BUYER)
        grant, held = _own(tx.session, actor, command.grant)
        if grant.state in ("withdrawn", "suspended"):
            orders.require_active(grant, tx.now)
        view = listing.published(tx.session, grant.dataset)
        listings.require_new_buyers(view)
        plan = buying.renewal_plan(view, held, actor, tx.now)
        buying.require_shown(plan, command.plan_sha256)
        until = buying.end_of(command.until, tx.now)
        waiting = _waiting(tx, grant, view, plan, until)
        if waiting is not None:
            return buying.confirmed(tx, view, waiting)
        accepted = _acceptance(tx, grant, view, command)
        request = orders.request_access(
            tx.session,
            id=new_id("req"),
            dataset=grant.dataset,
            provider=grant.provider,
            org=actor.org,
            actor=actor.ref,
            purpose=grant.purpose,
            territory=grant.territory,
            plan=plan,
            acceptance_id=accepted.id,
            now=tx.now,
            valid_until=until,
            decided_within=timedelta(days=market.settings.request_days),
            renews=grant.id,
        )
        _require_free(tx.session, request)
        gates.check_parties(tx.session, view, actor.org)
        about = ObjectGroup(type="request", id=request.id, version=view.version_id, dataset=view.slug)
        tx.record(object=about)
        accepting.name(tx, accepted, purpose=grant.purpose)
        buying.settle_request(tx, market, request, plan, view)
        return buying.document_of(tx.session, request.id, actor.org)

    with approving.filing(market, actor):
        return market.store.perform(actor, command, work, key=key).value


def cancel(market: Market, actor: Actor, request_id: str, *, key: str | None) -> dict[str, Any]:
    """Take an own open request back; what it held is given back."""

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.BUYER)
        request = orders.cancel(tx.session, request_id, org=actor.org, now=tx.now)
        entitlements.release_up_front(tx, request.id)
        slug = listing.any_view(tx.session, request.dataset).slug
        text = f"{actor.name} took its request for {slug} back."
        buying.tell(tx, request.provider, "access.cancelled", request.id, slug, text)
        return buying.document_of(tx.session, request_id, actor.org)

    return market.store.perform(actor, CloseRequest(request_id), work, key=key).value


def rounds(market: Market) -> dict[str, int]:
    """What time has brought since the last round; returns counts. Each fact is one command."""
    now = market.store.clock()
    due = market.store.read(lambda session: _due(session, now))
    done = dict.fromkeys(due, 0)
    works: dict[str, Callable[..., dict[str, Any]]] = {
        "lapsed": _lapse,
        "expired": _expire,
        "credit": partial(_empty, market=market),
        "periods": partial(_renew_period, market=market),
        "unpaid": _unpaid,
    }
    for what, one in [(what, one) for what, ids in due.items() for one in ids]:
        command: Any = CloseRequest(one) if what == "lapsed" else MoveGrant(one, what)
        key = f"{what}:{one}" if what in ("lapsed", "expired") else None
        try:
            market.store.perform(SYSTEM, command, partial(works[what], one=one), key=key)
            done[what] += 1
        except (SettlementError, MarketError):
            continue  # another process was first, or the wallet was emptied meanwhile: its entry is logged
    return done


def _due(session: Session, now: Any) -> dict[str, list[str]]:
    stamp = now.isoformat(timespec="microseconds")
    asked, held = orders.access_request, orders.access_grant
    lapsed = select(asked.c.id).where(asked.c.state == "open", asked.c.deadline <= stamp)
    ended = held.c.state.in_(("active", "suspended")) & (held.c.valid_until <= stamp)
    due: dict[str, list[str]] = {
        "lapsed": list(session.scalars(lapsed.order_by(asked.c.id))),
        "expired": list(session.scalars(select(held.c.id).where(ended).order_by(held.c.id))),
        "credit": _unspent(session),
        "periods": [],
        "unpaid": [],
    }
    active = (held.c.state == "active") & held.c.plan.contains('"subscription"')  # only they have periods
    for row in session.execute(select(held.c.id, held.c.org).where(active).order_by(held.c.id)):
        grant = orders.find_grant(session, row.id, org=row.org)
        plan = PricePlan.from_document(json.loads(grant.plan))
        if plan.period is None or orders.state_at(grant, now) != "active":
            continue
        if restraints.is_frozen_use(session, **licensing.frozen_by(session, grant)):
            continue  # nothing is paid for what cannot be used
        number = entitlements.current_period(grant, plan, now)
        if entitlements.is_open(session, grant, number):
            continue
        if entitlements.covers(session, grant.org, Money(plan.up_front_minor, plan.currency)):
            due["periods"].append(grant.id)
        elif not told(session, grant.org, "period.unpaid", f"{grant.id}:{number}"):
            due["unpaid"].append(grant.id)
    return due


def _unspent(session: Session) -> list[str]:
    """Grants that ended with credit left."""
    held, account = orders.access_grant, ledger.account
    left = account.c.credits_posted - account.c.debits_posted - account.c.debits_pending > 0
    found = (
        select(held.c.id)
        .join(account, account.c.owner == held.c.id)
        .where(account.c.kind == "grant_credit", held.c.state.in_(("expired", "withdrawn")), left)
    )
    return list(session.scalars(found.order_by(held.c.id)))


def _lapse(tx: Tx, *, one: str) -> dict[str, Any]:
    for request in orders.lapse(tx.session, now=tx.now, only=one):
        entitlements.release_up_front(tx, request.id)
        slug = listing.any_view(tx.session, request.dataset).slug
        text = f"Your request for {slug} lapsed: the provider did not decide in time."
        buying.tell(tx, request.org, "access.lapsed", request.id, slug, text)
        text = f"A request for {slug} lapsed: it was not decided in time."
        buying.tell(tx, request.provider, "access.lapsed", request.id, slug, text)
    tx.record(kind="access.lapsed")
    return {"request": one}


def _expire(tx: Tx, *, one: str) -> dict[str, Any]:
    for ended in orders.expire_grants(tx.session, now=tx.now, only=one):
        grant = _any(tx.session, ended)
        _tell_holder(tx, grant, "grant.expired", "has ended")
        slug = listing.any_view(tx.session, grant.dataset).slug
        text = f"A grant on {slug} has ended."
        buying.tell(tx, grant.provider, "grant.expired", grant.id, slug, text)
    tx.record(kind="grant.expired")
    return {"grant": one}


def _empty(tx: Tx, *, market: Market, one: str) -> dict[str, Any]:
    grant = _any(tx.session, one)
    journal = entitlements.end_credit(tx, market, grant, earned=_is_earned(tx.session, grant))
    _record(tx, "grant.credit_ended", grant, journal)
    return {"grant": one}


def _is_earned(session: Session, grant: orders.Grant) -> bool:
    """Whether the credit of a grant that ended is the provider's: not where the provider withdrew it, nor
    where its time ended under a freeze, so that nothing could be asked for it. Who ends it without waiting
    gives the credit up, as without the freeze.
    """
    if grant.state == "withdrawn":
        return False
    if log.search(session, kind=_ENDED, q=grant.id, limit=1).entries:
        return True
    use = licensing.frozen_by(session, grant)
    return not restraints.was_frozen_use(session, grant.valid_until or "", **use)


def _renew_period(tx: Tx, *, market: Market, one: str) -> dict[str, Any]:
    grant = _any(tx.session, one)
    return _pay(tx, market, grant, PricePlan.from_document(json.loads(grant.plan)))


def _unpaid(tx: Tx, *, one: str) -> dict[str, Any]:
    grant = _any(tx.session, one)
    plan = PricePlan.from_document(json.loads(grant.plan))
    number = entitlements.current_period(grant, plan, tx.now)
    slug = listing.any_view(tx.session, grant.dataset).slug
    fee = Money(plan.up_front_minor, plan.currency)
    text = (
        f"Your wallet does not cover the {plan.period}'s fee of {fee} for {slug}: top it up to go on asking."
    )
    buying.tell(tx, grant.org, "period.unpaid", f"{grant.id}:{number}", slug, text)
    _record(tx, "period.unpaid", grant, None)
    return {"grant": one}


def _pay(tx: Tx, market: Market, grant: orders.Grant, plan: PricePlan) -> dict[str, Any]:
    orders.require_active(grant, tx.now)
    _require_free(tx.session, grant)
    if plan.period is None:
        raise OrderError(f"The plan {plan.name} has no periods.")
    number = entitlements.current_period(grant, plan, tx.now)
    if entitlements.is_open(tx.session, grant, number):
        raise OrderError("This period is paid already.")
    fee = Money(plan.up_front_minor, plan.currency)
    _record(tx, "period.paid", grant, entitlements.open_period(tx, market, grant, number), fee)
    _tell_holder(tx, grant, "period.paid", f"goes on: {fee} were paid for this {plan.period}")
    return buying.grant_document(tx.session, grant)


def _waiting(
    tx: Tx, grant: orders.Grant, view: ListingView, plan: PricePlan, until: datetime | None
) -> orders.AccessRequest | None:
    """The open request for the same renewal. Raises OrderError where another one is open."""
    waiting = orders.open_requests(tx.session, org=grant.org, dataset=grant.dataset, now=tx.now)
    for one in waiting:
        if one.renews == grant.id:
            accepted = licences.find_acceptance(tx.session, one.acceptance_id, org=grant.org)
            before = licences.find_licence(tx.session, accepted.licence_id)
            now = licences.find_licence(tx.session, view.licence_id)
            same = (one.plan_sha256, one.valid_until) == (plan.sha256, timestamp(until) if until else None)
            if same and not licences.is_material(before, now):
                return one
            raise OrderError(
                f"Request {one.id} asks to renew this access already.",
                hint="Take it back first, then ask for what you want now.",
            )
    return None


def _acceptance(tx: Tx, grant: orders.Grant, view: ListingView, command: RenewGrant) -> licences.Acceptance:
    """The acceptance to renew under: the grant's own, or a new one where the licence changed materially."""
    accepted = licences.find_acceptance(tx.session, grant.acceptance_id, org=grant.org)
    before = licences.find_licence(tx.session, accepted.licence_id)
    licence = licences.find_licence(tx.session, view.licence_id)
    if not command.accept_licence and not licences.is_material(before, licence):
        return accepted
    if not command.accept_licence or command.licence_sha256 not in ("", licence.text_sha256):
        raise LicenceNotShown("the licence changed since you accepted it: accept its new version to renew")
    given = accepting.Given((grant.purpose,), grant.territory, accepted.role, bool(accepted.publishes))
    return accepting.record(tx, view, licence, given)


def _own(session: Session, actor: Actor, grant_id: str) -> tuple[orders.Grant, PricePlan]:
    """A grant that the actor's organisation holds; a provider's look at it is not enough."""
    grant = orders.find_grant(session, grant_id, org=actor.org)
    if grant.org != actor.org:
        raise GrantMissing("There is no such grant.")
    return grant, PricePlan.from_document(json.loads(grant.plan))


def _require_free(session: Session, use: orders.Grant | orders.AccessRequest) -> None:
    """Raise Frozen where nothing can be asked under a grant: then nothing is paid for it either."""
    restraints.require_free(session, **licensing.frozen_by(session, use))


def _any(session: Session, grant_id: str) -> orders.Grant:
    table = orders.access_grant
    org = session.execute(select(table.c.org).where(table.c.id == grant_id)).scalar_one()
    return orders.find_grant(session, grant_id, org=org)


def _record(tx: Tx, kind: str, grant: orders.Grant, journal: str | None, amount: Money | None = None) -> None:
    view = listing.any_view(tx.session, grant.dataset)
    tx.record(
        kind=kind,
        object=ObjectGroup(type="grant", id=grant.id, version=view.version_id, dataset=view.slug),
        money=MoneyGroup(
            currency=amount.currency if amount else None,
            amount_minor=amount.amount_minor if amount else None,
            journal=journal,
        )
        if journal
        else None,
    )


def _tell_holder(tx: Tx, grant: orders.Grant, kind: str, what: str) -> None:
    slug = listing.any_view(tx.session, grant.dataset).slug
    buying.tell(tx, grant.org, kind, grant.id, slug, f"Your access to {slug} {what}.")
