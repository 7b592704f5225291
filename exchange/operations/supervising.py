"""What an operator looks at: organisations with identity, members and money; how the exchange is.

Nothing here is a value of anybody's data.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from exchange import authorizations, identity, parties
from exchange.errors import NotFound, RequestInvalid
from exchange.identity import Role
from exchange.operations import observing, refunding
from exchange.operations.administering import REGISTERED
from exchange.operations.terms import money
from exchange.persons import accounts
from settlement import ledger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market

PAGE = 50
_MONEY = ("buyer_prepaid", "provider_payable", "provider_holdback", "provider_clawback")
_STALE_S = 120


def organisations(
    market: Market, actor: Actor, *, text: str = "", role: str = "", page_token: str | None = None
) -> dict[str, Any]:
    """Organisations by name, 50 at a time, with whether it is on record who they are.

    Raises RequestInvalid for a role that there is not.
    """
    actor.require(Role.OPERATOR)
    if role and role not in list(Role):
        raise RequestInvalid(f"a role is one of {', '.join(Role)}")

    def look(session: Session) -> dict[str, Any]:
        after = (page_token or "")[:80]
        found = identity.listed(session, text[:80], role=role or None, after=after, limit=PAGE + 1)
        shown = found[:PAGE]
        known = parties.known(session, [row.id for row in shown])
        items = [
            {
                "name": row.name,
                "role": row.role,
                "since": row.created_at,
                "legal_name": known.get(row.id),
            }
            for row in shown
        ]
        return {"items": items, "next_page_token": shown[-1].name if len(found) > PAGE else None}

    return market.store.read(look)


def is_there(market: Market, actor: Actor, name: str) -> bool:
    """Whether there is an organisation of this name."""
    actor.require(Role.OPERATOR)
    try:
        market.store.read(lambda session: identity.find_organisation(session, name))
    except NotFound:
        return False
    return True


def organisation(market: Market, actor: Actor, name: str) -> dict[str, Any]:
    """One organisation: who it is, as it is on record, its members, open links and what the books have of it.

    Raises NotFound.
    """
    actor.require(Role.OPERATOR)
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        org, role = identity.find_organisation(session, name)
        members = [one.document() for one in accounts.members(session, org)]
        return {
            "org": org,
            "name": name,
            "role": str(role),
            "identity": parties.find(session, org),
            "members": members,
            "administered": any(one["admin"] and one["state"] == "active" for one in members),
            "invitations": [
                {"login": one.login, "expires_at": one.expires_at}
                for one in accounts.open_invitations(session, org, now)
            ],
            "accounts": _accounts(session, org),
            "may_be_let_in": role in REGISTERED,
        }

    return market.store.read(look)


def bank_transfers(market: Market, actor: Actor, *, page_token: str | None = None) -> dict[str, Any]:
    """Bank transfers, those to confirm first, 50 at a time, with the organisations' names and whether the
    reader proposed them. Raises RequestInvalid for a token of no page.
    """
    page = refunding.page_of_credits(market, actor, limit=PAGE, page_token=page_token)
    found = page["items"]

    def look(session: Session) -> tuple[dict[str, str], str]:
        names = identity.organisation_names(session, {one["org"] for one in found})
        return names, authorizations.subject_of(session, actor.ref)

    names, own = market.store.read(look)
    items = [{**one, "name": names[one["org"]], "own": one["proposed_by"] == own} for one in found]
    return {**page, "items": items}


def names(market: Market, ids: set[str]) -> Mapping[str, str]:
    """Organisations' names by id."""
    return market.store.read(lambda session: identity.organisation_names(session, ids))


def health(market: Market, actor: Actor, parts: Mapping[str, str]) -> dict[str, Any]:
    """How the exchange is: the parts that a request needs, the log's freshness, disks, and what is counted.

    Args:
        parts: as :class:`exchange.operations.observing.Readiness` tells them.
    """
    actor.require(Role.OPERATOR)
    facts = observing.facts(market)
    known = {fact.name: fact.values for fact in facts}
    ages = known["exchange_age_seconds"]
    log = observing.log_state(market)
    swept = ages.get("sweep")
    return {
        "parts": dict(parts),
        "log": log,
        "log_fresh": log["checkpoint_age_s"] is not None and ages.get("checkpoint", _STALE_S) < _STALE_S,
        "unpublished": int(known["exchange_log_unpublished"][""]),
        "entries": int(known["exchange_log_entries"][""]),
        "swept_s": None if swept is None else int(swept),
        "swept_lately": swept is not None and swept < observing.LIVELY_S,
        "alerts": {kind: int(count) for kind, count in known["exchange_alerts"].items() if count},
        "queries": {state: int(count) for state, count in known["exchange_queries"].items()},
        "overdue": int(known["exchange_queries_overdue"][""]),
        "ended": {state: int(count) for state, count in known["exchange_queries_ended"].items()},
        "outbox": {state: int(count) for state, count in known["exchange_outbox"].items()},
        "outbox_late_s": int(known["exchange_outbox_late_seconds"][""]),
        "rounds": {end: int(count) for end, count in known["exchange_swept"].items()},
        "disks": _disks(market),
    }


def _disks(market: Market) -> list[dict[str, Any]]:
    """The disks of this machine that the exchange writes to; a place on none of its own is named once."""
    settings = market.settings
    found: dict[int, dict[str, Any]] = {}
    for name, place in (("home", settings.home), ("log", settings.log_path)):
        path = Path(place)
        if not path.exists():
            continue
        usage, device = shutil.disk_usage(path), path.stat().st_dev
        one = found.setdefault(device, {"of": [], "free": usage.free, "total": usage.total})
        one["of"].append(name)
        one["low"] = usage.free * 10 < usage.total
    return list(found.values())


def _accounts(session: Session, org: str) -> list[dict[str, Any]]:
    held = ledger.account.c
    rows = session.execute(
        select(held.id, held.kind, held.unit)
        .where(held.owner == org, held.kind.in_(_MONEY))
        .order_by(held.id)
    ).all()
    found = ledger.balances(session, *((row.id, row.unit) for row in rows))
    return [
        {"kind": row.kind, "balance": money(one.posted, row.unit), "held": money(one.pending_out, row.unit)}
        for row, one in zip(rows, found, strict=True)
    ]
