"""One double-entry ledger for money and for privacy loss.

Every amount is an integer of a unit's smallest step: minor units of a currency, nano-rho of ``rho:<domain>``,
pico-delta of ``delta:<domain>``. An entry is posted at once, or reserved and later posted or voided leg by
leg; entries and transfers never change, balances are a cache of them.
"""

from __future__ import annotations

from settlement.ledger import beancount, chart, entries
from settlement.ledger.accounts import (
    Balance,
    balance,
    balances,
    balances_of_owners,
    ensure_account,
    ensure_unit,
)
from settlement.ledger.invariants import (
    CHECKS,
    Drift,
    check,
    check_balances,
    check_floors,
    check_pending,
    check_postings,
    drift,
    rebuild,
)
from settlement.ledger.statements import (
    JournalLine,
    StatementLine,
    TrialBalance,
    TrialLine,
    balance_before,
    journal_digest,
    journal_digests,
    journal_lines,
    journal_texts,
    statement,
    trial_balance,
)
from settlement.ledger.tables import Phase, UnitKind, account, journal, transfer, unit
from settlement.ledger.transfers import (
    Leg,
    Resolution,
    post,
    recorded,
    reserve,
    resolve,
    reverse,
    transfer_id,
)
from settlement.schema import append_only, append_only_ddl, metadata, views

__all__ = [
    "CHECKS",
    "Balance",
    "Drift",
    "JournalLine",
    "Leg",
    "Phase",
    "Resolution",
    "StatementLine",
    "TrialBalance",
    "TrialLine",
    "UnitKind",
    "account",
    "append_only",
    "append_only_ddl",
    "balance",
    "balance_before",
    "balances",
    "balances_of_owners",
    "beancount",
    "chart",
    "check",
    "check_balances",
    "check_floors",
    "check_pending",
    "check_postings",
    "drift",
    "ensure_account",
    "ensure_unit",
    "entries",
    "journal",
    "journal_digest",
    "journal_digests",
    "journal_lines",
    "journal_texts",
    "metadata",
    "post",
    "rebuild",
    "recorded",
    "reserve",
    "resolve",
    "reverse",
    "statement",
    "transfer",
    "transfer_id",
    "trial_balance",
    "unit",
    "views",
]
