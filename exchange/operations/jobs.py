"""Queries as their buyer sees them: state, how long they may still take, what became of them."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from exchange import queries, restraints
from exchange.errors import Frozen, ScopeMissing
from exchange.identity import Role
from exchange.operations import results, running
from exchange.operations.terms import money
from settlement import licences, orders
from settlement.errors import SettlementError

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market


def show(market: Market, actor: Actor, query_id: str) -> dict[str, Any]:
    """One query as its buyer sees it; once it has succeeded, and while it may be read, with its columns.

    Intervals tell the answer, so they are withheld as it is once grant or licence have ended, or are frozen.
    """
    row = market.store.read(lambda session: queries.find(session, query_id, org=actor.org))
    in_scope(actor, row)
    document = job(market, row)
    with contextlib.suppress(SettlementError, Frozen):
        readable(market, actor, query_id)
        if row.state != queries.SETTLED or row.result_expired_at:
            return document
        table, columns, intervals = results.open_result(market.vault.read(row.result_sha256))
        document |= {"columns": columns, "intervals": intervals, "row_count": table.num_rows}
        document["releases"] = results.releases_of(table)
    return document


def latest(market: Market, actor: Actor) -> dict[str, Any]:
    """The organisation's latest queries, newest first.

    One that is queued says its ``place`` among so many of the organisation's that are ``waiting``; the next
    is 1. Organisations take turns, and nothing is told of how many others wait.
    """
    actor.require(Role.BUYER)
    rows = market.store.read(lambda session: queries.of_organisation(session, actor.org))
    line = [row.id for row in reversed(rows) if row.state == queries.RESERVED]
    items = [job(market, row) for row in rows if _is_in_scope(actor, row)]
    for one in items:
        if one["query"] in line:
            one |= {"place": line.index(one["query"]) + 1, "waiting": len(line)}
    return {"items": items}


def history(market: Market, actor: Actor, *, text: str, before: str | None, limit: int) -> dict[str, Any]:
    """A page of the organisation's queries, newest first, whose statement, dataset or id holds a text.

    ``next`` is the ``before`` of the page that follows, None where this is the last.
    """
    actor.require(Role.BUYER)
    rows = market.store.read(
        lambda session: queries.of_organisation(session, actor.org, limit=limit + 1, text=text, before=before)
    )
    more = rows[limit - 1].reserved_at if len(rows) > limit else None
    return {"items": [job(market, row) for row in rows[:limit] if _is_in_scope(actor, row)], "next": more}


def question_of(market: Market, actor: Actor, query_id: str) -> dict[str, Any]:
    """What a query of the organisation's asked, to be asked again. Raises NotFound."""
    actor.require(Role.BUYER)
    row = market.store.read(lambda session: queries.find(session, query_id, org=actor.org))
    in_scope(actor, row)
    return {"slug": row.slug, "grant": row.grant_id, "sql": row.sql, "ask": json.loads(row.plan_ask)}


def cancel(market: Market, actor: Actor, query_id: str) -> dict[str, Any]:
    """Cancel a query; returns it as it is then, which is the same again and again."""
    actor.require(Role.BUYER)
    in_scope(actor, market.store.read(lambda session: queries.find(session, query_id, org=actor.org)))
    running.cancel(market, actor, query_id)
    row = market.store.read(lambda session: queries.find(session, query_id, org=actor.org))
    return job(market, row)


def readable(market: Market, actor: Actor, query_id: str) -> Row[Any]:
    """A query of the buyer's whose answer grant and licence still allow to be read (fetch is a use, too), and
    of which nothing is frozen.
    """
    now = market.store.clock()

    def look(session: Session) -> Row[Any]:
        row = queries.find(session, query_id, org=actor.org)
        in_scope(actor, row)
        restraints.require_free_query(session, query_id)
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


def in_scope(actor: Actor, row: Row[Any]) -> None:
    """Raise :class:`ScopeMissing` where a token is for other datasets or purposes than the query's."""
    if actor.scopes is not None:
        actor.scopes.permit_use(row.slug, row.purpose)


def _is_in_scope(actor: Actor, row: Row[Any]) -> bool:
    try:
        in_scope(actor, row)
    except ScopeMissing:
        return False
    return True


def job(market: Market, row: Row[Any]) -> dict[str, Any]:
    """A query's document. While it is open ``elapsed_s`` of at most ``limit_s`` seconds have passed: the
    limit is of the settings and of the plan, so that neither tells of the data.
    """
    done = row.state == queries.SETTLED
    document = {
        "query": row.id,
        "dataset": row.dataset,
        "slug": row.slug,
        "state": queries.seen(row),
        "location": f"/v1/queries/{row.id}",
        "asked_at": row.reserved_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "sql": row.sql,
        "purpose": row.purpose,
        "rho_nano": row.rho_nano if row.state in (queries.SETTLED, queries.FORFEITED) else 0,
        "charge": money(row.charge_minor if done else 0, row.currency),
        "refines": row.refines,
        "result_sha256": row.result_sha256 if done else None,
        "failure": row.failure,
    }
    return document | _times(market, row)


def _times(market: Market, row: Row[Any]) -> dict[str, Any]:
    asked = datetime.fromisoformat(row.reserved_at)
    if queries.is_open(row):
        elapsed, limit = market.store.clock() - asked, datetime.fromisoformat(row.lease_until) - asked
        return {"elapsed_s": _seconds(elapsed), "limit_s": _seconds(limit)}
    ended = datetime.fromisoformat(row.ended_at)
    kept = ended + timedelta(days=market.settings.answer_days)
    until = kept.isoformat(timespec="seconds") if row.state == queries.SETTLED else None
    return {"elapsed_s": _seconds(ended - asked), "limit_s": None, "kept_until": until}


def _seconds(time: timedelta) -> int:
    return max(0, int(time.total_seconds()))
