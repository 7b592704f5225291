"""May this buyer ask now? Pure: the licence's terms against one acceptance and one declared use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from settlement.documents import format_rho
from settlement.errors import (
    LicenceExpired,
    LicenceNotAccepted,
    LicenceWithdrawn,
    PurposeNotAllowed,
    QuotaExceeded,
    RhoNotAllowed,
    TerritoryNotAllowed,
)
from settlement.licences.terms import LicenceTerms, territory_within

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Who accepted a licence version, for which organisation, in which role, for which use, and what was
    shown.

    ``shown_sha256`` hashes the licence text that the person saw; ``digest`` hashes the canonical JSON of all
    other fields and goes into the audit log.
    """

    id: str
    licence_id: str
    org: str
    actor: str
    role: str
    purposes: tuple[str, ...]
    territory: str
    shown_sha256: str
    accepted_at: str
    digest: str


def evaluate(
    terms: LicenceTerms,
    acceptance: Acceptance | None,
    *,
    purpose: str,
    territory: str,
    now: datetime,
    queries_so_far: int = 0,
    rho_nano: int = 0,
    withdrawn: bool = False,
) -> str:
    """The clause that allows this use, such as "purpose: research"; otherwise a LicenceRefused.

    ``queries_so_far`` counts the organisation's earlier queries under the licence and ``rho_nano`` is what
    this one asks; both are compared only where the terms limit them. Raises, in this order: LicenceWithdrawn,
    LicenceNotAccepted, LicenceExpired, PurposeNotAllowed, TerritoryNotAllowed, QuotaExceeded, RhoNotAllowed.
    """
    if withdrawn:
        raise LicenceWithdrawn("The provider withdrew this licence.", clause="withdrawal")
    if acceptance is None:
        raise LicenceNotAccepted("Your organisation has not accepted this licence.", clause="acceptance")
    _check_term(terms, now)
    if not _named(purpose, terms.purposes) or purpose not in acceptance.purposes:
        raise PurposeNotAllowed(
            f"The licence and its acceptance do not both name the purpose {purpose}.",
            clause=f"purposes: {', '.join(terms.purposes)}",
        )
    if territory != acceptance.territory or territory_within(territory, terms.territories) is None:
        raise TerritoryNotAllowed(
            f"The licence and its acceptance do not both name the territory {territory}.",
            clause=f"territories: {', '.join(terms.territories)}",
        )
    _check_limits(terms, queries_so_far, rho_nano)
    return f"purpose: {purpose}"


def _check_term(terms: LicenceTerms, now: datetime) -> None:
    if terms.valid_from is not None and now < terms.valid_from:
        begin = terms.valid_from.isoformat()
        raise LicenceExpired(f"The licence begins on {begin}.", clause=f"valid_from: {begin}")
    if terms.valid_until is not None and now >= terms.valid_until:
        end = terms.valid_until.isoformat()
        raise LicenceExpired(f"The licence ended on {end}.", clause=f"valid_until: {end}")


def _check_limits(terms: LicenceTerms, queries_so_far: int, rho_nano: int) -> None:
    if terms.query_count is not None and queries_so_far >= terms.query_count:
        raise QuotaExceeded(
            f"The licence allows {terms.query_count} queries and they are used up.",
            clause=f"query_count: {terms.query_count}",
        )
    if terms.max_rho_per_query_nano is not None and rho_nano > terms.max_rho_per_query_nano:
        most = format_rho(terms.max_rho_per_query_nano)
        raise RhoNotAllowed(f"The licence allows rho {most} a query.", clause=f"max_rho_per_query: {most}")


def _named(purpose: str, purposes: tuple[str, ...]) -> bool:
    return purpose in purposes or "*" in purposes
