"""What an older release kept of persons in plain is sealed when its database is first opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from exchange.persons import subjects
from exchange.persons.tables import invitation, passkey, person, portal_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.persons.subjects import Subjects

AT_ONCE = 200


def is_plain(session: Session) -> bool:
    """Whether anything is still to be sealed."""
    return any(
        session.execute(select(table.c.id).where(table.c.sealed.is_(None)).limit(1)).first() is not None
        for table in _ROWS
    )


def seal_some(session: Session) -> None:
    """Seal a few rows of each table; what is not personal stays as it was."""
    keeper = subjects.of(session)
    for table, change in _ROWS.items():
        rows = session.execute(select(table).where(table.c.sealed.is_(None)).limit(AT_ONCE)).all()
        for row in rows:
            session.execute(update(table).where(table.c.id == row.id).values(**change(session, keeper, row)))


def _person(session: Session, keeper: Subjects, row: Row[Any]) -> dict[str, Any]:
    tied = row.oidc_subject is not None
    known = keeper.digest("identity", f"{row.oidc_issuer}\n{row.oidc_subject}") if tied else None
    return {
        "login": keeper.digest("login", row.login),
        "name": "",
        "oidc_issuer": "" if tied else None,
        "oidc_subject": known,
        "sealed": keeper.seal(session, row.id, person.name, login=row.login, name=row.name),
    }


def _invitation(session: Session, keeper: Subjects, row: Row[Any]) -> dict[str, Any]:
    sealed = keeper.seal(session, row.person or row.id, invitation.name, login=row.login)
    return {"login": keeper.digest("login", row.login), "sealed": sealed}


def _session(session: Session, keeper: Subjects, row: Row[Any]) -> dict[str, Any]:
    known = {"network": row.network, "agent": row.agent}
    sealed = keeper.seal(session, row.person or row.token, portal_session.name, **known)
    return {"network": "", "agent": "", "sealed": sealed}


def _passkey(session: Session, keeper: Subjects, row: Row[Any]) -> dict[str, Any]:
    return {"name": "", "sealed": keeper.seal(session, row.person, passkey.name, name=row.name)}


_ROWS: dict[Any, Callable[[Session, Subjects, Row[Any]], dict[str, Any]]] = {
    person: _person,
    invitation: _invitation,
    portal_session: _session,
    passkey: _passkey,
}
