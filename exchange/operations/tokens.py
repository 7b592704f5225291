"""An organisation's own tokens for the API, which its administrators create, see and revoke on the portal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exchange import identity
from exchange.audit.entry import ObjectGroup
from exchange.errors import NotFound, RequestInvalid
from exchange.identity import Role, new_id
from exchange.operations.administering import CreateToken, RevokeToken
from exchange.operations.joining import require_admin

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx


def own_tokens(market: Market, actor: Actor) -> list[dict[str, Any]]:
    """The organisation's tokens, newest first; what opens anything is not among what is known of them."""
    now = market.store.clock().isoformat(timespec="microseconds")

    def look(session: Session) -> list[dict[str, Any]]:
        require_admin(session, actor, actor.org)
        return [_document(row, now) for row in identity.tokens(session, actor.org)]

    return market.store.read(look)


def create_own(market: Market, actor: Actor, *, expires: datetime | None = None) -> dict[str, Any]:
    """Create a token for the actor's organisation with its role; ``token`` in the reply is shown once."""
    shown = [""]
    if expires is not None and expires <= market.store.clock():
        raise RequestInvalid("a token ends in the future")

    def work(tx: Tx) -> dict[str, Any]:
        require_admin(tx.session, actor, actor.org)
        token_id = new_id("tok")
        shown[0] = identity.create_token(
            tx.session,
            id=token_id,
            org=actor.org,
            role=Role(actor.role),
            now=tx.now,
            expires_at=expires,
            by=actor.ref,
        )
        tx.record(object=ObjectGroup(type="token", id=token_id))
        return {"token_id": token_id, "org": actor.org, "role": str(actor.role)}

    command = CreateToken(actor.org, str(actor.role), expires.isoformat() if expires else None)
    return {**market.store.perform(actor, command, work).value, "token": shown[0]}


def revoke_own(market: Market, actor: Actor, token: str) -> None:
    """End a token of the actor's organisation at once. Raises NotFound, also for another's."""

    def work(tx: Tx) -> dict[str, Any]:
        require_admin(tx.session, actor, actor.org)
        if token not in {row.id for row in identity.tokens(tx.session, actor.org)}:
            raise NotFound("there is no such token")
        identity.revoke_token(tx.session, token, tx.now)
        return {"token_id": token}

    market.store.perform(actor, RevokeToken(token[:64]), work)


def _document(row: Any, now: str) -> dict[str, Any]:
    ended = row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now)
    return {
        "token": row.id,
        "role": row.role,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "state": "revoked" if row.revoked_at else "expired" if ended else "active",
    }
