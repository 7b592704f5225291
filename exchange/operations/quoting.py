"""Price, privacy cost and error of a question, together and before purchase; no data is touched."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import privacy
from exchange import authorizations, restraints
from exchange.audit.entry import Entry, LicenceGroup, MoneyGroup, ObjectGroup, PrivacyGroup, QueryGroup
from exchange.errors import RequestInvalid
from exchange.identity import Role, new_id
from exchange.operations import entitlements, gates, licensing, listing, reusing
from exchange.operations.terms import NANO, PICO, decimal_text, money
from privacy.answering import metadata
from settlement import licences, orders
from settlement.errors import GrantMissing
from settlement.money import Money
from settlement.prices import PricePlan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.operations.reusing import Reuse
    from exchange.store import Tx
    from settlement.prices import Charge, Standing

_Found = tuple["ListingView", orders.Grant, licences.Acceptance, licences.Licence, PricePlan, "Standing"]
_ASKS = ("rho", "epsilon", "error")
_OPTIONS = {
    "max_groups": int,
    "max_rows_per_group": int,
    "max_rows": int,
    "intervals": bool,
    "strategy": str,
}
_LONGEST_SQL = 64 * 1024


@dataclass(frozen=True)
class Question:
    """What a buyer asks of a dataset: SQL, exactly one of rho, epsilon or error, options, grant or plan."""

    dataset: str
    sql: str
    ask: tuple[str, str]
    options: tuple[tuple[str, int | bool | str], ...] = ()
    grant: str = ""
    plan: str = ""
    kind: ClassVar[str] = "query.quoted"
    refused: ClassVar[str] = "quote.refused"

    def entry(self) -> Entry:
        """The audit entry: the dataset, and the digest of the SQL text - never the text."""
        return Entry(
            kind=self.kind,
            outcome="done",
            object=ObjectGroup(type="dataset", dataset=self.dataset[:200]),
            query=QueryGroup(sql_sha256=sql_digest(self.sql)),
        )


@dataclass(frozen=True)
class Terms:
    """A question worked out under a grant: the plan, its price, and the licence clause that allows it."""

    question: Question
    view: ListingView
    grant: orders.Grant
    accepted: licences.Acceptance
    licence: licences.Licence
    price_plan: PricePlan
    plan: privacy.Plan
    charge: Charge
    reuse: Reuse

    @property
    def price(self) -> Money:
        """What the question costs."""
        return Money(self.charge.amount_minor, self.price_plan.currency)

    @property
    def rho_in_all_nano(self) -> int:
        """What the question will have cost with all that was spent on it before."""
        return self.reuse.rho_before_nano + self.plan.cost.rho_nano

    def document(self) -> dict[str, Any]:
        """What is shown and bound: a function of plan, policy, profile and price plan, and of what the buyer
        was told before; no time, no data.
        """
        cost = self.plan.cost
        return {
            "dataset": self.view.dataset_id,
            "version": self.view.version_id,
            "sql": self.question.sql,
            "ask": list(self.question.ask),
            "options": dict(self.question.options),
            "grant": self.grant.id,
            "price": money(self.price.amount_minor, self.price.currency),
            "covered_rho": decimal_text(self.charge.covered_nano, NANO),
            "worth": money(self.charge.worth_minor, self.price.currency),
            "rho": decimal_text(cost.rho_nano, NANO),
            "rho_nano": cost.rho_nano,
            "delta": decimal_text(cost.delta_pico, PICO),
            "delta_pico": cost.delta_pico,
            "epsilon": _plain(self.plan.epsilon),
            "refines": self._refined(),
            "columns": [_plain(asdict(column)) for column in self.plan.columns],
            "releases": metadata(self.plan).get("releases", []),
            "plan_sha256": self.plan.digest,
            "explain": self.plan.explain(),
        }

    def _refined(self) -> dict[str, Any] | None:
        """The earlier answer that this one makes more accurate, and what was spent on it."""
        reuse = self.reuse
        if reuse.refines is None:
            return None
        return {
            "query": reuse.refines,
            "rho": decimal_text(reuse.rho_before_nano, NANO),
            "rho_nano": reuse.rho_before_nano,
            "paid": money(reuse.paid_before_minor, self.price.currency),
        }


def question(given: Mapping[str, Any]) -> Question:
    """Read a question from a request. Raises :class:`RequestInvalid` naming the field."""
    if len(given["sql"].encode()) > _LONGEST_SQL:
        raise privacy.Refused("too_long", "the statement is longer than 64 KiB", hint="Ask less at once.")
    return Question(
        dataset=given["dataset"],
        sql=given["sql"],
        ask=_ask(given),
        options=_options(given.get("options") or {}),
        grant=given.get("grant") or "",
        plan=given.get("plan") or "",
    )


def quote(market: Market, actor: Actor, asked: Question, *, key: str | None) -> dict[str, Any]:
    """Quote a question: bound to its plan for fifteen minutes, and logged."""
    terms = logged_terms(market, actor, asked)
    document = terms.document()

    def work(tx: Tx) -> dict[str, Any]:
        licensing.permit_plan(tx.session, terms, tx.now)
        authorizations.permit_rho(tx.session, actor, terms.plan.cost.rho_nano)
        saved = orders.save_quote(
            tx.session,
            id=new_id("quo"),
            grant_id=terms.grant.id,
            org=actor.org,
            actor=actor.ref,
            plan_digest=terms.plan.digest,
            price=terms.price,
            rho_nano=terms.plan.cost.rho_nano,
            delta_pico=terms.plan.cost.delta_pico,
            document=document,
            now=tx.now,
        )
        tx.record(
            object=ObjectGroup(
                type="quote", id=saved.id, version=terms.view.version_id, dataset=terms.view.slug
            ),
            licence=LicenceGroup(
                acceptance_id=terms.accepted.id,
                odrl_sha256=terms.licence.odrl_sha256,
                purpose=terms.grant.purpose,
            ),
            query=QueryGroup(plan_sha256=terms.plan.digest, sql_sha256=sql_digest(asked.sql)),
            privacy=PrivacyGroup(
                domain=listing.domain_of(terms.view),
                rho_nano=terms.plan.cost.rho_nano,
                delta_pico=terms.plan.cost.delta_pico,
            ),
            money=MoneyGroup(currency=terms.price.currency, amount_minor=terms.price.amount_minor),
        )
        return {"quote": saved.id, "expires_at": saved.expires_at, **document}

    return market.store.perform(actor, asked, work, key=key).value


def show(market: Market, actor: Actor, quote_id: str) -> dict[str, Any]:
    """A quote as it was given; ``stands`` says whether it may still be run. Raises QuoteMissing."""
    actor.require(Role.BUYER)
    found = market.store.read(lambda session: orders.find_quote(session, quote_id, org=actor.org))
    stands = found.expires_at > market.store.clock().isoformat(timespec="microseconds")
    return {
        "quote": found.id,
        "expires_at": found.expires_at,
        "stands": stands,
        **json.loads(found.document),
    }


def logged_terms(market: Market, actor: Actor, asked: Question, *, command: Any = None) -> Terms:
    """:func:`terms_of`, where a refusal is logged before it is raised."""
    with market.store.refusing(actor, command or asked):
        return terms_of(market, actor, asked)


def terms_of(market: Market, actor: Actor, asked: Question) -> Terms:
    """Licence, plan and price of a question. Planning touches no data and happens outside any transaction."""
    actor.require(Role.BUYER)
    now = market.store.clock()

    def look(session: Session) -> _Found:
        view, grant, accepted, licence = permitted(session, actor, asked, now)
        price_plan = PricePlan.from_document(json.loads(grant.plan))
        return (
            view,
            grant,
            accepted,
            licence,
            price_plan,
            entitlements.standing(session, grant, price_plan, now),
        )

    view, grant, accepted, licence, price_plan, standing = market.store.read(look)
    plan = listing.planned(view, asked.sql, asked.ask, asked.options)
    plan, reuse = reusing.with_earlier(market, actor.org, view, asked, plan, price_plan.currency)
    charge = reuse.charge(price_plan, standing, plan.cost.rho_nano)
    return Terms(asked, view, grant, accepted, licence, price_plan, plan, charge, reuse)


def permitted(
    session: Session, actor: Actor, asked: Question, now: datetime
) -> tuple[ListingView, orders.Grant, licences.Acceptance, licences.Licence]:
    """The listing, grant, acceptance and licence by which the buyer may ask now; the licence's terms are
    evaluated here, but for those that need a plan: see :mod:`exchange.operations.licensing`. Raises
    :class:`Frozen` where one of them is frozen.
    """
    view = listing.published(session, asked.dataset)
    if actor.scopes is not None:
        actor.scopes.permit_dataset(view.slug)
    if asked.grant:
        grant = orders.require_active(orders.find_grant(session, asked.grant, org=actor.org), now)
        if grant.dataset != view.dataset_id or grant.org != actor.org:
            raise RequestInvalid("the grant is for another dataset")
    else:
        grant = _usable(session, actor, view.dataset_id, asked.plan, now)
    if actor.scopes is not None:
        actor.scopes.permit_purpose(grant.purpose)
    accepted, licence = licensing.in_force(session, grant, view.licence_id, now)
    restraints.require_free(
        session, dataset=view.dataset_id, organisation=actor.org, licence=accepted.licence_id
    )
    gates.check_parties(session, view, actor.org)
    return view, grant, accepted, licence


def _usable(session: Session, actor: Actor, dataset: str, plan: str, now: datetime) -> orders.Grant:
    """The newest usable grant, under the named plan where one is named; for a purpose of the token's."""
    purposes = actor.scopes.purposes if actor.scopes is not None else frozenset()
    if not plan and purposes:
        return _newest_for(session, actor, dataset, purposes, now)
    if not plan:
        return orders.usable_grant(session, org=actor.org, dataset=dataset, now=now)
    held = [
        one
        for one in orders.grants_of(session, org=actor.org)
        if (one.dataset, one.plan_name) == (dataset, plan)
    ]
    if not held:
        raise GrantMissing(f"Your organisation has no grant for this dataset under the plan {plan!r}.")
    active = [one for one in held if orders.state_at(one, now) == "active"]
    return active[0] if active else orders.require_active(held[0], now)


def _newest_for(
    session: Session, actor: Actor, dataset: str, purposes: frozenset[str], now: datetime
) -> orders.Grant:
    """The newest usable grant for one of the purposes, else the newest of all, which is refused later."""
    for one in orders.grants_of(session, org=actor.org):
        if one.dataset == dataset and one.purpose in purposes and orders.state_at(one, now) == "active":
            return one
    return orders.usable_grant(session, org=actor.org, dataset=dataset, now=now)


def sql_digest(sql: str) -> str:
    """SHA-256 of a statement's text."""
    return hashlib.sha256(sql.encode()).hexdigest()


def _ask(given: Mapping[str, Any]) -> tuple[str, str]:
    asks = [name for name in _ASKS if given.get(name) is not None]
    if len(asks) != 1:
        raise RequestInvalid(
            "give exactly one of rho, epsilon and error",
            hint='For example "rho": "0.01", or "error": {"n": 25} for a 95% half-width of 25.',
        )
    value = given[asks[0]]
    if asks[0] == "rho":
        nano = nano_rho(value, "rho")
        if nano == 0:
            raise RequestInvalid("rho must be above 0", hint='For example "rho": "0.01".')
        return "rho_nano", str(nano)
    if asks[0] == "epsilon":
        return "epsilon", repr(_positive(value, "epsilon"))
    if not isinstance(value, dict) or len(value) != 1:
        raise RequestInvalid("error names one column and its half-width", hint='For example {"n": 25}.')
    column, width = next(iter(value.items()))
    return f"error:{column}", repr(_positive(width, "error"))


def nano_rho(value: Any, name: str, *, limit: bool = False) -> int:
    """A rho of a request as nano-rho: what is asked rounds up, a limit rounds down."""
    if isinstance(value, str) and not value.isascii():
        raise RequestInvalid(f"{name} must be written in ASCII digits")
    try:
        return privacy.accounting.rho_to_nano(value, budget=limit)
    except (ValueError, ArithmeticError, TypeError, privacy.PrivacyError):
        raise RequestInvalid(f"{name} must be a decimal number of at least 0 and at most a million") from None


def _positive(value: Any, name: str) -> float:
    try:
        number = float(value) if str(value).isascii() else float("nan")
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if isinstance(value, bool) or not 0 < number < float("inf"):
        raise RequestInvalid(f"{name} must be a positive number")
    return number


def _options(given: Mapping[str, Any]) -> tuple[tuple[str, int | bool | str], ...]:
    for name, value in given.items():
        if name not in _OPTIONS or type(value) is not _OPTIONS[name]:
            known = ", ".join(f"{k} ({v.__name__})" for k, v in _OPTIONS.items())
            raise RequestInvalid(f"unknown or ill-typed option {name!r}", hint=f"Options: {known}.")
    return tuple(sorted(given.items()))


def _plain(value: Any) -> Any:
    """Documents as JSON: tuples become lists; a half-width without bound, or an epsilon at no delta, null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
