"""Issuing access: a code, a device's code or a refresh token is used up, once, for tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import authorizations, credentials
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import NotFound, TokenUnknown
from exchange.identity import Actor

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy.orm import Session

    from exchange.authorizations import Authorization
    from exchange.clients import Client
    from exchange.market import Market
    from exchange.scopes import Scopes
    from exchange.store import Tx

    Use = Callable[[Session, str, datetime], bool]


@dataclass(frozen=True)
class IssueAccess:
    """Give tokens for an authorization; what is used up for them is named by its digest."""

    grant_type: str
    authorization: str
    credential: str = ""
    kind: ClassVar[str] = "access.issued"
    refused: ClassVar[str] = "access.refused"

    def entry(self) -> Entry:
        """The audit entry: the authorization, never a code or a token."""
        told = ObjectGroup(type="authorization", id=self.authorization[:64])
        return Entry(kind=self.kind, outcome="done", object=told)


@dataclass(frozen=True)
class RevokeAccess:
    """Refuse one access token from now on, or end an authorization by its refresh token."""

    authorization: str
    whole: bool
    kind: ClassVar[str] = "access.revoked"
    refused: ClassVar[str] = "access.refused"

    def entry(self) -> Entry:
        """The audit entry: the authorization."""
        told = ObjectGroup(type="authorization", id=self.authorization[:64])
        return Entry(kind=self.kind, outcome="done", object=told)


def standing(market: Market, actor: Actor, client: Client, scopes: Scopes) -> Authorization:
    """What a client may do for itself in a scope, for a token that is about to be issued."""
    acting = Actor(
        ref=client.id,
        org=client.org or "",
        name=client.name,
        role="client",
        auth="client_secret",
        request_id=actor.request_id,
        ip_truncated=actor.ip_truncated,
    )
    found: list[Authorization] = []

    def work(tx: Tx) -> dict[str, Any]:
        held = authorizations.standing(tx.session, client, scopes, tx.now)
        authorizations.require_live(tx.session, held.id, tx.now)
        found[:] = [held]
        tx.record(object=ObjectGroup(type="authorization", id=held.id))
        return {"authorization": held.id}

    market.store.perform(acting, IssueAccess("client_credentials", ""), work)
    return found[0]


def issue(market: Market, actor: Actor, command: IssueAccess, use: Use, *, refresh: bool) -> str | None:
    """Use a code or refresh token up, and return a fresh refresh token (empty where none is given).

    None where it was used before: then somebody has a copy, and the authorization ends with every token of
    it (RFC 6749, section 4.1.2; RFC 9700, section 4.14.2). Raises TokenUnknown where it is over.
    """
    shown: list[str] = []

    def work(tx: Tx) -> dict[str, Any]:
        if not use(tx.session, command.credential, tx.now):
            authorizations.revoke(tx.session, command.authorization, tx.now)
            tx.record(kind="credential.reused")
            shown[:] = []
            return {"reused": True}
        found, _ = authorizations.require_live(tx.session, command.authorization, tx.now)
        shown[:] = [credentials.issue_refresh(tx.session, found) if refresh else ""]
        return {"reused": False}

    market.store.perform(actor, command, work)
    return shown[0] if shown else None


def revoke_access(market: Market, actor: Actor, authorization: str, *, jti: str, expires_at: str) -> None:
    """Refuse one access token from now on."""

    def work(tx: Tx) -> dict[str, Any]:
        authorizations.revoke_token(tx.session, jti, expires_at)
        return {}

    market.store.perform(actor, RevokeAccess(authorization, whole=False), work)


def revoke_family(market: Market, actor: Actor, authorization: str) -> None:
    """End an authorization with every token of it."""

    def work(tx: Tx) -> dict[str, Any]:
        authorizations.revoke(tx.session, authorization, tx.now)
        tx.record(kind="authorization.revoked")
        return {}

    market.store.perform(actor, RevokeAccess(authorization, whole=True), work)


def acting(market: Market, authorization: str) -> Actor | None:
    """Who a live authorization stands for, or None where it is over."""
    now = market.store.clock()
    try:
        return market.store.read(lambda s: authorizations.require_live(s, authorization, now)[1])
    except (NotFound, TokenUnknown):
        return None
