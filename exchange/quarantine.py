"""Where a stranger's bytes wait: a file for each upload, under an id of ours, until ingest rewrote it."""

from __future__ import annotations

import fcntl
import os
import re
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    MetaData,
    Row,
    String,
    Table,
    delete,
    insert,
    select,
)

from exchange.errors import InProgress, NotFound, TooLarge, UploadOffset
from exchange.store import assert_outside_transaction

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

metadata = MetaData()

upload = Table(
    "upload",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("org", String(40), nullable=False),
    Column("name", String(200), nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("created_at", String(32), nullable=False),
)

# What the provider's tool sent for a version: its digest tells the tool that nothing changed since.
sent_manifest = Table(
    "sent_manifest",
    metadata,
    Column("version", String(40), primary_key=True),
    Column("sha256", String(64), nullable=False),
)

# Which sent bytes became which table: ingest drops rows of nobody, so the rewritten bytes alone do not tell.
source = Table(
    "source",
    metadata,
    Column("version", String(40), primary_key=True),
    Column("table_name", String(63), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("public", Boolean, nullable=False),
    Column("domain", String(200), nullable=False),
    Index("source_by_sha256", "sha256"),
)

_BLOCK = 128 << 10
_WRITTEN_AT_ONCE = 8 << 20
_ID = re.compile(r"upl_[0-9a-f]{24}")


@dataclass(frozen=True)
class State:
    """How much of an upload has arrived, in bytes."""

    id: str
    offset: int
    length: int

    @property
    def complete(self) -> bool:
        """True once every byte is here."""
        return self.offset == self.length


def record(session: Session, *, id: str, org: str, name: str, length: int, now: datetime) -> None:  # noqa: A002
    """Write down that an upload of ``length`` bytes begins."""
    stamp = now.isoformat(timespec="microseconds")
    session.execute(insert(upload).values(id=id, org=org, name=name, length=length, created_at=stamp))


def find(session: Session, upload_id: str, *, org: str) -> Row[Any]:
    """An upload of the organisation. Raises :class:`NotFound`, also for another organisation's."""
    row = session.execute(select(upload).where(upload.c.id == upload_id, upload.c.org == org)).one_or_none()
    if row is None:
        raise NotFound("there is no such upload")
    return row


def lengths(session: Session, org: str) -> dict[str, int]:
    """An organisation's uploads and how long they are to be; those that became a listing too, for a while."""
    found = select(upload.c.id, upload.c.length).where(upload.c.org == org)
    return {row.id: row.length for row in session.execute(found)}


def arrived(folder: Path, upload_id: str) -> bool:
    """Whether an upload has a file: it was begun, and no ingest has taken it."""
    return path_of(folder, upload_id).exists()


def record_manifest(session: Session, version: str, sha256: str) -> None:
    """Remember the digest of the manifest that a version was last sent with."""
    session.execute(delete(sent_manifest).where(sent_manifest.c.version == version))
    session.execute(insert(sent_manifest).values(version=version, sha256=sha256[:64]))


def manifest_of(session: Session, version: str) -> str:
    """The digest of the manifest that a version was last sent with; empty where none was."""
    found = session.execute(select(sent_manifest.c.sha256).where(sent_manifest.c.version == version))
    return found.scalar_one_or_none() or ""


def record_source(
    session: Session, *, version: str, table: str, sha256: str, public: bool, domain: str
) -> None:
    """Remember which sent bytes a version's table was made from."""
    session.execute(
        insert(source).values(version=version, table_name=table, sha256=sha256, public=public, domain=domain)
    )


def private_domains(session: Session, sha256: str) -> set[str]:
    """The privacy domains under which a table made from these very bytes was ever stored as private."""
    found = select(source.c.domain).where(source.c.sha256 == sha256, source.c.public.is_(False))
    return set(session.scalars(found.distinct()))


def state_of(folder: Path, row: Row[Any]) -> State:
    """How much has arrived; the file's size is the only record of it, so a crash cannot make them differ."""
    path = path_of(folder, row.id)
    return State(row.id, path.stat().st_size if path.exists() else 0, row.length)


def begin(folder: Path, upload_id: str) -> None:
    """Make the file that bytes will be appended to: an upload of no bytes is a file too."""
    assert_outside_transaction()
    folder.mkdir(parents=True, exist_ok=True, mode=0o770)
    path_of(folder, upload_id).touch(mode=0o600)


def append(folder: Path, row: Row[Any], *, offset: int, stream: IO[bytes]) -> State:
    """Append a stream at ``offset``. Raises :class:`UploadOffset` where the server has another offset,
    :class:`TooLarge` past the declared length, :class:`InProgress` while another request writes.
    """
    assert_outside_transaction()
    folder.mkdir(parents=True, exist_ok=True, mode=0o770)
    path = path_of(folder, row.id)
    with path.open("ab") as file:
        _claim(file)
        if file.tell() != offset:
            raise UploadOffset("the upload has another offset", offset=file.tell())
        begun = offset
        while block := stream.read(min(_BLOCK, row.length - file.tell() + 1)):
            if file.tell() + len(block) > row.length:
                raise TooLarge("more bytes than the declared Upload-Length")
            file.write(block)
            begun = _begin_to_write(file, begun)
        file.flush()
        os.fsync(file.fileno())
    return state_of(folder, row)


def begun(
    session: Session,
    before: datetime,
    *,
    after: str,
    but: Select[tuple[str]],
    needed: Select[tuple[str]],
    limit: int,
) -> list[str]:
    """Uploads that began before a moment, by id, from the one after ``after``; ``but`` those of some
    organisations, and those that are ``needed``.
    """
    stamp = before.isoformat(timespec="microseconds")
    others = upload.c.org.not_in(but), upload.c.id.not_in(needed)
    found = select(upload.c.id).where(upload.c.created_at < stamp, upload.c.id > after, *others)
    return list(session.scalars(found.order_by(upload.c.id).limit(limit)))


def known(session: Session, ids: Collection[str]) -> set[str]:
    """Those of these uploads that are written down."""
    return set(session.scalars(select(upload.c.id).where(upload.c.id.in_(ids))))


def forget(
    session: Session, ids: Collection[str], *, but: Select[tuple[str]], needed: Select[tuple[str]]
) -> list[str]:
    """Forget that these uploads began, ``but`` those of some organisations, and those that are ``needed``;
    returns which were forgotten.
    """
    gone = delete(upload).where(upload.c.id.in_(ids), upload.c.org.not_in(but), upload.c.id.not_in(needed))
    return list(session.scalars(gone.returning(upload.c.id)))


def untouched(folder: Path, ids: Iterable[str], seconds: float) -> list[str]:
    """Those of these uploads whose bytes were not added to for so long, or are not there."""
    until = time.time() - seconds
    return [one for one in ids if _changed(path_of(folder, one)) < until]


def taken_up(folder: Path, upload_id: str) -> Path:
    """The file of an upload that is about to be read: for now it is not one that nobody goes on with."""
    path = path_of(folder, upload_id)
    os.utime(path)
    return path


def files(folder: Path) -> Iterator[str]:
    """The ids of all uploads that have a file."""
    names = os.scandir(folder) if folder.is_dir() else ()
    return (one.name for one in names if _ID.fullmatch(one.name))


def discard(folder: Path, upload_id: str) -> None:
    """Delete an upload's bytes."""
    path_of(folder, upload_id).unlink(missing_ok=True)


def path_of(folder: Path, upload_id: str) -> Path:
    """The file of an upload; only ids of ours become paths."""
    if not _ID.fullmatch(upload_id):
        raise NotFound("there is no such upload")
    return folder / upload_id


def _claim(file: IO[bytes]) -> None:
    """Be the one writer of a file until it is closed. Raises :class:`InProgress`."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InProgress("another request is writing to this upload") from None
    file.seek(0, os.SEEK_END)


def _begin_to_write(file: IO[bytes], begun: int) -> int:
    """Let the disk begin with what has arrived, while the rest is on its way; returns how far it was told to.

    Linux starts to write dirty pages that are said to be needed no more, and keeps them until then.
    """
    arrived = file.tell()
    if arrived - begun < _WRITTEN_AT_ONCE:
        return begun
    file.flush()
    os.posix_fadvise(file.fileno(), begun, arrived - begun, os.POSIX_FADV_DONTNEED)
    return arrived


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
