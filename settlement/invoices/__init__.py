"""Invoices, credit notes and receipts of wallets, and providers' statements: the ledger on paper.

Documents are read off the ledger line by line, numbered without a gap, kept as the canonical JSON that was
hashed, and never changed: a mistake is corrected by another document.
"""

from __future__ import annotations

from settlement.invoices.checking import check_invoices
from settlement.invoices.due import Due, due_lines, organisations_due
from settlement.invoices.issuing import Invoice, Kind, find_invoice, invoices_of, issue_next
from settlement.invoices.parties import (
    ISSUER,
    BillingProfile,
    TaxTreatment,
    find_profile,
    find_tax,
    require_profile,
    save_profile,
    save_tax,
)
from settlement.invoices.providers import (
    ProviderLine,
    ProviderStatement,
    currencies_of,
    earned_by_month,
    monthly_changes,
    provider_statement,
    providers,
)
from settlement.invoices.tables import billing_profile, invoice, invoice_line, tax_treatment

__all__ = [
    "ISSUER",
    "BillingProfile",
    "Due",
    "Invoice",
    "Kind",
    "ProviderLine",
    "ProviderStatement",
    "TaxTreatment",
    "billing_profile",
    "check_invoices",
    "currencies_of",
    "due_lines",
    "earned_by_month",
    "find_invoice",
    "find_profile",
    "find_tax",
    "invoice",
    "invoice_line",
    "invoices_of",
    "issue_next",
    "monthly_changes",
    "organisations_due",
    "provider_statement",
    "providers",
    "require_profile",
    "save_profile",
    "save_tax",
    "tax_treatment",
]
