"""The newest tree head that somebody signed for each log, kept durably: heads move forward, with a proof.

What signs a log and what witnesses one remember the same and refuse the same: a smaller tree, another root of
one size, a tree that does not continue the last. The form of a request is that of C2SP tlog-witness
(https://c2sp.org/tlog-witness), and so are its numbers for what is refused.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exchange.audit import checkpoint as checkpoints
from exchange.audit import merkle
from exchange.audit.errors import HeadRefused, Malformed
from exchange.audit.note import decode_base64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.audit.tiles import Folder

MAX_REQUEST_BYTES = 65_536
MAX_PROOF = 63
"""Hashes of a consistency proof: one for each height of a tree of fewer than 2**63 leaves."""
BAD, FORBIDDEN, UNKNOWN, CONFLICT, UNPROVED, BROKEN = 400, 403, 404, 409, 422, 500
"""Why a head is refused: malformed, not signed by the log, no such log, not from the last head, no proof;
or what is remembered is damaged.
"""
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Head:
    """A tree of `size` leaves under `root`; `number` counts the heads that were signed for this origin."""

    origin: str
    size: int
    root: bytes
    number: int = 0


@dataclass(frozen=True)
class Growth:
    """A request: from the tree of `old_size` leaves to that of `note`, a checkpoint, signed or not yet."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    def encoded(self) -> bytes:
        """The body of a request."""
        lines = [f"old {self.old_size}", *(base64.b64encode(item).decode() for item in self.proof), "", ""]
        return "\n".join(lines).encode() + self.note

    @classmethod
    def parse(cls, data: bytes) -> Growth:
        """Reads the body of a request. Raises Malformed."""
        if len(data) > MAX_REQUEST_BYTES:
            raise Malformed("The request is too large.")
        head, separator, note = data.partition(b"\n\n")
        try:
            first, *rest = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise Malformed("The request is not lines of text.") from None
        match = _OLD.fullmatch(first)
        if not separator or match is None or len(rest) > MAX_PROOF or int(match[1]) >= 2**63:
            raise Malformed("A request is an old size, a proof of at most 63 hashes and a checkpoint.")
        proof = tuple(decode_base64(line) for line in rest)
        if any(len(item) != merkle.HASH_BYTES for item in proof):
            raise Malformed("A hash of the proof is not one of SHA-256.")
        return cls(int(match[1]), proof, note)


class Heads:
    """The newest head of each origin, in a folder; safe for several processes."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def newest(self, origin: str) -> Head | None:
        """The last head. Raises HeadRefused where what is kept of it cannot be read: nothing is guessed."""
        data = self.folder.read(_path(origin))
        if data is None:
            return None
        try:
            text, number, end = data.decode("utf-8").rsplit("\n", 2)
            found, size, root = checkpoints.parse_text(text + "\n")
        except (ValueError, Malformed):
            raise HeadRefused("What is kept of the last head cannot be read.", status=BROKEN) from None
        if found != origin or end or not _NUMBER.fullmatch(number):
            raise HeadRefused("What is kept of the last head is of another log.", status=BROKEN)
        return Head(origin, size, root, int(number))

    def begin(self, origin: str, size: int = 0, root: bytes = merkle.EMPTY_ROOT) -> None:
        """Starts at a head that is known to be right, where nothing is kept of this origin."""
        with self.folder.exclusively():
            if self.newest(origin) is None:
                self.keep(Head(origin, size, root))

    def advance(self, head: Head, old_size: int, proof: Sequence[bytes]) -> Head:
        """Moves to `head` and keeps it before it returns; the last head may be repeated.

        The caller holds the folder's lock.

        Raises:
            HeadRefused: with the status and, for CONFLICT, the size of the last head.
        """
        last = self.newest(head.origin)
        if last is None:
            raise HeadRefused("This log is not known here.", status=UNKNOWN)
        require_growth(last, head, old_size, proof)
        if head.size == last.size:
            return last
        moved = Head(head.origin, head.size, head.root, last.number + 1)
        self.keep(moved)
        return moved

    def keep(self, head: Head) -> None:
        """Writes the newest head, durably."""
        text = checkpoints.text_of(head.origin, head.size, head.root)
        self.folder.replace(_path(head.origin), f"{text}{head.number}\n".encode())


def require_growth(last: Head, head: Head, old_size: int, proof: Sequence[bytes]) -> None:
    """Raises HeadRefused unless `head` continues `last` by a proof from there, or repeats it."""
    if old_size > head.size:
        raise HeadRefused("The old size is larger than the checkpoint's.", status=BAD)
    if old_size != last.size:
        text = f"The last head has {last.size} entries, not {old_size}."
        raise HeadRefused(text, status=CONFLICT, size=last.size)
    if head.size == last.size and head.root != last.root:
        text = f"Another tree of {last.size} entries was signed before."
        raise HeadRefused(text, status=CONFLICT, size=last.size)
    if not merkle.verify_consistency(last.size, head.size, proof, last.root, head.root):
        raise HeadRefused(f"The proof does not lead from {last.size} entries on.", status=UNPROVED)


def _path(origin: str) -> str:
    return f"heads/{hashlib.sha256(origin.encode()).hexdigest()}"
