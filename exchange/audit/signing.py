"""Who signs the log's tree heads: keys with a memory, so that no two trees of one size are ever signed.

The memory is kept before a signature is given. A crash between signing and publishing leaves a head that may
be signed again, or grown from, and no other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from exchange.audit import checkpoint as checkpoints
from exchange.audit import note as notes
from exchange.audit import succession
from exchange.audit.errors import HeadRefused, Malformed
from exchange.audit.heads import UNKNOWN, Head, Heads
from exchange.audit.note import SigningKey
from exchange.audit.succession import LogKeys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from exchange.audit.note import Signature
    from exchange.audit.tiles import Folder

_STATEMENTS = "statements"
_PUBLISH = "Let the worker publish an entry more, then rotate: any request makes one."
_BETWEEN_KEYS = re.compile(r",(?=PRIVATE\+KEY\+)")


def parse_keys(text: str) -> tuple[SigningKey, ...]:
    """Private keys as EXCHANGE_LOG_KEY holds them: oldest first, commas between. Raises Malformed."""
    return tuple(SigningKey.parse(one) for one in _BETWEEN_KEYS.split(text.strip()))


def encode_keys(keys: Sequence[SigningKey]) -> str:
    """The text that `parse_keys` reads. Whoever reads it can sign."""
    return ",".join(key.encoded() for key in keys)


class HeadSigner(Protocol):
    """Signs tree heads of one log: a LogSigner in this process, or the client of a signer process."""

    def keys(self) -> LogKeys:
        """The keys that sign now. Raises SignerUnavailable."""

    def sign_head(self, text: str, old_size: int, proof: Sequence[bytes]) -> tuple[Signature, ...]:
        """Signatures over a checkpoint's text. Raises HeadRefused, Malformed, SignerUnavailable."""


class LogSigner:
    """The log's keys, of which the last is the newest, and the newest head that they signed."""

    def __init__(self, keys: Sequence[SigningKey], folder: Folder) -> None:
        """Raises Malformed where the keys are not of one log."""
        if (
            not keys
            or len({key.name for key in keys}) != 1
            or len({key.verifier for key in keys}) != len(keys)
        ):
            raise Malformed("A log is signed by one or more keys of its own name.")
        self._keys = tuple(keys)
        self._folder = folder
        self._heads = Heads(folder)

    @property
    def origin(self) -> str:
        """The log's name, which is that of its keys."""
        return self._keys[-1].name

    def keys(self) -> LogKeys:
        """The keys that sign now. Raises Malformed where the newest that was announced is not here."""
        statements = self._statements()
        return LogKeys(tuple(key.verifier for key in self._in_force(statements)), statements)

    def newest(self) -> Head | None:
        """The last head that was signed."""
        return self._heads.newest(self.origin)

    def begin(self, published: bytes | None = None, statements: bytes = b"") -> None:
        """Begins with an empty log, or where a checkpoint of these keys stands; harmless if it has begun.

        `statements` are those that the log published: a memory that was lost knows from them which of its
        keys was replaced. Without them several keys do not begin: a replaced one would sign alone.

        Raises Malformed, SignatureInvalid for a checkpoint of somebody else, or other statements.
        """
        self._learn(statements)
        if self.newest() is not None:
            return
        if len(self.keys().current) != len(self._keys):
            raise Malformed(
                "No statement says how the keys of the log follow one another.",
                hint="Give what /audit/keys shows with `exchange signer init --statements FILE`.",
            )
        if published is None:
            self._heads.begin(self.origin)
            return
        head = checkpoints.open_checkpoint(published, origin=self.origin, keys=self.keys().trusted())
        self._heads.begin(self.origin, head.size, head.root)

    def sign_head(self, text: str, old_size: int, proof: Sequence[bytes]) -> tuple[Signature, ...]:
        """Signatures over a checkpoint's text, once the head is kept.

        Raises:
            HeadRefused: a smaller tree, another tree of that size, a bad proof, another log.
            Malformed: not a checkpoint's text.
        """
        origin, size, root = checkpoints.parse_text(text)
        if origin != self.origin or checkpoints.text_of(origin, size, root) != text:
            raise HeadRefused("This signer signs another log.", status=UNKNOWN)
        with self._folder.exclusively():
            keys = self._in_force(self._statements())
            self._heads.advance(Head(origin, size, root), old_size, proof)
            return notes.sign_note(text, *keys).signatures

    def require_abreast(self, published: bytes) -> None:
        """Raises Malformed where what is remembered is behind a published checkpoint, or may be.

        A key is replaced from the last head on. Were that older than what the key signed, nobody could
        believe the checkpoints since, and none would be published. Raises SignatureInvalid for one of other
        keys.
        """
        shown = checkpoints.open_checkpoint(published, origin=self.origin, keys=self.keys().trusted())
        head = self.newest()
        if head is None or not head.number:
            raise Malformed("Nothing was signed since the signer began.", hint=_PUBLISH)
        if head.size < shown.size or (head.size == shown.size and head.root != shown.root):
            raise Malformed(
                f"The signer remembers a tree of {head.size} entries, and {shown.size} are published.",
                hint=_PUBLISH,
            )

    def announce(self, now: datetime) -> bytes:
        """Says of each key that was added that it follows the one before, from the last head on.

        Until then it signs nothing. Returns all statements. Raises Malformed before the log has begun.
        """
        with self._folder.exclusively():
            head = self._heads.newest(self.origin)
            if head is None:
                raise Malformed("The log has not begun.", hint="Publish it once, then rotate its key.")
            statements = self._statements()
            sure = self._keys.index(self._in_force(statements)[-1])
            for old, new in zip(self._keys[sure:], self._keys[sure + 1 :], strict=False):
                statements = succession.make_statement(
                    statements, old, new, size=head.size, time=int(now.timestamp())
                )
            self._folder.replace(_STATEMENTS, statements)
            return statements

    def _learn(self, statements: bytes) -> None:
        """Keeps published statements that go on from those kept here."""
        if not statements:
            return
        with self._folder.exclusively():
            kept = self._statements()
            if kept.startswith(statements):
                return
            if not statements.startswith(kept):
                raise Malformed("The published statements about keys are not those of this signer.")
            succession.follow(self._in_force(statements)[-1].verifier, statements)
            self._folder.replace(_STATEMENTS, statements)

    def _statements(self) -> bytes:
        return self._folder.read(_STATEMENTS) or b""

    def _in_force(self, statements: bytes) -> tuple[SigningKey, ...]:
        """The keys up to the newest that was announced."""
        told = succession.parse_statements(statements)
        newest = told[-1].new if told else self._keys[0].verifier
        public = [key.verifier for key in self._keys]
        if newest not in public:
            raise Malformed(
                "The newest key of the log is not here, and older ones no longer sign alone.",
                hint="Restart what signs, once its log.env holds the key that `exchange signer rotate` made.",
            )
        return self._keys[: public.index(newest) + 1]
