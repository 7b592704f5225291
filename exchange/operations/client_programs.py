"""Clients of an organisation: created with a secret that is shown once, listed, revoked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import authorizations, clients, identity, notifications
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import RoleMissing
from exchange.identity import SYSTEM, Role, new_id
from exchange.operations.joining import require_admin
from exchange.scopes import Scopes

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exchange.clients import Client
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx


@dataclass(frozen=True)
class CreateClient:
    """Let a program ask for access on behalf of the actor's organisation."""

    name: str
    client_kind: str
    scope: str = "ask"
    redirect_uris: tuple[str, ...] = ()
    kind: ClassVar[str] = "client.created"
    refused: ClassVar[str] = "client.refused"

    def entry(self) -> Entry:
        """The audit entry: a client, by id once it has one."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="client"))


@dataclass(frozen=True)
class RevokeClient:
    """End a client with every token of it."""

    client: str
    kind: ClassVar[str] = "client.revoked"
    refused: ClassVar[str] = "client.refused"

    def entry(self) -> Entry:
        """The audit entry: the client."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="client", id=self.client[:64]))


@dataclass(frozen=True)
class LookAtClients:
    """See the clients of another organisation."""

    org: str
    kind: ClassVar[str] = "clients.listed"
    refused: ClassVar[str] = "client.refused"

    def entry(self) -> Entry:
        """The audit entry: the organisation whose they are."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="organisation", id=self.org))


def create_client(
    market: Market, actor: Actor, command: CreateClient, *, key: str | None = None
) -> dict[str, Any]:
    """Create a client; ``client_secret`` in the reply is its secret, shown once and null when it is replayed.

    The secret never enters the log or the stored outcome. Raises RequestInvalid, ScopeInvalid, ScopeMissing.
    """
    shown: list[str] = []

    def work(tx: Tx) -> dict[str, Any]:
        require_manager(tx.session, actor)
        scopes = Scopes.parse(command.scope)
        client_id = new_id("cli")
        secret = clients.create(
            tx.session,
            id=client_id,
            org=actor.org,
            name=command.name,
            kind=command.client_kind,
            scopes=scopes,
            redirect_uris=command.redirect_uris,
            by=actor.ref,
            now=tx.now,
        )
        shown[:] = [secret]
        tx.record(object=ObjectGroup(type="client", id=client_id))
        made = clients.find(tx.session, client_id)
        return document(made) if made is not None else {}

    made = market.store.perform(actor, command, work, key=key).value
    return {**made, "client_secret": (shown[0] or None) if shown else None}


def list_clients(market: Market, actor: Actor, *, org: str = "") -> dict[str, Any]:
    """An organisation's clients that are not revoked, newest first.

    An operator may name another organisation, to find what must be stopped: that is an entry of the log.
    """

    def allowed(session: Session) -> str:
        require_manager(session, actor)
        return _organisation(session, actor, org)

    holder = market.store.read(allowed)
    if holder != actor.org:
        market.store.perform(actor, LookAtClients(holder), lambda _: {"org": holder})
    held = market.store.read(lambda session: clients.of_organisation(session, holder))
    return {"items": [document(one) for one in held]}


def revoke_client(market: Market, actor: Actor, client: str, *, key: str | None = None) -> dict[str, Any]:
    """End a client: its tokens open nothing from this moment on. Raises NotFound for another's, too.

    An operator ends anybody's, in an emergency; its organisation is told who did.
    """

    def work(tx: Tx) -> dict[str, Any]:
        require_manager(tx.session, actor)
        everywhere = actor.role in (Role.OPERATOR, SYSTEM.role)
        holder, ended = clients.revoke(tx.session, client, org=None if everywhere else actor.org, now=tx.now)
        if ended and holder != actor.org:
            text = f"The operator {actor.name} has ended the client {client}, with every token of it."
            notifications.notify(
                tx.session, holder, "client.revoked", subject=client, dataset="", text=text, now=tx.now
            )
        tx.record(object=ObjectGroup(type="client", id=client))
        return {"client_id": client, "revoked_at": tx.now.isoformat(timespec="seconds")}

    return market.store.perform(actor, RevokeClient(client), work, key=key).value


def document(client: Client) -> dict[str, Any]:
    """A client as its organisation sees it."""
    return {
        "client_id": client.id,
        "name": client.name,
        "kind": client.kind,
        "scope": str(client.scopes),
        "grants": list(client.grants),
        "redirect_uris": list(client.redirect_uris),
        "created_at": client.created_at,
    }


def _organisation(session: Session, actor: Actor, named: str) -> str:
    """The organisation that is meant: the actor's own, or the one that an operator names."""
    if not named or named == actor.name:
        return actor.org
    if actor.role != SYSTEM.role:
        actor.require(Role.OPERATOR)
    return identity.find_organisation(session, named)[0]


def require_manager(session: Session, actor: Actor) -> None:
    """Raise ScopeMissing or RoleMissing unless the actor may manage its organisation's programs.

    That is a token of the organisation, or an administrator, also through a program that acts for one in
    full; but no client by itself: one that leaked would make another that outlives it.
    """
    who = authorizations.decider(session, actor)
    if who.startswith("cli_"):
        raise RoleMissing("a client does not manage clients", hint="Use a token, or let a person do it.")
    if who.startswith("per_"):
        require_admin(session, replace(actor, ref=who), actor.org)
