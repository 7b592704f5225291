"""Providers' statements: a month of what was earned, given back, held back and paid out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from exchange import identity, printing
from exchange.errors import RequestInvalid
from exchange.identity import Role
from exchange.operations.invoicing import queries_behind
from settlement import invoices
from settlement.documents import canonical, sha256_hex
from settlement.errors import StatementMissing
from settlement.money import format_amount
from settlement.schema import timestamp

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from settlement.invoices import ProviderStatement

_AMOUNTS = ("gross", "fee", "net", "held")


def statements_of(market: Market, actor: Actor, *, org: str | None = None) -> dict[str, Any]:
    """The months in which a provider had accounts, newest first; for operators and officers those of all."""
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        actor.require(Role.PROVIDER, Role.OPERATOR, Role.OFFICER)
        if org is None and actor.role != Role.PROVIDER:
            names = identity.organisation_names(session)
            providers = {one: names.get(one, "") for one in invoices.providers(session)}
        else:
            whose = _provider(session, actor, org)
            providers = {whose: identity.organisation_names(session)[whose]}
        items = [
            {"provider": name, **one}
            for whose, name in sorted(providers.items(), key=lambda pair: pair[1])
            for one in _months_of(session, whose, now)
        ]
        return {"items": sorted(items, key=lambda one: one["statement"], reverse=True)}

    return market.store.read(look)


def show(market: Market, actor: Actor, statement_id: str, *, org: str | None = None) -> dict[str, Any]:
    """A statement by its id, ``2026-11-USD``, with the digest of its document. Raises StatementMissing."""
    now = market.store.clock()
    since, until, currency = _read(statement_id, now)

    def look(session: Session) -> dict[str, Any]:
        whose = _provider(session, actor, org)
        stated = invoices.provider_statement(session, org=whose, currency=currency, since=since, until=until)
        document = _document(session, stated, now)
        name = identity.organisation_names(session)[whose]
        totals = stated.opening["total"], stated.closing["total"]
        summary = {"provider": name, **_summary(currency, (since, until), totals, now)}
        return {**summary, "sha256": sha256_hex(canonical(document)), "document": document}

    return market.store.read(look)


def as_pdf(market: Market, actor: Actor, statement_id: str, *, org: str | None = None) -> bytes:
    """The statement's pages. Raises StatementMissing, FontMissing."""
    shown = show(market, actor, statement_id, org=org)
    font = market.settings.font_path
    return printing.statement_pdf(shown["document"], sha256=shown["sha256"], font_path=font)


def _months_of(session: Session, whose: str, now: datetime) -> list[dict[str, Any]]:
    found = []
    for currency in invoices.currencies_of(session, whose):
        changed, closing = invoices.monthly_changes(session, whose, currency), 0
        for since, until in _months(f"{min(changed)}-01T00:00:00+00:00", now) if changed else ():
            opening, closing = closing, closing + changed.get(since[:7], 0)
            found.append(_summary(currency, (since, until), (opening, closing), now))
    return found


def _provider(session: Session, actor: Actor, org: str | None) -> str:
    """The provider that is asked for; another's statements look like those of nobody."""
    actor.require(Role.PROVIDER, Role.OPERATOR, Role.OFFICER)
    if actor.role == Role.PROVIDER:
        if org not in (None, actor.name):
            raise StatementMissing("There is no such statement.")
        return actor.org
    if org is None:
        raise RequestInvalid("name the provider whose statement is asked for: org=NAME")
    return identity.find_organisation(session, org)[0]


def _summary(currency: str, month: tuple[str, str], totals: tuple[int, int], now: datetime) -> dict[str, Any]:
    """A statement in a list: its month, and all that the provider had before and after it, in minor units."""
    since, until = month
    return {
        "statement": f"{since[:7]}-{currency}",
        "currency": currency,
        "since": since,
        "until": until,
        "provisional": until > timestamp(now),
        "opening": format_amount(totals[0], currency),
        "closing": format_amount(totals[1], currency),
    }


def _document(session: Session, stated: ProviderStatement, now: datetime) -> dict[str, Any]:
    amounts = _shown(stated)
    totals = {"gross": 0, "fees": 0, "earned": 0, **stated.totals()}
    currency = stated.currency
    return {
        "v": 1,
        "kind": "statement",
        "id": f"{stated.since[:7]}-{currency}",
        "currency": currency,
        "period": {"since": stated.since, "until": stated.until, "last_day": _last_day(stated.until)},
        "provisional": stated.until > timestamp(now),
        "issuer": _party(session, invoices.ISSUER),
        "provider": {"org": stated.org, **_party(session, stated.org)},
        "opening": amounts["opening"],
        "closing": amounts["closing"],
        "totals": {name: format_amount(amount, currency) for name, amount in totals.items()},
        **_lines(session, stated),
    }


def _shown(stated: ProviderStatement) -> dict[str, dict[str, str]]:
    return {
        when: {name: format_amount(amount, stated.currency) for name, amount in getattr(stated, when).items()}
        for when in ("opening", "closing")
    }


def _lines(session: Session, stated: ProviderStatement) -> dict[str, Any]:
    """Each entry with the query and receipt behind it, and what each listing earned."""
    sold = queries_behind(session, [line.journal for line in stated.lines])
    lines: list[dict[str, Any]] = []
    by_listing: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(("answers", *_AMOUNTS), 0))
    for line in stated.lines:
        known = asdict(line)
        amounts = {name: known.pop(f"{name}_minor") for name in _AMOUNTS}
        query = sold.get(line.journal)
        if query is not None:
            known |= {"query": query.id, "dataset": query.slug, "receipt": query.entry_id}
            listing = by_listing[query.slug]
            listing["answers"] += 1
            for name, amount in amounts.items():
                listing[name] += amount
        lines.append(known | {name: format_amount(n, stated.currency) for name, n in amounts.items()})
    listings = [
        {"dataset": slug, "answers": one["answers"]}
        | {name: format_amount(one[name], stated.currency) for name in ("gross", "fee", "net")}
        for slug, one in sorted(by_listing.items())
    ]
    return {"listings": listings, "lines": lines}


def _party(session: Session, org: str) -> dict[str, str]:
    """An organisation as documents name it; before it set a profile, by its name on the exchange."""
    found = invoices.find_profile(session, org)
    if found is not None:
        return asdict(found)
    name = identity.organisation_names(session).get(org, "The exchange")
    return {"legal_name": name, "address": "", "country": "", "tax_id": "", "email": ""}


def _read(statement_id: str, now: datetime) -> tuple[str, str, str]:
    """Beginning, end and currency of a statement. Raises StatementMissing."""
    month, _, currency = statement_id.rpartition("-")
    try:
        first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
        text = timestamp(first)
    except ValueError:
        raise StatementMissing("There is no such statement: an id is such as 2026-11-USD.") from None
    if first > now:
        raise StatementMissing("There is no such statement: the month has not begun.")
    return text, timestamp(_next(first)), currency


def _months(first: str, now: datetime) -> list[tuple[str, str]]:
    month = datetime.fromisoformat(first).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    months = []
    while month <= now:
        months.append((timestamp(month), timestamp(_next(month))))
        month = _next(month)
    return months


def _next(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)


def _last_day(until: str) -> str:
    return (datetime.fromisoformat(until) - timedelta(days=1)).date().isoformat()
