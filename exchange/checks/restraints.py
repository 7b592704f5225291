"""The law of freezes, holds and approvals: what was frozen was not answered, and two persons lifted it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from exchange import approvals, restraints
from exchange.audit import log
from exchange.checks.differences import document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Row, Table
    from sqlalchemy.orm import Session

# Each selects (who, what is wrong); no row means that the law holds. Entries are in the order of commits.
BROKEN = """
SELECT q.id, 'was answered although ' || r.id || ' was in force'
FROM restraint r
JOIN query q ON (r.subject_type = 'dataset' AND r.subject = q.dataset)
             OR (r.subject_type = 'organisation' AND r.subject = q.org)
             OR (r.subject_type = 'licence' AND r.subject = (SELECT a.licence_id FROM acceptance a
                                                             WHERE a.id = q.acceptance_id))
JOIN audit_entry e ON e.id = q.entry_id
JOIN audit_entry s ON s.id = r.set_entry
LEFT JOIN audit_entry l ON l.id = r.lifted_entry
WHERE r.kind = 'freeze' AND q.state = 'SETTLED' AND e.seq > s.seq AND (l.seq IS NULL OR e.seq < l.seq)
UNION ALL
SELECT p.id, 'was released although ' || r.id || ' was in force'
FROM restraint r
JOIN profile_release p ON (r.subject_type = 'dataset' AND r.subject = p.dataset)
                       OR (r.subject_type = 'licence' AND r.subject = (SELECT v.licence FROM dataset_version v
                                                                       WHERE v.id = p.version))
JOIN audit_entry e ON e.id = p.entry_id
JOIN audit_entry s ON s.id = r.set_entry
LEFT JOIN audit_entry l ON l.id = r.lifted_entry
WHERE r.kind = 'freeze' AND p.state = 'RELEASED' AND e.seq > s.seq AND (l.seq IS NULL OR e.seq < l.seq)
UNION ALL
SELECT q.id, 'expired although ' || r.id || ' was in force'
FROM restraint r
JOIN query q ON (r.subject_type = 'dataset' AND r.subject = q.dataset)
             OR (r.subject_type = 'organisation' AND r.subject = q.org)
             OR (r.subject_type = 'query' AND r.subject = q.id)
JOIN audit_entry e ON e.query_id = q.id AND e.kind = 'answer.expired'
JOIN audit_entry s ON s.id = r.set_entry
LEFT JOIN audit_entry l ON l.id = r.lifted_entry
WHERE r.kind = 'hold' AND e.seq > s.seq AND (l.seq IS NULL OR e.seq < l.seq)
UNION ALL
SELECT r.id, 'was lifted without the approval of a second person' FROM restraint r
WHERE (r.lifted_at IS NOT NULL OR r.lifted_entry IS NOT NULL) AND NOT EXISTS (
    SELECT 1 FROM approval a JOIN audit_entry l ON l.id = r.lifted_entry
    WHERE a.id = r.approval AND a.state = 'approved' AND a.command = r.kind || '.lift'
      AND a.parameters = '{"' || r.kind || '":"' || r.id || '"}'
      AND l.kind = r.kind || '.lifted' AND l.object_id = r.id)
UNION ALL
SELECT e.object_id, 'was lifted by the log, and not in its row' FROM audit_entry e
LEFT JOIN restraint r ON r.lifted_entry = e.id
WHERE e.kind IN ('freeze.lifted', 'hold.lifted') AND e.outcome = 'done' AND r.id IS NULL
UNION ALL
SELECT e.object_id, 'was set by the log, and there is no row of it' FROM audit_entry e
LEFT JOIN restraint r ON r.set_entry = e.id
WHERE e.kind IN ('freeze.set', 'hold.set') AND e.outcome = 'done' AND r.id IS NULL
UNION ALL
SELECT e.object_id, 'was decided by the log, and not in its row' FROM audit_entry e
LEFT JOIN approval a ON a.decided_entry = e.id AND a.state IN ('approved', 'expired')
WHERE e.kind = 'approval.approved' AND e.outcome = 'done' AND a.id IS NULL
UNION ALL
SELECT a.id, 'was given without a second person'
FROM approval a LEFT JOIN audit_entry e ON e.id = a.decided_entry AND e.kind = 'approval.approved'
WHERE (a.state = 'approved' OR a.used_at IS NOT NULL)
  AND (e.id IS NULL OR a.decided_by IS NULL OR a.decided_by IN (a.requested_by, a.requested_ref)
       OR e.actor_ref IN (a.requested_by, a.requested_ref))
"""


def altered(session: Session) -> Iterator[str]:
    """Freezes, holds and approvals whose row does not have the digest that the log fixed."""
    yield from _altered(session, restraints.restraint, "set_entry", restraints.digest_of)
    yield from _altered(session, approvals.approval, "requested_entry", approvals.digest_of)


def _altered(
    session: Session, table: Table, entry: str, digest_of: Callable[[Row[Any]], str]
) -> Iterator[str]:
    joined: Any = select(table, log.LEAF).outerjoin(log.audit_entry, log.audit_entry.c.id == table.c[entry])
    for row in session.execute(joined.order_by(table.c.id)):
        told = (document(row.leaf) or {}) if row.leaf else {}
        if not row.digest == digest_of(row) == (told.get("result") or {}).get("sha256"):
            yield f"{row.id} is not the one that was logged"
