"""Scalar expressions: columns, literals and total operations, with one canonical text for each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

from privacy.values import Value, canonical

COMMUTATIVE = frozenset({"and", "or", "eq", "ne", "add", "mul", "exact_add", "exact_mul"})
_BYTES_A_NODE = 8
"""A node of an expression comes to about as many bytes of text."""
_WRITTEN_TWICE = frozenset({
    "least", "greatest", "try_cast", "clamp", "concat", "concat_ws", "pipe", "replace", "add_interval",
    "add_days", "time_bucket", "make_date", "last_day", "try_strptime", "root", "cbrt", "ln", "log", "exp",
    "radians", "degrees", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "power",
})  # fmt: skip
"""Operations whose SQL repeats an operand: they count double, so that nesting them stays within the size
limit."""


@dataclass(frozen=True)
class Column:
    """A column of a source: a scan ``s0``, a released table ``r0`` or a grouped one ``g0``."""

    source: str
    name: str
    type: str

    size = 1
    depth = 1

    @property
    def text(self) -> str:
        return json.dumps([self.source, self.name])


@dataclass(frozen=True)
class Literal:
    """A public constant; ``type`` is one of ours, or "null"."""

    value: Value | None
    type: str

    depth = 1

    @property
    def size(self) -> int:
        """Text counts by its bytes: it is written out wherever the literal is named."""
        return 1 + len(self.value.encode()) // _BYTES_A_NODE if isinstance(self.value, str) else 1

    @property
    def text(self) -> str:
        return json.dumps({self.type: canonical(self.value)})


@dataclass(frozen=True)
class Call:
    """An operation of the closed list (`privacy.engines.duckdb.OPERATIONS`). It never raises, whatever the
    data.

    Operations whose name begins with ``exact_`` work on integers proven to stay below 2^62.
    """

    operation: str
    arguments: tuple[Scalar, ...]
    type: str

    @cached_property
    def size(self) -> int:
        weight = 2 if self.operation in _WRITTEN_TWICE else 1
        return 1 + weight * sum(argument.size for argument in self.arguments)

    @cached_property
    def depth(self) -> int:
        return 1 + max((argument.depth for argument in self.arguments), default=0)

    @cached_property
    def text(self) -> str:
        parts = [argument.text for argument in self.arguments]
        if self.operation in COMMUTATIVE:
            parts.sort()
        return f"{self.operation}:{self.type}({','.join(parts)})"


Scalar = Column | Literal | Call

TRUE = Literal(True, "boolean")


def conjuncts(predicate: Scalar) -> list[Scalar]:
    """The parts of a conjunction, in one canonical order, each once."""
    found: dict[str, Scalar] = {}
    pending = [predicate]
    while pending:
        part = pending.pop()
        if isinstance(part, Call) and part.operation == "and":
            pending.extend(part.arguments)
        elif part != TRUE:
            found[part.text] = part
    return [found[text] for text in sorted(found)]


def conjunction(parts: list[Scalar]) -> Scalar:
    """The conjunction of predicates, in canonical order; TRUE when there are none."""
    flat = {one.text: one for part in parts for one in conjuncts(part)}
    ordered = tuple(flat[text] for text in sorted(flat))
    if not ordered:
        return TRUE
    return ordered[0] if len(ordered) == 1 else Call("and", ordered, "boolean")
