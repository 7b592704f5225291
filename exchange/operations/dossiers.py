"""One query on one page: the grant and the licence clause that allowed it, its plan, what it spent and cost,
the journals, the entries of its life in order, and whether its receipt's promise was kept.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from catalog import listings
from exchange import parties, queries
from exchange.audit import log, spending
from exchange.identity import organisation_names
from exchange.operations import auditing, gates
from exchange.operations.receipting import newest_checkpoint
from settlement import ledger, orders
from settlement.errors import SettlementError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market

_MOST_ENTRIES = 200


def dossier(market: Market, actor: Actor, query_id: str) -> dict[str, Any]:
    """Everything about one query, for officers and operators; reading it is an entry. Raises NotFound.

    ``privacy`` is None until the query has spent; ``entries`` are in order, the newest 200.
    """
    auditing.note_reading(market, actor, "query", query_id)
    newest = newest_checkpoint(market)
    size = newest.size if newest else 0

    def look(session: Session) -> dict[str, Any]:
        row = queries.find(session, query_id)
        names = organisation_names(session)
        page = log.search(session, q=query_id, limit=_MOST_ENTRIES)
        lines = [auditing.item(record, names) for record in reversed(page.entries)]
        return {
            "query": row.id,
            "asked": auditing.asked(session, row.id, names),
            "grant": _grant(session, row),
            **_origin(session, row, names),
            "plan": _plan(row),
            "privacy": _privacy(lines, row.id),
            "journals": [_journal(session, line) for line in lines if (line["money"] or {}).get("journal")],
            "entries": lines,
            "entries_left_out": page.next_token is not None,
            "proof": _proof(lines, row, size),
        }

    return market.store.read(look)


def _grant(session: Session, row: Row[Any]) -> dict[str, Any] | None:
    try:
        grant = orders.find_grant(session, row.grant_id, org=row.org)
    except SettlementError:
        return None
    names = ("id", "plan_name", "purpose", "territory", "state", "issued_at", "valid_until")
    return {**{name: getattr(grant, name) for name in names}, "rho_nano": grant.allowance_rho_nano}


def _origin(session: Session, row: Row[Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Who provider and buyer are, as it is on record, and what is declared of the data's origin."""
    view = listings.version_of(session, row.version)
    both = {"provider": view.org, "buyer": row.org}
    return {
        "parties": {
            role: {"org": org, "name": names.get(org, org), "identity": parties.find(session, org)}
            for role, org in both.items()
        },
        "declarations": gates.shown(view),
    }


def _plan(row: Row[Any]) -> dict[str, Any]:
    """What was asked of the compiler, and the digests that the leaf fixes."""
    return {
        "plan_sha256": row.plan_sha256,
        "sql_sha256": row.sql_sha256,
        "price_plan_sha256": row.price_plan_sha256,
        "ask": _parsed(row.plan_ask),
        "options": _parsed(row.options),
    }


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _privacy(lines: list[dict[str, Any]], query_id: str) -> dict[str, Any] | None:
    """The domain's account around the entry that spent, as that entry says it; nano-rho."""
    for line in lines:
        said = line["privacy"] or {}
        own = (line["query"] or {}).get("id") == query_id and line["kind"] in spending.KINDS
        if own and said.get("spent_after") is not None:
            rho, after = int(said["rho_nano"] or 0), int(said["spent_after"])
            return {
                "domain": said["domain"],
                "mechanism": said["mechanism"],
                "before_nano": after - rho,
                "rho_nano": rho,
                "delta_pico": int(said["delta_pico"] or 0),
                "after_nano": after,
                "remaining_nano": int(said["remaining_after"] or 0),
            }
    return None


def _journal(session: Session, line: dict[str, Any]) -> dict[str, Any]:
    """A journal that an entry names, its lines, and whether it still has the digest that the entry fixed."""
    journal = line["money"]["journal"]
    digest = auditing.digest_of_journal(session, journal)
    lines = [] if digest is None else [asdict(one) for one in ledger.journal_lines(session, journal)]
    as_fixed = digest == line["money"]["journal_sha256"]
    return {
        "journal": journal,
        "entry": line["id"],
        "kind": line["kind"],
        "lines": lines,
        "as_fixed": as_fixed,
    }


def _proof(lines: list[dict[str, Any]], row: Row[Any], size: int) -> dict[str, Any]:
    """How far the entry of the end is: none yet, promised by the receipt, or under a checkpoint."""
    ended = next((line for line in lines if line["id"] == row.entry_id), None)
    if ended is None:
        return {"status": "open", "entry": None, "seq": None, "size": size}
    status = "published" if ended["seq"] < size else "promised"
    return {"status": status, "entry": ended["id"], "seq": ended["seq"], "size": size}
