"""The law of contribution profiles: each is released once, or shown again for what it was made of."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from catalog.tables import contribution_profile
from exchange.audit import log
from exchange.checks.differences import differing
from exchange.profiles import RELEASED, profile_release, profile_reuse

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

# Each selects (who, what is wrong); no row means that the law holds.
RELEASES = """
SELECT p.id, 'is released without its one journal, entry and document'
FROM profile_release p
WHERE p.state = 'RELEASED' AND (
    1 <> (SELECT COUNT(*) FROM journal j WHERE j.business_key = 'profile:' || p.id || ':ended'
                                           AND j.id = p.settle_journal)
    OR 1 <> (SELECT COUNT(*) FROM audit_entry e WHERE e.id = p.entry_id AND e.kind = 'profile.released'
                                                  AND e.object_id = p.id)
    OR 1 <> (SELECT COUNT(*) FROM contribution_profile c WHERE c.version = p.version)
)
UNION ALL
SELECT p.version, 'has more than one profile that was paid for'
FROM profile_release p WHERE p.state <> 'VOIDED' GROUP BY p.version HAVING COUNT(*) > 1
UNION ALL
SELECT c.version, 'shows a profile that was not released'
FROM contribution_profile c
WHERE NOT EXISTS (SELECT 1 FROM profile_release p WHERE p.version = c.version AND p.state = 'RELEASED')
  AND NOT EXISTS (SELECT 1 FROM profile_reuse u WHERE u.version = c.version)
UNION ALL
SELECT e.id, 'says that a profile was released which is not'
FROM audit_entry e LEFT JOIN profile_release p ON p.entry_id = e.id
WHERE e.kind = 'profile.released' AND (p.id IS NULL OR p.state <> 'RELEASED')
UNION ALL
SELECT j.id, 'pays for a profile that was not released'
FROM journal j
WHERE j.kind = 'profile_released'
  AND NOT EXISTS (SELECT 1 FROM profile_release p WHERE p.settle_journal = j.id AND p.state = 'RELEASED')
"""

REUSES = """
SELECT u.version, 'shows a profile again without its entry, or that of another version than one alike'
FROM profile_reuse u
WHERE 1 <> (SELECT COUNT(*) FROM audit_entry e WHERE e.id = u.entry_id AND e.kind = 'profile.reused'
                                                 AND e.object_id = u.release)
   OR 1 <> (SELECT COUNT(*)
            FROM profile_release p
            JOIN contribution_profile paid ON paid.version = p.version
            JOIN contribution_profile shown ON shown.version = u.version AND shown.sha256 = paid.sha256
            JOIN dataset_version paid_for ON paid_for.id = p.version
            JOIN dataset_version shown_for ON shown_for.id = u.version
                                          AND shown_for.dataset = paid_for.dataset
                                          AND shown_for.policy = paid_for.policy
            WHERE p.id = u.release AND p.state = 'RELEASED')
   OR EXISTS (SELECT 1 FROM profile_release p WHERE p.version = u.version AND p.state <> 'VOIDED')
UNION ALL
SELECT u.version, 'shows the profile of other files'
FROM profile_reuse u JOIN profile_release p ON p.id = u.release
WHERE EXISTS (SELECT table_name, position, sha256 FROM version_part WHERE version = u.version
              EXCEPT SELECT table_name, position, sha256 FROM version_part WHERE version = p.version)
   OR EXISTS (SELECT table_name, position, sha256 FROM version_part WHERE version = p.version
              EXCEPT SELECT table_name, position, sha256 FROM version_part WHERE version = u.version)
UNION ALL
SELECT e.id, 'says that a profile is shown again which is not'
FROM audit_entry e LEFT JOIN profile_reuse u ON u.entry_id = e.id
WHERE e.kind = 'profile.reused' AND u.version IS NULL
"""


def differing_releases(session: Session) -> list[str]:
    """Released profiles whose row or document does not say what the leaf of their release says."""
    rows = session.execute(
        select(profile_release, contribution_profile.c.document, contribution_profile.c.sha256, log.LEAF)
        .join(log.audit_entry, log.audit_entry.c.id == profile_release.c.entry_id)
        .join(contribution_profile, contribution_profile.c.version == profile_release.c.version)
        .where(profile_release.c.state == RELEASED)
    )

    def same(row: Row[Any], told: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        return {
            "document": (hashlib.sha256(row.document.encode()).hexdigest(), told["result"].get("sha256")),
            "digest": (row.sha256, told["result"].get("sha256")),
            "dataset": (row.slug, told["object"].get("dataset")),
            "version": (row.version, told["object"].get("version")),
            "domain": (row.domain, told["privacy"].get("domain")),
            "rho": (str(row.rho_nano), told["privacy"].get("rho_nano")),
            "journal": (row.settle_journal, told["money"].get("journal")),
        }

    return differing(rows, same)


def differing_reuses(session: Session) -> list[str]:
    """Versions that show a profile again, and not the one that the leaf of it names."""
    rows = session.execute(
        select(profile_reuse, contribution_profile.c.document, contribution_profile.c.sha256, log.LEAF)
        .join(log.audit_entry, log.audit_entry.c.id == profile_reuse.c.entry_id)
        .join(contribution_profile, contribution_profile.c.version == profile_reuse.c.version)
    )

    def same(row: Row[Any], told: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        about, logged = told["object"], told["result"].get("sha256")
        return {
            "document": (hashlib.sha256(row.document.encode()).hexdigest(), logged),
            "digest": (row.sha256, logged),
            "version": (row.version, about.get("version")),
            "release": (row.release, about.get("id")),
        }

    return differing(rows, same, named="version")
