"""Second factors as they are kept: an authenticator app, passkeys, recovery codes; and challenges."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select, update

from exchange.errors import NotFound, SecondFactorRefused
from exchange.identity import new_id
from exchange.persons import codes, subjects
from exchange.persons.tables import challenge, passkey, recovery_code, totp

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement, Row
    from sqlalchemy.orm import Session

    from exchange.persons.passkeys import NewKey

CHALLENGE_LASTS = timedelta(minutes=5)
MOST_PASSKEYS = 10


@dataclass(frozen=True)
class Factors:
    """What a person has beside the password."""

    totp: bool
    passkeys: tuple[dict[str, Any], ...]
    recovery_codes_left: int

    def __bool__(self) -> bool:
        return self.totp or bool(self.passkeys)

    @property
    def count(self) -> int:
        """How many there are; recovery codes are none."""
        return int(self.totp) + len(self.passkeys)


def of_person(session: Session, person: str) -> Factors:
    """A person's second factors that are in force."""
    confirmed = select(totp.c.person).where(totp.c.person == person, totp.c.confirmed_at.is_not(None))
    opened = subjects.of(session).open
    left = select(func.count()).where(recovery_code.c.person == person, recovery_code.c.used_at.is_(None))
    return Factors(
        totp=session.execute(confirmed).first() is not None,
        passkeys=tuple(
            {
                "passkey": row.id,
                **opened(session, person, passkey.name, row.sealed),
                "created_at": row.created_at,
                "used_at": row.used_at,
            }
            for row in passkeys(session, person)
        ),
        recovery_codes_left=int(session.execute(left).scalar_one()),
    )


def since(session: Session, person: str) -> str | None:
    """Since when a person has had a second factor that is in force now; None without one."""
    app = select(totp.c.confirmed_at).where(totp.c.person == person, totp.c.confirmed_at.is_not(None))
    keys = select(passkey.c.created_at).where(passkey.c.person == person)
    return min([*session.scalars(app), *session.scalars(keys)], default=None)


def begin_totp(session: Session, person: str, sealed: bytes, now: datetime) -> None:
    """Keep the key of an authenticator app that has shown no code yet, in place of one that never did."""
    session.execute(delete(totp).where(totp.c.person == person, totp.c.confirmed_at.is_(None)))
    session.execute(insert(totp).values(person=person, sealed=sealed, created_at=_stamp(now), last_step=0))


def totp_of(session: Session, person: str) -> Row[Any] | None:
    """The row of a person's authenticator app."""
    return session.execute(select(totp).where(totp.c.person == person)).one_or_none()


def take_step(session: Session, person: str, step: int, now: datetime) -> None:
    """Use a time step up, and confirm the app. Raises :class:`SecondFactorRefused` where it was used."""
    later = update(totp).where(totp.c.person == person, totp.c.last_step < step)
    first = func.coalesce(totp.c.confirmed_at, _stamp(now))
    done = session.execute(later.values(last_step=step, confirmed_at=first))
    if not done.rowcount:  # type: ignore[attr-defined]
        raise SecondFactorRefused("the code is wrong, too old or was used before")


def remove_totp(session: Session, person: str) -> None:
    """Forget the authenticator app."""
    session.execute(delete(totp).where(totp.c.person == person))


def passkeys(session: Session, person: str) -> list[Row[Any]]:
    """A person's passkeys, oldest first."""
    found = select(passkey).where(passkey.c.person == person).order_by(passkey.c.created_at, passkey.c.id)
    return list(session.execute(found).all())


def add_passkey(session: Session, person: str, made: NewKey, name: str, now: datetime) -> str:
    """Keep a passkey; returns its id. Raises :class:`SecondFactorRefused` for one that is registered."""
    taken = session.execute(select(passkey.c.id).where(passkey.c.credential == made.credential)).first()
    if taken is not None or len(passkeys(session, person)) >= MOST_PASSKEYS:
        raise SecondFactorRefused(f"the passkey is registered already, or there are {MOST_PASSKEYS}")
    key = new_id("pk")
    session.execute(
        insert(passkey).values(
            id=key,
            person=person,
            credential=made.credential,
            public_key=made.public_key,
            sign_count=made.sign_count,
            name="",
            sealed=subjects.of(session).seal(session, person, passkey.name, name=name),
            created_at=_stamp(now),
        )
    )
    return key


def count_signature(session: Session, key: Row[Any], sign_count: int, now: datetime) -> None:
    """A passkey has signed. Raises :class:`SecondFactorRefused` where it signed meanwhile with this count."""
    same = update(passkey).where(passkey.c.id == key.id, passkey.c.sign_count == key.sign_count)
    done = session.execute(same.values(sign_count=sign_count, used_at=_stamp(now)))
    if not done.rowcount:  # type: ignore[attr-defined]
        raise SecondFactorRefused("the passkey was not accepted")


def remove_passkey(session: Session, person: str, key: str) -> None:
    """Forget a passkey of this person. Raises :class:`NotFound`."""
    done = session.execute(delete(passkey).where(passkey.c.person == person, passkey.c.id == key))
    if not done.rowcount:  # type: ignore[attr-defined]
        raise NotFound("there is no such passkey")


def replace_recovery_codes(session: Session, person: str, fresh: tuple[str, ...]) -> None:
    """Keep the digests of fresh recovery codes; earlier ones end."""
    session.execute(delete(recovery_code).where(recovery_code.c.person == person))
    for one in fresh:
        session.execute(insert(recovery_code).values(person=person, sha256=codes.recovery_digest(one)))


def use_recovery_code(session: Session, person: str, code: str, now: datetime) -> None:
    """Use a recovery code up. Raises :class:`SecondFactorRefused`."""
    same = update(recovery_code).where(
        recovery_code.c.person == person,
        recovery_code.c.sha256 == codes.recovery_digest(code),
        recovery_code.c.used_at.is_(None),
    )
    if not session.execute(same.values(used_at=_stamp(now))).rowcount:  # type: ignore[attr-defined]
        raise SecondFactorRefused("the recovery code is wrong or was used before")


def remove_all(session: Session, person: str) -> None:
    """Forget everything beside the password: the person lost it."""
    for table in (totp, passkey, recovery_code):
        session.execute(delete(table).where(table.c.person == person))


def challenge_for(
    session: Session,
    purpose: str,
    holder: str,
    now: datetime,
    *,
    value: str = "",
    id: str = "",  # noqa: A002
) -> str:
    """Begin something that a later request of the same holder ends; returns the challenge's id.

    An earlier one of the same holder and purpose is dropped.
    """
    session.execute(delete(challenge).where(challenge.c.holder == holder, challenge.c.purpose == purpose))
    made = id or secrets.token_urlsafe(32)
    session.execute(
        insert(challenge).values(
            id=made, purpose=purpose, holder=holder, value=value, expires_at=_stamp(now + CHALLENGE_LASTS)
        )
    )
    return made


def take_challenge(session: Session, purpose: str, holder: str, now: datetime) -> Row[Any] | None:
    """Take a holder's challenge, once and within five minutes; None where there is none."""
    mine = (challenge.c.holder == holder) & (challenge.c.purpose == purpose)
    found = session.execute(select(challenge).where(mine)).one_or_none()
    session.execute(delete(challenge).where(mine))
    return found if found is not None and found.expires_at > _stamp(now) else None


def over(now: datetime) -> tuple[tuple[Column[Any], ColumnElement[bool]], ...]:
    """What is not kept: the key of each table, and which of its rows. A challenge is too old to be taken."""
    return ((challenge.c.id, challenge.c.expires_at <= _stamp(now)),)


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
