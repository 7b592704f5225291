"""Issuing and reading invoices, credit notes and payment receipts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import select

from exchange import identity, printing, queries
from exchange.audit.entry import Entry, MoneyGroup, ObjectGroup, ResultGroup
from exchange.errors import RequestInvalid
from exchange.identity import SYSTEM, Role, new_id
from exchange.operations.terms import money
from settlement import invoices
from settlement.schema import timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx
    from settlement.invoices import Due, Invoice

_WORDS = {
    "wallet_credited": "Bank transfer received",
    "query_settled": "Private answer",
    "query_reversed": "Private answer taken back",
    "allowance_issued": "Access under a price plan",
    "period_opened": "Period of a subscription",
    "credit_bought": "Credit for private answers",
    "credit_returned": "Credit given back",
    "payment_captured": "Payment received",
    "payment_refunded": "Payment refunded",
    "refund_returned": "Refund that came back",
    "refund_collected": "Refund made at Stripe",
    "refund_uncollected": "Refund that came back",
    "dispute_covered": "Payment taken back by the bank",
    "dispute_collected": "Owed since the bank took a payment back",
    "dispute_returned": "Payment given back by the bank",
}
_AT_ONCE = 500


@dataclass(frozen=True)
class IssueInvoice:
    """Issue the next document over an organisation's wallet."""

    org: str
    currency: str
    until: str
    kind: ClassVar[str] = "invoice.issued"
    refused: ClassVar[str] = "invoice.refused"

    def entry(self) -> Entry:
        """The audit entry: an invoice, by id once it has one."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="invoice"))


def issue(market: Market, actor: Actor, *, org: str | None = None) -> dict[str, Any]:
    """Issue what is due now: a buyer's own, for an operator that of the organisation named, or of all.

    Raises BillingProfileMissing where an invoice could not name its parties, RequestInvalid.
    """
    if actor != SYSTEM:
        actor.require(Role.BUYER, Role.OPERATOR)
    if actor.role == Role.BUYER:
        if org is not None:
            raise RequestInvalid("a buyer's own invoices are issued: leave out the organisation")
        whose: str | None = actor.org
    else:
        whose = None
        if org is not None:
            whose, _ = market.store.read(lambda session: identity.find_organisation(session, org))
    until = timestamp(market.store.clock())
    due = market.store.read(lambda session: invoices.organisations_due(session, until=until))
    made = [
        one
        for owner, currency in due
        if whose in (None, owner)
        for one in _issue_all(market, actor, owner, currency, until)
    ]
    return {"items": made}


def issue_month(market: Market) -> dict[str, list[str]]:
    """Issue everything recorded before this month began: numbers, and organisations without a profile."""
    now = market.store.clock().astimezone(UTC)
    until = timestamp(datetime(now.year, now.month, 1, tzinfo=UTC))
    issued, waiting = [], []
    for owner, currency in market.store.read(
        lambda session: invoices.organisations_due(session, until=until)
    ):
        if not market.store.read(partial(_named, org=owner)):
            waiting.append(owner)
            continue
        issued += [one["number"] for one in _issue_all(market, SYSTEM, owner, currency, until)]
    return {"issued": issued, "waiting": sorted(set(waiting))}


def invoices_of(market: Market, actor: Actor) -> dict[str, Any]:
    """The latest documents: a buyer's own, for an operator or officer those of all. Newest first."""
    org = _readable(actor)
    found = market.store.read(lambda session: invoices.invoices_of(session, org=org))
    return {"items": [_summary(one) for one in found]}


def show(market: Market, actor: Actor, invoice_id: str) -> dict[str, Any]:
    """A document as it was issued, with its id and digest. Raises InvoiceMissing."""
    found = _found(market, actor, invoice_id)
    return {**_summary(found), "document": json.loads(found.document)}


def as_pdf(market: Market, actor: Actor, invoice_id: str) -> bytes:
    """The document's pages. Raises InvoiceMissing, FontMissing."""
    found = _found(market, actor, invoice_id)
    font = market.settings.font_path
    return printing.invoice_pdf(json.loads(found.document), sha256=found.sha256, font_path=font)


def in_words(kind: str) -> str:
    """What a journal of this kind is called on documents and in a wallet."""
    return _WORDS.get(kind) or kind.replace("_", " ").capitalize()


def _found(market: Market, actor: Actor, invoice_id: str) -> Invoice:
    org = _readable(actor)
    return market.store.read(lambda session: invoices.find_invoice(session, invoice_id, org=org))


def _readable(actor: Actor) -> str | None:
    """Whose documents the actor may read; None for everybody's."""
    actor.require(Role.BUYER, Role.OPERATOR, Role.OFFICER)
    return actor.org if actor.role == Role.BUYER else None


def _named(session: Session, *, org: str) -> bool:
    """Whether an invoice could name both parties."""
    return None not in (
        invoices.find_profile(session, invoices.ISSUER),
        invoices.find_profile(session, org),
    )


def _issue_all(market: Market, actor: Actor, org: str, currency: str, until: str) -> list[dict[str, Any]]:
    """One document after another, each with its own entry in the log, until nothing is due."""
    made: list[dict[str, Any]] = []
    market.store.read(lambda session: _require_names(session, org))
    while market.store.read(lambda s: invoices.due_lines(s, org=org, currency=currency, until=until)):
        done = market.store.perform(
            actor,
            IssueInvoice(org, currency, until),
            partial(_issue_one, org=org, currency=currency, until=until),
        )
        if not done.value:
            break
        made.append(done.value)
    return made


def _require_names(session: Session, org: str) -> None:
    for party in (invoices.ISSUER, org):
        invoices.require_profile(session, party)


def _issue_one(tx: Tx, *, org: str, currency: str, until: str) -> dict[str, Any]:
    made = invoices.issue_next(
        tx.session,
        org=org,
        currency=currency,
        until=until,
        id=new_id("inv"),
        tax_journal=new_id("jnl"),
        actor=tx.actor.ref,
        now=tx.now,
        describe=partial(_described, tx.session),
    )
    if made is None:  # somebody else was first
        tx.record(kind="invoice.none")
        return {}
    tx.record(
        object=ObjectGroup(type="invoice", id=made.id),
        money=MoneyGroup(currency=currency, amount_minor=made.gross_minor, journal=made.tax_journal),
        result=ResultGroup(sha256=made.sha256),
    )
    return _summary(made)


def _summary(made: Invoice) -> dict[str, Any]:
    return {
        "invoice": made.id,
        "kind": made.kind,
        "number": made.number,
        "org": made.org,
        "issued_at": made.issued_at,
        "net": money(made.net_minor, made.currency),
        "tax": money(made.tax_minor, made.currency),
        "gross": money(made.gross_minor, made.currency),
        "sha256": made.sha256,
    }


def _described(session: Session, lines: Sequence[Due]) -> list[dict[str, Any]]:
    """What the exchange knows of each line: words, and the dataset, query and receipt behind a charge."""
    sold = queries_behind(session, [line.reverses or line.journal for line in lines])
    described = []
    for line in lines:
        query = sold.get(line.reverses or line.journal)
        words = in_words(line.kind)
        known: dict[str, Any] = {"description": words}
        if query is not None:
            known = {
                "description": f"{words} · {query.slug}",
                "dataset": query.slug,
                "purpose": query.purpose,
                "query": query.id,
                "receipt": query.entry_id,
            }
        described.append(known)
    return described


def queries_behind(session: Session, journals: Sequence[str]) -> dict[str, Any]:
    """Journal -> the settled query that it charged for, where it did."""
    found: dict[str, Any] = {}
    table = queries.query
    for start in range(0, len(journals), _AT_ONCE):
        some = journals[start : start + _AT_ONCE]
        rows = session.execute(select(table).where(table.c.settle_journal.in_(some)))
        found |= {row.settle_journal: row for row in rows}
    return found
