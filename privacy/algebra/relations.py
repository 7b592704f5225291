"""Relations: rows of one privacy unit each (the private part), or public rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from privacy.algebra.scalars import conjuncts

if TYPE_CHECKING:
    from privacy.algebra.scalars import Column, Scalar


@dataclass(frozen=True)
class Hop:
    """One step from a table toward its privacy unit: ``column`` equals the unique ``key`` of ``table``."""

    column: str
    table: str
    key: str


@dataclass(frozen=True)
class Scan:
    """Rows of one file-backed table. A private scan drops the rows of nobody (NULL unit).

    Its columns come out typed as declared, with NaN and infinities as NULL. Where the unit stands in another
    table, ``path`` leads to it; each key on the path is unique in its table, so that a row has one owner.
    """

    source: str
    table: str
    unit: Column | None
    path: tuple[Hop, ...] = ()

    @property
    def text(self) -> str:
        way = "".join(f" by {hop.column}={hop.table}.{hop.key}".lower() for hop in self.path)
        return f"scan {self.source} {self.table.lower()}{way}"


@dataclass(frozen=True)
class Capped:
    """At most ``rows`` rows of each unit, chosen by a rank that the salt and the rows' own content decide.

    Placed under joins of private tables, so that one unit's rows cannot multiply without limit. It is no
    `Bound`: what a unit contributes is bounded above the last join. With ``keys`` it keeps that many rows of
    each unit for each value of the keys.
    """

    input: Relation
    unit: Column
    rows: int
    keys: tuple[Column, ...] = ()

    @property
    def text(self) -> str:
        within = ", ".join(key.text for key in (self.unit, *self.keys))
        return f"capped ({self.input.text}) {self.rows} of {within}"


@dataclass(frozen=True)
class Join:
    """``inner`` or ``left`` join. Where both sides are private, ``on`` or a filter above equates their
    units."""

    left: Relation
    right: Relation
    kind: str
    on: Scalar

    @property
    def text(self) -> str:
        return f"{self.kind} join ({self.left.text}) ({self.right.text}) on {self.on.text}"


@dataclass(frozen=True)
class Semi:
    """Rows of ``left`` for which the right side has a row (``semi``) or none (``anti``) that meets ``on``.

    ``not_in`` is SQL's NOT IN: ``on`` is an equality ``eq(left operand, right operand)``, and a row stays
    only where it is false for every right row.
    """

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
class PerUnit:
    """Aggregation within each unit: one row for each unit and value of ``keys``, private like its input.

    Columns: ``u`` (the unit), the names of ``keys``, the names of ``measures`` (calls named after SQL
    aggregates, as in `Grouped`).
    """

    source: str
    input: Relation
    unit: Column
    keys: tuple[tuple[str, Scalar], ...]
    measures: tuple[tuple[str, Scalar], ...]

    @property
    def text(self) -> str:
        columns = [f"{name} {scalar.text}" for name, scalar in self.keys + self.measures]
        return f"per unit {self.source} {self.unit.text} ({self.input.text}) [{'; '.join(columns)}]"


@dataclass(frozen=True)
class Window:
    """One window function: ``operation`` over ``arguments``, within ``partition``, in ``order``.

    The order is total over what the statement uses: ties are broken by content, never by where a row lies.
    ``frame`` is None or a ROWS frame as (preceding, following), None being unbounded.
    """

    operation: str
    arguments: tuple[Scalar, ...]
    partition: tuple[Scalar, ...]
    order: tuple[Order, ...]
    frame: tuple[int | None, int | None] | None = None

    @property
    def text(self) -> str:
        parts = [
            ",".join(one.text for one in group) for group in (self.arguments, self.partition, self.order)
        ]
        return f"{self.operation}({parts[0]}) over ({parts[1]} order {parts[2]} rows {self.frame})"


@dataclass(frozen=True)
class Windowed:
    """The input's rows with further columns: window functions, of a private relation within each unit."""

    source: str
    input: Relation
    columns: tuple[tuple[str, Window], ...]

    @property
    def text(self) -> str:
        columns = [f"{name} {window.text}" for name, window in self.columns]
        return f"windowed {self.source} ({self.input.text}) [{'; '.join(columns)}]"


@dataclass(frozen=True)
class Branch:
    """One input of a union, with its columns under the union's names. A private branch has its unit as
    ``u``."""

    input: Relation
    columns: tuple[tuple[str, Scalar], ...]

    @property
    def text(self) -> str:
        columns = "; ".join(f"{name} {scalar.text}" for name, scalar in self.columns)
        return f"({self.input.text}) [{columns}]"


@dataclass(frozen=True)
class Union:
    """UNION ALL: of private relations of the same unit, or of public ones."""

    source: str
    branches: tuple[Branch, ...]

    @property
    def text(self) -> str:
        return f"union {self.source} {' '.join(branch.text for branch in self.branches)}"


@dataclass(frozen=True)
class Released:
    """The released table of the statement's question number ``question``, as a public source.

    Key columns ``k0``.. and, for each measure of the question, ``m0``.. with ``m0_low`` and ``m0_high``.
    """

    source: str
    question: int

    @property
    def text(self) -> str:
        return f"released {self.source} {self.question}"


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


Relation = Scan | Capped | Join | Semi | Filter | PerUnit | Windowed | Union | Released | Grouped | Limited


def inputs_of(relation: Relation) -> tuple[Relation, ...]:
    """The relations right below."""
    if isinstance(relation, Join | Semi):
        return (relation.left, relation.right)
    if isinstance(relation, Union):
        return tuple(branch.input for branch in relation.branches)
    return () if isinstance(relation, Scan | Released) else (relation.input,)


def shown_sources(relation: Relation) -> set[str]:
    """Names of the sources whose columns the relation shows."""
    if isinstance(relation, Join):
        return shown_sources(relation.left) | shown_sources(relation.right)
    if isinstance(relation, Semi):
        return shown_sources(relation.left)
    if isinstance(relation, Windowed):
        return shown_sources(relation.input) | {relation.source}
    if isinstance(relation, Filter | Limited | Capped):
        return shown_sources(relation.input)
    return {relation.source}


def holding(relation: Relation) -> list[Scalar]:
    """Conditions that are true on every row the relation shows, over columns that it shows."""
    if isinstance(relation, Filter):
        return conjuncts(relation.predicate) + holding(relation.input)
    if isinstance(relation, Join):
        right = [] if relation.kind == "left" else conjuncts(relation.on) + holding(relation.right)
        return holding(relation.left) + right
    if isinstance(relation, Semi):
        return holding(relation.left)
    return holding(relation.input) if isinstance(relation, Windowed | Capped | Limited) else []


def scans_of(relation: Relation) -> list[Scan]:
    """Every scan below, in the order of the tree."""
    if isinstance(relation, Scan):
        return [relation]
    return [scan for below in inputs_of(relation) for scan in scans_of(below)]


def sources_ranked(relation: Relation) -> set[str]:
    """Sources of which the relation keeps some rows, or puts them in an order: there it matters which of
    their columns are read, since equal rows are told apart by those."""
    below = set().union(*map(sources_ranked, inputs_of(relation)))
    return below | (shown_sources(relation.input) if isinstance(relation, Capped | Windowed) else set())


def tables_of(relation: Relation) -> set[str]:
    """Names of the tables whose files the relation reads, those on the way to a unit included."""
    scans = scans_of(relation)
    return {scan.table for scan in scans} | {hop.table for scan in scans for hop in scan.path}


def sources_within(relation: Relation) -> dict[str, str]:
    """New names for every source of the tree: their kind's letter, and a number in the order of the tree."""
    found: dict[str, str] = {}
    pending = [relation]
    while pending:
        part = pending.pop(0)
        source = getattr(part, "source", None)
        if source is not None:
            kind = source[0]
            found.setdefault(source, f"{kind}{sum(name[0] == kind for name in found.values())}")
        pending = [*inputs_of(part), *pending]
    return found
