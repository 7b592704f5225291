"""The row of a contribution profile's release and its states; docs/how-an-answer-is-made tells the road.

RESERVED -> EXECUTING -> RELEASED, or VOIDED before data was touched, or FORFEITED after. A version has at
most one release that was not voided, so that its profile is paid for once. Every move names the state that
it leaves, so that two movers cannot both succeed. A version of the same files and policy as one before it
has no release of its own: it shows that one's document again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, Index, MetaData, Row, String, Table, insert, select, update

from exchange.errors import InProgress, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

metadata = MetaData()

RESERVED, EXECUTING, RELEASED = "RESERVED", "EXECUTING", "RELEASED"
VOIDED, FORFEITED = "VOIDED", "FORFEITED"
OPEN = (RESERVED, EXECUTING)

profile_release = Table(
    "profile_release",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("org", String(40), nullable=False),
    Column("state", String(16), nullable=False),
    Column("dataset", String(40), nullable=False),
    Column("slug", String(200), nullable=False),
    Column("version", String(40), nullable=False),
    Column("domain", String(200), nullable=False),
    Column("rho_nano", BigInteger, nullable=False),
    Column("reserve_journal", String(40), nullable=False),
    Column("settle_journal", String(40)),
    Column("lease_until", String(32), nullable=False),
    Column("reserved_at", String(32), nullable=False),
    Column("started_at", String(32)),
    Column("ended_at", String(32)),
    Column("entry_id", String(40)),
    Column("failure", String(40)),
    Index("profile_release_by_version", "version"),
    Index("profile_release_by_domain", "domain"),
    Index("profile_release_by_state", "state", "lease_until"),
)


profile_reuse = Table(
    "profile_reuse",
    metadata,
    Column("version", String(40), primary_key=True),
    Column("release", String(40), nullable=False),
    Column("entry_id", String(40), nullable=False),
    Column("reused_at", String(32), nullable=False),
)


def reserve(session: Session, values: Mapping[str, Any]) -> None:
    """Insert a release in state RESERVED."""
    session.execute(insert(profile_release).values(state=RESERVED, **values))


def advance(session: Session, release_id: str, *, leave: str, enter: str, **values: Any) -> None:
    """Move a release from ``leave`` to ``enter``. Raises :class:`InProgress` if somebody else moved it."""
    here = profile_release.c.id == release_id, profile_release.c.state == leave
    moved = session.execute(update(profile_release).where(*here).values(state=enter, **values))
    if moved.rowcount != 1:  # type: ignore[attr-defined]
        raise InProgress("another process moved the release of this profile on")


def find(session: Session, release_id: str) -> Row[Any]:
    """A release by id. Raises :class:`NotFound`."""
    row = session.execute(select(profile_release).where(profile_release.c.id == release_id)).one_or_none()
    if row is None:
        raise NotFound("there is no such release of a profile")
    return row


def of_version(session: Session, version: str) -> Row[Any] | None:
    """The version's one release that was not voided, in whatever state."""
    here = profile_release.c.version == version, profile_release.c.state != VOIDED
    return session.execute(select(profile_release).where(*here)).one_or_none()


def reuse(session: Session, values: Mapping[str, Any]) -> None:
    """Insert that a version shows the document of an earlier version's release."""
    session.execute(insert(profile_reuse).values(**values))


def reuse_of(session: Session, version: str) -> Row[Any] | None:
    """The earlier release whose document the version shows, with ``reused_at``; None without one."""
    found = select(profile_release, profile_reuse.c.reused_at).join(
        profile_reuse, profile_reuse.c.release == profile_release.c.id
    )
    return session.execute(found.where(profile_reuse.c.version == version)).one_or_none()


def of_domain(session: Session, domain: str) -> Sequence[Row[Any]]:
    """Every release that holds or has spent rho of a domain."""
    here = profile_release.c.domain == domain, profile_release.c.state != VOIDED
    return session.execute(select(profile_release).where(*here)).all()


def stale(session: Session, now: datetime, *, limit: int = 100) -> Sequence[Row[Any]]:
    """Open releases whose lease has ended: the sweeper's work."""
    ended = profile_release.c.lease_until <= now.isoformat(timespec="microseconds")
    found = select(profile_release).where(profile_release.c.state.in_(OPEN), ended)
    return session.execute(found.order_by(profile_release.c.lease_until).limit(limit)).all()
