"""Listings that are being written: what a provider typed in each step, and the files that were sent for it.

A draft is its organisation's own and no fact of the market: nothing of it is in the log. It has a number that
grows with every save and every file, so that of two windows the one that is behind overwrites nothing, and
what is published is what was looked at. What was found in a
file shows values of single rows: it is for the provider's eyes alone, like a version's profile.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    and_,
    cast,
    func,
    insert,
    or_,
    select,
    update,
)

from exchange.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Session

T = TypeVar("T")

metadata = MetaData()

listing_draft = Table(
    "listing_draft",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("org", String(40), nullable=False),
    Column("number", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("saved_at", String(32), nullable=False),
    Column("deleted_at", String(32)),
    Column("published_at", String(32)),
    Column("slug", String(128)),
    Column("version", String(40)),
    Index("listing_draft_by_org", "org", "saved_at"),
)

listing_draft_file = Table(
    "listing_draft_file",
    metadata,
    Column("draft", String(40), primary_key=True),
    Column("upload", String(40), primary_key=True),
    Column("place", Integer, nullable=False),
    Column("name", String(200), nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("found", Text),
    Column("removed_at", String(32)),
    Index("listing_draft_file_by_upload", "upload"),
)

FILES_KEPT = timedelta(days=7)
"""How long the files of a draft wait after it was last saved."""
KEPT = timedelta(days=365)
"""How long a draft is kept that nobody goes on with."""
_LONGEST_TITLE = 200
_LISTED = ("id", "saved_at", "deleted_at", "published_at", "slug", "version")
_DELETED_KEPT, _DONE_KEPT = timedelta(days=30), timedelta(days=90)


@dataclass(frozen=True)
class SentFile:
    """A file of a draft; ``told`` is what looking into it came to, None where nobody has looked."""

    upload: str
    name: str
    length: int
    told: str | None
    removed: bool

    @cached_property
    def found(self) -> dict[str, Any] | None:
        """What looking into it came to; read where it is asked for, for it is long."""
        return None if self.told is None else json.loads(self.told)


@dataclass(frozen=True)
class Draft:
    """A draft: ``typed`` is step -> field -> text, exactly as it was typed; ``saves`` is step -> the number
    of the draft when that step was saved last.
    """

    id: str
    org: str
    number: int
    typed: dict[str, dict[str, str]]
    saves: dict[str, int]
    saved_at: str
    deleted: bool
    published: bool
    slug: str | None
    version: str | None
    files: tuple[SentFile, ...] = field(default=())
    _known: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def of(self, step: str) -> dict[str, str]:
        """What was typed in a step."""
        return self.typed.get(step, {})

    def once(self, name: str, work: Callable[[], T]) -> T:
        """What ``work`` finds of this draft, found once for as long as it is looked at; it is not changed."""
        if name not in self._known:
            self._known[name] = work()
        found: T = self._known[name]
        return found


@dataclass(frozen=True)
class Summary:
    """A draft as a list shows it: nothing of what was typed but its title, cut; ``saves`` as in a draft."""

    id: str
    title: str
    saves: dict[str, int]
    saved_at: str
    deleted: bool
    published: bool
    slug: str | None
    version: str | None


def create(session: Session, *, id: str, org: str, typed: Mapping[str, Any], now: datetime) -> None:  # noqa: A002
    """Begin a draft."""
    stamp, text = _stamp(now), _text(typed, {})
    session.execute(
        insert(listing_draft).values(
            id=id, org=org, number=1, document=text, created_at=stamp, saved_at=stamp
        )
    )


def find(session: Session, draft_id: str, *, org: str) -> Draft:
    """A draft of the organisation with its files. Raises NotFound, also for another organisation's."""
    row = session.execute(_own(draft_id, org)).one_or_none()
    if row is None:
        raise NotFound("there is no such draft")
    named = select(listing_draft_file).where(listing_draft_file.c.draft == draft_id)
    files = session.execute(named.order_by(listing_draft_file.c.place))
    return _draft(row, tuple(map(_file, files)))


def of_organisation(session: Session, org: str, *, limit: int) -> list[Summary]:
    """The drafts of an organisation, the one that was saved last first."""
    title = func.substr(_part(session, "typed", "about", "title"), 1, _LONGEST_TITLE)
    shown: list[ColumnElement[Any]] = [title.label("title"), _part(session, "saves").label("saves")]
    shown += [listing_draft.c[name] for name in _LISTED]
    found = select(*shown).where(listing_draft.c.org == org)
    rows = session.execute(found.order_by(listing_draft.c.saved_at.desc(), listing_draft.c.id).limit(limit))
    return [_summary(row) for row in rows]


def count(session: Session, org: str) -> int:
    """How many drafts an organisation has that are neither deleted nor published."""
    held = select(func.count()).where(
        listing_draft.c.org == org,
        listing_draft.c.deleted_at.is_(None),
        listing_draft.c.published_at.is_(None),
    )
    return int(session.execute(held).scalar_one())


def save(session: Session, draft: Draft, step: str, typed: Mapping[str, str], now: datetime) -> None:
    """Keep what was typed in a step, under the draft's next number."""
    number = draft.number + 1
    text = _text({**draft.typed, step: dict(typed)}, {**draft.saves, step: number})
    change(session, draft.id, number=number, document=text, saved_at=_stamp(now))


def change(session: Session, draft_id: str, **values: Any) -> None:
    """Set columns of a draft."""
    session.execute(update(listing_draft).where(listing_draft.c.id == draft_id).values(**values))


def add_file(session: Session, draft_id: str, *, upload: str, name: str, length: int, now: datetime) -> None:
    """Add a sent file as the last one."""
    change(session, draft_id, number=listing_draft.c.number + 1, saved_at=_stamp(now))
    last = select(func.coalesce(func.max(listing_draft_file.c.place), 0))
    place = session.execute(last.where(listing_draft_file.c.draft == draft_id)).scalar_one()
    session.execute(
        insert(listing_draft_file).values(
            draft=draft_id, upload=upload, place=place + 1, name=name, length=length
        )
    )


def change_file(session: Session, draft_id: str, upload: str, **values: Any) -> None:
    """Set columns of a file. Raises NotFound where the draft has no such file."""
    where = and_(listing_draft_file.c.draft == draft_id, listing_draft_file.c.upload == upload)
    changed = session.execute(update(listing_draft_file).where(where).values(**values))
    if int(changed.rowcount) != 1:  # type: ignore[attr-defined]
        raise NotFound("the draft has no such file")


def forget_found(session: Session, draft_id: str) -> None:
    """Forget what was found in the files of a draft."""
    where = listing_draft_file.c.draft == draft_id
    session.execute(update(listing_draft_file).where(where).values(found=None))


def waiting_uploads(now: datetime) -> Select[tuple[str]]:
    """Uploads that a draft still needs: it was saved lately, and neither deleted nor published."""
    return (
        select(listing_draft_file.c.upload)
        .join(listing_draft, listing_draft.c.id == listing_draft_file.c.draft)
        .where(
            listing_draft.c.saved_at > _stamp(now - FILES_KEPT),
            listing_draft.c.deleted_at.is_(None),
            listing_draft.c.version.is_(None),
            listing_draft_file.c.removed_at.is_(None),
        )
    )


def over(now: datetime) -> list[tuple[Column[Any], ColumnElement[bool]]]:
    """Files and drafts that may be forgotten: deleted or published long ago, or left for a year."""
    ended = or_(
        listing_draft.c.deleted_at < _stamp(now - _DELETED_KEPT),
        listing_draft.c.published_at < _stamp(now - _DONE_KEPT),
        listing_draft.c.saved_at < _stamp(now - KEPT),
    )
    known = select(listing_draft.c.id)
    orphans = listing_draft_file.c.draft.not_in(known)
    return [(listing_draft.c.id, ended), (listing_draft_file.c.draft, orphans)]


def _own(draft_id: str, org: str) -> Select[Any]:
    return select(listing_draft).where(listing_draft.c.id == draft_id, listing_draft.c.org == org)


def _part(session: Session, *path: str) -> ColumnElement[str]:
    """A part of what was typed, as text; read by the database, for a document may have a megabyte."""
    if session.connection().dialect.name == "sqlite":
        return func.json_extract(listing_draft.c.document, ".".join(("$", *path)), type_=Text)
    return func.json_extract_path_text(cast(listing_draft.c.document, JSON), *path, type_=Text)


def _summary(row: Row[Any]) -> Summary:
    return Summary(
        id=row.id,
        title=row.title or "",
        saves=json.loads(row.saves),
        saved_at=row.saved_at,
        deleted=row.deleted_at is not None,
        published=row.published_at is not None,
        slug=row.slug,
        version=row.version,
    )


def _draft(row: Row[Any], files: tuple[SentFile, ...]) -> Draft:
    document = json.loads(row.document)
    return Draft(
        id=row.id,
        org=row.org,
        number=row.number,
        typed=document["typed"],
        saves=document["saves"],
        saved_at=row.saved_at,
        deleted=row.deleted_at is not None,
        published=row.published_at is not None,
        slug=row.slug,
        version=row.version,
        files=files,
    )


def _file(row: Row[Any]) -> SentFile:
    return SentFile(row.upload, row.name, row.length, row.found, row.removed_at is not None)


def _text(typed: Mapping[str, Any], saves: Mapping[str, int]) -> str:
    return json.dumps({"typed": typed, "saves": saves})


def _stamp(now: datetime) -> str:
    return now.isoformat(timespec="microseconds")
