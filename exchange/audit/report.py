"""What a verifier found, and its exit codes (the same for the log, a receipt, a proof file and the books)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

GOOD = 0
TRUNCATED = 10
ALTERED = 11
FORK = 12
SIGNATURE = 13
GAP = 14
MALFORMED = 15
WITNESSES = 16

GRAVITY = (SIGNATURE, FORK, ALTERED, TRUNCATED, GAP, MALFORMED, WITNESSES)
"""Where several things are wrong, the exit code is the first of these that was found."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its exit code, a sentence for a person, and where."""

    exit_code: int
    message: str
    seq: int | None = None
    id: str | None = None
    path: str | None = None
    journal: str | None = None

    def __str__(self) -> str:
        places = (("entry", self.seq), ("id", self.id), ("file", self.path), ("journal", self.journal))
        where = ", ".join(f"{name} {value}" for name, value in places if value is not None)
        return (
            f"[{self.exit_code}] {where}: {self.message}" if where else f"[{self.exit_code}] {self.message}"
        )


def exit_code_of(codes: Iterable[int]) -> int:
    """The gravest of the codes; 0 where there are none but zeros."""
    found = set(codes)
    return next((code for code in GRAVITY if code in found), GOOD)


def printable(text: str) -> str:
    """Text of strangers for a terminal: control, escape and direction characters become visible."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
