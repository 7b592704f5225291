"""What a witness answers: a cosignature of what continues the last checkpoint, or why not."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from exchange.audit import checkpoint as checkpoints
from exchange.audit import merkle
from exchange.audit import note as notes
from exchange.audit.errors import AuditError, HeadRefused, Malformed, SignatureInvalid
from exchange.audit.heads import (
    BAD,
    BROKEN,
    CONFLICT,
    FORBIDDEN,
    UNKNOWN,
    UNPROVED,
    Growth,
    Head,
    Heads,
    require_growth,
)
from exchange.witness.archive import ArchiveUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exchange.audit.checkpoint import Checkpoint
    from exchange.witness.archive import Archive
    from exchange.witness.configuration import Configuration

GOOD, AWAY = 200, 503
SIZE_TYPE, TEXT_TYPE = "text/x.tlog.size", "text/plain; charset=utf-8"
_MOST_REFUSED, _PLACES_LEFT = 1_000, 100
_LOG = logging.getLogger("exchange.witness")


@dataclass(frozen=True)
class Answer:
    """A status of tlog-witness, with the body that it has."""

    status: int
    body: str
    content_type: str = TEXT_TYPE


def _now() -> datetime:
    return datetime.now(UTC)


class Witness:
    """Remembers the last checkpoint of each log that it was told of. Safe for several processes."""

    def __init__(
        self, told: Configuration, archive: Archive | None, *, clock: Callable[[], datetime] = _now
    ) -> None:
        self._told, self._archive, self._clock = told, archive, clock
        self._folder = told.state
        self._heads = Heads(self._folder)
        self._placed: dict[str, Head] = {}
        """By origin: the last head of which this process knows that the archive has it."""
        for origin in told.logs:
            self._heads.begin(origin)

    def newest(self, origin: str) -> Head:
        """The last head that was cosigned, also where the archive alone knows it. Raises HeadRefused."""
        with self._folder.exclusively():
            return self._caught_up(origin)

    def archived(self, origin: str) -> Iterator[bytes]:
        """Every cosigned checkpoint of a log in the archive, in order."""
        number = 1
        while self._archive and (data := self._archive.get(self._slot(origin, number))) is not None:
            yield data
            number += 1

    def add_checkpoint(self, body: bytes) -> Answer:
        """The answer to a request `add-checkpoint`; a signature only in that of status 200."""
        try:
            growth = Growth.parse(body)
            checkpoint = checkpoints.parse_checkpoint(growth.note)
        except Malformed as error:
            return Answer(BAD, f"{error}\n")
        keys = self._told.logs.get(checkpoint.origin)
        if keys is None:
            return Answer(UNKNOWN, "This witness does not know the log.\n")
        try:
            checkpoints.open_checkpoint(growth.note, origin=checkpoint.origin, keys=keys)
        except SignatureInvalid as error:
            return Answer(FORBIDDEN, f"{error}\n")
        try:
            return Answer(GOOD, self._cosigned(checkpoint, growth))
        except HeadRefused as refused:
            return self._refused(refused, checkpoint, body)
        except (ArchiveUnavailable, OSError) as error:
            # What cannot be remembered is not cosigned.
            _LOG.error("nothing is cosigned: %s", error)
            return Answer(AWAY, "The witness cannot keep what it signs.\n")

    def _cosigned(self, checkpoint: Checkpoint, growth: Growth) -> str:
        origin = checkpoint.origin
        with self._folder.exclusively():
            last = self._caught_up(origin)
            head = Head(origin, checkpoint.size, checkpoint.root, last.number + 1)
            require_growth(last, head, growth.old_size, growth.proof)
            bare = checkpoints.Checkpoint(
                origin, head.size, head.root, notes.Note(checkpoint.note.text, self._of_log(checkpoint))
            )
            cosigned = checkpoints.cosign(bare, self._told.key, self._clock())
            if head.size != last.size and self._archive is not None:
                # First: what the archive holds, this witness has cosigned, whatever its folder knows.
                self._put(head, cosigned.encoded())
            if head.size != last.size:
                self._keep(head, cosigned.encoded())
                self._placed[origin] = head
        return notes.signature_lines(cosigned.note.signatures[-1:])

    def _keep(self, head: Head, cosigned: bytes) -> None:
        """Write the state: the checkpoint first, so that it is never older than the head."""
        self._folder.replace(_cosigned_path(head.origin), cosigned)
        self._heads.keep(head)

    def _put(self, head: Head, cosigned: bytes) -> None:
        assert self._archive is not None
        if not self._archive.put_new(self._slot(head.origin, head.number), cosigned):
            raise HeadRefused("Another checkpoint was cosigned meanwhile.", status=CONFLICT)

    def _caught_up(self, origin: str) -> Head:
        """The last head, after those that the archive has and the folder has not: it is an older copy."""
        last = self._heads.newest(origin)
        if last is None:
            raise HeadRefused("This witness does not know the log.", status=UNKNOWN)
        if self._archive is None:
            return last
        if self._placed.get(origin) != last:
            last = self._place(last)
        while (data := self._archive.get(self._slot(origin, last.number + 1))) is not None:
            last = self._read(data, last)
            _LOG.warning("the state was older than the archive: %s, %d entries", origin, last.size)
            self._keep(last, data)
        self._placed[origin] = last
        return last

    def _place(self, last: Head) -> Head:
        """The last head, with its number in the archive. The state may have counted without one before."""
        assert self._archive is not None
        data = self._archive.get(self._slot(last.origin, last.number)) if last.number else None
        before = Head(last.origin, 0, merkle.EMPTY_ROOT, last.number - 1)
        if last.number == 0 or (data and self._read(data, before) == last):
            return last
        found, cosigned = Head(last.origin, 0, merkle.EMPTY_ROOT), b""
        for cosigned in self.archived(last.origin):
            found = self._read(cosigned, found)
            if found.size == last.size and found.root != last.root:
                raise HeadRefused("The archive and the state contradict each other.", status=BROKEN)
        if found.size < last.size:
            cosigned = self._folder.read(_cosigned_path(last.origin)) or b""
            found = self._read(cosigned, found)
            if found.size < last.size or (found.size == last.size and found.root != last.root):
                raise HeadRefused("The state does not hold what it cosigned last.", status=BROKEN)
            self._put(found, cosigned)
        self._keep(found, cosigned)
        return found

    def _read(self, data: bytes, last: Head) -> Head:
        """A checkpoint that this witness cosigned, as the head after the last."""
        try:
            found = checkpoints.parse_checkpoint(data)
            notes.verify_note(found.note, [self._told.key.verifier])
        except AuditError:
            text = "The archive, or the state, holds what this witness did not sign."
            raise HeadRefused(text, status=BROKEN) from None
        if found.origin != last.origin or found.size <= last.size:
            raise HeadRefused("The archive and the state contradict each other.", status=BROKEN)
        return Head(found.origin, found.size, found.root, last.number + 1)

    def _of_log(self, checkpoint: Checkpoint) -> tuple[notes.Signature, ...]:
        """The signatures of the log's own keys, not those of other witnesses."""
        known = {(key.name, key.key_id) for key in self._told.logs[checkpoint.origin]}
        return tuple(one for one in checkpoint.note.signatures if (one.name, one.key_id) in known)

    def _refused(self, refused: HeadRefused, checkpoint: Checkpoint, body: bytes) -> Answer:
        """The answer; what the log signed is kept where it may prove that the log misbehaves."""
        _LOG.error("refused: %s", refused)
        if refused.status == BROKEN:
            return Answer(BROKEN, "The witness's own memory is damaged: nothing is cosigned.\n")
        try:
            self._keep_evidence(refused, checkpoint, body)
        except (HeadRefused, OSError) as error:
            _LOG.error("what was refused is not kept: %s", error)
        if refused.size is None:
            return Answer(refused.status, f"{refused}\n")
        return Answer(CONFLICT, f"{refused.size}\n", SIZE_TYPE)

    def _keep_evidence(self, refused: HeadRefused, checkpoint: Checkpoint, body: bytes) -> None:
        """Keep a request whose checkpoint is another tree than the last, or may be.

        Anybody may send again what the log published: each checkpoint is kept once, those that were only
        asked for from another size are not, and places are left for trees that are surely another.
        """
        last = self._heads.newest(checkpoint.origin)
        if last is None or (checkpoint.size > last.size and refused.status != UNPROVED):
            return
        surely = checkpoint.size == last.size and checkpoint.root != last.root
        if checkpoint.size == last.size and not surely:
            return
        with self._folder.exclusively():
            most = _MOST_REFUSED if surely else _MOST_REFUSED - _PLACES_LEFT
            path = f"refused/{_hash(checkpoint.note.text)}"
            if self._folder.read(path) is not None:
                return
            if len(self._folder.list("refused")) < most:
                self._folder.replace(path, body)
            else:
                _LOG.error("what was refused is not kept: there are %d of it already", most)

    def _slot(self, origin: str, number: int) -> str:
        return f"{self._told.key.verifier.key_id.hex()}-{_hash(origin)[:32]}/{number:016d}"


def _cosigned_path(origin: str) -> str:
    return f"cosigned/{_hash(origin)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
