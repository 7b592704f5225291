"""An officer takes the log away: entries that match filters, as a stream of one format. That it was done is
an entry itself.

The snapshot is the log before that entry. Since the log only grows, its pages are read one by one, each in a
transaction of its own: a client that reads slowly holds a thread and a place, and nothing in the database.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, ClassVar

from exchange.audit import evidence, log, merkle, tiles
from exchange.audit import leaf as leaves
from exchange.audit.entry import Entry, ObjectGroup, QueryGroup, timestamp
from exchange.audit.export import EVIDENCE, EVIDENCE_SUFFIX, FORMATS, Exported, Head
from exchange.audit.tiles import Folder
from exchange.errors import ExportTooLarge, NotFound, QueryLost, RequestInvalid
from exchange.identity import Role, organisation_names
from exchange.operations import auditing, evidencing
from exchange.operations.receipting import newest_checkpoint
from exchange.store import our_id

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from exchange.audit.checkpoint import Checkpoint
    from exchange.audit.export import Format
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx

PAGE, CHUNK_BYTES = 1_000, 64 << 10
LONGEST_S = 3_600
"""So long may one export take, however fast the client reads: then it is cut off."""


@dataclass(frozen=True)
class ExportLog:
    """Take entries of the log away. The entry fixes the format, the filters by digest, and where the log
    stood.
    """

    format: str
    filters: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "audit.exported"
    refused: ClassVar[str] = "log.refused"

    def entry(self) -> Entry:
        """The audit entry; never what was typed."""
        return Entry(
            kind=self.kind,
            outcome="done",
            object=ObjectGroup(type="export", id=our_id(self.format)),
            query=QueryGroup(plan_sha256=self.digest),
        )

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over the canonical JSON (RFC 8785) of format and filters."""
        asked = {"format": self.format, "filters": dict(self.filters)}
        return hashlib.sha256(leaves.canonical(asked)).hexdigest()


@dataclass(frozen=True)
class Export:
    """An export that is about to leave: its media type, the ending of its file's name, how many entries it
    has, and its bytes. ``length`` is their number where it is known.
    """

    media_type: str
    suffix: str
    entries: int
    chunks: Iterable[bytes]
    length: int | None = None


@dataclass(frozen=True)
class Taken:
    """What an export is of: the filters as typed and as read, the size of the log, how many entries match."""

    typed: Mapping[str, str]
    wanted: Mapping[str, Any]
    size: int
    entries: int
    checkpoint: Checkpoint | None
    ends: float
    """By time.monotonic(): what has not left by then is cut off."""


@contextlib.contextmanager
def exported(market: Market, actor: Actor, wanted: str, filters: Mapping[str, str]) -> Iterator[Export]:
    """Entries that match every filter, in the format ``wanted``, for as long as the block lasts.

    Officers and operators only; logged. Raises RequestInvalid for an unknown format; InProgress and
    Overloaded where too many exports are under way.
    """
    command = ExportLog(wanted, tuple(sorted(filters.items())))
    with market.store.refusing(actor, command):
        actor.require(Role.OFFICER, Role.OPERATOR)
        form = _form(wanted)
        read = auditing.read_filters(filters)
    with market.exports.place(actor.org, "an export"):
        taken = _take(market, actor, command, read)
        if form is None:
            with _evidence(market, taken) as file:
                length = file.seek(0, 2)
                file.seek(0)
                parts = _in_time(iter(partial(file.read, CHUNK_BYTES), b""), taken)
                yield Export("application/zip", EVIDENCE_SUFFIX, taken.entries, parts, length)
            return
        with contextlib.closing(_chunks(market, form, taken)) as chunks:
            # The first of them now, so that what goes wrong at once is answered as a refusal.
            first = next(chunks, b"")
            yield Export(
                form.media_type, form.suffix, taken.entries, chain((first,), _in_time(chunks, taken))
            )


def _form(wanted: str) -> Format | None:
    """How a format is written; None for evidence, which is put together before it leaves."""
    if wanted == EVIDENCE:
        return None
    form = FORMATS.get(wanted)
    if form is None:
        known = ", ".join(sorted((*FORMATS, EVIDENCE)))
        raise RequestInvalid("there is no such format", hint=f"Formats: {known}.")
    return form


def _evidence(market: Market, taken: Taken) -> IO[bytes]:
    """The evidence of what matches under the checkpoint. Raises ExportTooLarge, and NotFound without any."""
    checkpoint = taken.checkpoint
    if checkpoint is None:
        raise NotFound("nothing has been published yet", hint="Try again in a few seconds.")
    if taken.entries > evidence.MOST_ENTRIES:
        raise ExportTooLarge(
            f"{taken.entries} entries match, and a file of evidence holds {evidence.MOST_ENTRIES}"
        )
    filters = {
        name: timestamp(value) if isinstance(value, datetime) else value
        for name, value in taken.wanted.items()
    }
    rows = entries(market, taken, proofs=True)
    return evidencing.build(market, _head(market, taken), filters, checkpoint, rows)


def _take(market: Market, actor: Actor, command: ExportLog, wanted: Mapping[str, Any]) -> Taken:
    """Write the entry, and say where the log stood before it."""

    def work(tx: Tx) -> dict[str, Any]:
        size = log.size(tx.session)
        tx.record(object=ObjectGroup(type="export", id=command.format, version=str(size)))
        return {"size": size}

    size, checkpoint = market.store.perform(actor, command, work).value["size"], newest_checkpoint(market)
    if command.format == EVIDENCE:  # of what is proved already
        size = min(size, checkpoint.size if checkpoint else 0)
    matching = market.store.read(lambda session: log.count(session, size, **wanted))
    ends = time.monotonic() + LONGEST_S
    return Taken(dict(command.filters), wanted, size, matching, checkpoint, ends)


def _head(market: Market, taken: Taken) -> Head:
    settings, checkpoint = market.settings, taken.checkpoint
    key = settings.log_path / "key"
    return Head(
        origin=settings.log_origin,
        log_key=key.read_text(encoding="utf-8").strip() if key.is_file() else "",
        checkpoint=None if checkpoint is None else checkpoint.encoded().decode("utf-8"),
        exported_at=market.store.clock().isoformat(timespec="seconds"),
        size=taken.size,
        entries=taken.entries,
        filters=taken.typed,
        exchange=settings.base_url,
    )


def _chunks(market: Market, form: Format, taken: Taken) -> Generator[bytes, None, None]:
    """The bytes of a format, gathered so that few of them leave at a time and not one line each."""
    head = _head(market, taken)
    waiting: list[bytes] = []
    size = 0
    for part in form.write(head, entries(market, taken, proofs=form.proofs)):
        waiting.append(part)
        size += len(part)
        if size >= CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _in_time(chunks: Iterator[bytes], taken: Taken) -> Iterator[bytes]:
    """The chunks, until the time is over: a client that reads one seldom holds its place no longer."""
    for chunk in chunks:
        _require_time(taken)
        yield chunk


def _require_time(taken: Taken) -> None:
    if time.monotonic() > taken.ends:
        raise QueryLost("the export took too long", hint="Narrow the filters or the dates.")


def entries(market: Market, taken: Taken, *, proofs: bool) -> Iterator[Exported]:
    """The entries, oldest first, a page at a time; with their inclusion proofs where they are wanted.

    Raises Malformed where a stored leaf is none any more, or a tile is broken: what is altered is not
    exported as if it were whole.
    """
    names = market.store.read(organisation_names)
    size = taken.checkpoint.size if proofs and taken.checkpoint is not None else 0
    node = tiles.nodes(Folder(market.settings.log_path), size)
    position = 0
    while True:
        _require_time(taken)
        look = partial(log.matching, start=position, stop=taken.size, limit=PAGE, **taken.wanted)
        page = market.store.read(look)
        for record in page:
            document = record.document
            org = (document["actor"] or {}).get("org")
            proof = merkle.inclusion_proof_of(node, record.seq, size) if record.seq < size else None
            yield Exported(
                record.leaf, document, record.leaf_hash.hex(), names.get(org) if org else None, proof
            )
        if len(page) < PAGE:
            return
        position = page[-1].seq + 1
