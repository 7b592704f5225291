"""What must always hold of invoices: no gap, no change, and totals that are the ledger's. One read each."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from settlement.documents import canonical, sha256_hex
from settlement.invoices.due import wallet_parts
from settlement.invoices.tables import invoice, invoice_line
from settlement.money import format_amount

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row
    from sqlalchemy.orm import Session


def check_invoices(session: Session) -> list[str]:
    """Findings: gaps in numbers, documents that changed, lines or totals that are not the ledger's."""
    findings, moved = _gaps(session), wallet_parts(session)
    lines = defaultdict(list)
    for line in session.execute(select(invoice_line).order_by(invoice_line.c.position)):
        lines[line.invoice].append(line)
    for row in session.execute(select(invoice).order_by(invoice.c.number)):
        findings += [f"{row.number} {finding}" for finding in _wrong(row, lines[row.id], moved)]
    return findings


def _gaps(session: Session) -> list[str]:
    series = (invoice.c.issuer, invoice.c.kind, invoice.c.year)
    counted = select(*series, func.count(), func.max(invoice.c.sequence)).group_by(*series).order_by(*series)
    return [
        f"the series {kind} {year} of {issuer} ends at {last} and has {count} documents"
        for issuer, kind, year, count, last in session.execute(counted)
        if count != last
    ]


def _wrong(row: Row[Any], lines: list[Row[Any]], moved: Mapping[tuple[str, str, str], int]) -> list[str]:
    findings = []
    told = json.loads(row.document)
    if sha256_hex(row.document) != row.sha256 or canonical(told) != row.document:
        findings.append("is not the document that was issued")
    totals = {name: format_amount(getattr(row, f"{name}_minor"), row.currency) for name in told["totals"]}
    if totals != told["totals"]:
        findings.append("has other totals than it says")
    if sum(abs(line.signed_minor) for line in lines) != row.gross_minor:
        findings.append("does not add up to its lines")
    said = [(line["journal"], line["gross"]) for line in told["lines"]]
    kept = [(line.journal, format_amount(abs(line.signed_minor), row.currency)) for line in lines]
    if said != kept:
        findings.append("has other lines than it says")
    findings += [
        f"bills another amount than entry {line.journal} moved"
        for line in lines
        if moved.get((line.journal, line.account, line.side), 0) != line.signed_minor
    ]
    return findings
