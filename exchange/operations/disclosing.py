"""What everybody may know: how much privacy each domain has spent over all buyers, entry by entry.

It is read off the books; the public log proves it or refutes it (:mod:`exchange.audit.spending`). There is
nothing in it that the published leaves do not say, so nobody needs to sign in, and reading it is no entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from exchange.audit import log
from exchange.errors import NotFound, RequestInvalid
from exchange.operations.terms import budget, budgets
from settlement import ledger

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exchange.audit.log import Record
    from exchange.market import Market

_LONGEST, _MOST = 200, 50


def domains(market: Market, *, limit: int, page_token: str | None = None) -> dict[str, Any]:
    """Domains by name with what was granted and spent, and ``entries``: how many the log had at that moment.

    A domain whose budget was granted and of which nothing was spent is there too. At most 50 are on a page,
    whatever the limit: anybody may ask.
    """
    limit = min(limit, _MOST)

    def look(session: Session) -> dict[str, Any]:
        owner = ledger.account.c.owner
        names = select(owner).where(ledger.account.c.kind == "domain_granted", owner > (page_token or ""))
        found = session.scalars(names.distinct().order_by(owner).limit(limit + 1)).all()
        shown = [_told(one) for one in budgets(session, found[:limit])]
        token = found[limit - 1] if len(found) > limit else None
        return {"entries": log.size(session), "items": shown, "next_page_token": token}

    if len(page_token or "") > _LONGEST:
        raise RequestInvalid("the page token was not given by this page")
    return market.store.read(look)


def entries(market: Market, domain: str, *, limit: int, page_token: str | None = None) -> dict[str, Any]:
    """The entries that spent of a domain, newest first, at most 50. A page may hold fewer than there are and
    still have a next. Raises :class:`NotFound` for a domain that has no budget.
    """
    limit = min(limit, _MOST)

    def look(session: Session) -> dict[str, Any]:
        known = select(ledger.account.c.owner).where(
            ledger.account.c.kind == "domain_granted", ledger.account.c.owner == domain
        )
        if session.scalars(known.limit(1)).first() is None:
            raise NotFound("there is no such privacy domain")
        found = log.spending(session, domain, limit=limit, page_token=page_token)
        return {
            "domain": _told(budget(session, domain)),
            "items": [_line(record) for record in found.entries],
            "next_page_token": found.next_token,
        }

    return market.store.read(look)


def _told(account: dict[str, Any]) -> dict[str, Any]:
    """A domain's account without what is reserved: that is of questions which are being answered now."""
    kept = ("domain", "rho_nano_granted", "rho_nano_spent", "delta", "epsilon_granted", "epsilon_spent")
    return {name: account[name] for name in kept}


def _line(record: Record) -> dict[str, Any]:
    document = record.document
    return {
        "seq": record.seq,
        "time": document["time"],
        "kind": document["kind"],
        "dataset": (document["object"] or {}).get("dataset"),
        "rho_nano": int(document["privacy"]["rho_nano"]),
        "spent_after": int(document["privacy"]["spent_after"]),
        "leaf_hash": record.leaf_hash.hex(),
    }
