"""All tables of all packages, for migrations and for the test that compares them with the database."""

from __future__ import annotations

from catalog import listings
from exchange import identity, notifications, profiles, quarantine, queries, store
from exchange.audit import log
from settlement import ledger

metadatas = [
    identity.metadata,
    store.metadata,
    queries.metadata,
    notifications.metadata,
    profiles.metadata,
    quarantine.metadata,
    log.metadata,
    ledger.metadata,
    listings.metadata,
]

#: Tables whose rows never change; the first migration gives them triggers.
append_only = [*ledger.append_only, *listings.append_only, *log.append_only]

#: View name -> CREATE VIEW statement, the same on both databases.
views = {**ledger.views, **queries.views}
