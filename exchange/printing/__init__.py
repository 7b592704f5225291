"""Documents on paper: invoices, credit notes, receipts and statements as PDF, from their JSON."""

from __future__ import annotations

from exchange.printing.invoices import invoice_pdf
from exchange.printing.statements import statement_pdf

__all__ = ["invoice_pdf", "statement_pdf"]
