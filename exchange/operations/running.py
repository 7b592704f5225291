"""What follows a reservation: start, run, keep, settle, in a thread of the process that reserved; cancel."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import privacy
from catalog.errors import CatalogError, ObjectsUnavailable
from exchange import queries
from exchange.audit.entry import LicenceGroup, QueryGroup
from exchange.errors import (
    Frozen,
    InProgress,
    MasterKeyMissing,
    MasterKeyWrong,
    Overloaded,
    QueryCancelled,
    QueryLost,
    StorageFull,
    is_full,
)
from exchange.operations import laying, results, settling
from exchange.operations.quoting import sql_digest
from exchange.telemetry import traces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.operations.quoting import Terms
    from exchange.runs import Run
    from exchange.turns import Turn

_LEASE_MARGIN = timedelta(seconds=30)
_CANCEL_TRIES = 4
_KEEP_PATIENCE_S, _LOOK_AGAIN_S = 10.0, 0.5
"""Together with one call that gets no answer, it is within the margin of the lease."""


def queue_lease(market: Market) -> timedelta:
    """For how long a query is reserved that waits for its turn."""
    return timedelta(seconds=market.settings.query_patience_s) + _LEASE_MARGIN


def run_lease(market: Market, terms: Terms) -> timedelta:
    """For how long a query may run, by its plan alone.

    Tasks run in turn, each within the time limit: each exact part, from the plain files where the layout
    turns out to be spoilt, and the public part.
    """
    tasks = 2 * len(terms.plan.releases) + 1
    return timedelta(seconds=tasks * market.settings.query_timeout_s) + _LEASE_MARGIN


def begin(market: Market, actor: Actor, query_id: str, terms: Terms, turn: Turn) -> Run:
    """Answer a query that this process has just reserved; it goes on whether anybody waits for it or not."""
    return market.runs.begin(query_id, turn, partial(_carry_out, market, actor, query_id, terms, turn))


def cancel(market: Market, actor: Actor, query_id: str) -> None:
    """End a query of the organisation's: before data was read nothing is charged, after it privacy alone.

    One that has ended stays as it is. Whoever comes first - this, or the query's own end - decides.
    """
    stop(market, actor, query_id, org=actor.org, code=queries.CANCELLED)


def stop(market: Market, actor: Actor, query_id: str, *, org: str | None, code: str) -> str | None:
    """End a query, of one organisation unless ``org`` is None, with this code; returns the state that it was
    in, or None where it ended by itself, or goes on because the freeze that was to end it was lifted.
    """
    left = None
    for _ in range(_CANCEL_TRIES):
        row = market.store.read(lambda session: queries.find(session, query_id, org=org))
        if not queries.is_open(row):
            break
        with contextlib.suppress(InProgress):  # it moved on meanwhile: from where it is now
            settling.cancel(market, actor, query_id, leave=row.state, code=code)
            left = str(row.state)
            break
    else:  # a query moves on less often than that
        return None
    market.runs.stop(query_id)
    return left


def about(terms: Terms, query_id: str) -> dict[str, Any]:
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


def _carry_out(market: Market, actor: Actor, query_id: str, terms: Terms, turn: Turn, run: Run) -> None:
    """Wait for the turn, then answer. Who was cancelled says so, whatever it was that failed of it."""
    lease = queue_lease(market) + run_lease(market, terms)
    with turn, market.store.patient(lease.total_seconds()):  # the database may come back before that
        try:
            _await_turn(market, actor, query_id, turn, run)
            _execute(market, actor, query_id, terms, run)
        except Frozen:  # a moment ago; the freeze ends it too, and whoever comes first has done it
            with contextlib.suppress(InProgress):
                settling.void(market, actor, query_id, code=queries.FROZEN)
            raise
        except (InProgress, Overloaded, QueryLost):
            if run.cancellation.cancelled:
                raise QueryCancelled("the query was cancelled") from None
            raise


def _await_turn(market: Market, actor: Actor, query_id: str, turn: Turn, run: Run) -> None:
    try:
        turn.wait(market.settings.query_patience_s)
        market.engine.sandbox()  # refused by a process that stops: before the start that costs nothing
    except Overloaded as busy:
        if not run.cancellation.cancelled:
            settling.void(market, actor, query_id, code=busy.code)
        raise


def _execute(market: Market, actor: Actor, query_id: str, terms: Terms, run: Run) -> None:
    """T2 start, run, T3 keep, T4 settle. A failure after the start keeps rho and returns money; so that there
    are few, files are at hand and there is room for an answer before it.
    """
    known = about(terms, query_id)
    with contextlib.ExitStack() as held:
        with _voided_without_objects(market, actor, query_id, run):
            market.objects.ensure_writable()
            files = held.enter_context(market.vault.files(terms.view))
        settling.start(market, actor, query_id, about=known, lease=run_lease(market, terms))
        try:
            with traces.span("query.run", query=query_id), _on_grid(market):  # a trace shows the grid alone
                answer = privacy.answer(
                    terms.plan,
                    files,
                    salt=market.salt(terms.view.version_id),
                    sandbox=market.engine.sandbox().under(run.cancellation),
                    admitted=True,
                    layout=laying.serving(market, terms.view),
                )
                held.close()
                kept = _kept(market, answer, terms, run)
        except privacy.PrivacyError:
            # One code for every cause: time-out, size and the rest would tell of the data.
            _forfeit(market, actor, query_id, run)
            raise QueryLost("the query could not be answered within its limits") from None
        except (CatalogError, OSError):
            _forfeit(market, actor, query_id, run)
            raise QueryLost("the query ended without an answer") from None
        except BaseException:
            _forfeit(market, actor, query_id, run)
            raise
    settling.keep(market, actor, query_id, kept, about=known)
    settling.settle(market, actor, query_id, about=known)


@contextlib.contextmanager
def _voided_without_objects(market: Market, actor: Actor, query_id: str, run: Run) -> Iterator[None]:
    """Return everything where files cannot be had or opened, or where an answer could not be kept."""
    try:
        yield
    except (CatalogError, MasterKeyMissing, MasterKeyWrong, OSError) as error:
        if not run.cancellation.cancelled:
            full = isinstance(error, OSError) and is_full(error)
            code = StorageFull.code if full else str(getattr(error, "code", "server_error"))
            settling.void(market, actor, query_id, code=code)
        raise


def _kept(market: Market, answer: privacy.Answer, terms: Terms, run: Run) -> settling.Kept:
    """Keep an answer; where there is no room, or the store is away, for a while again: its rho is spent."""
    until = time.monotonic() + _KEEP_PATIENCE_S
    while True:
        try:
            return results.keep(market, answer, terms)
        except (ObjectsUnavailable, OSError):
            if time.monotonic() > until or run.cancellation.cancelled:
                raise
            time.sleep(_LOOK_AGAIN_S)


def _forfeit(market: Market, actor: Actor, query_id: str, run: Run) -> None:
    """What was cancelled has ended in the books before it ends here."""
    if not run.cancellation.cancelled:
        settling.forfeit(market, actor, query_id, code="query_failed")


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
