"""C2SP checkpoints (https://c2sp.org/tlog-checkpoint): the log's origin, size and root as a signed note."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exchange.audit import note as notes
from exchange.audit.errors import Malformed, SignatureInvalid
from exchange.audit.merkle import HASH_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from exchange.audit.note import Note, Signer, SigningKey, VerifierKey

PATH = "checkpoint"
"""Where the newest checkpoint lies beneath the log's prefix."""
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Checkpoint:
    """A tree head: `size` leaves under `root`, with the note that says so."""

    origin: str
    size: int
    root: bytes
    note: Note

    def encoded(self) -> bytes:
        """The signed note's bytes, as served and pinned."""
        return self.note.encoded()


def sign_checkpoint(origin: str, size: int, root: bytes, signer: Signer) -> Checkpoint:
    """A checkpoint signed by the log's key. Raises Malformed for an unusable origin, size or root."""
    return Checkpoint(origin, size, root, notes.sign_note(text_of(origin, size, root), signer))


def text_of(origin: str, size: int, root: bytes) -> str:
    """What a checkpoint's signatures are over. Raises Malformed for an unusable origin, size or root."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode('ascii')}\n"
    if parse_text(text) != (origin, size, root):
        raise Malformed("The checkpoint's origin, size or root cannot be written.")
    return text


def parse_checkpoint(data: bytes | str) -> Checkpoint:
    """Reads a checkpoint without trusting it. Raises Malformed."""
    note = notes.parse_note(data)
    return Checkpoint(*parse_text(note.text), note)


def open_checkpoint(data: bytes | str, *, origin: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    """Reads a checkpoint and checks that one of the log's keys signed it for this origin.

    The signature is checked before the text is read, so an altered text is always a bad signature. A key that
    was replaced signs no tree alone that is larger than when it was.

    Raises:
        Malformed: not a checkpoint, or one with another origin.
        SignatureInvalid: not signed by the log.
    """
    note = notes.parse_note(data)
    signed = notes.verify_note(note, keys)
    checkpoint = Checkpoint(*parse_text(note.text), note)
    if all(key.last_size is not None and checkpoint.size > key.last_size for key in signed):
        raise SignatureInvalid("The checkpoint is signed by a key alone that was replaced before.")
    if checkpoint.origin != origin:
        raise Malformed("The checkpoint belongs to another log.", hint="Check the pinned origin.")
    return checkpoint


def cosign(checkpoint: Checkpoint, witness: SigningKey, now: datetime) -> Checkpoint:
    """The checkpoint with a witness's signature added (https://c2sp.org/tlog-cosignature)."""
    signed = notes.cosign_note(checkpoint.note, witness, now)
    return Checkpoint(checkpoint.origin, checkpoint.size, checkpoint.root, signed)


def cosigners(
    checkpoint: Checkpoint, witnesses: Sequence[VerifierKey], *, log_keys: Sequence[VerifierKey]
) -> tuple[VerifierKey, ...]:
    """The distinct witnesses that signed. A key counts once, and the log is never its own witness.

    Raises:
        SignatureInvalid: a trusted witness's signature does not verify.
    """
    own = {key.public for key in log_keys}
    trusted = {key.public: key for key in witnesses if key.public not in own}
    names = {(key.name, key.key_id) for key in trusted.values()}
    if not any((s.name, s.key_id) in names for s in checkpoint.note.signatures):
        return ()
    try:
        return notes.verify_note(checkpoint.note, list(trusted.values()))
    except SignatureInvalid as error:
        raise SignatureInvalid(f"A witness's signature is bad: {error}") from None


def cosigned_at(checkpoint: Checkpoint, found: Sequence[VerifierKey]) -> int | None:
    """Seconds since 1970 of the newest signature among the `cosigners` that were found; None without any."""
    names = {(key.name, key.key_id) for key in found}
    signed = (one for one in checkpoint.note.signatures if (one.name, one.key_id) in names)
    return max((int.from_bytes(one.value[:8], "big") for one in signed), default=None)


def parse_text(text: str) -> tuple[str, int, bytes]:
    """Origin, size and root of a checkpoint's text. Raises Malformed."""
    lines = text.removesuffix("\n").split("\n")
    if len(lines) != 3 or not lines[0]:
        # The format allows further lines but advises against them; this log has none, so none are accepted.
        raise Malformed("A checkpoint's text is origin, size and root.")
    if _SIZE.fullmatch(lines[1]) is None or int(lines[1]) >= 2**63:
        raise Malformed("The checkpoint's size is not a number of leaves.")
    root = notes.decode_base64(lines[2])
    if len(root) != HASH_BYTES:
        raise Malformed("The checkpoint's root is not a SHA-256 hash.")
    return lines[0], int(lines[1]), root
