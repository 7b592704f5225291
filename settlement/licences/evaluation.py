"""May this buyer ask now? Pure: the licence's terms against one acceptance and one declared use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from settlement.documents import format_rho
from settlement.errors import (
    AssigneeNotAllowed,
    ColumnNotAllowed,
    JoinNotAllowed,
    LicenceExpired,
    LicenceNotAccepted,
    LicenceWithdrawn,
    PublicationNotAllowed,
    PurposeNotAllowed,
    QuotaExceeded,
    RhoNotAllowed,
    TerritoryNotAllowed,
)
from settlement.licences.terms import JOINS, LicenceTerms, covers_column, territory_within

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Who accepted a licence version, for which organisation, in which role, for which use, and what was
    shown.

    ``shown_sha256`` hashes the licence text that the person saw, ``odrl_sha256`` the policy beside it;
    ``publishes`` is whether they mean to publish answers; ``dataset_version`` is what was on offer under the
    licence; ``entry_id`` is the entry of the audit log that fixes the ``digest``, which hashes the canonical
    JSON of all other fields that are known (:func:`document_of`).
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
    org_name: str | None = None
    licence_version: int | None = None
    odrl_sha256: str | None = None
    dataset: str | None = None
    dataset_version: str | None = None
    publishes: bool | None = None
    entry_id: str | None = None


@dataclass(frozen=True, slots=True)
class Reads:
    """What a statement reads: columns by table (a table whose rows are counted alone has none), and whether
    it joins: "none", "public" (with public tables) or "any" (private tables with each other).
    """

    columns: tuple[tuple[str, tuple[str, ...]], ...]
    joins: str = "none"


def evaluate(
    terms: LicenceTerms,
    acceptance: Acceptance | None,
    *,
    purpose: str,
    territory: str,
    now: datetime,
    queries_so_far: int = 0,
    rho_so_far_nano: int = 0,
    rho_nano: int = 0,
    more_rho_nano: int | None = None,
    reads: Reads | None = None,
    withdrawn: bool = False,
) -> str:
    """The clause that allows this use, such as "purpose: research"; otherwise a LicenceRefused.

    The one judgement at request, quote, run and fetch. Who asks without a statement, or fetches what a
    statement read before under these same terms, leaves out ``reads`` and the amounts.

    Args:
        queries_so_far: the organisation's earlier queries under the licence.
        rho_so_far_nano: what they cost.
        rho_nano: what this question will have cost in all, with what was spent on its earlier answers.
        more_rho_nano: what this one adds; ``rho_nano`` where it is not given.
        reads: what the statement reads.

    Raises, in this order: LicenceWithdrawn, LicenceNotAccepted, LicenceExpired, AssigneeNotAllowed,
    PurposeNotAllowed, TerritoryNotAllowed, PublicationNotAllowed, ColumnNotAllowed, JoinNotAllowed,
    QuotaExceeded, RhoNotAllowed.
    """
    if withdrawn:
        raise LicenceWithdrawn("The provider withdrew this licence.", clause="withdrawal")
    if acceptance is None:
        raise LicenceNotAccepted("Your organisation has not accepted this licence.", clause="acceptance")
    _check_term(terms, now)
    _check_party(terms, acceptance)
    _check_declared(terms, acceptance, purpose, territory)
    if reads is not None:
        _check_reads(terms, reads)
    _check_limits(
        terms,
        queries_so_far,
        rho_nano,
        rho_so_far_nano + (rho_nano if more_rho_nano is None else more_rho_nano),
    )
    return f"purpose: {purpose}"


def _check_term(terms: LicenceTerms, now: datetime) -> None:
    if terms.valid_from is not None and now < terms.valid_from:
        begin = terms.valid_from.isoformat()
        raise LicenceExpired(f"The licence begins on {begin}.", clause=f"valid_from: {begin}")
    if terms.valid_until is not None and now >= terms.valid_until:
        end = terms.valid_until.isoformat()
        raise LicenceExpired(f"The licence ended on {end}.", clause=f"valid_until: {end}")


def _check_party(terms: LicenceTerms, acceptance: Acceptance) -> None:
    names = {acceptance.org, acceptance.org_name, "*"}
    if terms.assignees is not None and names.isdisjoint(terms.assignees):
        raise AssigneeNotAllowed(
            "The licence is for other organisations than yours.", clause=_listed("assignees", terms.assignees)
        )
    if terms.roles is not None and {acceptance.role, "*"}.isdisjoint(terms.roles):
        raise AssigneeNotAllowed(
            f"The licence is not accepted in the role {acceptance.role}.",
            clause=_listed("roles", terms.roles),
            hint=f"Accept it in one of these roles: {', '.join(terms.roles)}.",
        )


def _check_declared(terms: LicenceTerms, acceptance: Acceptance, purpose: str, territory: str) -> None:
    if {purpose, "*"}.isdisjoint(terms.purposes) or purpose not in acceptance.purposes:
        raise PurposeNotAllowed(
            f"The licence and its acceptance do not both name the purpose {purpose}.",
            clause=_listed("purposes", terms.purposes),
        )
    if territory != acceptance.territory or territory_within(territory, terms.territories) is None:
        raise TerritoryNotAllowed(
            f"The licence and its acceptance do not both name the territory {territory}.",
            clause=_listed("territories", terms.territories),
        )
    if acceptance.publishes and terms.publication == "forbidden":
        raise PublicationNotAllowed(
            "The licence forbids to publish answers, and that is what they were asked for.",
            clause="publication: forbidden",
        )


def _check_reads(terms: LicenceTerms, reads: Reads) -> None:
    for table, columns in reads.columns if terms.columns is not None else ():
        allowed = terms.columns or ()
        if "*" in allowed:
            break
        named = any(entry.casefold().startswith(f"{table}.".casefold()) for entry in allowed)
        denied = [one for one in columns if not covers_column(allowed, table, one)]
        if denied or not named:
            what = f"the column {table}.{denied[0]}" if denied else f"the table {table}"
            raise ColumnNotAllowed(
                f"The licence does not name {what}, which the statement reads.",
                clause=_listed("columns", allowed),
            )
    if terms.joins is not None and JOINS.index(reads.joins) > JOINS.index(terms.joins):
        joined = "private tables with each other" if reads.joins == "any" else "tables"
        raise JoinNotAllowed(
            f"The statement joins {joined}, which the licence forbids.",
            clause=f"joins: {terms.joins}",
        )


def _check_limits(terms: LicenceTerms, queries_so_far: int, rho_nano: int, rho_in_all_nano: int) -> None:
    if terms.query_count is not None and queries_so_far >= terms.query_count:
        raise QuotaExceeded(
            f"The licence allows {terms.query_count} queries and they are used up.",
            clause=f"query_count: {terms.query_count}",
        )
    if terms.max_rho_per_query_nano is not None and rho_nano > terms.max_rho_per_query_nano:
        most = format_rho(terms.max_rho_per_query_nano)
        raise RhoNotAllowed(f"The licence allows rho {most} a query.", clause=f"max_rho_per_query: {most}")
    if terms.max_rho_total_nano is not None and rho_in_all_nano > terms.max_rho_total_nano:
        most, spent = format_rho(terms.max_rho_total_nano), format_rho(rho_in_all_nano)
        raise RhoNotAllowed(
            f"The licence allows your organisation rho {most} in all; with this query it would be {spent}.",
            clause=f"max_rho_total: {most}",
        )


def _listed(term: str, names: tuple[str, ...]) -> str:
    return f"{term}: {', '.join(names)}"
