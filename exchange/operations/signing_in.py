"""Signing in on the portal with a password or a token, signing out, and looking after one's own sessions.

A refused sign-in is logged without naming anybody: the log is public, and an entry that names a person would
tell who tries at it that the login exists.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import identity, sealing
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import NotFound, SecondFactorMissing, SignInRefused, TooManyTries
from exchange.identity import Actor, Role
from exchange.persons import accounts, sessions, throttling
from exchange.persons.sessions import Holder, Limits, SignedIn

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy.orm import Session

    from exchange.market import Market
    from exchange.persons.throttling import Target
    from exchange.store import Tx

_LONGEST_LOGIN = 254


@dataclass(frozen=True)
class StartSession:
    """Come into the portal."""

    kind: ClassVar[str] = "session.started"
    refused: ClassVar[str] = "session.refused"

    def entry(self) -> Entry:
        """The audit entry: a session, by id once there is one."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="session"))


@dataclass(frozen=True)
class EndSession:
    """Leave the portal, or end another session of one's own."""

    session: str
    kind: ClassVar[str] = "session.ended"
    refused: ClassVar[str] = "session.refused"

    def entry(self) -> Entry:
        """The audit entry: a session, by id."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="session", id=self.session))


@dataclass(frozen=True)
class MoveSession:
    """Act for another organisation that one is a member of."""

    session: str
    org: str
    kind: ClassVar[str] = "session.moved"
    refused: ClassVar[str] = "session.refused"

    def entry(self) -> Entry:
        """The audit entry: a session, by id; the actor is the member of the new organisation."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="session", id=self.session))


@dataclass(frozen=True)
class Opened:
    """A session that was opened or given a new text: the text goes into the cookie and nowhere else."""

    session: str
    secret: str = dataclasses.field(repr=False)


def limits(market: Market) -> Limits:
    """How long sessions last here."""
    settings = market.settings
    return Limits(timedelta(seconds=settings.session_idle_s), timedelta(seconds=settings.session_lasts_s))


def tries_key(market: Market) -> bytes:
    """The key under which tries are counted."""
    return sealing.derived(market.settings.secret_key, "tries")


def sign_in(market: Market, place: Actor, *, login: str, password: str, agent: str) -> Opened:
    """Open a session for a person with a password.

    ``place`` is nobody, at the network that the request came from. Where the person has a second factor, or
    needs one, the session is good for that alone.

    Raises:
        SignInRefused: login and password do not belong together; in the same time for every cause.
        TooManyTries: there were too many tries for this account or from this network.
    """
    command = StartSession()
    person, check = proved(market, place, command, login=login, password=password)
    return open_for(market, place, person, agent=agent, check=check, command=command)


def proved(
    market: Market, place: Actor, command: Any, *, login: str, password: str
) -> tuple[str, Callable[[Tx], None]]:
    """The person whose login and password these are, and what looks at it once more where it is acted on.

    Raises SignInRefused and TooManyTries, which are logged under the command.
    """
    typed = login.strip().lower()[:_LONGEST_LOGIN]
    targets = _targets(market, typed, place)
    _claim(market, targets)
    row = market.store.read(lambda session: accounts.by_login(session, typed))
    stored = row.password_hash if row is not None else None
    with market.store.refusing(place, command):
        if not market.passwords.verify(stored, password) or row is None or stored is None:
            raise _refused()
    fresh = market.passwords.hash(password) if market.passwords.outdated(stored) else stored

    def check(tx: Tx) -> None:
        if accounts.by_id(tx.session, row.id).password_hash != stored:  # it was changed meanwhile
            raise _refused()
        accounts.change_person(tx.session, row.id, password_hash=fresh)
        throttling.forgive(tx.session, targets[:2])
        throttling.give_back(tx.session, targets[2])

    return row.id, check


def open_for(
    market: Market,
    place: Actor,
    person: str,
    *,
    agent: str,
    command: Any,
    check: Any = None,
    factor: bool = False,
    org: str | None = None,
) -> Opened:
    """Open a session for a person whose proof ``check`` looks at once more inside the transaction.

    Raises :class:`SignInRefused` where the person is a member of nothing any more.
    """
    with market.store.refusing(place, command):
        member = market.store.read(lambda session: _first_member(session, person, org))
    actor = dataclasses.replace(place, ref=person, org=member.org, role=member.role, auth="session")
    shown: list[str] = []

    def work(tx: Tx) -> dict[str, Any]:
        if check is not None:
            check(tx)
        _first_member(tx.session, person, member.org)
        made, secret = sessions.open_session(
            tx.session,
            Holder(member.org, person=person),
            now=tx.now,
            limits=limits(market),
            network=place.ip_truncated,
            agent=agent,
            factor=factor,
        )
        shown[:] = [secret]
        tx.record(object=ObjectGroup(type="session", id=made))
        return {"session": made}

    done = market.store.perform(actor, command, work)
    return Opened(done.value["session"], shown[0])


def sign_in_with_token(market: Market, actor: Actor, *, agent: str) -> Opened:
    """Open a session for the holder of a token, who has been authenticated by it.

    Raises :class:`SecondFactorMissing` for officers and operators, unless the settings let them in without.
    """
    command = StartSession()
    with market.store.refusing(actor, command):
        if market.settings.second_factor and actor.role in (Role.OFFICER, Role.OPERATOR):
            raise SecondFactorMissing("officers and operators sign in with a password and a second factor")
    shown: list[str] = []

    def work(tx: Tx) -> dict[str, Any]:
        identity.still_valid(tx.session, actor.ref, tx.now)
        made, secret = sessions.open_session(
            tx.session,
            Holder(actor.org, token=actor.ref),
            now=tx.now,
            limits=limits(market),
            network=actor.ip_truncated,
            agent=agent,
        )
        shown[:] = [secret]
        tx.record(object=ObjectGroup(type="session", id=made))
        return {"session": made}

    done = market.store.perform(actor, command, work)
    return Opened(done.value["session"], shown[0])


def visitor(market: Market, secret: str) -> SignedIn | None:
    """The session behind a cookie's text, or None; that it is used is written down once a minute."""
    strict = bool(market.settings.second_factor)

    def look(session: Session) -> SignedIn | None:
        return sessions.find(session, secret, now=market.store.clock(), limits=limits(market), strict=strict)

    found = market.store.read(look)
    if found is not None and found.stale:
        market.store.jot(lambda session, now: sessions.touch(session, found.id, now))
    return found


def own_sessions(market: Market, who: SignedIn) -> list[dict[str, Any]]:
    """The sessions in force of the same person."""
    now = market.store.clock()
    return market.store.read(lambda session: sessions.listed(session, who, now, limits(market)))


def end_session(market: Market, who: SignedIn, session_id: str) -> None:
    """End a session of the same person, this one or another. Raises NotFound."""

    def work(tx: Tx) -> dict[str, Any]:
        sessions.end(tx.session, who, session_id, tx.now)
        return {"session": session_id}

    market.store.perform(who.actor, EndSession(session_id[:64]), work)


def switch(market: Market, who: SignedIn, org: str) -> Opened:
    """Act for another organisation that the person is a member of; the session gets a new text.

    Raises :class:`NotFound` for an organisation that the person is no member of, or that there is none of.
    """
    shown: list[str] = []
    command = MoveSession(who.id, org[:40])
    person = who.person
    with market.store.refusing(who.actor, command):
        if person is None:
            raise _no_member()
        known = person

    def work(tx: Tx) -> dict[str, Any]:
        member = accounts.member_of(tx.session, known, org)
        if member is None or not member.active:
            raise _no_member()
        shown[:] = [sessions.rotate(tx.session, who.id, now=tx.now, org=org)]
        return {"session": who.id, "org": org}

    market.store.perform(who.actor, command, work)
    return Opened(who.id, shown[0])


def _targets(market: Market, login: str, place: Actor) -> list[Target]:
    key = tries_key(market)
    here = place.ip_truncated
    return [*throttling.account(key, login, here), throttling.network(key, here)]


def _claim(market: Market, targets: list[Target]) -> None:
    """Count a try. One that must wait counts for its network: it may be the next of many accounts."""
    try:
        market.store.jot(lambda session, now: throttling.claim(session, targets, now))
    except TooManyTries:
        market.store.jot(lambda session, now: throttling.press(session, targets[-1], now))
        raise


def _first_member(session: Session, person: str, org: str | None) -> accounts.Member:
    found = [one for one in accounts.memberships(session, person) if org in (None, one.org)]
    if not found:
        raise _refused()
    return found[0]


def _refused() -> SignInRefused:
    return SignInRefused("the login or the password is wrong")


def _no_member() -> NotFound:
    return NotFound("you are no member of such an organisation")


def recently(market: Market, who: SignedIn) -> datetime:
    """The time now, where the person has just proved who they are. Raises ConfirmationNeeded."""
    now = market.store.clock()
    who.require_recent_proof(now)
    return now
