"""What a person changes of the own account: the password, the authenticator app, passkeys, recovery codes.

Each asks for a recent proof of who it is, and each is an entry. A new password ends every session.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import authorizations, sealing
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import RequestInvalid, SecondFactorMissing, SecondFactorRefused, SignInRefused
from exchange.identity import Role
from exchange.operations.confirming import seal_key, site, take_code
from exchange.operations.signing_in import Opened, limits, tries_key
from exchange.persons import accounts, codes, factors, passkeys, sessions, throttling
from exchange.persons.passwords import check_strength
from exchange.persons.sessions import Holder

if TYPE_CHECKING:
    from exchange.market import Market
    from exchange.persons.factors import Factors
    from exchange.persons.sessions import SignedIn
    from exchange.store import Tx

_NEW = "passkey.new"


@dataclass(frozen=True)
class ChangePassword:
    """Set another password."""

    person: str
    kind: ClassVar[str] = "password.changed"
    refused: ClassVar[str] = "password.refused"

    def entry(self) -> Entry:
        """The audit entry: a person, by id."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="person", id=self.person))


@dataclass(frozen=True)
class AddFactor:
    """Add a second factor."""

    person: str
    kind: ClassVar[str] = "factor.added"
    refused: ClassVar[str] = "factor.refused"

    def entry(self) -> Entry:
        """The audit entry: a person, by id; a passkey by its own id once it has one."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="person", id=self.person))


@dataclass(frozen=True)
class RemoveFactor:
    """Remove a second factor."""

    person: str
    kind: ClassVar[str] = "factor.removed"
    refused: ClassVar[str] = "factor.refused"

    def entry(self) -> Entry:
        """The audit entry: a person, by id."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="person", id=self.person))


@dataclass(frozen=True)
class RenewRecoveryCodes:
    """Draw fresh recovery codes."""

    person: str
    kind: ClassVar[str] = "recovery.renewed"
    refused: ClassVar[str] = "recovery.refused"

    def entry(self) -> Entry:
        """The audit entry: a person, by id."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="person", id=self.person))


@dataclass(frozen=True)
class Added:
    """A second factor was added: the session's new text, and recovery codes with the first factor."""

    opened: Opened
    recovery_codes: tuple[str, ...]


def own_factors(market: Market, who: SignedIn) -> Factors:
    """The person's second factors."""
    person = person_of(who)
    return market.store.read(lambda session: factors.of_person(session, person))


def change_password(market: Market, who: SignedIn, *, current: str, new: str, agent: str) -> Opened:
    """Set another password; every session of the person ends with every program that the person let in.

    This browser gets a fresh session.

    Raises:
        SignInRefused: the present password is wrong.
        PasswordWeak: the new one is too short or too common.
        TooManyTries: the present one was wrong too often.
    """
    person = person_of(who)
    row = market.store.read(lambda session: accounts.by_id(session, person))
    targets = throttling.account(tries_key(market), row.login, who.actor.ip_truncated)
    command = ChangePassword(person)
    with market.store.refusing(who.actor, command):
        check_strength(new, about=(row.login, row.name))
        market.store.jot(lambda session, now: throttling.claim(session, targets, now))
        if not market.passwords.verify(row.password_hash, current):
            raise SignInRefused("the present password is wrong")
    hashed, shown = market.passwords.hash(new), [""]

    def work(tx: Tx) -> dict[str, Any]:
        if accounts.by_id(tx.session, person).password_hash != row.password_hash:
            raise SignInRefused("the password was changed meanwhile")
        accounts.change_person(tx.session, person, password_hash=hashed)
        throttling.forgive(tx.session, targets)
        sessions.end_all(tx.session, person, tx.now)
        authorizations.revoke_of(tx.session, person, tx.now)
        made, shown[0] = sessions.open_session(
            tx.session,
            Holder(who.actor.org, person=person),
            now=tx.now,
            limits=limits(market),
            network=who.actor.ip_truncated,
            agent=agent,
            factor=who.factor_at is not None,
        )
        return {"session": made}

    done = market.store.perform(who.actor, command, work)
    return Opened(done.value["session"], shown[0])


def begin_app(market: Market, who: SignedIn) -> dict[str, str]:
    """Draw a key for an authenticator app: ``secret`` and ``uri``, to be typed or scanned within the page.

    It is in force once :func:`add_app` saw a code of it. Raises ConfirmationNeeded, SecondFactorRefused.
    """
    person = person_of(who)
    who.require_recent_proof(market.store.clock())
    if own_factors(market, who).totp:
        raise SecondFactorRefused("there is an authenticator app already", hint="Remove it first.")
    secret = codes.new_secret()
    sealed = sealing.seal(seal_key(market), secret.encode(), person)
    market.store.jot(lambda session, now: factors.begin_totp(session, person, sealed, now))
    return {"secret": secret, "uri": codes.provisioning_uri(secret, who.login)}


def add_app(market: Market, who: SignedIn, code: str) -> Added:
    """Take the authenticator app into use by its first code. Raises SecondFactorRefused, TooManyTries."""
    person = person_of(who)

    def take(tx: Tx) -> str:
        if factors.of_person(tx.session, person).totp:
            raise SecondFactorRefused("there is an authenticator app already", hint="Remove it first.")
        take_code(market, tx, person, code, confirmed=False)
        return person

    return _add(market, who, take)


def new_passkey_options(market: Market, who: SignedIn) -> dict[str, Any]:
    """What the browser needs to register a passkey. Raises ConfirmationNeeded."""
    person, challenge = person_of(who), secrets.token_bytes(32)
    who.require_recent_proof(market.store.clock())
    market.store.jot(
        lambda session, now: factors.challenge_for(session, _NEW, who.id, now, value=challenge.hex())
    )
    known = market.store.read(lambda session: [row.credential for row in factors.passkeys(session, person)])
    return passkeys.registration(
        site(market), person=person, login=who.login, name=who.name, challenge=challenge, known=known
    )


def add_passkey(market: Market, who: SignedIn, reply: dict[str, Any], *, name: str) -> Added:
    """Register the passkey that the browser's reply holds. Raises SecondFactorRefused."""
    person, named = person_of(who), " ".join(name.split()) or "passkey"
    if len(named) > 60 or not named.isprintable():
        raise RequestInvalid("a passkey's name has at most 60 characters")
    challenge = market.store.jot(lambda session, now: factors.take_challenge(session, _NEW, who.id, now))

    def take(tx: Tx) -> str:
        if challenge is None:
            raise SecondFactorRefused("the passkey was not registered in time")
        made = passkeys.registered(site(market), reply, bytes.fromhex(challenge.value))
        return factors.add_passkey(tx.session, person, made, named, tx.now)

    return _add(market, who, take)


def remove_factor(market: Market, who: SignedIn, factor: str) -> Opened:
    """Remove the authenticator app (``factor`` is "app") or a passkey, by id; the session gets a new text.

    Raises:
        SecondFactorMissing: it is the last one, and the role needs one.
        ConfirmationNeeded: the second factor was not shown recently.
    """
    person, shown = person_of(who), [""]
    strict = market.settings.second_factor and who.actor.role in (Role.OFFICER, Role.OPERATOR)

    def work(tx: Tx) -> dict[str, Any]:
        who.require_recent_proof(tx.now)
        held = factors.of_person(tx.session, person)
        if held.count == 1 and strict:
            raise SecondFactorMissing("your role needs a second factor", hint="Add another one first.")
        if factor == "app":
            factors.remove_totp(tx.session, person)
        else:
            factors.remove_passkey(tx.session, person, factor)
        if held.count == 1:
            factors.remove_all(tx.session, person)
        shown[0] = sessions.rotate(tx.session, who.id, now=tx.now)
        return {"session": who.id}

    market.store.perform(who.actor, RemoveFactor(person), work)
    return Opened(who.id, shown[0])


def renew_recovery_codes(market: Market, who: SignedIn) -> tuple[str, ...]:
    """Draw ten fresh recovery codes, shown once; the earlier ones end. Raises ConfirmationNeeded."""
    person, fresh = person_of(who), codes.new_recovery_codes()

    def work(tx: Tx) -> dict[str, Any]:
        who.require_fresh_factor(tx.now)
        factors.replace_recovery_codes(tx.session, person, fresh)
        return {"person": person}

    market.store.perform(who.actor, RenewRecoveryCodes(person), work)
    return fresh


def person_of(who: SignedIn) -> str:
    """The person of a session. Raises :class:`RequestInvalid` for one that a token opened."""
    if who.person is None:
        raise RequestInvalid(
            "a session that a token opened has no account", hint="Sign in with login and password."
        )
    return who.person


def _add(market: Market, who: SignedIn, take: Any) -> Added:
    """Add a factor; with the first one come recovery codes, and the session counts as confirmed by it."""
    person, fresh, shown = person_of(who), codes.new_recovery_codes(), [""]
    target, first = throttling.factor(tries_key(market), person), [False]
    market.store.jot(lambda session, now: throttling.claim(session, [target], now))

    def work(tx: Tx) -> dict[str, Any]:
        who.require_recent_proof(tx.now)
        first[0] = not factors.of_person(tx.session, person)
        added = take(tx)
        throttling.forgive(tx.session, [target])
        if first[0]:
            factors.replace_recovery_codes(tx.session, person, fresh)
        shown[0] = sessions.proved(tx.session, who.id, now=tx.now, factor=True)
        tx.record(object=ObjectGroup(type="person", id=person, version=added if added != person else None))
        return {"session": who.id}

    market.store.perform(who.actor, AddFactor(person), work)
    return Added(Opened(who.id, shown[0]), fresh if first[0] else ())
