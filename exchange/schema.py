"""All tables of all packages, for migrations and for the test that compares them with the database."""

from __future__ import annotations

from catalog import listings
from exchange import (
    approvals,
    authorizations,
    clients,
    credentials,
    data_keys,
    identity,
    listing_drafts,
    notifications,
    parties,
    profiles,
    quarantine,
    queries,
    restraints,
    store,
)
from exchange.alerts import tables as alerts
from exchange.audit import log
from exchange.persons import tables as persons
from settlement import ledger

metadatas = [
    identity.metadata,
    parties.metadata,
    clients.metadata,
    authorizations.metadata,
    credentials.metadata,
    data_keys.metadata,
    persons.metadata,
    store.metadata,
    queries.metadata,
    notifications.metadata,
    alerts.metadata,
    profiles.metadata,
    quarantine.metadata,
    listing_drafts.metadata,
    restraints.metadata,
    approvals.metadata,
    log.metadata,
    ledger.metadata,
    listings.metadata,
]

#: Tables whose rows never change; the first migration gives them triggers.
append_only = [*ledger.append_only, *listings.append_only, *log.append_only, *parties.append_only]

#: View name -> CREATE VIEW statement, the same on both databases.
views = {**ledger.views, **queries.views}
