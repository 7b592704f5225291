"""The first step of listing: files, sent in pieces and resumed after any interruption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, ClassVar

from exchange import quarantine
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import TooLarge
from exchange.identity import Role, new_id

if TYPE_CHECKING:
    from pathlib import Path

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx


@dataclass(frozen=True)
class StartUpload:
    """Announce a file of so many bytes."""

    name: str
    length: int
    kind: ClassVar[str] = "upload.started"
    refused: ClassVar[str] = "upload.refused"

    def entry(self) -> Entry:
        """The audit entry: an upload, by id; the file's name is not logged."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="upload"))


MOST, MOST_TIMES = 1_000, 8
"""Uploads of one organisation that wait at a time, and how many of the largest size they may take in all."""


def start(market: Market, actor: Actor, *, length: int, name: str) -> str:
    """Begin an upload; returns its id. Raises :class:`TooLarge` above the operator's limit, and where what
    the organisation sent before fills its share of the disk.
    """
    command = StartUpload(name, length)
    lengths = market.store.read(lambda session: quarantine.lengths(session, actor.org))
    waiting = [length for sent, length in lengths.items() if quarantine.arrived(folder(market), sent)]

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.PROVIDER)
        limit = market.settings.max_upload_bytes
        if length > limit:
            raise TooLarge(f"the file is larger than {limit} bytes")
        if len(waiting) >= MOST or sum(waiting) + length > MOST_TIMES * limit:
            raise TooLarge(
                f"{len(waiting)} files of your organisation wait to be listed: at most {MOST} may, "
                f"with {MOST_TIMES * limit} bytes in all",
                hint="List what has arrived. Uploads that nobody goes on with are removed after a day.",
            )
        upload_id = new_id("upl")
        quarantine.record(tx.session, id=upload_id, org=actor.org, name=name, length=length, now=tx.now)
        tx.record(object=ObjectGroup(type="upload", id=upload_id))
        return {"upload": upload_id}

    started = str(market.store.perform(actor, command, work).value["upload"])
    quarantine.begin(folder(market), started)
    return started


def state(market: Market, actor: Actor, upload_id: str) -> quarantine.State:
    """How much of an upload has arrived."""
    row = market.store.read(lambda session: quarantine.find(session, upload_id, org=actor.org))
    return quarantine.state_of(folder(market), row)


def append(market: Market, actor: Actor, upload_id: str, *, offset: int, stream: IO[bytes]) -> int:
    """Append a piece; returns the new offset."""
    row = market.store.read(lambda session: quarantine.find(session, upload_id, org=actor.org))
    return quarantine.append(folder(market), row, offset=offset, stream=stream).offset


def folder(market: Market) -> Path:
    """Where uploads wait for ingest."""
    return market.settings.home / "quarantine"
