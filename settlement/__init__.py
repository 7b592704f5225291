"""The books: one double-entry ledger for money and privacy loss, prices, licences, orders and invoices.

Amounts are integers: minor units of a currency, nano-rho, pico-delta. Every function works in the SQLAlchemy
``Session`` that the caller passes in, with the time and the ids that the caller gives; none of them commits.
"""

from __future__ import annotations

from settlement import invoices, ledger, licences, money, orders, payments, prices
from settlement.errors import SettlementError
from settlement.licences import LicenceTerms
from settlement.money import EXPONENTS, Money, allocate, format_amount, parse_amount
from settlement.prices import PricePlan
from settlement.schema import append_only, append_only_ddl, metadata, views

__all__ = [
    "EXPONENTS",
    "LicenceTerms",
    "Money",
    "PricePlan",
    "SettlementError",
    "allocate",
    "append_only",
    "append_only_ddl",
    "format_amount",
    "invoices",
    "ledger",
    "licences",
    "metadata",
    "money",
    "orders",
    "parse_amount",
    "payments",
    "prices",
    "views",
]
