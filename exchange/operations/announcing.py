"""The log says of itself that its key was replaced: an entry for each statement that both keys signed.

Whoever reads the log finds the change, with the digest of what `/audit/keys` shows, and its time in the order
of everything else. The keys are trusted by the statements alone, never by an entry.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from exchange.audit import succession
from exchange.audit.entry import Entry, ObjectGroup, ResultGroup
from exchange.identity import SYSTEM

if TYPE_CHECKING:
    from exchange.audit.succession import LogKeys
    from exchange.market import Market


@dataclass(frozen=True)
class AnnounceLogKey:
    """Write down that a key of the log follows another."""

    key_id: str
    number: int
    sha256: str
    size_bytes: int
    kind: ClassVar[str] = "log_key.rotated"
    refused: ClassVar[str] = "log_key.not_rotated"

    def entry(self) -> Entry:
        """The audit entry: the new key by its id, the statement by its number and the digest of its note."""
        return Entry(
            kind=self.kind,
            outcome="done",
            object=ObjectGroup(type="log_key", id=self.key_id, version=str(self.number)),
            result=ResultGroup(sha256=self.sha256, bytes=self.size_bytes),
        )


def announce_keys(market: Market, keys: LogKeys, published: bytes) -> None:
    """Write an entry for each statement that is not among the published ones; done again, it adds none.

    Nothing is written of statements that do not continue the published ones, which are not published either.
    Raises Malformed, SignatureInvalid for what is no chain.
    """
    if keys.statements == published or not keys.statements.startswith(published):
        return
    keys.trusted()
    known = len(succession.parse_statements(published))
    for one in succession.parse_statements(keys.statements)[known:]:
        note = one.note.encoded()
        command = AnnounceLogKey(
            one.new.key_id.hex(), one.number, hashlib.sha256(note).hexdigest(), len(note)
        )
        market.store.perform(SYSTEM, command, lambda _: {}, key=f"log_key:{command.sha256}")
