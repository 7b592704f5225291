"""Proving once more who one is in a session: by a code, a recovery code, a passkey, or the password.

The session gets a new text each time, and "fresh" starts anew.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import sealing
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import SecondFactorRefused, SignInRefused
from exchange.operations.signing_in import Opened, tries_key
from exchange.persons import accounts, codes, factors, passkeys, sessions, throttling
from exchange.persons.passkeys import Site

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.market import Market
    from exchange.persons.sessions import SignedIn
    from exchange.store import Tx

_USE = "passkey.use"


@dataclass(frozen=True)
class ConfirmSession:
    """Prove within a session who one is; ``by`` says with what, never what was shown."""

    session: str
    by: str
    kind: ClassVar[str] = "session.confirmed"
    refused: ClassVar[str] = "session.refused"

    def entry(self) -> Entry:
        """The audit entry: a session, by id, and the kind of proof."""
        return Entry(
            kind=self.kind,
            outcome="done",
            object=ObjectGroup(type="session", id=self.session, version=f"by.{self.by}"),
        )


def confirm_by_code(market: Market, who: SignedIn, code: str) -> Opened:
    """Show a code of the authenticator app. Raises :class:`SecondFactorRefused`, TooManyTries."""
    person = _person(who)

    def take(tx: Tx) -> None:
        take_code(market, tx, person, code, confirmed=True)

    return _confirmed(market, who, "code", take)


def confirm_by_recovery_code(market: Market, who: SignedIn, code: str) -> Opened:
    """Use a recovery code up. Raises :class:`SecondFactorRefused`, TooManyTries."""
    person = _person(who)

    def take(tx: Tx) -> None:
        factors.use_recovery_code(tx.session, person, code, tx.now)

    return _confirmed(market, who, "recovery", take)


def passkey_options(market: Market, who: SignedIn) -> dict[str, Any]:
    """What the browser needs to sign with one of the person's passkeys, once and within five minutes."""
    person, challenge = _person(who), secrets.token_bytes(32)
    market.store.jot(
        lambda session, now: factors.challenge_for(session, _USE, who.id, now, value=challenge.hex())
    )
    known = market.store.read(lambda session: [row.credential for row in factors.passkeys(session, person)])
    return passkeys.assertion(site(market), challenge=challenge, known=known)


def confirm_by_passkey(market: Market, who: SignedIn, reply: dict[str, Any]) -> Opened:
    """Sign with a passkey. Raises :class:`SecondFactorRefused`, TooManyTries."""
    person = _person(who)
    challenge = market.store.jot(lambda session, now: factors.take_challenge(session, _USE, who.id, now))
    rows = market.store.read(lambda session: factors.passkeys(session, person))
    key = next((row for row in rows if row.credential == reply.get("id")), None)

    def take(tx: Tx) -> None:
        if challenge is None or key is None:
            raise SecondFactorRefused("the passkey was not accepted")
        count = passkeys.asserted(
            site(market),
            reply,
            bytes.fromhex(challenge.value),
            public_key=key.public_key,
            sign_count=key.sign_count,
        )
        factors.count_signature(tx.session, key, count, tx.now)

    return _confirmed(market, who, "passkey", take)


def confirm_by_password(market: Market, who: SignedIn, password: str) -> Opened:
    """Type the password once more, where there is no second factor. Raises SignInRefused, TooManyTries."""
    person = _person(who)
    row = market.store.read(lambda session: accounts.by_id(session, person))
    targets = throttling.account(tries_key(market), row.login, who.actor.ip_truncated)
    market.store.jot(lambda session, now: throttling.claim(session, targets, now))
    command = ConfirmSession(who.id, "password")
    with market.store.refusing(who.actor, command):
        if who.has_factor or not market.passwords.verify(row.password_hash, password):
            raise SignInRefused("the password is wrong, or a second factor is needed")
    return _proved(market, who, command, lambda tx: throttling.forgive(tx.session, targets), factor=False)


def take_code(market: Market, tx: Tx, person: str, code: str, *, confirmed: bool) -> None:
    """Use a code of the authenticator app up. Raises :class:`SecondFactorRefused`.

    ``confirmed``: the app must have shown a code before.
    """
    row = factors.totp_of(tx.session, person)
    if row is None or (confirmed and row.confirmed_at is None):
        raise SecondFactorRefused("there is no authenticator app for this account")
    secret = sealing.opened(seal_key(market), row.sealed, person).decode()
    step = codes.step_of(secret, code, tx.now, after=row.last_step)
    if step is None:
        raise SecondFactorRefused("the code is wrong, too old or was used before")
    factors.take_step(tx.session, person, step, tx.now)


def seal_key(market: Market) -> bytes:
    """The key under which the keys of authenticator apps are sealed."""
    return sealing.derived(market.settings.secret_key, "second factors")


def site(market: Market) -> Site:
    """Where passkeys of this exchange are valid."""
    return Site.of(market.settings.base_url)


def _confirmed(market: Market, who: SignedIn, by: str, take: Callable[[Tx], None]) -> Opened:
    target = throttling.factor(tries_key(market), _person(who))
    market.store.jot(lambda session, now: throttling.claim(session, [target], now))

    def check(tx: Tx) -> None:
        take(tx)
        throttling.forgive(tx.session, [target])

    return _proved(market, who, ConfirmSession(who.id, by), check, factor=True)


def _proved(
    market: Market, who: SignedIn, command: ConfirmSession, check: Callable[[Tx], None], *, factor: bool
) -> Opened:
    shown: list[str] = []

    def work(tx: Tx) -> dict[str, Any]:
        check(tx)
        shown[:] = [sessions.proved(tx.session, who.id, now=tx.now, factor=factor)]
        return {"session": who.id}

    market.store.perform(who.actor, command, work)
    return Opened(who.id, shown[0])


def _person(who: SignedIn) -> str:
    if who.person is None:
        raise SecondFactorRefused("a session that a token opened has no second factor")
    return who.person
