"""Holding and settling a query: every move is one command, one transaction, one audit entry.

Money and rho are held together and posted together. Before data was touched both are returned; after it the
privacy loss stays charged and the money goes back, whatever went wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sqlalchemy import select

from exchange import data_keys, queries, restraints
from exchange.audit.entry import (
    Entry,
    LicenceGroup,
    MoneyGroup,
    ObjectGroup,
    PrivacyGroup,
    QueryGroup,
    ResultGroup,
)
from exchange.errors import BudgetExhausted, InProgress
from exchange.identity import SYSTEM, Role, new_id
from exchange.operations import entitlements, listing
from exchange.operations.terms import NANO, decimal_text, money, set_aside
from exchange.telemetry.traces import traced
from settlement import ledger, licences, orders
from settlement.errors import Overdrawn
from settlement.ledger import chart, entries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.data_keys import Sealed
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.operations.quoting import Terms
    from exchange.store import Tx

MECHANISM = "discrete-gaussian"
Ending = Literal["settle", "forfeit", "void"]


@dataclass(frozen=True)
class MoveQuery:
    """Move a query on: start it, keep its result, settle, forfeit or void it."""

    query: str
    move: str
    result_sha256: str = ""
    code: str = ""
    kind: ClassVar[str] = "query.moved"
    refused: ClassVar[str] = "query.stuck"

    def entry(self) -> Entry:
        """The audit entry: the query."""
        return Entry(
            kind=self.kind,
            outcome="done",
            object=ObjectGroup(type="query", id=self.query),
            query=QueryGroup(id=self.query),
        )


@dataclass(frozen=True)
class Kept:
    """A stored result: digest and length of its Arrow stream, and the digest of the released numbers behind
    it, empty where there are none; ``sealed`` are the encrypted objects that hold both.
    """

    sha256: str
    bytes: int
    released_sha256: str = ""
    sealed: tuple[Sealed, ...] = ()


def hold(tx: Tx, market: Market, terms: Terms, query_id: str) -> str | None:
    """Hold price and privacy loss together; returns the journal, or None where nothing is charged.

    Raises :class:`BudgetExhausted` or :class:`PaymentRequired` with what is left.
    """
    grant, cost = terms.grant, terms.plan.cost
    domain = listing.domain_of(terms.view)
    _check_allowance(tx.session, grant, domain, cost.rho_nano)
    legs = entries.privacy_spent(
        buyer=grant.org,
        domain=domain,
        grant=grant.id,
        rho_nano=cost.rho_nano,
        delta_pico=cost.delta_pico,
        set_aside=terms.price_plan.buys_out,
    )
    legs += entitlements.legs_of(tx, market, terms, domain)
    if not legs:
        return None
    try:
        return ledger.reserve(
            tx.session,
            journal=new_id("jnl"),
            kind="query_reserved",
            business_key=f"query:{query_id}:reserved",
            actor=tx.actor.ref,
            now=tx.now,
            legs=legs,
        )
    except Overdrawn as short:
        raise entitlements.shortage(short, terms.price) from None


def allowance_left(session: Session, grant: orders.Grant, domain: str) -> int:
    """What a grant may still spend: see :func:`allowances_left`."""
    return allowances_left(session, [grant], {grant.dataset: domain})[grant.id]


def allowances_left(
    session: Session, grants: Sequence[orders.Grant], domains: Mapping[str, str]
) -> dict[str, int]:
    """What each grant may still spend: its allowance is one for all the organisation's grants under its plan.

    Another purpose or territory is another grant, not another allowance; a renewal is a new one.

    Args:
        domains: the privacy domain of each of their datasets.
    """
    beside = [one for one in orders.held_beside(session, grants) if one.dataset in domains]
    accounts = [(chart.grant_allowance(one.id), chart.rho_unit(domains[one.dataset])) for one in beside]
    balances = ledger.balances(session, *accounts)
    taken = {
        one.id: one.allowance_rho_nano - left.available for one, left in zip(beside, balances, strict=True)
    }
    renews = {one.id: one.renews for one in beside}
    alike: dict[tuple[str, str, str], list[str]] = {}
    for one in beside:
        alike.setdefault((one.org, one.dataset, one.plan_name), []).append(one.id)
    left = {}
    for grant in grants:
        before: set[str] = set()
        earlier = renews[grant.id]
        while earlier and earlier not in before:
            before.add(earlier)
            earlier = renews.get(earlier)
        spent = sum(
            taken[one] for one in alike[grant.org, grant.dataset, grant.plan_name] if one not in before
        )
        left[grant.id] = max(0, grant.allowance_rho_nano - spent)
    return left


def spend_of(session: Session, terms: Terms) -> PrivacyGroup:
    """What the audit entry says of the privacy account, with the domain's state after it."""
    cost = terms.plan.cost
    return spend_in(session, listing.domain_of(terms.view), cost.rho_nano, cost.delta_pico)


@traced("query.start")
def start(market: Market, actor: Actor, query_id: str, *, about: Mapping[str, Any], lease: timedelta) -> None:
    """T2: EXECUTING, committed before any data is read. Raises :class:`Frozen` where that was stopped since.

    Args:
        about: the audit groups that every entry of the query carries.
        lease: for how long it may run.
    """

    def work(tx: Tx) -> dict[str, Any]:
        restraints.require_free_query(tx.session, query_id)
        queries.advance(
            tx.session,
            query_id,
            leave=queries.RESERVED,
            enter=queries.EXECUTING,
            started_at=tx.now.isoformat(timespec="microseconds"),
            lease_until=(tx.now + lease).isoformat(timespec="microseconds"),
        )
        tx.record(kind="query.started", **about)
        return {"query": query_id}

    market.store.perform(actor, MoveQuery(query_id, "start"), work)


@traced("query.keep")
def keep(market: Market, actor: Actor, query_id: str, kept: Kept, *, about: Mapping[str, Any]) -> None:
    """T3: the result is durable and its digest is fixed. On disk with T4 at the latest: until then nobody is
    told, and a query without its result is forfeited.
    """

    def work(tx: Tx) -> dict[str, Any]:
        queries.advance(
            tx.session,
            query_id,
            leave=queries.EXECUTING,
            enter=queries.RESULT_DURABLE,
            result_sha256=kept.sha256,
            result_bytes=kept.bytes,
            released_sha256=kept.released_sha256,
        )
        unused[:] = data_keys.record(tx.session, market.vault.ring, kept.sealed)
        tx.record(kind="query.kept", result=ResultGroup(sha256=kept.sha256, bytes=kept.bytes), **about)
        return {"query": query_id}

    command, unused = MoveQuery(query_id, "keep", result_sha256=kept.sha256), list[str]()
    market.store.perform(actor, command, work, followed=True)
    market.vault.drop(unused)


@traced("query.settle")
def settle(market: Market, actor: Actor, query_id: str, *, about: Mapping[str, Any] | None = None) -> bool:
    """T4: post both legs, SETTLED. Done once, by whoever comes first; returns whether it was this caller.

    Where what it is of was frozen meanwhile, the query is forfeited instead: no answer is released.
    """
    states = {"leave": queries.RESULT_DURABLE, "enter": queries.SETTLED}
    return _end(market, actor, query_id, "settle", **states, about=about)


@traced("query.forfeit")
def forfeit(market: Market, actor: Actor, query_id: str, *, code: str) -> bool:
    """End a started query without an answer: privacy loss kept, money returned."""
    return _end(
        market, actor, query_id, "forfeit", leave=queries.EXECUTING, enter=queries.FORFEITED, code=code
    )


@traced("query.void")
def void(market: Market, actor: Actor, query_id: str, *, code: str = "lease_ended") -> bool:
    """End a reserved query that never started: everything is returned."""
    return _end(market, actor, query_id, "void", leave=queries.RESERVED, enter=queries.VOIDED, code=code)


def cancel(market: Market, actor: Actor, query_id: str, *, leave: str, code: str = queries.CANCELLED) -> None:
    """End an open query by its buyer's will, or an officer's: void what was not started, forfeit the rest.

    Raises :class:`InProgress` where it is no longer in the state ``leave``.
    """
    if leave == queries.RESERVED:
        void(market, actor, query_id, code=code)
    else:
        _end(market, actor, query_id, "forfeit", leave=leave, enter=queries.FORFEITED, code=code)


def usage(session: Session, actor: Actor) -> dict[str, Any]:
    """Settled queries and their charges: a buyer's own, or with the provider's share for a provider."""
    actor.require(Role.BUYER, Role.PROVIDER)
    found = select(queries.query).where(queries.query.c.state == queries.SETTLED)
    if actor.role == Role.BUYER:
        found = found.where(queries.query.c.org == actor.org)
    else:
        found = found.where(queries.query.c.dataset.in_(listing.datasets_of(session, actor.org)))
    rows = session.execute(found.order_by(queries.query.c.reserved_at.desc()).limit(1000)).all()
    totals: dict[str, int] = {}
    for row in rows:
        totals[row.currency] = totals.get(row.currency, 0) + row.charge_minor
    rho = sum(row.rho_nano for row in rows)
    return {
        "items": [_used(row) for row in rows],
        "totals": [money(amount, currency) for currency, amount in sorted(totals.items())],
        "rho_nano": rho,
        "rho": decimal_text(rho, NANO),
    }


_KINDS = {"settle": "query.settled", "forfeit": "query.forfeited", "void": "query.voided"}


def _end(
    market: Market,
    actor: Actor,
    query_id: str,
    ending: Ending,
    *,
    leave: str,
    enter: str,
    code: str = "",
    about: Mapping[str, Any] | None = None,
) -> bool:
    """End a query. Sweepers share a key for it, so that of two one ends it and the other learns of it."""

    def work(tx: Tx) -> dict[str, Any]:
        stamp = tx.now.isoformat(timespec="microseconds")
        row = queries.find(tx.session, query_id)
        if row.state != leave:
            raise InProgress("another process moved this query on")
        if code == queries.FROZEN and not restraints.is_frozen(tx.session, query_id):
            raise InProgress("the freeze was lifted")
        done, state, why = ending, enter, code
        if ending == "settle" and restraints.is_frozen(tx.session, query_id):
            done, state, why = "forfeit", queries.FORFEITED, queries.FROZEN
        journal = _resolve(tx, row, done)
        queries.advance(
            tx.session,
            query_id,
            leave=leave,
            enter=state,
            ended_at=stamp,
            settle_journal=journal,
            entry_id=tx.entry.id,
            failure=why or None,
        )
        charged = row.charge_minor if done == "settle" else 0
        rho, delta = (0, 0) if done == "void" else (row.rho_nano, row.delta_pico)
        tx.record(
            kind=_KINDS[done],
            code=why or None,
            money=MoneyGroup(currency=row.currency, amount_minor=charged, journal=journal),
            privacy=spend_in(tx.session, row.domain, rho, delta),
            result=ResultGroup(sha256=row.result_sha256, bytes=row.result_bytes)
            if done == "settle"
            else None,
            **(about or _known(tx, row)),
        )
        return {"query": query_id}

    # What a freeze ends is ended by whoever comes first, for other reasons or for this one.
    key = f"end:{query_id}" if actor == SYSTEM and code != queries.FROZEN else None
    done = market.store.perform(actor, MoveQuery(query_id, ending, code=code), work, key=key)
    return not done.replayed


def _resolve(tx: Tx, row: Row[Any], ending: Ending) -> str | None:
    if row.reserve_journal is None:
        return None
    phases: Any = {"settle": "post", "void": "void"}.get(ending) or entries.forfeited(
        tx.session, row.reserve_journal
    )
    return ledger.resolve(
        tx.session,
        pending_journal=row.reserve_journal,
        journal=new_id("jnl"),
        kind=f"query_{_KINDS[ending].removeprefix('query.')}",
        business_key=f"query:{row.id}:ended",
        actor=tx.actor.ref,
        now=tx.now,
        phases=phases,
    )


def _known(tx: Tx, row: Row[Any]) -> dict[str, Any]:
    """The audit groups of a query that already stands in the books."""
    acceptance = licences.find_acceptance(tx.session, row.acceptance_id, org=row.org)
    licence = licences.find_licence(tx.session, acceptance.licence_id)
    return {
        "object": subject(row.id, row.refines, row.version, row.slug),
        "licence": LicenceGroup(
            acceptance_id=row.acceptance_id, odrl_sha256=licence.odrl_sha256, purpose=row.purpose
        ),
        "query": QueryGroup(id=row.id, plan_sha256=row.plan_sha256, sql_sha256=row.sql_sha256),
    }


def subject(query_id: str, refines: str | None, version: str, slug: str) -> ObjectGroup:
    """What a query acts on: itself, or as a refinement the query whose answer it makes more accurate."""
    if refines is None:
        return ObjectGroup(type="query", id=query_id, version=version, dataset=slug)
    return ObjectGroup(type="refinement", id=refines, version=version, dataset=slug)


def spend_in(session: Session, domain: str, rho_nano: int, delta_pico: int) -> PrivacyGroup:
    """The same of a domain's account, for whatever is charged to it."""
    unit = chart.rho_unit(domain)
    left = ledger.balance(session, chart.domain_available(domain), unit)
    granted = -ledger.balance(session, chart.domain_granted(domain), unit).posted
    kept = set_aside(session, domain)
    return PrivacyGroup(
        domain=domain,
        mechanism=MECHANISM,
        rho_nano=rho_nano,
        delta_pico=delta_pico,
        spent_after=granted - left.posted - kept.posted,
        remaining_after=left.available + kept.available,
    )


def _check_allowance(session: Session, grant: orders.Grant, domain: str, rho_nano: int) -> None:
    left = allowance_left(session, grant, domain)
    if rho_nano > left:
        raise BudgetExhausted("the grant's allowance does not cover this query", remaining=left)


def _used(row: Row[Any]) -> dict[str, Any]:
    return {
        "query": row.id,
        "dataset": row.dataset,
        "slug": row.slug,
        "asked_at": row.reserved_at,
        "purpose": row.purpose,
        "rho_nano": row.rho_nano,
        "charge": money(row.charge_minor, row.currency),
    }
