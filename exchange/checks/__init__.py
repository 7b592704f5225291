"""What must always hold, one query each: the laws that ``exchange check`` and the tests run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from catalog import CatalogError, listings
from exchange.audit import log
from exchange.checks import authorizations, charges, invoices, journals, layouts, profiles, restraints
from exchange.checks.differences import differing, document
from exchange.queries import SETTLED, query
from exchange.schema import append_only
from settlement import ledger, licences, payments

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.market import Market


@dataclass(frozen=True)
class Law:
    """One law: its id, what it says, and what breaks it."""

    id: str
    text: str
    findings: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """True where nothing breaks it."""
        return not self.findings


# Each selects (who, what is wrong); no row means that the law holds.
_SETTLED = """
SELECT q.id, 'is settled without its one journal, acceptance, entry and result'
FROM query q
WHERE q.state = 'SETTLED' AND (
    q.result_sha256 IS NULL
    OR ((q.rho_nano > 0 OR q.charge_minor > 0)
        AND 1 <> (SELECT COUNT(*) FROM journal j WHERE j.business_key = 'query:' || q.id || ':ended'
                                                   AND j.id = q.settle_journal))
    OR 1 <> (SELECT COUNT(*) FROM acceptance a WHERE a.id = q.acceptance_id AND a.org = q.org
                                                 AND a.accepted_at <= q.reserved_at)
    OR 1 <> (SELECT COUNT(*) FROM audit_entry e WHERE e.query_id = q.id AND e.kind = 'query.settled'
                                                  AND e.id = q.entry_id)
)
UNION ALL
SELECT e.id, 'says that a query was settled which is not'
FROM audit_entry e LEFT JOIN query q ON q.id = e.query_id
WHERE e.kind = 'query.settled' AND (q.id IS NULL OR q.state <> 'SETTLED')
UNION ALL
SELECT j.id, 'settles a query that is not settled'
FROM journal j
WHERE j.kind = 'query_settled'
  AND NOT EXISTS (SELECT 1 FROM query q WHERE q.settle_journal = j.id AND q.state = 'SETTLED')
"""

_SPENT = """
SELECT v.domain, 'has spent more than it was granted' FROM v_privacy v WHERE v.spent_nano > v.granted_nano
UNION ALL
SELECT v.domain, 'has an account that differs from the sum over its queries and profiles' FROM v_privacy v
WHERE v.spent_nano <> (SELECT COALESCE(SUM(q.rho_nano), 0) FROM query q
                       WHERE q.domain = v.domain AND q.state IN ('SETTLED', 'FORFEITED'))
                    + (SELECT COALESCE(SUM(p.rho_nano), 0) FROM profile_release p
                       WHERE p.domain = v.domain AND p.state IN ('RELEASED', 'FORFEITED'))
UNION ALL
SELECT v.domain, 'holds a reservation that no open query or profile explains' FROM v_privacy v
WHERE v.reserved_nano <> (SELECT COALESCE(SUM(q.rho_nano), 0) FROM query q
                          WHERE q.domain = v.domain
                            AND q.state IN ('RESERVED', 'EXECUTING', 'RESULT_DURABLE'))
                       + (SELECT COALESCE(SUM(p.rho_nano), 0) FROM profile_release p
                          WHERE p.domain = v.domain AND p.state IN ('RESERVED', 'EXECUTING'))
"""

_ENDED = """
SELECT q.id, 'was voided and posted something' FROM query q
WHERE q.state = 'VOIDED' AND EXISTS (
    SELECT 1 FROM transfer t WHERE t.journal = q.settle_journal AND t.phase = 'post')
UNION ALL
SELECT q.id, 'was forfeited and moved money' FROM query q
WHERE q.state = 'FORFEITED' AND EXISTS (
    SELECT 1 FROM transfer t JOIN unit u ON u.code = t.unit
    WHERE t.journal = q.settle_journal AND t.phase = 'post' AND u.kind = 'money')
UNION ALL
SELECT q.id, 'was forfeited and did not keep its privacy loss' FROM query q
WHERE q.state = 'FORFEITED' AND q.rho_nano > 0 AND NOT EXISTS (
    SELECT 1 FROM transfer t JOIN unit u ON u.code = t.unit
    WHERE t.journal = q.settle_journal AND t.phase = 'post' AND u.kind = 'rho')
UNION ALL
SELECT p.id, 'was voided and posted something' FROM profile_release p
WHERE p.state = 'VOIDED' AND EXISTS (
    SELECT 1 FROM transfer t WHERE t.journal = p.settle_journal AND t.phase = 'post')
UNION ALL
SELECT p.id, 'was begun and did not keep its privacy loss' FROM profile_release p
WHERE p.state IN ('RELEASED', 'FORFEITED') AND p.rho_nano <> (
    SELECT COALESCE(SUM(t.amount), 0) FROM transfer t JOIN unit u ON u.code = t.unit
    WHERE t.journal = p.settle_journal AND t.phase = 'post' AND u.kind = 'rho')
"""

_CHARGED = """
SELECT q.id, 'was charged another amount than its journal moved' FROM query q
WHERE q.state = 'SETTLED' AND q.charge_minor <> (
    SELECT COALESCE(SUM(t.amount), 0) FROM transfer t
    WHERE t.journal = q.settle_journal AND t.phase = 'post' AND t.unit = q.currency)
"""

_REFINED = """
SELECT q.id, 'names other steps before it than there are'
FROM query q LEFT JOIN query e ON e.id = q.refines
WHERE q.refines IS NULL AND (q.rho_before_nano <> 0 OR q.paid_before_minor <> 0 OR q.priced_before_nano <> 0)
   OR q.refines IS NOT NULL AND (
        e.id IS NULL OR e.state <> 'SETTLED' OR e.org <> q.org OR e.version <> q.version
        OR e.question_sha256 <> q.question_sha256
        OR q.rho_before_nano <= 0 OR q.rho_before_nano > e.rho_before_nano + e.rho_nano
        OR q.paid_before_minor <> CASE WHEN e.currency = q.currency
                                       THEN e.paid_before_minor + e.worth_minor ELSE 0 END
        OR q.priced_before_nano <> CASE
            WHEN q.rho_before_nano < e.priced_before_nano + e.rho_nano - e.covered_nano THEN q.rho_before_nano
            ELSE e.priced_before_nano + e.rho_nano - e.covered_nano END)
"""

_LAWS: dict[str, str] = {
    "L1": "postings sum to zero in every unit",
    "L2": "no floor account was ever below zero",
    "L3": "cached balances equal the fold of the transfers",
    "L4": "a pending transfer is resolved at most once",
    "L5": "settled queries and released profiles have one journal, entry and result, and say what those say",
    "L6": "privacy spent never exceeds what was granted, and equals the sum over queries and profiles",
    "L7": "what was voided posted nothing; what was forfeited posted privacy only",
    "L8": "entries of Stripe's events are those that the set of events makes, in whatever order they came",
    "L9": "every charge, also one paid up front, equals what its journal moved and what its price plan names",
    "L10": "what matched of the Stripe account equals Stripe's balance transactions",
    "L11": "no payout is made twice, none is above what was payable less clawback, holdback and disputes",
    "L12": "append-only tables refuse change, and documents have the digests that were logged",
    "L14": "invoices have no gap, say what was logged, and bill what their entries moved",
    journals.LAW: "the log names every journal, and each holds what it held when it was logged",
    "L16": "what was asked with access tokens is within their scopes, in datasets, purposes and rho in all",
    "L17": "nothing frozen was answered, nothing held expired, and lifting or approving took two persons",
}
_FILES = "layouts have the bytes with which they were built, and are of the files that they stand beside"


def _differing_queries(session: Session) -> list[str]:
    """Settled queries whose row does not say what their leaf says: somebody wrote to the row afterwards."""
    rows = session.execute(
        select(query, log.LEAF)
        .join(log.audit_entry, log.audit_entry.c.id == query.c.entry_id)
        .where(query.c.state == SETTLED)
    )

    def same(row: Row[Any], told: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        return {
            "sql": (hashlib.sha256(row.sql.encode()).hexdigest(), told["query"].get("sql_sha256")),
            "plan": (row.plan_sha256, told["query"].get("plan_sha256")),
            "dataset": (row.slug, told["object"].get("dataset")),
            "version": (row.version, told["object"].get("version")),
            "refined": (row.refines or row.id, told["object"].get("id")),
            "acceptance": (row.acceptance_id, told["licence"].get("acceptance_id")),
            "purpose": (row.purpose, told["licence"].get("purpose")),
            "domain": (row.domain, told["privacy"].get("domain")),
            "rho": (str(row.rho_nano), told["privacy"].get("rho_nano")),
            "delta": (str(row.delta_pico), told["privacy"].get("delta_pico")),
            "charge": (str(row.charge_minor), told["money"].get("amount_minor")),
            "journal": (row.settle_journal, told["money"].get("journal")),
            "result": (row.result_sha256, told["result"].get("sha256")),
        }

    return differing(rows, same)


def _differing_agreements(session: Session) -> list[str]:
    """Acceptances and versions that do not have the digest which the log fixed when they were made."""
    entries = session.execute(
        select(log.LEAF).where(
            log.audit_entry.c.kind.in_(("access.requested", "licence.accepted", "version.drafted")),
            log.audit_entry.c.outcome == "done",
        )
    )
    findings = []
    for leaf in entries.scalars():
        told = document(leaf) or {}
        fixed = (told.get("result") or {}).get("sha256")
        if fixed is None:
            continue
        if told["kind"] != "version.drafted":
            accepted = told["licence"]["acceptance_id"]
            kept = session.execute(
                select(licences.acceptance.c.digest).where(licences.acceptance.c.id == accepted)
            ).scalar_one_or_none()
            if kept != fixed:
                findings.append(f"acceptance {accepted} is not the one that was logged")
        elif _content_of(session, told["object"]["version"]) != fixed:
            findings.append(f"version {told['object']['version']} is not the one that was logged")
    return findings


def _differing_refusals(session: Session) -> list[str]:
    """Refusals by a licence that do not have the digest which the log fixed, and those that are lost."""
    kept = dict(
        session.execute(select(licences.licence_refusal.c.entry_id, licences.licence_refusal.c.digest)).all()
    )
    entries = session.execute(
        select(log.LEAF).where(
            log.audit_entry.c.outcome == "refused", log.audit_entry.c.kind.like("%.refused")
        )
    )
    findings = []
    for leaf in entries.scalars():
        told = document(leaf) or {}
        fixed = (told.get("result") or {}).get("sha256")
        if fixed is not None and kept.pop(told["id"], None) != fixed:
            findings.append(f"the refusal {told['id']} by a licence is not the one that was logged")
    return findings + [f"the refusal {entry} by a licence was never logged" for entry in sorted(kept)]


def _content_of(session: Session, version: str) -> str | None:
    """The digest of a version's stored content, recomputed; None where it cannot be read."""
    try:
        view = listings.version_of(session, version)
        return listings.content_sha256(listings.content_of(view))
    except (CatalogError, ValueError):
        return None


def run(market: Market) -> list[Law]:
    """Check every law on one snapshot of the database, and those that files are held to."""
    found = [*market.store.read(check), Law("L13", _FILES, tuple(layouts.altered(market)))]
    return sorted(found, key=lambda law: int(law.id[1:]))


def check(session: Session, *, but_journals: bool = False) -> list[Law]:
    """Check every law of the database in an open session.

    Args:
        but_journals: leave out the law of :mod:`journals`, for who tells its findings with their places.
    """
    held = {**ledger.CHECKS, **payments.laws.CHECKS}
    books = {name: tuple(found(session)) for name, found in held.items()}
    findings = {
        **books,
        "L5": (
            *_broken(session, _SETTLED),
            *_differing_queries(session),
            *_broken(session, profiles.RELEASES),
            *_broken(session, profiles.REUSES),
            *profiles.differing_releases(session),
            *profiles.differing_reuses(session),
        ),
        "L6": _broken(session, _SPENT),
        "L7": _broken(session, _ENDED),
        "L9": (*_broken(session, _CHARGED), *_broken(session, _REFINED), *charges.mispriced(session)),
        "L14": tuple(invoices.altered(session)),
        "L16": (*_broken(session, authorizations.ASKED), *authorizations.beyond(session)),
        "L17": (*_broken(session, restraints.BROKEN), *restraints.altered(session)),
        "L12": (
            *_unguarded(session),
            *licences.check_documents(session),
            *_differing_agreements(session),
            *_differing_refusals(session),
        ),
    }
    if not but_journals:
        findings[journals.LAW] = tuple(journals.broken(session))
    return [Law(name, says, tuple(findings[name])) for name, says in _LAWS.items() if name in findings]


def _broken(session: Session, statement: str) -> tuple[str, ...]:
    try:
        with session.begin_nested():  # a failing statement must not end the transaction of the others
            rows = session.connection().exec_driver_sql(statement).all()
    except DBAPIError:
        return ("the law cannot be checked: a table or view that it reads is missing",)
    return tuple(f"{who} {what}" for who, what in rows)


def _unguarded(session: Session) -> list[str]:
    """Append-only tables whose triggers are missing."""
    listed = _TRIGGERS[session.get_bind().dialect.name](session)
    return [
        f"the table {name} has lost its append-only trigger" for name in append_only if name not in listed
    ]


def _sqlite_guarded(session: Session) -> set[str]:
    query = (
        "SELECT tbl_name FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%RAISE(ABORT, %' "
        "GROUP BY tbl_name HAVING COUNT(*) >= 2"
    )
    return set(session.scalars(text(query)))


def _postgresql_guarded(session: Session) -> set[str]:
    query = (
        "SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' "
        "AND p.prosrc LIKE '%RAISE EXCEPTION%append-only%' GROUP BY c.relname HAVING COUNT(*) >= 2"
    )
    return set(session.scalars(text(query)))


_TRIGGERS: dict[str, Callable[[Session], set[str]]] = {
    "sqlite": _sqlite_guarded,
    "postgresql": _postgresql_guarded,
}
