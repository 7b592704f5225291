"""Invoices as they were issued: what the ledger says of them, and the digests that the log fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from exchange.audit import log
from exchange.checks.differences import document
from settlement import invoices

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def altered(session: Session) -> list[str]:
    """Gaps, changed documents, amounts that no entry moved, and documents that are not those of the log."""
    return [*invoices.check_invoices(session), *_unlogged(session)]


def _unlogged(session: Session) -> list[str]:
    entries = select(log.LEAF).where(
        log.audit_entry.c.kind == "invoice.issued", log.audit_entry.c.outcome == "done"
    )
    logged = {}
    for leaf in session.execute(entries).scalars():
        told = document(leaf) or {}
        logged[(told.get("object") or {}).get("id")] = (told.get("result") or {}).get("sha256")
    kept = session.execute(
        select(invoices.invoice.c.id, invoices.invoice.c.number, invoices.invoice.c.sha256)
    )
    rows = {row.id: row for row in kept}
    findings = [
        f"{row.number} is not the one that was logged"
        for row in rows.values()
        if logged.get(row.id) != row.sha256
    ]
    return findings + [
        f"{gone} was issued and is gone" for gone in sorted(set(filter(None, logged)) - set(rows))
    ]
