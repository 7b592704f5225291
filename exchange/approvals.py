"""Approvals with four eyes: what one person asked for, and what another person decided, each of them once.

An approval is bound to its parameters: the log fixes the digest of the canonical document of command,
parameters, reason and salt in the entry that asks and in the one that decides.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Column,
    Index,
    MetaData,
    String,
    Table,
    Text,
    and_,
    case,
    func,
    insert,
    or_,
    select,
    update,
)

from exchange.errors import NotFound
from settlement.documents import canonical, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

metadata = MetaData()

approval = Table(
    "approval",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("command", String(40), nullable=False),
    Column("parameters", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("salt", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    # The person who asks, or the machine's own token, and what they acted with.
    Column("requested_by", String(40), nullable=False),
    Column("requested_ref", String(40), nullable=False),
    Column("requested_org", String(40), nullable=False),
    Column("requested_at", String(32), nullable=False),
    Column("requested_entry", String(40), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("decided_by", String(40)),
    Column("decided_org", String(40)),
    Column("decided_at", String(32)),
    Column("decided_entry", String(40)),
    Column("used_at", String(32)),
    Column("used_entry", String(40)),
    Index("approval_by_command", "command", "state"),
    Index("approval_by_state", "state", "expires_at"),
)

OPEN, APPROVED, DECLINED, EXPIRED = "open", "approved", "declined", "expired"
STATES = (OPEN, APPROVED, DECLINED, EXPIRED)


@dataclass(frozen=True)
class Wanted:
    """What is to be approved: a command by its name, with its parameters (ids, names, whole numbers)."""

    command: str
    parameters: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The parameters as canonical JSON (RFC 8785)."""
        return canonical(dict(self.parameters))


def ask(
    session: Session,
    wanted: Wanted,
    *,
    id: str,  # noqa: A002
    reason: str,
    by: str,
    ref: str,
    org: str,
    entry: str,
    now: datetime,
    expires_at: datetime,
) -> Row[Any]:
    """Write down that somebody asks for an approval."""
    values = {
        "id": id,
        "command": wanted.command,
        "parameters": wanted.text,
        "reason": reason,
        "salt": secrets.token_hex(16),
    }
    session.execute(
        insert(approval).values(
            **values,
            digest=_digest(values),
            state=OPEN,
            requested_by=by,
            requested_ref=ref,
            requested_org=org,
            requested_at=_stamp(now),
            requested_entry=entry,
            expires_at=_stamp(expires_at),
        )
    )
    return find(session, id)


def digest_of(row: Row[Any]) -> str:
    """The digest of an approval, from what its row says now."""
    return _digest({name: getattr(row, name) for name in ("id", "command", "parameters", "reason", "salt")})


def find(session: Session, approval_id: str) -> Row[Any]:
    """An approval by its id. Raises :class:`NotFound`."""
    row = session.execute(select(approval).where(approval.c.id == approval_id)).one_or_none()
    if row is None:
        raise NotFound("there is no such approval")
    return row


def latest(
    session: Session, wanted: Wanted, now: datetime, *, states: Sequence[str] = (OPEN, APPROVED, DECLINED)
) -> Row[Any] | None:
    """The newest approval of exactly this that still stands: asked for, given and not used, or declined, and
    not too old.
    """
    same = (approval.c.command == wanted.command, approval.c.parameters == wanted.text)
    standing = (
        approval.c.state.in_(states),
        approval.c.used_at.is_(None),
        approval.c.expires_at > _stamp(now),
    )
    ordered = select(approval).where(*same, *standing).order_by(approval.c.requested_at.desc())
    return session.execute(ordered.limit(1)).one_or_none()


def used(session: Session, wanted: Wanted, now: datetime) -> Row[Any] | None:
    """The newest approval of exactly this that was used up, and whose time has not passed, or None."""
    same = (approval.c.command == wanted.command, approval.c.parameters == wanted.text)
    lasting = (approval.c.used_at.is_not(None), approval.c.expires_at > _stamp(now))
    found = select(approval).where(*same, approval.c.state == APPROVED, *lasting)
    return session.execute(found.order_by(approval.c.used_at.desc()).limit(1)).one_or_none()


def decide(
    session: Session,
    row: Row[Any],
    *,
    state: str,
    by: str,
    org: str,
    entry: str,
    now: datetime,
    expires_at: datetime | None = None,
) -> None:
    """Approve or decline what was asked for; ``expires_at`` is until when it is to be used."""
    values = {"decided_by": by, "decided_org": org, "decided_at": _stamp(now), "decided_entry": entry}
    if expires_at is not None:
        values["expires_at"] = _stamp(expires_at)
    _move(session, row.id, state=state, **values)


def use(session: Session, row: Row[Any], *, entry: str, now: datetime) -> None:
    """Use up an approval that was given."""
    _move(session, row.id, used_at=_stamp(now), used_entry=entry)


def expire(session: Session, row: Row[Any]) -> None:
    """Say that an approval was not given, or not used, in time."""
    _move(session, row.id, state=EXPIRED)


def is_over(row: Row[Any], now: datetime) -> bool:
    """Whether the time of an approval has passed."""
    return bool(row.expires_at <= _stamp(now))


def due(session: Session, now: datetime, *, limit: int) -> Sequence[Row[Any]]:
    """Approvals whose time has passed, and that do not say so: nobody decided, or used what was given."""
    waiting = or_(approval.c.state == OPEN, (approval.c.state == APPROVED) & approval.c.used_at.is_(None))
    found = select(approval).where(waiting, approval.c.expires_at <= _stamp(now))
    return session.execute(found.order_by(approval.c.expires_at).limit(limit)).all()


def listed(
    session: Session, *, state: str | None, limit: int, after: tuple[int, str, str] | None = None
) -> Sequence[Row[Any]]:
    """Approvals, those that wait first, the newest of each first, behind the one of this :func:`place`."""
    found = select(approval) if state is None else select(approval).where(approval.c.state == state)
    decided = case((approval.c.state == OPEN, 0), else_=1)
    if after is not None:
        group, at, last = after
        older = or_(approval.c.requested_at < at, and_(approval.c.requested_at == at, approval.c.id > last))
        found = found.where(or_(decided > group, and_(decided == group, older)))
    ordered = found.order_by(decided, approval.c.requested_at.desc(), approval.c.id)
    return session.execute(ordered.limit(limit)).all()


def place(row: Row[Any]) -> tuple[int, str, str]:
    """Where an approval stands in the list of all."""
    return int(row.state != OPEN), row.requested_at, row.id


def waiting_of(session: Session, org: str) -> int:
    """How many approvals an organisation waits for."""
    own = select(func.count()).select_from(approval)
    own = own.where(approval.c.requested_org == org, approval.c.state == OPEN)
    return int(session.execute(own).scalar_one())


def parameters_of(row: Row[Any]) -> dict[str, Any]:
    """The parameters of an approval."""
    found: dict[str, Any] = json.loads(row.parameters)
    return found


def _move(session: Session, approval_id: str, **values: Any) -> None:
    session.execute(update(approval).where(approval.c.id == approval_id).values(**values))


def _digest(values: Mapping[str, Any]) -> str:
    return sha256_hex(canonical({**values, "parameters": json.loads(values["parameters"])}))


def _stamp(now: datetime) -> str:
    return now.isoformat(timespec="microseconds")
