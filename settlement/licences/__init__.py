"""Licence versions (text and ODRL), their acceptance, and their evaluation at every use.

A licence names terms of a small closed profile. Unknown terms are refused at publishing and deny at use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from settlement.licences import dataspace
from settlement.licences.acceptances import (
    accept_licence,
    acceptances_of,
    acceptances_under,
    check_acceptances,
    document_of,
    find_acceptance,
    find_acceptances,
    judge,
    keep_signature,
    permit,
    record_refusal,
    refusal_of,
    signature_of,
)
from settlement.licences.comparison import Change, compare, compare_terms, in_words, is_material, shown
from settlement.licences.evaluation import Acceptance, Reads, evaluate
from settlement.licences.odrl import PROFILE, from_odrl, to_odrl
from settlement.licences.register import (
    Licence,
    approve_licence,
    check_licences,
    find_licence,
    policies,
    publish_licence,
    require_approved,
    same_licence,
    uid_of,
    waiting,
    withdraw_licence,
)
from settlement.licences.tables import (
    acceptance,
    acceptance_signature,
    licence,
    licence_approval,
    licence_refusal,
    licence_withdrawal,
)
from settlement.licences.templates import Template, find_template, templates, written_out
from settlement.licences.terms import JOINS, LicenceTerms, territory_within

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = [
    "JOINS",
    "PROFILE",
    "Acceptance",
    "Change",
    "Licence",
    "LicenceTerms",
    "Reads",
    "Template",
    "accept_licence",
    "acceptance",
    "acceptance_signature",
    "acceptances_of",
    "acceptances_under",
    "approve_licence",
    "check_documents",
    "compare",
    "compare_terms",
    "dataspace",
    "document_of",
    "evaluate",
    "find_acceptance",
    "find_acceptances",
    "find_licence",
    "find_template",
    "from_odrl",
    "in_words",
    "is_material",
    "judge",
    "keep_signature",
    "licence",
    "licence_approval",
    "licence_refusal",
    "licence_withdrawal",
    "permit",
    "policies",
    "publish_licence",
    "record_refusal",
    "refusal_of",
    "require_approved",
    "same_licence",
    "shown",
    "signature_of",
    "templates",
    "territory_within",
    "to_odrl",
    "uid_of",
    "waiting",
    "withdraw_licence",
    "written_out",
]


def check_documents(session: Session) -> list[str]:
    """Findings: licences, acceptances and refusals whose bytes no longer have the hashes beside them."""
    return [*check_licences(session), *check_acceptances(session)]
