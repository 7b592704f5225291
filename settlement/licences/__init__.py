"""Licence versions (text and ODRL), their acceptance, and their evaluation at every use.

A licence names terms of a small closed profile. Unknown terms are refused at publishing and deny at use.
"""

from __future__ import annotations

from settlement.licences.evaluation import Acceptance, evaluate
from settlement.licences.register import (
    Licence,
    accept_licence,
    acceptances_of,
    check_documents,
    find_acceptance,
    find_licence,
    permit,
    publish_licence,
    withdraw_licence,
)
from settlement.licences.tables import acceptance, licence, licence_withdrawal
from settlement.licences.terms import PROFILE, LicenceTerms, to_odrl

__all__ = [
    "PROFILE",
    "Acceptance",
    "Licence",
    "LicenceTerms",
    "accept_licence",
    "acceptance",
    "acceptances_of",
    "check_documents",
    "evaluate",
    "find_acceptance",
    "find_licence",
    "licence",
    "licence_withdrawal",
    "permit",
    "publish_licence",
    "to_odrl",
    "withdraw_licence",
]
