"""The life of a query, readable top to bottom: reserve, start, run, keep, settle, deliver.

Money and privacy are reserved in one transaction before any data is read; bytes leave only after both were
settled. A process that dies in between leaves a row that :mod:`exchange.operations.sweeping` resolves.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import privacy
from exchange import authorizations, queries, restraints
from exchange.audit.entry import (
    Entry,
    MoneyGroup,
    ObjectGroup,
    QueryGroup,
)
from exchange.errors import (
    AnswerExpired,
    InProgress,
    PriceAboveLimit,
    QueryCancelled,
    QueryLost,
    RequestInvalid,
)
from exchange.identity import Role, new_id
from exchange.operations import auditing, entitlements, jobs, licensing, listing, results, running, settling
from exchange.operations.quoting import (
    Question,
    Terms,
    logged_terms,
    nano_rho,
    permitted,
    question,
    sql_digest,
)
from exchange.operations.receipting import receipt_of
from exchange.operations.terms import money
from exchange.telemetry.traces import traced
from settlement import orders
from settlement.errors import QuoteExpired
from settlement.money import parse_amount

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.runs import Run
    from exchange.store import Outcome, Tx
    from exchange.turns import Turn


@dataclass(frozen=True)
class RunQuery:
    """Run a quote, or a question within limits of price and rho."""

    question: Question | None
    quote: str = ""
    max_price: str = ""
    max_rho_nano: int | None = None
    kind: ClassVar[str] = "query.reserved"
    refused: ClassVar[str] = "query.refused"

    def entry(self) -> Entry:
        """The audit entry: the dataset or the quote, and the digest of the SQL text."""
        if self.question is None:
            return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="quote", id=self.quote[:64]))
        return Entry(
            kind=self.kind,
            outcome="done",
            object=ObjectGroup(type="dataset", dataset=self.question.dataset[:200]),
            query=QueryGroup(sql_sha256=sql_digest(self.question.sql)),
        )


@dataclass(frozen=True)
class FetchAnswer:
    """Read an answer again: a use under its licence, which is logged where it is refused."""

    query: str
    kind: ClassVar[str] = "answer.fetched"
    refused: ClassVar[str] = "answer.refused"

    def entry(self) -> Entry:
        """The audit entry: the query."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="query", id=self.query[:64]))


@dataclass(frozen=True)
class Begun:
    """A query that goes on after the reply: its job, as :func:`exchange.operations.jobs.job` tells of it."""

    job: dict[str, Any]


@dataclass(frozen=True)
class Answered:
    """A settled query with its stored answer: the same bytes each time."""

    row: Row[Any]
    table: pa.Table
    arrow: bytes
    columns: list[dict[str, Any]]
    intervals: dict[str, list[list[float | int] | None]]
    receipt: dict[str, Any]
    repeated: bool


def run_request(given: Mapping[str, Any]) -> RunQuery:
    """Read a run from a request. Raises :class:`RequestInvalid` naming the field."""
    max_rho = given.get("max_rho")
    limits: dict[str, Any] = {
        "max_price": _max_price(given),
        "max_rho_nano": nano_rho(max_rho, "max_rho", limit=True) if max_rho is not None else None,
    }
    if given.get("quote"):
        if given.get("sql"):
            raise RequestInvalid("give a quote or a question, not both")
        return RunQuery(None, quote=given["quote"], **limits)
    if not given.get("dataset") or not given.get("sql"):
        raise RequestInvalid("give a quote, or a dataset and sql")
    return RunQuery(question(given), **limits)


def _max_price(given: Mapping[str, Any]) -> str:
    """The limit as decimal text; one that is given and empty is a mistake, not the lack of a limit."""
    limit = given.get("max_price")
    if limit is not None and not limit.strip():
        raise RequestInvalid("max_price must be a decimal amount, such as 2.00")
    return limit or ""


def run(
    market: Market, actor: Actor, command: RunQuery, *, key: str | None, wait_s: float | None = None
) -> Answered | Begun:
    """Answer a question once: the same key gives the same reply, the same question the same bytes free.

    A query that has no answer after ``wait_s`` seconds, or after those of the settings, goes on by itself.
    """
    done = market.store.replay(actor, command, key)
    if done is not None:
        return _replayed(market, actor, command, done, wait_s)
    terms = _terms(market, actor, command)
    repeats = _repeats(market, actor, terms)
    run: Run | None = None
    with (
        contextlib.ExitStack() as held
    ):  # a turn that is not used is given back before anything is waited for
        turn = None if repeats else held.enter_context(_turn(market, actor, command, terms))
        reserved = market.store.perform(
            actor,
            command,
            lambda tx: _reserve(tx, market, command, terms, turn),
            key=key,
            followed=not repeats,
        )
        if turn is not None and not reserved.replayed and not reserved.value["repeated"]:
            held.pop_all()
            run = running.begin(market, actor, reserved.value["query"], terms, turn)
    if reserved.replayed:
        return _replayed(market, actor, command, reserved, wait_s)
    if run is None:
        return _deliver(market, actor, reserved, on_disk=repeats)
    return _awaited(market, actor, reserved, run, wait_s)


def answered(market: Market, actor: Actor, query_id: str) -> Answered:
    """Fetch a settled query's answer again; the licence must still allow it."""
    with market.store.refusing(actor, FetchAnswer(query_id)):
        row = jobs.readable(market, actor, query_id)
    _raise_unless_kept(row)
    return _load(market, row, repeated=True)


def receipt(market: Market, actor: Actor, query_id: str) -> dict[str, Any]:
    """The receipt of a settled query, for its buyer; for an officer too."""
    officer = actor.role == Role.OFFICER
    if officer:
        auditing.note_reading(market, actor, "receipt", query_id)
    org = None if officer else actor.org
    row = market.store.read(lambda session: queries.find(session, query_id, org=org))
    jobs.in_scope(actor, row)
    _raise_unless_settled(row)
    return receipt_of(market, row)


def usage(market: Market, actor: Actor) -> dict[str, Any]:
    """What was asked and what it cost; a provider sees what its datasets earned."""
    return market.store.read(lambda session: settling.usage(session, actor))


def _replayed(
    market: Market, actor: Actor, command: RunQuery, done: Outcome, wait_s: float | None
) -> Answered | Begun:
    """The reply of a key that was used before, if the buyer may still read it."""
    with market.store.refusing(actor, command):
        jobs.readable(market, actor, done.value["query"])
    return _awaited(market, actor, done, market.runs.find(done.value["query"]), wait_s)


def _awaited(
    market: Market, actor: Actor, reserved: Outcome, run: Run | None, wait_s: float | None
) -> Answered | Begun:
    """The answer, if it is there in time. A query of another process is not waited for."""
    patience = market.settings.query_wait_s if wait_s is None else min(wait_s, market.settings.query_wait_s)
    if run is not None and market.runs.wait(run, patience) and run.error and not reserved.replayed:
        if isinstance(run.error, QueryCancelled):
            _free(market, actor, reserved.value["query"])
        raise run.error
    row = market.store.read(lambda session: queries.find(session, reserved.value["query"], org=actor.org))
    if not queries.is_open(row):
        return _deliver(market, actor, reserved)
    market.store.sync()  # what is told of is on disk
    return Begun(jobs.job(market, row))


def _repeats(market: Market, actor: Actor, terms: Terms) -> bool:
    """Whether the organisation has its answer already: that needs no worker, and nothing follows it."""
    same = {"org": actor.org, "version": terms.view.version_id, "plan_sha256": terms.plan.digest}
    return market.store.read(lambda session: queries.settled_before(session, **same)) is not None


def _turn(market: Market, actor: Actor, command: RunQuery, terms: Terms) -> Turn:
    """A place in the queue for a worker, or a turn, taken before anything is reserved: who is refused one
    holds neither money nor rho nor a lease.

    A plan that joins public tables waits for its turn here and is admitted in it, by what those alone tell;
    that takes one of the places for requests that wait.
    """
    turn = market.engine.enter(actor.org)
    with contextlib.ExitStack() as held:
        held.enter_context(turn)
        with market.store.refusing(actor, command):  # what fails here costs nobody anything
            sandbox = market.engine.sandbox()
            market.objects.ensure_writable()
        if privacy.needs_admission(terms.plan):
            with market.runs.place():
                turn.wait(market.settings.query_timeout_s)
                with market.store.refusing(actor, command), market.vault.files(terms.view) as files:
                    privacy.admit(terms.plan, files, sandbox=sandbox)
        held.pop_all()
    return turn


def _terms(market: Market, actor: Actor, command: RunQuery) -> Terms:
    """The terms to run under; for a quote they must be those that were quoted.

    Answers that the buyer got since may have made the question cheaper; dearer it may not be.
    """
    if command.question is not None:
        return logged_terms(market, actor, command.question, command=command)
    now = market.store.clock()
    with market.store.refusing(actor, command):
        actor.require(Role.BUYER)
        quoted = market.store.read(
            lambda session: orders.get_quote(session, command.quote, org=actor.org, now=now)
        )
    document = json.loads(quoted.document)
    asked = Question(
        dataset=document["dataset"],
        sql=document["sql"],
        ask=(document["ask"][0], document["ask"][1]),
        options=tuple(sorted(document["options"].items())),
        grant=quoted.grant_id,
    )
    terms = logged_terms(market, actor, asked, command=command)
    now_dearer = terms.price.amount_minor > quoted.price_minor or terms.plan.cost.rho_nano > quoted.rho_nano
    same = (quoted.plan_digest, document["version"]) == (terms.plan.digest, terms.view.version_id)
    if now_dearer or not same:
        with market.store.refusing(actor, command):
            raise QuoteExpired("the dataset has a new version since the quote, or the question became dearer")
    return terms


@traced("query.reserve")
def _reserve(tx: Tx, market: Market, command: RunQuery, terms: Terms, turn: Turn | None) -> dict[str, Any]:
    """T1: check everything again inside the transaction, then hold money and rho together.

    Without a place in the queue only an answer that is there already is given again.
    """
    actor, plan = tx.actor, terms.plan
    authorizations.still_valid(tx.session, actor, tx.now)
    view, grant, accepted, _ = permitted(tx.session, actor, terms.question, tx.now)
    planned_for = (terms.view.version_id, terms.grant.id, terms.accepted.id)
    if (view.version_id, grant.id, accepted.id) != planned_for:
        raise QuoteExpired("the dataset, the grant or the licence changed while the query was planned")
    same = {"org": actor.org, "version": view.version_id, "plan_sha256": plan.digest}
    before = queries.settled_before(tx.session, **same)
    if before is not None:
        licensing.permit_plan(tx.session, terms, tx.now)
        tx.record(kind="query.repeated", **running.about(terms, before.id))
        return {"query": before.id, "repeated": True}
    if turn is None:
        raise InProgress("the answer that your organisation had is no longer kept")
    if queries.running_now(tx.session, **same) is not None:
        raise InProgress("the same query of your organisation is being answered")
    _check_reuse(tx.session, terms)
    terms = _charged_now(tx, terms)
    _check_limits(command, terms)
    authorizations.permit_rho(tx.session, actor, plan.cost.rho_nano)
    clause = licensing.permit_plan(tx.session, terms, tx.now)
    query_id = new_id("qry")
    held = settling.hold(tx, market, terms, query_id)
    queries.reserve(tx.session, _row(tx, market, terms, query_id, clause, held))
    queries.keep_bounds(tx.session, query_id, plan.bound_digests)
    tx.record(
        **running.about(terms, query_id),
        money=MoneyGroup(currency=terms.price.currency, amount_minor=terms.price.amount_minor, journal=held),
        privacy=settling.spend_of(tx.session, terms),
    )
    return {"query": query_id, "repeated": False}


def _check_reuse(session: Session, terms: Terms) -> None:
    """One step after another: a refinement builds on the newest answer of its question, never beside another.

    Two that begin from one answer would each pay less than their order: the price of a step falls.
    """
    question = terms.reuse.question_sha256
    if question is None:
        return
    same = {"org": terms.grant.org, "version": terms.view.version_id}
    if queries.asking_now(session, **same, question_sha256=question) is not None:
        raise InProgress("the same question of your organisation is being answered")
    latest = queries.asked_before(session, **same, question_sha256=question)
    if terms.reuse.latest != (latest.id if latest else None):
        raise InProgress("your organisation got an answer to the same question a moment ago")


def _charged_now(tx: Tx, terms: Terms) -> Terms:
    """The terms with the price of this moment: other queries may have used what the plan included.

    Where open queries hold what would make this one cheaper, it waits for them: what they pay is not known.
    """
    standing = entitlements.standing(tx.session, terms.grant, terms.price_plan, tx.now)
    charge = terms.reuse.charge(terms.price_plan, standing, terms.plan.cost.rho_nano)
    if charge.waits:
        raise InProgress("open queries hold what is left of your plan's allowance or of its month")
    if charge.amount_minor > terms.charge.amount_minor:
        raise QuoteExpired("what your plan included was used up since the price was worked out")
    return replace(terms, charge=charge)


def _deliver(market: Market, actor: Actor, reserved: Outcome, *, on_disk: bool = False) -> Answered:
    """The reply of a reservation: a lost one is given again word for word, charge and all.

    Args:
        on_disk: whether the reservation is on disk, if nothing followed it.
    """
    query_id = reserved.value["query"]
    if reserved.value["repeated"] and not on_disk:
        market.store.sync()
    row = _free(market, actor, query_id)
    _raise_unless_kept(row)
    return _load(market, row, repeated=reserved.value["repeated"])


def _free(market: Market, actor: Actor, query_id: str) -> Row[Any]:
    """A query of which nothing is frozen: looked at last before its answer leaves. Raises Frozen, logged."""

    def look(session: Session) -> Row[Any]:
        restraints.require_free_query(session, query_id)
        return queries.find(session, query_id, org=actor.org)

    with market.store.refusing(actor, FetchAnswer(query_id)):
        return market.store.read(look)


def _load(market: Market, row: Row[Any], *, repeated: bool) -> Answered:
    arrow = market.vault.read(row.result_sha256)
    table, columns, intervals = results.open_result(arrow)
    return Answered(row, table, arrow, columns, intervals, receipt_of(market, row), repeated)


def _raise_unless_kept(row: Row[Any]) -> None:
    _raise_unless_settled(row)
    if row.result_expired_at:
        raise AnswerExpired("the answer is no longer kept")


def _raise_unless_settled(row: Row[Any]) -> None:
    if row.state == queries.SETTLED:
        return
    if row.failure == queries.CANCELLED:
        raise QueryCancelled("the query was cancelled")
    if row.failure == queries.FROZEN:
        raise QueryCancelled("a freeze ended the query; it is lifted")
    if row.state == queries.VOIDED:
        raise QueryLost("the query ended before it began", hint="Nothing was charged. Ask again.")
    if row.state == queries.FORFEITED:
        raise QueryLost("the query ended without an answer")
    raise InProgress("the query is still being answered")


def _check_limits(command: RunQuery, terms: Terms) -> None:
    price, rho = terms.price, terms.plan.cost.rho_nano
    if command.max_price and price.amount_minor > parse_amount(command.max_price, price.currency):
        raise PriceAboveLimit("the price is above max_price", price=money(price.amount_minor, price.currency))
    if command.max_rho_nano is not None and rho > command.max_rho_nano:
        raise PriceAboveLimit("the privacy cost is above max_rho", rho_nano=rho)


def _row(
    tx: Tx, market: Market, terms: Terms, query_id: str, clause: str, held: str | None
) -> dict[str, Any]:
    lease = tx.now + running.queue_lease(market)
    cost, grant, view = terms.plan.cost, terms.grant, terms.view
    return {
        "id": query_id,
        "org": tx.actor.org,
        "dataset": view.dataset_id,
        "slug": view.slug,
        "version": view.version_id,
        "grant_id": grant.id,
        "acceptance_id": terms.accepted.id,
        "purpose": grant.purpose,
        "clause": clause,
        "sql": terms.question.sql,
        "sql_sha256": sql_digest(terms.question.sql),
        "plan_sha256": terms.plan.digest,
        "plan_ask": json.dumps(terms.question.ask),
        "options": json.dumps(dict(terms.question.options)),
        "domain": listing.domain_of(view),
        "rho_nano": cost.rho_nano,
        "delta_pico": cost.delta_pico,
        "charge_minor": terms.price.amount_minor,
        "currency": terms.price.currency,
        "price_plan_sha256": terms.price_plan.sha256,
        "question_sha256": terms.reuse.question_sha256,
        "refines": terms.reuse.refines,
        "rho_before_nano": terms.reuse.rho_before_nano,
        "paid_before_minor": terms.reuse.paid_before_minor,
        "covered_nano": terms.charge.covered_nano,
        "worth_minor": terms.charge.worth_minor,
        "priced_before_nano": terms.reuse.priced_before_nano,
        "authorization_id": tx.actor.ref if tx.actor.scopes else None,
        "reserve_journal": held,
        "lease_until": lease.isoformat(timespec="microseconds"),
        "reserved_at": tx.now.isoformat(timespec="microseconds"),
    }
