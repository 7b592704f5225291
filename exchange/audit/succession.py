"""How one key of a log, or of its receipts, follows another: a chain of statements, signed by both keys.

    exchange-key-succession/v1
    number 1
    size 1234
    time 1790000000
    from exchange.example/log+c74f20a3+ARpc...
    to exchange.example/log+9f0b21dd+AWq1...

A statement is a signed note. It says that the second key follows the first from the tree of `size` entries
on: the first signs nothing alone that is larger. Statements are published one after the other, each followed
by an empty line, and never changed; whoever pinned any key of the chain finds the others from it, offline.
The first line keeps a statement from being a checkpoint, and the other way round.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exchange.audit import note as notes
from exchange.audit.errors import Malformed, SignatureInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.audit.note import Signer, VerifierKey

PATH = "keys"
"""Where the statements lie beside the checkpoint."""
MAX_STATEMENTS = 64
MAX_BYTES = 65_536
_TEXT = re.compile(
    r"exchange-key-succession/v1\nnumber ([1-9][0-9]{0,3})\nsize (0|[1-9][0-9]{0,18})\n"
    r"time (0|[1-9][0-9]{0,18})\nfrom (\S+)\nto (\S+)\n",
    re.ASCII,
)


@dataclass(frozen=True)
class Statement:
    """`new` follows `old` from the tree of `size` entries on; `time` in seconds since 1970."""

    number: int
    size: int
    time: int
    old: VerifierKey
    new: VerifierKey
    note: notes.Note


@dataclass(frozen=True)
class LogKeys:
    """What a signer tells of itself: the keys that it signs with, the newest last, and how they came."""

    current: tuple[VerifierKey, ...]
    statements: bytes = b""

    @property
    def newest(self) -> VerifierKey:
        """The key to pin."""
        return self.current[-1]

    def trusted(self) -> tuple[VerifierKey, ...]:
        """Every key of the chain. Raises Malformed, SignatureInvalid."""
        return follow(self.newest, self.statements)


def make_statement(statements: bytes, old: Signer, new: Signer, *, size: int, time: int) -> bytes:
    """The statements with one more. Raises Malformed, SignatureInvalid where they would not be a chain."""
    number = len(parse_statements(statements)) + 1
    text = (
        f"exchange-key-succession/v1\nnumber {number}\nsize {size}\ntime {time}\n"
        f"from {old.verifier}\nto {new.verifier}\n"
    )
    made = statements + notes.sign_note(text, old, new).encoded() + b"\n"
    follow(new.verifier, made)
    return made


def parse_statements(data: bytes | str) -> tuple[Statement, ...]:
    """Reads published statements without holding them against a key. Raises Malformed."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    blocks = raw.split(b"\n\n")
    if len(raw) > MAX_BYTES or len(blocks) > 2 * MAX_STATEMENTS + 1:
        raise Malformed("There are too many statements about keys.")
    if blocks.pop() != b"" or len(blocks) % 2:
        raise Malformed("Statements about keys are signed notes, each followed by an empty line.")
    pairs = zip(blocks[::2], blocks[1::2], strict=True)
    return tuple(_parse(text + b"\n\n" + signatures + b"\n") for text, signatures in pairs)


def follow(pinned: VerifierKey, statements: bytes | str) -> tuple[VerifierKey, ...]:
    """Every key of the chain that the pinned one belongs to, oldest first; the pinned one alone without any.

    Keys that were replaced have their `last_size`, and those before the pinned one say so: it was pinned when
    it had signed a checkpoint, and so no newest one is of theirs alone.

    Raises:
        Malformed: the statements cannot be read.
        SignatureInvalid: a link is not signed by both keys, the chain is broken, or the pinned key is not in
            it.
    """
    chain = parse_statements(statements)
    if not chain:
        return (pinned,)
    for place, one in enumerate(chain):
        _check(one, chain[place - 1] if place else None)
    keys = [replace(one.old, last_size=one.size) for one in chain]
    keys.append(chain[-1].new)
    if pinned not in keys:
        raise SignatureInvalid("The pinned key is not in the chain of published keys.")
    if len(set(keys)) != len(keys):
        raise SignatureInvalid("The chain of keys comes back to a key that was replaced.")
    place = keys.index(pinned)
    return (*(replace(key, before_pinned=True) for key in keys[:place]), *keys[place:])


def pinned_keys(pinned: Sequence[str | VerifierKey], statements: bytes | str) -> tuple[VerifierKey, ...]:
    """The keys of every pinned one's chain, each as the oldest pinned one sees it. Raises as `follow`."""
    found: dict[VerifierKey, VerifierKey] = {}
    for one in pinned:
        for key in follow(notes.as_verifier(one), statements):
            found[key] = found.get(key, key) if key.before_pinned else key
    return tuple(found.values())


def _parse(data: bytes) -> Statement:
    note = notes.parse_note(data)
    match = _TEXT.fullmatch(note.text)
    if match is None:
        raise Malformed("A statement about keys does not have its form.")
    number, size, time = (int(match[place]) for place in (1, 2, 3))
    old, new = (notes.VerifierKey.parse(match[place]) for place in (4, 5))
    if size >= 2**63 or time >= 2**63:
        raise Malformed("A statement about keys has numbers that are too large.")
    return Statement(number, size, time, old, new, note)


def _check(one: Statement, before: Statement | None) -> None:
    """Raises SignatureInvalid unless the statement is the next link of the chain."""
    if len(notes.verify_note(one.note, [one.old, one.new])) != 2 or one.old == one.new:
        raise SignatureInvalid(f"Statement {one.number} about keys is not signed by both keys.")
    numbers = (1, one.number) if before is None else (before.number + 1, one.number)
    joined = before is None or (before.new == one.old and before.size <= one.size)
    kinds = {key.algorithm for key in (one.old, one.new)}
    if numbers[0] != numbers[1] or not joined or one.old.name != one.new.name or kinds != {notes.ED25519}:
        raise SignatureInvalid(f"The chain of keys is broken at statement {one.number}.")
