"""Authorizing: a person lets a client act, by the code flow or for a device, and takes it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import select

from exchange import authorizations, clients, credentials
from exchange.audit import tables
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import NotFound, RateLimited, ScopeInvalid, UserCodeUnknown
from exchange.persons import accounts
from exchange.scopes import Scopes

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.clients import Client
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx

_WINDOW = timedelta(minutes=10)
_MOST_TRIES, _MOST_TRIES_OF_ALL = 5, 100


@dataclass(frozen=True)
class GrantAccess:
    """Let a client act for the organisation; the code that stands for it is not part of the command."""

    client: str
    scope: str
    redirect_uri: str
    challenge: str
    kind: ClassVar[str] = "authorization.granted"
    refused: ClassVar[str] = "authorization.refused"

    def entry(self) -> Entry:
        """The audit entry: the client, then the authorization."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="client", id=self.client[:64]))


@dataclass(frozen=True)
class StartDevice:
    """A device begins to wait for its code to be confirmed."""

    client: str
    scope: str
    kind: ClassVar[str] = "device.started"
    refused: ClassVar[str] = "device.refused"

    def entry(self) -> Entry:
        """The audit entry: the client."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="client", id=self.client[:64]))


@dataclass(frozen=True)
class DecideDevice:
    """Say yes or no to the device that shows a code."""

    approve: bool
    kind: ClassVar[str] = "authorization.granted"
    refused: ClassVar[str] = "user_code.refused"

    def entry(self) -> Entry:
        """The audit entry: an authorization, by id once there is one; never the code."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="authorization"))


@dataclass(frozen=True)
class RevokeAuthorization:
    """Take back what a client was let do, with every token of it."""

    authorization: str
    kind: ClassVar[str] = "authorization.revoked"
    refused: ClassVar[str] = "authorization.refused"

    def entry(self) -> Entry:
        """The audit entry: the authorization."""
        told = ObjectGroup(type="authorization", id=self.authorization[:64])
        return Entry(kind=self.kind, outcome="done", object=told)


@dataclass(frozen=True)
class Waiting:
    """A device that waits: who asks, and for what."""

    client: Client
    scopes: Scopes


def asked_scopes(client: Client, text: str | None) -> Scopes:
    """What a client asks for: all that it may be given where it names nothing. Raises ScopeInvalid."""
    scopes = Scopes.parse(text) if text else client.scopes
    if not scopes.within(client.scopes):
        raise ScopeInvalid("the client may not be given that much", hint=f"At most: `{client.scopes}`.")
    return scopes


def may_approve(actor: Actor, client: Client) -> bool:
    """Whether a client is one that the person's organisation can let in: its own, or everybody's."""
    return client.org in (None, actor.org) and (actor.scopes is None or actor.scopes.account)


def grant_access(market: Market, actor: Actor, command: GrantAccess) -> str:
    """Let a client act, and return the code for it. Raises NotFound for a client of another organisation."""
    shown: list[str] = []

    def work(tx: Tx) -> dict[str, Any]:
        client = clients.find(tx.session, command.client)
        if client is None or not may_approve(actor, client):
            raise NotFound("there is no such client")
        made = _grant(tx, market, client, asked_scopes(client, command.scope))
        shown[:] = [
            credentials.issue_code(
                tx.session, made, redirect_uri=command.redirect_uri, challenge=command.challenge, now=tx.now
            )
        ]
        return {"authorization": made.id}

    market.store.perform(actor, command, work)
    return shown[0]


def start_device(
    market: Market, actor: Actor, client: Client, scope: str | None, *, device: str, user_code: str
) -> None:
    """Remember a device that waits. Raises RateLimited where too many do, ScopeInvalid."""
    command = StartDevice(client.id, scope or "")

    def work(tx: Tx) -> dict[str, Any]:
        network = actor.ip_truncated
        here = credentials.devices_waiting(tx.session, tx.now, network=network)
        everywhere = credentials.devices_waiting(tx.session, tx.now)
        if here >= credentials.MOST_WAITING_OF_NETWORK or everywhere >= credentials.MOST_WAITING:
            raise RateLimited(int(_WINDOW.total_seconds()), "too many devices wait for their codes")
        credentials.start_device(
            tx.session,
            device=device,
            user_code=user_code,
            client=client.id,
            scopes=asked_scopes(client, scope),
            network=network,
            now=tx.now,
        )
        return {}

    market.store.perform(actor, command, work)


def waiting_device(market: Market, actor: Actor, user_code: str) -> Waiting:
    """The device that shows a code. Raises UserCodeUnknown, logged, and RateLimited after five."""
    command = DecideDevice(approve=False)

    def look(session: Session) -> Waiting:
        return _waiting(session, actor, user_code, market.store.clock())[1]

    with market.store.refusing(actor, command):
        return market.store.read(look)


def decide_device(market: Market, actor: Actor, user_code: str, *, approve: bool) -> None:
    """Say yes or no to the device that shows a code. Raises UserCodeUnknown and RateLimited."""

    def work(tx: Tx) -> dict[str, Any]:
        row, device = _waiting(tx.session, actor, user_code, tx.now)
        if approve:
            made = _grant(tx, market, device.client, device.scopes).id
        else:
            made = None
            tx.record(kind="authorization.declined", object=ObjectGroup(type="client", id=device.client.id))
        credentials.decide_device(tx.session, row.device_sha256, authorization=made, now=tx.now)
        return {"authorization": made}

    market.store.perform(actor, DecideDevice(approve), work)


def list_authorizations(market: Market, actor: Actor) -> dict[str, Any]:
    """What the organisation let clients do, newest first, as long as it is in force; for a member, what they
    did.
    """

    def look(session: Session) -> list[dict[str, Any]]:
        own = _own(session, actor)
        now = market.store.clock()
        held = authorizations.of_organisation(session, actor.org, now, subject=own)
        return [
            {
                "authorization": one.id,
                "client_id": one.client,
                "granted_by": one.subject,
                "scope": str(one.scopes),
                "created_at": one.created_at,
                "expires_at": one.expires_at,
            }
            for one in held
        ]

    return {"items": market.store.read(look)}


def revoke_authorization(
    market: Market, actor: Actor, authorization: str, *, key: str | None = None
) -> dict[str, Any]:
    """Take an authorization of the own organisation back. Raises NotFound, for another's too."""

    def work(tx: Tx) -> dict[str, Any]:
        own = _own(tx.session, actor)
        found = authorizations.find(tx.session, authorization, org=actor.org)
        if own not in (None, found.subject):
            raise NotFound("there is no such authorization")
        authorizations.revoke(tx.session, found.id, tx.now)
        tx.record(object=ObjectGroup(type="authorization", id=found.id))
        return {"authorization": found.id, "revoked_at": tx.now.isoformat(timespec="seconds")}

    return market.store.perform(actor, RevokeAuthorization(authorization), work, key=key).value


def _grant(tx: Tx, market: Market, client: Client, scopes: Scopes) -> authorizations.Authorization:
    made = authorizations.grant(
        tx.session,
        approver=tx.actor,
        client=client.id,
        scopes=scopes,
        now=tx.now,
        days=market.settings.authorization_days,
    )
    tx.record(object=ObjectGroup(type="authorization", id=made.id))
    return made


def _waiting(session: Session, actor: Actor, user_code: str, now: datetime) -> tuple[Row[Any], Waiting]:
    _check_tries(session, actor, now)
    row = credentials.find_user_code(session, normal_user_code(user_code), now)
    client = clients.find(session, row.client) if row is not None else None
    if row is None or client is None or not may_approve(actor, client):
        raise UserCodeUnknown("no device waits with this code")
    return row, Waiting(client, Scopes.parse(row.scope))


def _check_tries(session: Session, actor: Actor, now: datetime) -> None:
    """Wrong codes are in the log, so they are counted there: five of one, a hundred of an organisation."""
    entry, since = tables.audit_entry.c, authorizations.stamp(now - _WINDOW)
    wrong = select(entry.actor_ref, entry.time).where(
        entry.kind == DecideDevice.refused,
        entry.code == UserCodeUnknown.code,
        entry.org == actor.org,
    )
    rows = session.execute(wrong.order_by(entry.seq.desc()).limit(_MOST_TRIES_OF_ALL)).all()
    recent = [row.actor_ref for row in rows if row.time > since]
    if recent.count(actor.ref) >= _MOST_TRIES or len(recent) >= _MOST_TRIES_OF_ALL:
        raise RateLimited(int(_WINDOW.total_seconds()), "too many wrong codes were tried")


def normal_user_code(text: str) -> str:
    """A user code as it is kept: letters alone, in upper case, in two groups of four."""
    letters = "".join(one for one in text[:64].upper() if "A" <= one <= "Z")
    return f"{letters[:4]}-{letters[4:]}"


def _own(session: Session, actor: Actor) -> str | None:
    """Whose authorizations an actor sees and ends: a member the own, administrators and tokens all."""
    who = authorizations.decider(session, actor)
    if not who.startswith("per_"):
        return None
    member = accounts.member_of(session, who, actor.org)
    return None if member is not None and member.active and member.admin else who
