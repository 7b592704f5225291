"""What must always hold, one query each: the laws that ``exchange check`` and the tests run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from exchange.schema import append_only
from settlement import ledger, licences

if TYPE_CHECKING:
    from collections.abc import Callable

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
SELECT v.domain, 'has an account that differs from the sum over its queries' FROM v_privacy v
WHERE v.spent_nano <> (SELECT COALESCE(SUM(q.rho_nano), 0) FROM query q
                       WHERE q.domain = v.domain AND q.state IN ('SETTLED', 'FORFEITED'))
UNION ALL
SELECT v.domain, 'holds a reservation that no open query explains' FROM v_privacy v
WHERE v.reserved_nano <> (SELECT COALESCE(SUM(q.rho_nano), 0) FROM query q
                          WHERE q.domain = v.domain
                            AND q.state IN ('RESERVED', 'EXECUTING', 'RESULT_DURABLE'))
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
"""

_CHARGED = """
SELECT q.id, 'was charged another amount than its journal moved' FROM query q
WHERE q.state = 'SETTLED' AND q.charge_minor <> (
    SELECT COALESCE(SUM(t.amount), 0) FROM transfer t JOIN unit u ON u.code = t.unit
    WHERE t.journal = q.settle_journal AND t.phase = 'post' AND u.kind = 'money')
"""

_LAWS: dict[str, str] = {
    "L1": "postings sum to zero in every unit",
    "L2": "no floor account was ever below zero",
    "L3": "cached balances equal the fold of the transfers",
    "L4": "a pending transfer is resolved at most once",
    "L5": "every settled query has one journal, acceptance, entry and result, and the other way round",
    "L6": "privacy spent never exceeds what was granted, and equals the sum over queries",
    "L7": "what was voided posted nothing; what was forfeited posted privacy only",
    "L9": "every charge equals what its journal moved",
    "L12": "append-only tables refuse change, and their documents still have their digests",
}


def run(market: Market) -> list[Law]:
    """Check every law on one snapshot of the database."""
    return market.store.read(check)


def check(session: Session) -> list[Law]:
    """Check every law in an open session."""
    books = {name: tuple(found(session)) for name, found in ledger.CHECKS.items()}
    findings = {
        **books,
        "L5": _broken(session, _SETTLED),
        "L6": _broken(session, _SPENT),
        "L7": _broken(session, _ENDED),
        "L9": _broken(session, _CHARGED),
        "L12": (*_unguarded(session), *licences.check_documents(session)),
    }
    return [Law(name, says, tuple(findings[name])) for name, says in _LAWS.items()]


def _broken(session: Session, statement: str) -> tuple[str, ...]:
    return tuple(f"{who} {what}" for who, what in session.connection().exec_driver_sql(statement))


def _unguarded(session: Session) -> list[str]:
    """Append-only tables whose triggers are missing."""
    listed = _TRIGGERS[session.get_bind().dialect.name](session)
    return [
        f"the table {name} has lost its append-only trigger" for name in append_only if name not in listed
    ]


def _sqlite_guarded(session: Session) -> set[str]:
    query = "SELECT tbl_name FROM sqlite_master WHERE type = 'trigger' GROUP BY tbl_name HAVING COUNT(*) >= 2"
    return set(session.scalars(text(query)))


def _postgresql_guarded(session: Session) -> set[str]:
    query = (
        "SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' GROUP BY c.relname HAVING COUNT(*) >= 2"
    )
    return set(session.scalars(text(query)))


_TRIGGERS: dict[str, Callable[[Session], set[str]]] = {
    "sqlite": _sqlite_guarded,
    "postgresql": _postgresql_guarded,
}
