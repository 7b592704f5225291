"""The closed algebra between SQL text and engine SQL.

    Scan, Join, Filter                      rows, each of one privacy unit (or of a public table)
    Bound                                   exactly one between rows and sums: what one unit may contribute
    Aggregate                               integer sums over bounded units
    Released, Scan, Join, Filter,           public tables: released numbers and public files,
    Grouped, Limited, Output                free to compute on

Projection is substitution: a column of a subquery *is* the expression over scanned columns that defines
it, so that equal questions have equal trees however they are nested. Nothing here holds buyer text but
literals, and no name but those of the policy's tables and columns (`Output` alone carries the asked column
names).

Every node has a canonical text; a digest of it says whether two questions are the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from privacy.values import Value, canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMUTATIVE = frozenset({"and", "or", "eq", "ne", "add", "mul", "exact_add", "exact_mul"})
_BYTES_A_NODE = 8
"""A node of an expression comes to about as many bytes of text."""
_WRITTEN_TWICE = frozenset({"least", "greatest", "try_cast", "clamp", "held"})
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


@dataclass(frozen=True)
class Scan:
    """Rows of one file-backed table. A private scan drops the rows of nobody (NULL unit).

    Its columns come out typed as declared, with NaN and infinities as NULL.
    """

    source: str
    table: str
    unit: Column | None

    @property
    def text(self) -> str:
        return f"scan {self.source} {self.table.lower()}"


@dataclass(frozen=True)
class Join:
    """``inner`` or ``left`` join. In the private part the right side is always public."""

    left: Relation
    right: Relation
    kind: str
    on: Scalar

    @property
    def text(self) -> str:
        return f"{self.kind} join ({self.left.text}) ({self.right.text}) on {self.on.text}"


@dataclass(frozen=True)
class Filter:
    """The rows on which the predicate is true; NULL is not."""

    input: Relation
    predicate: Scalar

    @property
    def text(self) -> str:
        return f"filter ({self.input.text}) {self.predicate.text}"


@dataclass(frozen=True)
class Key:
    """A grouping expression. ``domain`` is its public key set; None makes its values private."""

    name: str
    scalar: Scalar
    domain: tuple[Literal, ...] | None

    @property
    def text(self) -> str:
        domain = None if self.domain is None else sorted(value.text for value in self.domain)
        return f"{self.scalar.text} in {domain}"


@dataclass(frozen=True)
class Bound:
    """What one unit may contribute: at most ``groups`` groups, and ``rows`` rows in each.

    Attributes:
        ranked: whether groups beyond ``groups`` must be dropped by keyed rank; False where there cannot be
        any.
        grid: whether all combinations of the public keys come out, present in the data or not.
    """

    input: Relation
    unit: Column
    keys: tuple[Key, ...]
    groups: int
    rows: int
    ranked: bool
    grid: bool

    @property
    def text(self) -> str:
        keys = "; ".join(key.text for key in self.keys)
        return f"bound ({self.input.text}) by [{keys}] l0={self.groups} linf={self.rows}"


@dataclass(frozen=True)
class Sum:
    """An integer sum over bounded units, with the L2 distance one unit can move it by.

    kind
        ``units``: 1 for each unit with a row that counts. ``rows``: rows that count, at most
        ``Bound.rows`` a unit.
        ``total``: clamped sum of ``argument``, each unit's part held in ``[low, high]``. ``centred``: sum of
        ``argument - middle`` scaled down to ``Bound.rows`` rows when a unit has more of them.
    """

    name: str
    kind: str
    argument: Scalar | None
    condition: Scalar
    low: int
    high: int
    middle: int = 0

    @property
    def text(self) -> str:
        argument = self.argument.text if self.argument is not None else "*"
        within = f"in [{self.low},{self.high}] around {self.middle}"
        return f"{self.kind} {argument} if {self.condition.text} {within}"


@dataclass(frozen=True)
class Aggregate:
    """Exact sums for each group, of the one Bound below."""

    input: Bound
    sums: tuple[Sum, ...]

    @property
    def text(self) -> str:
        return f"aggregate ({self.input.text}) [{'; '.join(one.text for one in self.sums)}]"


@dataclass(frozen=True)
class Measure:
    """An asked aggregate over private rows, before it is lowered to integer sums.

    Attributes:
        kind: ``units``, ``rows``, ``sum`` or ``avg``.
        argument: the fixed point integer that is summed, with its proven range and decimals.
        condition: rows that count.
    """

    kind: str
    condition: Scalar
    argument: Scalar | None = None
    low: int = 0
    high: int = 0
    decimals: int = 0

    @property
    def text(self) -> str:
        """Names the aggregate: the same integers at another scale are another number."""
        argument = self.argument.text if self.argument is not None else "*"
        scale = f"in [{self.low},{self.high}] / 1e{self.decimals}"
        return f"{self.kind} {argument} {scale} if {self.condition.text}"


@dataclass(frozen=True)
class Question:
    """What is asked about private rows: the input of the planner, which bounds and prices it."""

    input: Relation
    unit: Column
    keys: tuple[Key, ...]
    measures: tuple[Measure, ...]
    table: str


@dataclass(frozen=True)
class Released:
    """The released table as a public source: key columns ``k0``.. and one column ``m0``.. for each
    measure."""

    source: str
    text: str = "released"


@dataclass(frozen=True)
class Grouped:
    """Aggregation of public rows. ``measures`` are calls named after SQL aggregates."""

    source: str
    input: Relation
    keys: tuple[tuple[str, Scalar], ...]
    measures: tuple[tuple[str, Scalar], ...]

    @property
    def text(self) -> str:
        columns = [f"{name} {scalar.text}" for name, scalar in self.keys + self.measures]
        return f"grouped {self.source} ({self.input.text}) [{'; '.join(columns)}]"


@dataclass(frozen=True)
class Order:
    """One expression to sort by, with the place of NULL always said."""

    scalar: Scalar
    descending: bool = False
    nulls_first: bool = False

    @property
    def text(self) -> str:
        return f"{self.scalar.text} {self.descending} {self.nulls_first}"


@dataclass(frozen=True)
class Limited:
    """The first rows of a public relation, in a stated order."""

    input: Relation
    order: tuple[Order, ...]
    limit: int | None
    offset: int

    @property
    def text(self) -> str:
        order = "; ".join(one.text for one in self.order)
        return f"limited ({self.input.text}) [{order}] {self.limit} {self.offset}"


Relation = Scan | Join | Filter | Released | Grouped | Limited


@dataclass(frozen=True)
class Output:
    """The asked columns, in the asked order: the root of the public part."""

    input: Relation
    columns: tuple[tuple[str, Scalar], ...]
    order: tuple[Order, ...]

    @property
    def text(self) -> str:
        columns = json.dumps([[name, scalar.text] for name, scalar in self.columns])
        return f"output ({self.input.text}) {columns} [{'; '.join(one.text for one in self.order)}]"


@dataclass(frozen=True)
class Query:
    """A whole statement: at most one question about private rows, and the public part over its answer.

    ``places`` says where the text names each scan: its line and column, by source.
    """

    question: Question | None
    output: Output
    tables: frozenset[str] = field(default_factory=frozenset)
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)


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


def shown_sources(relation: Relation) -> set[str]:
    """Names of the sources whose columns the relation shows."""
    if isinstance(relation, Join):
        return shown_sources(relation.left) | shown_sources(relation.right)
    if isinstance(relation, Filter | Limited):
        return shown_sources(relation.input)
    return {relation.source}


def scans_of(relation: Relation) -> list[Scan]:
    """Every scan below, in the order of the tree."""
    if isinstance(relation, Scan):
        return [relation]
    if isinstance(relation, Join):
        return scans_of(relation.left) + scans_of(relation.right)
    return [] if isinstance(relation, Released) else scans_of(relation.input)


def columns_of(node: Any) -> set[Column]:
    """Every source column that a scalar or relation reads."""
    found: set[Column] = set()
    pending: list[Any] = [node]
    while pending:
        part = pending.pop()
        if isinstance(part, Column):
            found.add(part)
        elif isinstance(part, tuple | list):
            pending.extend(part)
        elif hasattr(part, "__dataclass_fields__"):
            pending.extend(getattr(part, name) for name in part.__dataclass_fields__)
    return found
