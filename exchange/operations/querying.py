"""The life of a query, readable top to bottom: reserve, start, run, keep, settle, deliver.

Money and privacy are reserved in one transaction before any data is read; bytes leave only after both were
settled. A process that dies in between leaves a row that :mod:`exchange.operations.sweeping` resolves.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import privacy
from exchange import queries
from exchange.audit.entry import (
    Entry,
    LicenceGroup,
    ObjectGroup,
    QueryGroup,
)
from exchange.errors import InProgress, PriceAboveLimit, QueryLost, RequestInvalid
from exchange.identity import Role, new_id, still_valid
from exchange.operations import auditing, entitlements, laying, licensing, listing, results, settling
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
from settlement import licences, orders
from settlement.errors import QuoteExpired, SettlementError
from settlement.money import parse_amount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Outcome, Tx

_LEASE_MARGIN = timedelta(seconds=30)


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


def run(market: Market, actor: Actor, command: RunQuery, *, key: str | None) -> Answered:
    """Answer a question once: the same key gives the same reply, the same question the same bytes free."""
    done = market.store.replay(actor, command, key)
    if done is not None:
        return _replayed(market, actor, command, done)
    terms = _terms(market, actor, command)
    repeats = _repeats(market, actor, terms)
    with contextlib.nullcontext() if repeats else _turn(market, actor, command, terms):
        reserved = market.store.perform(
            actor, command, lambda tx: _reserve(tx, market, command, terms), key=key, followed=not repeats
        )
        if reserved.replayed:
            return _replayed(market, actor, command, reserved)
        if not reserved.value["repeated"]:
            _execute(market, actor, reserved.value["query"], terms)
    return _deliver(market, actor, reserved, on_disk=repeats)


def answered(market: Market, actor: Actor, query_id: str) -> Answered:
    """Fetch a settled query's answer again; the licence must still allow it."""
    with market.store.refusing(actor, FetchAnswer(query_id)):
        row = _readable(market, actor, query_id)
    _raise_unless_settled(row)
    return _load(market, row, repeated=True)


def receipt(market: Market, actor: Actor, query_id: str) -> dict[str, Any]:
    """The receipt of a settled query, for its buyer; for an officer too."""
    officer = actor.role == Role.OFFICER
    if officer:
        auditing.note_reading(market, actor, "receipt", query_id)
    org = None if officer else actor.org
    row = market.store.read(lambda session: queries.find(session, query_id, org=org))
    _raise_unless_settled(row)
    return receipt_of(market, row)


def show(market: Market, actor: Actor, query_id: str) -> dict[str, Any]:
    """One query as its buyer sees it; once it has succeeded, and while it may be read, with its columns.

    Intervals tell the answer, so they are withheld as it is once grant or licence have ended.
    """
    row = market.store.read(lambda session: queries.find(session, query_id, org=actor.org))
    document = _job(row)
    with contextlib.suppress(SettlementError):
        _readable(market, actor, query_id)
        if row.state != queries.SETTLED:
            return document
        table, columns, intervals = results.open_result(market.objects.read(row.result_sha256))
        document |= {"columns": columns, "intervals": intervals, "row_count": table.num_rows}
        document["releases"] = results.releases_of(table)
    return document


def jobs(market: Market, actor: Actor) -> dict[str, Any]:
    """The organisation's latest queries, newest first."""
    actor.require(Role.BUYER)
    rows = market.store.read(lambda session: queries.of_organisation(session, actor.org))
    return {"items": [_job(row) for row in rows]}


def usage(market: Market, actor: Actor) -> dict[str, Any]:
    """What was asked and what it cost; a provider sees what its datasets earned."""
    return market.store.read(lambda session: settling.usage(session, actor))


def _replayed(market: Market, actor: Actor, command: RunQuery, done: Outcome) -> Answered:
    """The reply of a key that was used before, if the buyer may still read it."""
    with market.store.refusing(actor, command):
        _readable(market, actor, done.value["query"])
    return _deliver(market, actor, done)


def _readable(market: Market, actor: Actor, query_id: str) -> Row[Any]:
    """A query of the buyer's whose answer grant and licence still allow to be read (fetch is a use, too)."""
    now = market.store.clock()

    def look(session: Session) -> Row[Any]:
        row = queries.find(session, query_id, org=actor.org)
        grant = orders.require_active(orders.find_grant(session, row.grant_id, org=actor.org), now)
        licences.permit(
            session,
            acceptance_id=row.acceptance_id,
            org=actor.org,
            purpose=row.purpose,
            territory=grant.territory,
            now=now,
        )
        return row

    return market.store.read(look)


def _repeats(market: Market, actor: Actor, terms: Terms) -> bool:
    """Whether the organisation has its answer already: that needs no worker, and nothing follows it."""
    same = {"org": actor.org, "version": terms.view.version_id, "plan_sha256": terms.plan.digest}
    return market.store.read(lambda session: queries.settled_before(session, **same)) is not None


@contextlib.contextmanager
def _turn(market: Market, actor: Actor, command: RunQuery, terms: Terms) -> Iterator[None]:
    """A worker's turn, taken before anything is reserved: who waits holds neither money nor rho nor a lease.

    In it the plan is admitted, by what public tables alone can tell.
    """
    with contextlib.ExitStack() as stack:
        with market.store.refusing(actor, command):
            stack.enter_context(market.engine.turn(market.settings.query_timeout_s))
            files = market.objects.files(terms.view)
            privacy.admit(terms.plan, files, sandbox=market.engine.sandbox())
        yield


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


def _reserve(tx: Tx, market: Market, command: RunQuery, terms: Terms) -> dict[str, Any]:
    """T1: check everything again inside the transaction, then hold money and rho together."""
    actor, plan = tx.actor, terms.plan
    if actor.ref.startswith("tok_"):
        still_valid(tx.session, actor.ref, tx.now)
    view, grant, accepted, _ = permitted(tx.session, actor, terms.question, tx.now)
    planned_for = (terms.view.version_id, terms.grant.id, terms.accepted.id)
    if (view.version_id, grant.id, accepted.id) != planned_for:
        raise QuoteExpired("the dataset, the grant or the licence changed while the query was planned")
    same = {"org": actor.org, "version": view.version_id, "plan_sha256": plan.digest}
    before = queries.settled_before(tx.session, **same)
    if before is not None:
        licensing.permit_plan(tx.session, terms, tx.now)
        tx.record(kind="query.repeated", **_about(terms, before.id))
        return {"query": before.id, "repeated": True}
    if queries.running_now(tx.session, **same) is not None:
        raise InProgress("the same query of your organisation is being answered")
    _check_reuse(tx.session, terms)
    terms = _charged_now(tx, terms)
    _check_limits(command, terms)
    clause = licensing.permit_plan(tx.session, terms, tx.now)
    query_id = new_id("qry")
    held = settling.hold(tx, market, terms, query_id)
    queries.reserve(tx.session, _row(tx, market, terms, query_id, clause, held))
    queries.keep_bounds(tx.session, query_id, plan.bound_digests)
    tx.record(
        **_about(terms, query_id),
        money=settling.charge_of(tx.session, held, terms.price),
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


def _execute(market: Market, actor: Actor, query_id: str, terms: Terms) -> None:
    """T2 start, run, T3 keep, T4 settle. A failure after the start keeps rho and returns money."""
    about = _about(terms, query_id)
    settling.start(market, actor, query_id, about=about)
    try:
        with _on_grid(market):
            answer = privacy.answer(
                terms.plan,
                market.objects.files(terms.view),
                salt=market.salt(terms.view.version_id),
                sandbox=market.engine.sandbox(),
                admitted=True,
                layout=laying.serving(market, terms.view),
            )
            kept = results.keep(market, answer, terms)
    except privacy.PrivacyError:
        # One code for every cause: time-out, size and the rest would tell of the data.
        settling.forfeit(market, actor, query_id, code="query_failed")
        raise QueryLost("the query could not be answered within its limits") from None
    except BaseException:
        settling.forfeit(market, actor, query_id, code="query_failed")
        raise
    settling.keep(market, actor, query_id, kept, about=about)
    settling.settle(market, actor, query_id, about=about)


@contextlib.contextmanager
def _on_grid(market: Market) -> Iterator[None]:
    """Leave, also with an error, at the next step of the time grid: run time tells of the data, so less of it
    is shown.
    """
    grid_s, started = market.settings.reply_grid_ms / 1000, time.monotonic()
    try:
        yield
    finally:
        if grid_s:
            time.sleep(grid_s - (time.monotonic() - started) % grid_s)


def _deliver(market: Market, actor: Actor, reserved: Outcome, *, on_disk: bool = False) -> Answered:
    """The reply of a reservation: a lost one is given again word for word, charge and all.

    Args:
        on_disk: whether the reservation is on disk, if nothing followed it.
    """
    query_id = reserved.value["query"]
    if reserved.value["repeated"] and not on_disk:
        market.store.sync()
    row = market.store.read(lambda session: queries.find(session, query_id, org=actor.org))
    _raise_unless_settled(row)
    return _load(market, row, repeated=reserved.value["repeated"])


def _load(market: Market, row: Row[Any], *, repeated: bool) -> Answered:
    arrow = market.objects.read(row.result_sha256)
    table, columns, intervals = results.open_result(arrow)
    return Answered(row, table, arrow, columns, intervals, receipt_of(market, row), repeated)


def _raise_unless_settled(row: Row[Any]) -> None:
    if row.state == queries.SETTLED:
        return
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


def _about(terms: Terms, query_id: str) -> dict[str, Any]:
    """The audit groups that every entry of a query carries."""
    return {
        "object": settling.subject(query_id, terms.reuse.refines, terms.view.version_id, terms.view.slug),
        "licence": LicenceGroup(
            acceptance_id=terms.accepted.id,
            odrl_sha256=terms.licence.odrl_sha256,
            purpose=terms.grant.purpose,
        ),
        "query": QueryGroup(
            id=query_id, plan_sha256=terms.plan.digest, sql_sha256=sql_digest(terms.question.sql)
        ),
    }


def _row(
    tx: Tx, market: Market, terms: Terms, query_id: str, clause: str, held: str | None
) -> dict[str, Any]:
    # Tasks run in turn, each within the time limit: each exact part, from the plain files where the layout
    # turns out to be spoilt, and the public part.
    tasks = 2 * len(terms.plan.releases) + 1
    lease = tx.now + timedelta(seconds=tasks * market.settings.query_timeout_s) + _LEASE_MARGIN
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
        "reserve_journal": held,
        "lease_until": lease.isoformat(timespec="microseconds"),
        "reserved_at": tx.now.isoformat(timespec="microseconds"),
    }


def _job(row: Row[Any]) -> dict[str, Any]:
    done = row.state == queries.SETTLED
    return {
        "query": row.id,
        "dataset": row.dataset,
        "slug": row.slug,
        "state": queries.SEEN[row.state],
        "asked_at": row.reserved_at,
        "ended_at": row.ended_at,
        "sql": row.sql,
        "purpose": row.purpose,
        "rho_nano": row.rho_nano if row.state in (queries.SETTLED, queries.FORFEITED) else 0,
        "charge": money(row.charge_minor if done else 0, row.currency),
        "refines": row.refines,
        "result_sha256": row.result_sha256,
        "failure": row.failure,
    }
