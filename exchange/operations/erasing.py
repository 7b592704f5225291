"""Erasing a person: the key goes under which all that is personal is sealed, and the rows with it.

What a leaf says of the person stays, and verifies: ids, which lead to nobody any more, and commitments, which
nothing opens. What an organisation did stays in the books under the organisation's name, and under that id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import authorizations, restraints
from exchange.audit import log
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import NotFound
from exchange.identity import SYSTEM
from exchange.operations import saved_searches
from exchange.operations.arriving import leave
from exchange.operations.securing import person_of
from exchange.operations.signing_in import tries_key
from exchange.persons import accounts, sessions, throttling

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.persons.sessions import SignedIn
    from exchange.store import Tx


@dataclass(frozen=True)
class ErasePerson:
    """Erase what is kept of a person."""

    person: str
    kind: ClassVar[str] = "person.erased"
    refused: ClassVar[str] = "person.kept"

    def entry(self) -> Entry:
        """The audit entry: a person, by id."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="person", id=self.person))


def erase(market: Market, person: str, *, leave_without_admin: bool = False) -> dict[str, Any]:
    """Erase a person, as the operator; of one who is erased already, sweep up what a crash left.

    ``overwritten`` in the reply says whether no copy is left in the database's files: docs/personal-data.md
    says what else there is.

    Raises:
        NotFound: there never was such a person.
        LegalHold: a legal hold keeps what there is of an organisation that the person is or was a member of,
            or was invited to.
        LastAdmin: an organisation would have nobody left who administers it, which may be asked for.
    """
    if not market.store.read(lambda session: _was_erased(session, person)):
        _erase(market, SYSTEM, person, leave_without_admin=leave_without_admin)
    return {"person": person, "state": "erased", "overwritten": market.store.scrub()}


def erase_own(market: Market, who: SignedIn) -> None:
    """Erase the own account: every session and passkey ends, and programs that were let in.

    Raises:
        ConfirmationNeeded: the second factor, or the password where there is none, was not shown recently.
        LegalHold: a legal hold keeps what there is of an organisation that the person is or was a member of,
            or was invited to.
        LastAdmin: an organisation would have nobody left who administers it.
    """
    _erase(market, who.actor, person_of(who), who=who)
    market.store.scrub()


def _erase(
    market: Market,
    actor: Actor,
    person: str,
    *,
    who: SignedIn | None = None,
    leave_without_admin: bool = False,
) -> None:
    key = tries_key(market)

    def work(tx: Tx) -> dict[str, Any]:
        if who is not None:
            who.require_recent_proof(tx.now)
        known = accounts.by_id(tx.session, person)
        traces = accounts.traces(tx.session, known) | sessions.organisations(tx.session, person)
        restraints.require_unheld_traces(tx.session, traces)
        if not leave_without_admin:
            for one in accounts.memberships(tx.session, person):
                accounts.keep_an_admin(tx.session, one)
        authorizations.revoke_of(tx.session, person, tx.now)
        _, account = throttling.account(key, known.login, "")
        throttling.forgive(tx.session, [account, throttling.factor(key, person)])
        saved_searches.forget(tx.session, person)
        sessions.erase(tx.session, person)
        for one in accounts.every_membership(tx.session, person):
            leave(tx, one)
        accounts.erase(tx.session, known)
        return {"person": person}

    market.store.perform(actor, ErasePerson(person[:64]), work)


def _was_erased(session: Session, person: str) -> bool:
    """Whether the log says so. Raises NotFound where it does not and there is no such person."""
    if accounts.find(session, person) is not None:
        return False
    if not log.search(session, kind=ErasePerson.kind, q=person, limit=1).entries:
        raise NotFound("there is no such person", hint="`exchange member list --org NAME --json` shows ids.")
    return True
