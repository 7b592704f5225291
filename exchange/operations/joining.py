"""Members of organisations: invited by a link that works once, changed, disabled, removed, reset.

An administrator of the organisation does it on the portal, the operator at the machine (the actor SYSTEM).
Entries name ids, never a login or a name: the log is public for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import authorizations, identity, restraints
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import MemberExists, NotFound, RoleMissing
from exchange.identity import SYSTEM, Actor, Role
from exchange.operations.arriving import leave
from exchange.persons import accounts, factors, sessions

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exchange.market import Market
    from exchange.persons.accounts import Member
    from exchange.store import Tx


@dataclass(frozen=True)
class InviteMember:
    """Make a link with which somebody joins an organisation; whom it is for is not in the log."""

    org: str
    role: str
    admin: bool
    kind: ClassVar[str] = "member.invited"
    refused: ClassVar[str] = "member.refused"

    def entry(self) -> Entry:
        """The audit entry: an organisation; the invitation by id once there is one."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="organisation", id=self.org))


@dataclass(frozen=True)
class WithdrawInvitation:
    """End a link before anybody used it."""

    invitation: str
    kind: ClassVar[str] = "invitation.withdrawn"
    refused: ClassVar[str] = "invitation.refused"

    def entry(self) -> Entry:
        """The audit entry: an invitation, by id."""
        return Entry(
            kind=self.kind, outcome="done", object=ObjectGroup(type="invitation", id=self.invitation)
        )


@dataclass(frozen=True)
class ChangeMember:
    """Change a member: ``verb`` is changed, disabled, enabled, removed or reset."""

    member: str
    verb: str
    admin: bool | None = None
    role: str = ""
    kind: ClassVar[str] = "member.changed"
    refused: ClassVar[str] = "member.refused"

    def entry(self) -> Entry:
        """The audit entry: a membership, by id."""
        return Entry(
            kind=f"member.{self.verb}", outcome="done", object=ObjectGroup(type="member", id=self.member)
        )


@dataclass(frozen=True)
class DisablePerson:
    """Shut a person out of every organisation, or let the person in again."""

    person: str
    disabled: bool
    kind: ClassVar[str] = "person.disabled"
    refused: ClassVar[str] = "person.refused"

    def entry(self) -> Entry:
        """The audit entry: a person, by id."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="person", id=self.person))


def organisation(market: Market, name: str) -> str:
    """The id of the organisation of this name. Raises NotFound."""
    return market.store.read(lambda session: identity.find_organisation(session, name))[0]


def invite(
    market: Market, actor: Actor, *, org: str, login: str, role: Role, admin: bool = False
) -> dict[str, Any]:
    """Make a link with which ``login`` joins ``org``; ``link`` in the reply is shown once.

    Raises RoleMissing where the actor does not administer the organisation, or it does not hold the role;
    MemberExists where the login is a member already.
    """
    command, shown = InviteMember(org, str(role), admin), [""]
    with market.store.refusing(actor, command):
        wanted = accounts.normal_login(login)

    def work(tx: Tx) -> dict[str, Any]:
        require_admin(tx.session, actor, org)
        known = accounts.by_login(tx.session, wanted)
        if known is not None and accounts.member_of(tx.session, known.id, org) is not None:
            raise MemberExists("this person is a member of the organisation already")
        made, shown[0] = accounts.invite(
            tx.session, login=wanted, now=tx.now, org=org, role=str(role), admin=admin
        )
        tx.record(object=ObjectGroup(type="organisation", id=org, version=made))
        return {"invitation": made, "org": org, "role": str(role), "admin": admin}

    done = market.store.perform(actor, command, work)
    return {**done.value, "login": wanted, "link": _link(market, shown[0])}


def invite_first(market: Market, actor: Actor, *, org: str, login: str) -> dict[str, Any]:
    """Make the link of a buyer's or provider's first administrator, as an operator; ``link`` is shown once.

    Once somebody administers the organisation, inviting is that person's: an operator who could let anybody
    in could be anybody. So one such link is open at most, and it opens nothing then. Officers and operators
    are invited at the machine. Raises RoleMissing, MemberExists.
    """
    command, shown = InviteMember(org, "", True), [""]
    with market.store.refusing(actor, command):
        actor.require(Role.OPERATOR)
        wanted = accounts.normal_login(login)

    def work(tx: Tx) -> dict[str, Any]:
        role = identity.role_of(tx.session, org)
        if role not in (Role.BUYER, Role.PROVIDER):
            raise RoleMissing(
                "officers and operators are invited at the machine",
                hint="Run `exchange member invite` there.",
            )
        if accounts.administered(tx.session, org):
            raise MemberExists(
                "somebody administers this organisation already",
                hint="Its administrators invite further members.",
            )
        made, shown[0] = accounts.invite(
            tx.session, login=wanted, now=tx.now, org=org, role=str(role), admin=True, first=True
        )
        tx.record(object=ObjectGroup(type="organisation", id=org, version=made))
        return {"invitation": made, "org": org, "role": str(role), "admin": True}

    done = market.store.perform(actor, command, work)
    return {**done.value, "login": wanted, "link": _link(market, shown[0])}


def withdraw(market: Market, actor: Actor, *, org: str, invitation: str) -> None:
    """End a link to join the actor's organisation. Raises NotFound."""

    def work(tx: Tx) -> dict[str, Any]:
        require_admin(tx.session, actor, org)
        if invitation not in {row.id for row in accounts.open_invitations(tx.session, org, tx.now)}:
            raise NotFound("the organisation has no such invitation")
        accounts.end_invitation(tx.session, invitation, tx.now)
        return {"invitation": invitation}

    market.store.perform(actor, WithdrawInvitation(invitation[:64]), work)


def members(market: Market, actor: Actor, *, org: str) -> dict[str, Any]:
    """The members of an organisation and the links that nobody has used, for those who administer it."""
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        require_admin(session, actor, org)
        waiting = accounts.open_invitations(session, org, now)
        return {
            "items": [one.document() for one in accounts.members(session, org)],
            "invitations": [
                {
                    "invitation": row.id,
                    "login": row.login,
                    "role": row.role,
                    "admin": row.admin,
                    "expires_at": row.expires_at,
                }
                for row in waiting
            ],
        }

    return market.store.read(look)


def change(
    market: Market,
    actor: Actor,
    *,
    org: str,
    member: str,
    admin: bool | None = None,
    role: Role | None = None,
) -> dict[str, Any]:
    """Make a member an administrator or not, or give another role that the organisation holds.

    Raises LastAdmin, RoleMissing, NotFound.
    """

    def apply(tx: Tx, who: Member) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if admin is not None:
            if not admin:
                _keep_an_admin(tx, who)
            values["admin"] = admin
        if role is not None:
            accounts.require_role(tx.session, org, str(role))
            values["role"] = str(role)
        if values:
            accounts.change_member(tx.session, who.id, **values)
        return {"member": who.id, **values}

    command = ChangeMember(member[:64], "changed", admin, str(role or ""))
    return _changed(market, actor, org, command, apply)


def disable(market: Market, actor: Actor, *, org: str, member: str, disabled: bool = True) -> dict[str, Any]:
    """Shut a member out of the organisation, or let the member in again.

    Sessions end, and the programs that the member let in; neither comes back with the member.
    """

    def apply(tx: Tx, who: Member) -> dict[str, Any]:
        if disabled:
            _keep_an_admin(tx, who)
            _end_access(tx, who)
        stamp = tx.now.isoformat(timespec="microseconds") if disabled else None
        accounts.change_member(tx.session, who.id, disabled_at=stamp)
        return {"member": who.id, "state": "disabled" if disabled else "active"}

    return _changed(
        market, actor, org, ChangeMember(member[:64], "disabled" if disabled else "enabled"), apply
    )


def remove(market: Market, actor: Actor, *, org: str, member: str) -> dict[str, Any]:
    """End a membership, with the sessions in the organisation and the programs let in; the account stays.

    Links for a new password end, too: who was trusted with one has nothing to do with the account any more.
    Raises LegalHold where something is held of the organisation: the membership leads from it to the person.
    """

    def apply(tx: Tx, who: Member) -> dict[str, Any]:
        restraints.require_unheld_traces(tx.session, {org})
        _keep_an_admin(tx, who)
        _end_access(tx, who)
        accounts.end_password_links(tx.session, who.person, tx.now)
        leave(tx, who)
        return {"member": who.id, "state": "removed"}

    return _changed(market, actor, org, ChangeMember(member[:64], "removed"), apply)


def reset(market: Market, actor: Actor, *, org: str, member: str) -> dict[str, Any]:
    """Take password and second factors away from a member who lost them; ``link`` sets a new password.

    Every session of the person ends, and every program that the person let in. An organisation's
    administrator may do it where the person is a member of no other organisation, shut out there or not;
    elsewhere it is the operator's.
    """
    shown = [""]

    def apply(tx: Tx, who: Member) -> dict[str, Any]:
        if actor.org != SYSTEM.org and accounts.organisations(tx.session, who.person) != {org}:
            raise RoleMissing(
                "this person is a member of other organisations too", hint="Ask the operator to reset it."
            )
        sessions.end_all(tx.session, who.person, tx.now)
        authorizations.revoke_of(tx.session, who.person, tx.now)
        factors.remove_all(tx.session, who.person)
        accounts.change_person(tx.session, who.person, password_hash=None)
        made, shown[0] = accounts.invite(tx.session, login=who.login, now=tx.now, person_id=who.person)
        return {"member": who.id, "invitation": made}

    done = _changed(market, actor, org, ChangeMember(member[:64], "reset"), apply)
    return {**done, "link": _link(market, shown[0])}


def disable_person(market: Market, *, login: str, disabled: bool = True) -> dict[str, Any]:
    """Shut a person out of every organisation, or let the person in again: the operator's, at the machine."""
    row = market.store.read(lambda session: accounts.by_login(session, accounts.normal_login(login)))
    if row is None:
        raise NotFound("there is no such person")

    def work(tx: Tx) -> dict[str, Any]:
        stamp = tx.now.isoformat(timespec="microseconds") if disabled else None
        accounts.change_person(tx.session, row.id, disabled_at=stamp)
        if disabled:
            sessions.end_all(tx.session, row.id, tx.now)
            authorizations.revoke_of(tx.session, row.id, tx.now)
        else:
            tx.record(kind="person.enabled")
        return {"person": row.id, "state": "disabled" if disabled else "active"}

    return market.store.perform(SYSTEM, DisablePerson(row.id, disabled), work).value


def member_named(market: Market, *, org: str, login: str) -> str:
    """The id of the membership of a login in an organisation. Raises NotFound."""
    wanted = accounts.normal_login(login)

    def look(session: Session) -> str:
        row = accounts.by_login(session, wanted)
        found = accounts.member_of(session, row.id, org) if row is not None else None
        if found is None:
            raise NotFound("the organisation has no such member")
        return found.id

    return market.store.read(look)


def _changed(market: Market, actor: Actor, org: str, command: ChangeMember, apply: Any) -> dict[str, Any]:
    def work(tx: Tx) -> dict[str, Any]:
        require_admin(tx.session, actor, org)
        made: dict[str, Any] = apply(tx, accounts.member(tx.session, org, command.member))
        tx.record(kind=f"member.{command.verb}")
        return made

    return market.store.perform(actor, command, work).value


def _end_access(tx: Tx, who: Member) -> None:
    sessions.end_all(tx.session, who.person, tx.now, org=who.org)
    authorizations.revoke_of(tx.session, who.person, tx.now, org=who.org)


def _keep_an_admin(tx: Tx, who: Member) -> None:
    if tx.actor.org != SYSTEM.org:
        accounts.keep_an_admin(tx.session, who)


def require_admin(session: Session, actor: Actor, org: str) -> None:
    """Raise RoleMissing unless the actor administers the organisation, or is the exchange itself."""
    if actor == SYSTEM:
        return
    found = accounts.member_of(session, actor.ref, org) if actor.org == org else None
    if found is None or not found.active or not found.admin:
        raise RoleMissing(
            "this needs an administrator of the organisation", hint="Ask one of your administrators."
        )


def _link(market: Market, text: str) -> str:
    return f"{market.settings.base_url.rstrip('/')}/join/{text}"
