"""Issuing documents over a wallet: payment receipts, usage invoices, credit notes. Issued ones never change.

A wallet is prepaid, so its money is told twice and taxed once: a receipt says that a payment arrived (or was
returned), the invoice says later what it was used for, and a credit note takes back part of an invoice. Each
part of an entry that moves a wallet stands on exactly one document, so that the documents add up to the
ledger. Numbers have no gap in each series of issuer, kind and year.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import func, select

from settlement import ledger
from settlement.documents import canonical, sha256_hex
from settlement.errors import InvoiceMissing
from settlement.invoices.due import Due, due_lines
from settlement.invoices.parties import ISSUER, TaxTreatment, find_tax, require_profile
from settlement.invoices.tables import invoice, invoice_line
from settlement.ledger import chart
from settlement.ledger.transfers import Leg
from settlement.money import allocate, format_amount
from settlement.schema import timestamp

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

Kind = Literal["invoice", "credit_note", "receipt"]
PREFIXES: dict[Kind, str] = {"invoice": "INV", "credit_note": "CN", "receipt": "RC"}

#: What the caller knows of entries beside the ledger: for each line its description and references.
Describe = Callable[[Sequence[Due]], list[dict[str, Any]]]

_NO_TAX = TaxTreatment(label="Tax", rate_basis_points=0, place_of_supply="ZZ", note="No tax charged.")


@dataclass(frozen=True, slots=True)
class Invoice:
    """An issued document: its number, totals in minor units, and the document itself as canonical JSON."""

    id: str
    kind: Kind
    number: str
    org: str
    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    issued_at: str
    tax_journal: str | None
    document: str
    sha256: str


@dataclass(frozen=True, slots=True)
class _Draft:
    kind: Kind
    lines: list[Due]
    tax: TaxTreatment | None
    corrects: str | None = None


def issue_next(
    session: Session,
    *,
    org: str,
    currency: str,
    until: str,
    id: str,  # noqa: A002
    tax_journal: str,
    actor: str,
    now: datetime,
    describe: Describe,
) -> Invoice | None:
    """Issue the next document over what was recorded before ``until``; None where everything stands on one.

    First a receipt for each payment, then one invoice for all charges, then a credit note for each invoice
    that is corrected. Tax is part of the price; the invoice moves it, under the id ``tax_journal``, from the
    platform's fees to what is owed to the place of supply, and a credit note moves it back. Raises
    BillingProfileMissing.
    """
    due = due_lines(session, org=org, currency=currency, until=until)
    if not due:
        return None
    draft = _draft(session, org, due)
    gross = sum(abs(line.signed_minor) for line in draft.lines)
    net, tax = (gross, 0) if draft.tax is None else allocate(gross, [10_000, draft.tax.rate_basis_points])
    year, sequence = now.year, _last(session, draft.kind, now.year) + 1
    number = f"{PREFIXES[draft.kind]}-{year}-{sequence:06d}"
    document = _document(session, org, currency, number, draft, (net, tax, gross), now, describe(draft.lines))
    booked = _book_tax(session, draft, id, tax, currency, tax_journal, actor, now) if tax else None
    text = canonical(document)
    made = Invoice(
        id=id,
        kind=draft.kind,
        number=number,
        org=org,
        currency=currency,
        net_minor=net,
        tax_minor=tax,
        gross_minor=gross,
        issued_at=timestamp(now),
        tax_journal=booked,
        document=text,
        sha256=sha256_hex(text),
    )
    session.execute(invoice.insert().values(issuer=ISSUER, year=year, sequence=sequence, **asdict(made)))
    session.execute(invoice_line.insert(), [_line_row(id, n, line) for n, line in enumerate(draft.lines, 1)])
    return made


def find_invoice(session: Session, invoice_id: str, *, org: str | None) -> Invoice:
    """A document by id or number, of one organisation unless ``org`` is None. Raises InvoiceMissing."""
    query = _all().where((invoice.c.id == invoice_id) | (invoice.c.number == invoice_id))
    if org is not None:
        query = query.where(invoice.c.org == org)
    row = session.execute(query).one_or_none()
    if row is None:
        raise InvoiceMissing("There is no such invoice.")
    return Invoice(**row._asdict())


def invoices_of(session: Session, *, org: str | None, limit: int = 500) -> list[Invoice]:
    """The latest documents, of one organisation or of all, newest first."""
    query = _all() if org is None else _all().where(invoice.c.org == org)
    newest = query.order_by(invoice.c.issued_at.desc(), invoice.c.kind, invoice.c.sequence.desc())
    return [Invoice(**row._asdict()) for row in session.execute(newest.limit(limit))]


def _draft(session: Session, org: str, due: Sequence[Due]) -> _Draft:
    payments = [line for line in due if line.side == "payment"]
    if payments:
        return _Draft("receipt", payments[:1], None)
    charges = [line for line in due if line.signed_minor < 0]
    if charges:
        return _Draft("invoice", charges, find_tax(session, org) or _NO_TAX)
    corrected = [_billed_on(session, line) for line in due]
    first = corrected[0]
    same = [line for line, on in zip(due, corrected, strict=True) if on == first]
    if first is None:
        return _Draft("credit_note", same, find_tax(session, org) or _NO_TAX)
    told = json.loads(first.document)["tax"]
    return _Draft("credit_note", same, TaxTreatment(**told), first.number)


def _billed_on(session: Session, line: Due) -> Any:
    """The invoice with the charge that this line takes back, or None where it names no charge."""
    if line.reverses is None:
        return None
    return session.execute(
        select(invoice.c.number, invoice.c.document)
        .join(invoice_line, invoice_line.c.invoice == invoice.c.id)
        .where(
            invoice_line.c.journal == line.reverses,
            invoice_line.c.account == line.account,
            invoice_line.c.side == "supply",
        )
    ).one_or_none()


def _last(session: Session, kind: Kind, year: int) -> int:
    """The last number of a series; two issuers at once meet at the constraint, and one tries again."""
    series = (invoice.c.issuer == ISSUER, invoice.c.kind == kind, invoice.c.year == year)
    return int(session.execute(select(func.max(invoice.c.sequence)).where(*series)).scalar_one() or 0)


def _document(
    session: Session,
    org: str,
    currency: str,
    number: str,
    draft: _Draft,
    totals: tuple[int, int, int],
    now: datetime,
    known: list[dict[str, Any]],
) -> dict[str, Any]:
    seller, buyer = asdict(require_profile(session, ISSUER)), asdict(require_profile(session, org))
    amounts = dict(zip(("net", "tax", "gross"), totals, strict=True))
    nets = allocate(amounts["net"], [abs(line.signed_minor) for line in draft.lines])
    rows = zip(draft.lines, nets, known, strict=True)
    return {
        "v": 1,
        "kind": draft.kind,
        "number": number,
        "issued_at": timestamp(now),
        "currency": currency,
        "period": {"first": draft.lines[0].recorded_at[:10], "last": draft.lines[-1].recorded_at[:10]},
        "seller": seller,
        "buyer": {"org": org, **buyer},
        "corrects": draft.corrects,
        "returned": draft.kind == "receipt" and draft.lines[0].signed_minor < 0,
        "lines": [_line(n, line, net, more, currency) for n, (line, net, more) in enumerate(rows, 1)],
        "tax": None if draft.tax is None else asdict(draft.tax),
        "totals": {name: format_amount(amount, currency) for name, amount in amounts.items()},
    }


def _line(position: int, line: Due, net: int, known: dict[str, Any], currency: str) -> dict[str, Any]:
    return {
        **known,
        "position": position,
        "journal": line.journal,
        "business_key": line.business_key,
        "recorded_at": line.recorded_at,
        "reverses": line.reverses,
        "net": format_amount(net, currency),
        "gross": format_amount(abs(line.signed_minor), currency),
    }


def _line_row(invoice_id: str, position: int, line: Due) -> dict[str, Any]:
    return {
        "invoice": invoice_id,
        "position": position,
        "journal": line.journal,
        "account": line.account,
        "side": line.side,
        "signed_minor": line.signed_minor,
    }


def _book_tax(
    session: Session,
    draft: _Draft,
    invoice_id: str,
    tax_minor: int,
    currency: str,
    journal: str,
    actor: str,
    now: datetime,
) -> str:
    """What is owed in tax leaves the platform's fees; a credit note brings it back."""
    assert draft.tax is not None
    place = draft.tax.place_of_supply
    chart.open_tax(session, place, currency)
    fees, owed = chart.platform_fees(currency), chart.platform_tax(place, currency)
    debit, credit = (fees, owed) if draft.kind == "invoice" else (owed, fees)
    return ledger.post(
        session,
        journal=journal,
        kind="tax_invoiced" if draft.kind == "invoice" else "tax_credited",
        business_key=f"invoice:{invoice_id}:tax",
        actor=actor,
        now=now,
        legs=[Leg(currency, debit=debit, credit=credit, amount=tax_minor)],
    )


def _all() -> Any:
    return select(*(invoice.c[name] for name in Invoice.__slots__))
