"""The key of each encrypted object, wrapped under a master key: what a rotation writes anew.

An object is named by the digest of its encrypted bytes, which never change; its row is written in the
transaction in which something names the object. An answer is also found by the digest of its plain bytes,
which its receipt states.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    MetaData,
    Row,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from exchange.errors import MasterKeyMissing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from exchange.keyring import KeyRing

metadata = MetaData()

# Which master keys there are, without themselves. New objects are under the newest that is not retired.
master_key = Table(
    "master_key",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("proof", String(64), nullable=False),
    Column("made_at", String(32), nullable=False),
    Column("retired_at", String(32)),
)

data_key = Table(
    "data_key",
    metadata,
    Column("object", String(64), primary_key=True),
    Column("plain_sha256", String(64), unique=True),
    Column("master", String(40), ForeignKey("master_key.id"), nullable=False),
    Column("wrapped", String(120), nullable=False),
    Index("data_key_by_master", "master", "object"),
)


@dataclass(frozen=True)
class Sealed:
    """An encrypted object that nothing names yet, with its key.

    Attributes:
        object: SHA-256 of its bytes.
        plain_sha256: of what it holds, where it is to be found by that.
    """

    object: str
    key: bytes = field(repr=False)
    plain_sha256: str | None = None


def record(session: Session, ring: KeyRing, made: Iterable[Sealed]) -> list[str]:
    """Write down the keys of objects, wrapped under the newest master key that this process knows: in a
    transaction it does not look for newer ones. A rotation comes by once more for what was under the old one.

    Returns the objects that are not needed: others hold the same bytes already.
    """
    objects = {one.object: one for one in made}
    plain = [one.plain_sha256 for one in objects.values() if one.plain_sha256]
    known = select(data_key.c.object, data_key.c.plain_sha256).where(
        data_key.c.object.in_(list(objects)) | data_key.c.plain_sha256.in_(plain)
    )
    there = {text for row in session.execute(known) for text in row if text}
    master = current(session, among=ring.loaded())
    rows = [
        {
            "object": one.object,
            "plain_sha256": one.plain_sha256,
            "master": master,
            "wrapped": ring.wrap(master, one.key, one.object),
        }
        for one in objects.values()
        if not {one.object, one.plain_sha256} & there
    ]
    if rows:
        session.execute(insert(data_key), rows)
    return [one.object for one in objects.values() if one.plain_sha256 in there and one.object not in there]


def current(session: Session, among: Collection[str] | None = None) -> str:
    """The master key that new objects are under: the newest, or the newest of some. Raises
    :class:`MasterKeyMissing` where there is none.
    """
    newest = select(master_key.c.id).where(master_key.c.retired_at.is_(None))
    if among is not None:
        newest = newest.where(master_key.c.id.in_(list(among)))
    found: str | None = session.scalars(
        newest.order_by(master_key.c.made_at.desc(), master_key.c.id).limit(1)
    ).first()
    if found is None:
        raise MasterKeyMissing("this exchange has no master key, or not yet")
    return found


def masters(session: Session) -> Sequence[Row[Any]]:
    """All master keys, the newest first, with the number of data keys under each as ``objects``."""
    under = select(func.count()).where(data_key.c.master == master_key.c.id).scalar_subquery()
    found = select(master_key, under.label("objects"))
    return session.execute(found.order_by(master_key.c.made_at.desc(), master_key.c.id)).all()


def register(session: Session, key_id: str, proof: str, *, now: datetime) -> None:
    """Write down that there is a master key, which is the current one from now on."""
    stamp = now.isoformat(timespec="microseconds")
    session.execute(insert(master_key).values(id=key_id, proof=proof, made_at=stamp))


def retire(session: Session, key_id: str, *, now: datetime) -> None:
    """Say that a master key is needed no more; the caller made sure of it."""
    stamp = now.isoformat(timespec="microseconds")
    session.execute(update(master_key).where(master_key.c.id == key_id).values(retired_at=stamp))


def of_objects(session: Session, objects: Collection[str]) -> Sequence[Row[Any]]:
    """The rows of these objects."""
    return session.execute(select(data_key).where(data_key.c.object.in_(list(objects)))).all()


def of_plain(session: Session, sha256: str) -> Row[Any] | None:
    """The row of the object that holds the bytes of this digest; None where it is not encrypted."""
    return session.execute(select(data_key).where(data_key.c.plain_sha256 == sha256)).one_or_none()


def under_others(session: Session, master: str, *, after: str, limit: int) -> Sequence[Row[Any]]:
    """Rows under another master key than this one, by object."""
    others = data_key.c.master != master, data_key.c.object > after
    return session.execute(select(data_key).where(*others).order_by(data_key.c.object).limit(limit)).all()


def rewrap(session: Session, row: Row[Any], master: str, wrapped: str) -> bool:
    """Put a row under another master key, unless somebody else did; whether it was this caller."""
    same = data_key.c.object == row.object, data_key.c.master == row.master
    changed = session.execute(update(data_key).where(*same).values(master=master, wrapped=wrapped))
    return bool(changed.rowcount)  # type: ignore[attr-defined]


def forget(session: Session, sha256: str) -> str | None:
    """Forget the key of the object that holds the bytes of this digest: nobody reads it any more. Returns the
    object; None where it was not encrypted.
    """
    row = of_plain(session, sha256)
    if row is None:
        return None
    session.execute(delete(data_key).where(data_key.c.object == row.object))
    return str(row.object)


def named(session: Session, objects: Collection[str]) -> set[str]:
    """Which of these objects have a key, and so may still be read."""
    return set(session.scalars(select(data_key.c.object).where(data_key.c.object.in_(list(objects)))))
