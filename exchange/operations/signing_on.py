"""Signing in by an identity provider (OpenID Connect): only for persons who were invited before.

An account is tied to the provider's subject by the link that it joins with, never by an e-mail address alone:
whoever could claim an address at the provider would own the account.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exchange.errors import SignInRefused, SingleSignOnRefused
from exchange.operations.arriving import JoinOrganisation, join_by
from exchange.operations.signing_in import Opened, StartSession, open_for
from exchange.persons import accounts

if TYPE_CHECKING:
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx


@dataclass(frozen=True)
class Identity:
    """Who the provider says that it is, once everything it sent was checked. ``email`` is a verified one."""

    issuer: str
    subject: str
    email: str
    name: str


def sign_on(market: Market, place: Actor, known: Identity, *, agent: str) -> Opened:
    """Open a session for the person of a subject. Raises SingleSignOnRefused where there is none."""
    command = StartSession()
    with market.store.refusing(place, command):
        row = market.store.read(lambda session: accounts.by_subject(session, known.issuer, known.subject))
        if row is None:
            raise SingleSignOnRefused("no account is tied to this identity")
    try:
        return open_for(market, place, row.id, agent=agent, command=command)
    except SignInRefused as refusal:  # logged by then; the provider's visitor typed no password
        raise SingleSignOnRefused("the account may not come in") from refusal


def _tied(tx: Tx, login: str, known: Identity) -> str:
    """The person of an identity, who has been here before under this login, or a new one."""
    row = accounts.by_subject(tx.session, known.issuer, known.subject)
    if row is not None:
        if row.login != login or row.disabled_at is not None:
            raise SingleSignOnRefused("another account is tied to this identity")
        return str(row.id)
    person = accounts.create_person(
        tx.session, login=login, name=known.name or login, password_hash=None, now=tx.now
    )
    accounts.tie(tx.session, person, known.issuer, known.subject)
    return person


def join_on(market: Market, place: Actor, text: str, known: Identity, *, agent: str) -> Opened:
    """Use a link with an identity of the provider, whose verified address is the one that was invited.

    The account that is tied to the identity joins, or else a new one. Raises InvitationUnknown, MemberExists,
    SingleSignOnRefused.
    """
    made: list[str] = []

    def work(tx: Tx) -> dict[str, Any]:
        row = accounts.invited(tx.session, text, tx.now)
        if row.person is not None or row.login != known.email.strip().lower():
            raise SingleSignOnRefused("the link was made for another login")
        person = _tied(tx, row.login, known)
        join_by(tx, row, person)
        accounts.end_invitation(tx.session, row.id, tx.now)
        made[:] = [person]
        return {"person": person}

    market.store.perform(place, JoinOrganisation(), work)
    return open_for(market, place, made[0], agent=agent, command=StartSession())
