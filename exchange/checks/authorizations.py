"""The law of access tokens: what was asked with them stayed within what they were given for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from exchange import clients, queries
from exchange.authorizations import oauth_authorization
from exchange.errors import ScopeInvalid
from exchange.scopes import Scopes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

# Each selects (who, what is wrong); no row means that the law holds.
ASKED = """
SELECT q.id, 'was not asked under the authorization that its row names'
FROM query q JOIN audit_entry e ON e.query_id = q.id AND e.kind = 'query.reserved'
WHERE COALESCE(q.authorization_id, '') <>
      CASE WHEN SUBSTR(e.actor_ref, 1, 4) = 'aut_' THEN e.actor_ref ELSE '' END
UNION ALL
SELECT q.id, 'was asked by another organisation than its authorization is of'
FROM query q LEFT JOIN oauth_authorization a ON a.id = q.authorization_id
WHERE q.authorization_id IS NOT NULL AND (a.id IS NULL OR a.org <> q.org)
"""


def beyond(session: Session) -> Iterator[str]:
    """Authorizations and clients under which more was asked than their scopes allow."""
    of_client: dict[str, list[str]] = {}
    used = select(queries.query.c.authorization_id).where(queries.query.c.authorization_id.is_not(None))
    held = select(oauth_authorization).where(oauth_authorization.c.id.in_(used.distinct()))
    for row in session.execute(held.order_by(oauth_authorization.c.id)).all():
        of_client.setdefault(row.client, []).append(row.id)
        yield from _beyond(session, f"authorization {row.id}", row.scope, [row.id])
    named = select(clients.oauth_client.c.id, clients.oauth_client.c.scope)
    for client in session.execute(named.where(clients.oauth_client.c.id.in_(sorted(of_client)))).all():
        yield from _beyond(session, f"client {client.id}", client.scope, of_client[client.id])


def _beyond(session: Session, name: str, scope: str, authorizations: list[str]) -> Iterator[str]:
    try:
        scopes = Scopes.parse(scope)
    except ScopeInvalid:
        yield f"{name} has a scope that cannot be read"
        return
    if scopes.rho_nano is not None and queries.rho_authorized(session, authorizations) > scopes.rho_nano:
        yield f"{name} has spent more rho than its scope allows"
    asked = select(queries.query.c.slug, queries.query.c.purpose).distinct()
    for row in session.execute(asked.where(queries.query.c.authorization_id.in_(authorizations))):
        if scopes.datasets and row.slug not in scopes.datasets:
            yield f"{name} was used for another dataset than its scope names"
        if scopes.purposes and row.purpose not in scopes.purposes:
            yield f"{name} was used for another purpose than its scope names"
