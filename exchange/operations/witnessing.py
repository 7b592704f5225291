"""Asking witnesses for their signatures on a checkpoint: all at once, for a few seconds, and again later.

Who is missing delays nothing beyond that, and is asked again while the same checkpoint is published. What a
witness refuses is told in the log; the checkpoint stands without it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exchange import outside
from exchange.audit import checkpoint as checkpoints
from exchange.audit import note as notes
from exchange.audit import tiles
from exchange.audit.checkpoint import Checkpoint
from exchange.audit.errors import AuditError
from exchange.audit.heads import CONFLICT, Growth

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exchange.addresses import Network
    from exchange.audit.note import Signature, VerifierKey
    from exchange.audit.tiles import Folder
    from exchange.config import Settings

WITHIN_S = 3.0
"""Seconds that a checkpoint waits for its witnesses, at most."""
AGAIN_S = 15.0
"""Seconds until a witness that gave nothing is asked again."""
SKEW_S = 300
"""A cosignature of another time is not published: a clock is wrong, or it is an old one."""
_TIMEOUT_S = 2.0
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_LOG = logging.getLogger("exchange.witnesses")


@dataclass
class _Asked:
    """One witness, and what is known of it in this process."""

    key: VerifierKey
    url: str
    size: int = 0
    again: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while it is asked."""


_Answers = queue.SimpleQueue[tuple[_Asked, "Signature | None"]]


def missing(checkpoint: Checkpoint, keys: Iterable[VerifierKey]) -> list[str]:
    """The names of the witnesses whose signature a checkpoint does not carry. None is verified here."""
    signed = {(one.name, one.key_id) for one in checkpoint.note.signatures}
    return [key.name for key in keys if (key.name, key.key_id) not in signed]


class Gatherer:
    """Gathers cosignatures for the log of one folder. Thread-safe."""

    def __init__(
        self, witnesses: Sequence[tuple[VerifierKey, str]], folder: Folder, inside: Sequence[Network] = ()
    ) -> None:
        self._asked = [_Asked(key, url) for key, url in witnesses]
        self._folder, self._inside = folder, inside

    def gather(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with the signatures of those who gave one within WITHIN_S."""
        absent = set(missing(checkpoint, (one.key for one in self._asked)))
        due = [one for one in self._asked if one.key.name in absent and time.monotonic() >= one.again]
        if not due:
            return checkpoint
        answers = _Answers()
        for one in due:
            # A daemon: who does not answer does not keep the worker from ending.
            arguments = (one, checkpoint, answers)
            threading.Thread(target=self._ask, args=arguments, name="witness", daemon=True).start()
        given = _received(answers, len(due))
        for one in due:
            if one.key not in given:
                one.again = time.monotonic() + AGAIN_S
                _LOG.warning("%s did not cosign in time", one.key.name)
        return _with(checkpoint, [signature for signature in given.values() if signature])

    def complete(self, checkpoint: Checkpoint) -> Checkpoint:
        """Ask those again who are missing on the published checkpoint, and publish what they gave."""
        completed = self.gather(checkpoint)
        if completed == checkpoint:
            return checkpoint
        with self._folder.exclusively():
            if self._folder.read(checkpoints.PATH) == checkpoint.encoded():
                self._folder.replace(checkpoints.PATH, completed.encoded())
        return completed

    def _ask(self, one: _Asked, checkpoint: Checkpoint, answers: _Answers) -> None:
        signature = None
        if not one.lock.acquire(blocking=False):
            _LOG.warning("%s has not answered what it was asked before", one.key.name)
        else:
            try:
                signature = self._cosignature(one, checkpoint)
            except (outside.NotAsked, AuditError, OSError) as error:
                _LOG.warning("%s did not cosign: %s", one.key.name, error)
            except Exception as error:  # whatever it sent: the others' signatures are published
                _LOG.error("%s did not cosign: %s", one.key.name, type(error).__name__)
            finally:
                one.lock.release()
        if signature is None:
            one.again = time.monotonic() + AGAIN_S
        answers.put((one, signature))

    def _cosignature(self, one: _Asked, checkpoint: Checkpoint) -> Signature | None:
        """Ask from the size that the witness was known to have, and once more from that which it tells."""
        for _ in range(2):
            if one.size > checkpoint.size:
                _LOG.error("%s has cosigned %d entries, more than there are", one.key.name, one.size)
                one.size = 0  # what it told may have been wrong: it is asked next time
                return None
            proof = tiles.consistency_proof(self._folder, one.size, checkpoint.size)
            body = Growth(one.size, tuple(proof), checkpoint.encoded()).encoded()
            status, answer = outside.ask(
                f"{one.url}/add-checkpoint",
                inside=self._inside,
                headers={"Content-Type": "text/plain; charset=utf-8"},
                body=body,
                timeout_s=_TIMEOUT_S,
            )
            if status == 200:
                one.size = checkpoint.size
                return _read(answer, checkpoint, one.key)
            told = _SIZE.fullmatch(answer)
            if status != CONFLICT or told is None or int(told[1]) == one.size:
                _LOG.error("%s refuses to cosign %d entries: %d", one.key.name, checkpoint.size, status)
                return None
            one.size = int(told[1])
        return None


def gatherer(settings: Settings, folder: Folder) -> Gatherer | None:
    """The gatherer of the witnesses that the settings name, None where they name none."""
    asked = settings.witnesses_asked
    return Gatherer(asked, folder, settings.witnesses_inside) if asked else None


def _received(answers: _Answers, count: int) -> dict[VerifierKey, Signature | None]:
    """What so many witnesses answer within WITHIN_S."""
    given: dict[VerifierKey, Signature | None] = {}
    until = time.monotonic() + WITHIN_S
    with contextlib.suppress(queue.Empty):
        while len(given) < count:
            one, signature = answers.get(timeout=max(0.0, until - time.monotonic()))
            given[one.key] = signature
    return given


def _read(answer: bytes, checkpoint: Checkpoint, key: VerifierKey) -> Signature:
    """The witness's signature among those that it sent. Raises Malformed, SignatureInvalid."""
    note = notes.parse_signatures(checkpoint.note.text, answer)
    notes.verify_note(note, [key])
    (signature,) = (one for one in note.signatures if (one.name, one.key_id) == (key.name, key.key_id))
    seconds = int.from_bytes(signature.value[:8], "big")
    if abs(seconds - time.time()) > SKEW_S:
        raise outside.NotAsked("its cosignature is of another time: compare the clocks")
    return signature


def _with(checkpoint: Checkpoint, signatures: Sequence[Signature]) -> Checkpoint:
    note = notes.Note(checkpoint.note.text, (*checkpoint.note.signatures, *signatures))
    return Checkpoint(checkpoint.origin, checkpoint.size, checkpoint.root, note)
