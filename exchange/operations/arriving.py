"""Joining by a link that works once: with a new account, with the one that is signed in, or coming back; and
leaving.

Who came by a link is in the log by id alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import authorizations, identity
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import InvitationUnknown, MemberExists
from exchange.operations.signing_in import Opened, StartSession, open_for, proved
from exchange.persons import accounts
from exchange.persons.passwords import check_strength

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.persons.accounts import Member
    from exchange.persons.sessions import SignedIn
    from exchange.store import Tx

LEFT = "person.left"


@dataclass(frozen=True)
class JoinOrganisation:
    """Become a member by a link."""

    kind: ClassVar[str] = "member.joined"
    refused: ClassVar[str] = "invitation.refused"

    def entry(self) -> Entry:
        """The audit entry: a membership, by id once there is one."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="member"))


def look_at(market: Market, text: str) -> dict[str, Any]:
    """What a link is for: ``purpose`` ("join" or "password"), the login, the organisation's name, whether
    there is an account (``known``), and whether it is a member of nothing (``alone``).

    Raises InvitationUnknown.
    """
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        row = accounts.invited(session, text, now)
        names = identity.organisation_names(session)
        person = accounts.by_login(session, row.login)
        known = person is not None and not accounts.is_forsaken(session, person)
        return {
            "purpose": "password" if row.person else "join",
            "login": row.login,
            "org": names.get(row.org or ""),
            "known": known,
            "alone": person is not None and not accounts.organisations(session, person.id),
        }

    return market.store.read(look)


def accept(market: Market, place: Actor, text: str, *, name: str, password: str, agent: str) -> Opened:
    """Use a link: make an account and join, or set a new password; a session is opened.

    An account that is a member of nothing any more joins with the password that it has: no session opens for
    it from which it could.

    Raises:
        InvitationUnknown: the link is unknown, was used or is too old.
        MemberExists: there is an account already, which joins by :func:`accept_as`.
        PasswordWeak: the password is too short or too common.
        SignInRefused: it is not the password of the account that comes back.
        TooManyTries: it was wrong too often.
    """
    command = JoinOrganisation()
    with market.store.refusing(place, command):
        told = look_at(market, text)
        if told["purpose"] == "join" and told["known"] and told["alone"]:
            return _come_back(market, place, text, told["login"], password=password, agent=agent)
        if told["purpose"] == "join":
            named = accounts.normal_name(name)
            if told["known"]:
                raise MemberExists("there is an account with this login", hint="Sign in and open it again.")
        else:
            named = ""
        check_strength(password, about=(told["login"], named))
    hashed, joined = market.passwords.hash(password), [""]

    def work(tx: Tx) -> dict[str, Any]:
        row = accounts.invited(tx.session, text, tx.now)
        if row.person:
            joined[0] = row.person
            accounts.change_person(tx.session, row.person, password_hash=hashed)
            authorizations.revoke_of(tx.session, row.person, tx.now)
            tx.record(kind="password.set", object=ObjectGroup(type="person", id=row.person))
        else:
            joined[0] = _made(tx, row.login, named, hashed)
            join_by(tx, row, joined[0])
        accounts.end_invitation(tx.session, row.id, tx.now)
        return {"person": joined[0]}

    market.store.perform(place, command, work)
    return open_for(market, place, joined[0], agent=agent, command=StartSession())


def accept_as(market: Market, who: SignedIn, text: str) -> str:
    """Join another organisation with the account that is signed in; returns the organisation's id.

    Raises InvitationUnknown, also for a link that was made for another login.
    """
    command = JoinOrganisation()

    def work(tx: Tx) -> dict[str, Any]:
        row = accounts.invited(tx.session, text, tx.now)
        if row.login != who.login or row.org is None or who.person is None:
            raise InvitationUnknown("this link was made for somebody else")
        join_by(tx, row, who.person)
        accounts.end_invitation(tx.session, row.id, tx.now)
        return {"org": row.org}

    return str(market.store.perform(who.actor, command, work).value["org"])


def join_by(tx: Tx, row: Any, person: str) -> None:
    """Make a person a member by an invitation, in its transaction.

    A link to set a new password ends: it would open a further organisation, and whoever holds it was trusted
    by an earlier one alone. With an administrator the link of the organisation's first one ends.
    """
    accounts.end_password_links(tx.session, person, tx.now)
    made = accounts.join(tx.session, person, org=row.org, role=row.role, admin=row.admin, now=tx.now)
    if row.admin:
        accounts.end_first_links(tx.session, row.org, tx.now)
    tx.record(object=ObjectGroup(type="member", id=made, version=row.id))


def leave(tx: Tx, who: Member) -> None:
    """End a membership, in its transaction. An entry says whose it was: the account is still the one that was
    opened by it, and nothing else tells so afterwards.
    """
    accounts.remove_member(tx.session, who.id)
    tx.also(LEFT, object=ObjectGroup(type="person", id=who.person, version=who.id))


def _made(tx: Tx, login: str, name: str, password_hash: str) -> str:
    """A new person, or one whom nobody could sign in as any more, with a password. Raises MemberExists."""
    row = accounts.by_login(tx.session, login)
    if row is None or not accounts.is_forsaken(tx.session, row):
        return accounts.create_person(
            tx.session, login=login, name=name, password_hash=password_hash, now=tx.now
        )
    accounts.rename(tx.session, row, name)
    accounts.change_person(tx.session, row.id, password_hash=password_hash)
    return row.id


def _come_back(market: Market, place: Actor, text: str, login: str, *, password: str, agent: str) -> Opened:
    """Join with the account of the link's login, which is a member of nothing, by its password."""
    command = JoinOrganisation()
    person, check = proved(market, place, command, login=login, password=password)

    def work(tx: Tx) -> dict[str, Any]:
        row = accounts.invited(tx.session, text, tx.now)
        if row.login != login or accounts.by_id(tx.session, person).disabled_at is not None:
            raise InvitationUnknown("this link is unknown, was used, or is too old")
        check(tx)
        join_by(tx, row, person)
        accounts.end_invitation(tx.session, row.id, tx.now)
        return {"person": person}

    market.store.perform(place, command, work)
    return open_for(market, place, person, agent=agent, command=StartSession())
