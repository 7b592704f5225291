"""Questions about private rows: what is asked, how a unit is bounded, which sums are taken."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from privacy.algebra.relations import Order, Relation, Released, Union, inputs_of
from privacy.algebra.scalars import Column, Literal, Scalar

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from decimal import Decimal


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
    """What one unit may contribute, and how that is brought about.

    strategy
        ``caps``: at most ``groups`` groups, chosen by keyed rank where there may be more, and ``rows`` rows
        in each. ``clip``: nothing is dropped; a unit's numbers are scaled down until they are no longer, in
        L2 over its groups, than each sum allows (`Sum.norm_squared`).

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
    strategy: str = "caps"

    @property
    def scales(self) -> bool:
        """Whether a unit's numbers are scaled down together, and nothing is dropped."""
        return self.strategy in ("clip", "weights")

    @property
    def text(self) -> str:
        keys = "; ".join(key.text for key in self.keys)
        return f"bound ({self.input.text}) by [{keys}] {self.strategy} l0={self.groups} linf={self.rows}"


@dataclass(frozen=True)
class Sum:
    """An integer sum over units of what each may contribute, by the strategy of the `Bound`.

    kind
        ``units``: 1 for each unit with a row that counts. ``rows``: rows that count. ``total``: sum of
        ``argument``. ``centred``: sum of ``argument - middle``. ``distinct``: different values of
        ``argument``. ``histogram``: rows that count for each whole number below ``leaves`` that ``argument``
        is; a list of pairs.

    Attributes:
        low, high: what one row adds lies between them; of ``units`` and ``distinct``, what one unit adds to
            a group.
        norm_squared: square of the L2 length over all groups that the strategy leaves a unit's numbers; the
            sum moves by no more when a unit comes or goes.
        shift: the column holds the sum times ``2 ** shift``, so that fractions of rows survive.
        leaves, levels: of a histogram, how many leaves it has, and how many levels of sums over runs of them
            are released (`privacy.tree`).
    """

    name: str
    kind: str
    argument: Scalar | None
    condition: Scalar
    low: int
    high: int
    middle: int = 0
    norm_squared: int = 0
    shift: int = 0
    leaves: int = 0
    levels: int = 1

    @property
    def reach(self) -> int:
        """The largest absolute value that one row adds; of ``units`` and ``distinct``, one unit to one
        group."""
        return max(abs(self.low), abs(self.high), 1)

    @property
    def sensitivity_squared(self) -> int:
        """Square of the L2 distance by which one unit moves the column, over all groups and levels."""
        return self.level_squared * self.levels

    @property
    def level_squared(self) -> int:
        """Square of the L2 distance by which one unit moves the column, or one level of a histogram."""
        return self.norm_squared << 2 * self.shift

    @property
    def by_rows(self) -> bool:
        """Whether rows of a unit add up, as they do not where it merely counts or not."""
        return self.kind not in ("units", "distinct")

    @property
    def additive(self) -> bool:
        """Whether it is one number for each unit and group, summed over units."""
        return self.kind not in ("distinct", "histogram")

    @property
    def text(self) -> str:
        argument = self.argument.text if self.argument is not None else "*"
        within = f"in [{self.low},{self.high}] around {self.middle}"
        bounded = f" norm {self.norm_squared} times 2^{self.shift}" if self.norm_squared else ""
        leaves = f" of {self.leaves} leaves in {self.levels} levels" if self.leaves else ""
        return f"{self.kind} {argument} if {self.condition.text} {within}{bounded}{leaves}"


@dataclass(frozen=True)
class Total:
    """A number of all groups together: of each unit its numbers of a sum over all its groups, within
    ``[-cap, cap]``.

    Attributes:
        kept: whether the unit's numbers are taken as the strategy leaves them (and shifted as the sum is),
            or as they were.
    """

    name: str
    of: Sum
    cap: int
    kept: bool

    @property
    def shift(self) -> int:
        """The column holds the total times ``2 ** shift``."""
        return self.of.shift if self.kept else 0

    @property
    def sensitivity_squared(self) -> int:
        """Square of what one unit moves the column by, at most."""
        return (self.cap << self.shift) ** 2

    @property
    def text(self) -> str:
        return f"{'kept' if self.kept else 'whole'} {self.of.name} within {self.cap}"


@dataclass(frozen=True)
class Aggregate:
    """Exact sums for each group, of the one Bound below.

    Attributes:
        shown_by: the sum whose noisy value decides which groups with private keys are shown.
        limits: sums that are not released: a strategy that scales keeps these short as well.
    """

    input: Bound
    sums: tuple[Sum, ...]
    shown_by: str | None = None
    limits: tuple[Sum, ...] = ()
    totals: tuple[Total, ...] = ()

    @property
    def text(self) -> str:
        sums = "; ".join([*(one.text for one in self.sums + self.limits), *(one.text for one in self.totals)])
        return f"aggregate ({self.input.text}) [{sums}]"


@dataclass(frozen=True)
class Number:
    """A fixed point integer expression: its value is ``scalar / 10 ** decimals`` and proven to lie in
    ``[low, high] / 10 ** decimals``."""

    scalar: Scalar
    low: int
    high: int
    decimals: int

    @property
    def text(self) -> str:
        """The same integers at another scale are another number."""
        return f"{self.scalar.text} in [{self.low},{self.high}] / 1e{self.decimals}"


@dataclass(frozen=True)
class Measure:
    """An asked aggregate over private rows, before it is lowered to integer sums.

    Attributes:
        kind: what is asked: a key of `privacy.measures.KINDS`.
        condition: rows that count.
        numbers: what is summed of them, in the order of the aggregate's arguments.
        value: what is told apart, for COUNT(DISTINCT value); of a histogram the place of a row's label.
        labels: the values that a histogram counts.
        parameters: public constants of the aggregate, as the fractions of quantiles.
        leaves: how many bins its histogram may have.
    """

    kind: str
    condition: Scalar
    numbers: tuple[Number, ...] = ()
    value: Scalar | None = None
    parameters: tuple[Decimal, ...] = ()
    leaves: int = 0
    labels: tuple[Literal, ...] = ()

    @property
    def text(self) -> str:
        """Names the aggregate."""
        of = [number.text for number in self.numbers] + ([self.value.text] if self.value else [])
        constants = "".join(f" {number}" for number in self.parameters)
        constants += f" in {self.leaves} leaves" if self.leaves else ""
        constants += f" of [{','.join(label.text for label in self.labels)}]" if self.labels else ""
        return f"{self.kind} {', '.join(of) or '*'}{constants} if {self.condition.text}"


@dataclass(frozen=True)
class Question:
    """What one release is asked about private rows: the input of the planner, which bounds and prices it.

    Its sources are numbered for it alone, so that equal questions are equal wherever they stand. ``places``
    says where the text names each scan: its line and column, by source.

    Attributes:
        rows_per_unit: rows of one unit in ``input``, at most, whatever the data; None where nothing says so.
        groups_per_unit: in the same way, groups that one unit's rows fall into.
    """

    input: Relation
    unit: Column
    keys: tuple[Key, ...]
    measures: tuple[Measure, ...]
    table: str
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict, compare=False)
    rows_per_unit: int | None = None
    groups_per_unit: int | None = None


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
    """A whole statement: its questions about private rows, and the public part over their answers.

    `Released` relations of the public part name their question by its place.
    """

    questions: tuple[Question, ...]
    output: Output
    tables: frozenset[str] = field(default_factory=frozenset)

    @cached_property
    def _sources(self) -> Mapping[str, Relation]:
        """The relations of the public part that make columns, by source."""
        found: dict[str, Relation] = {}
        pending: list[Relation] = [self.output.input]
        while pending:
            part = pending.pop()
            if isinstance(part, Released | Union):
                found[part.source] = part
            pending.extend(inputs_of(part))
        return found

    def question_of(self, source: str) -> int | None:
        """The place of the question whose released table is called ``source``, if it is one."""
        found = self._sources.get(source)
        return found.question if isinstance(found, Released) else None

    def origins(self, scalar: Scalar) -> tuple[Scalar, ...]:
        """What a scalar of the public part is in each branch of the unions that it comes through."""
        union = self._sources.get(scalar.source) if isinstance(scalar, Column) else None
        if not isinstance(union, Union):
            return (scalar,)
        own = [dict(branch.columns)[scalar.name] for branch in union.branches if isinstance(scalar, Column)]
        return tuple(origin for one in own for origin in self.origins(one))

    def has_column(self, column: Column) -> bool:
        """Whether a released table or a union of the public part makes the column."""
        found = self._sources.get(column.source)
        if isinstance(found, Union):
            return any(name == column.name for name, _ in found.branches[0].columns)
        return isinstance(found, Released)


def columns_of(node: Any, *, without: Collection[str] = ()) -> set[Column]:
    """Every source column that a scalar or relation reads; members of these names are left out."""
    found: set[Column] = set()
    pending: list[Any] = [node]
    while pending:
        part = pending.pop()
        if isinstance(part, Column):
            found.add(part)
        elif isinstance(part, tuple | list):
            pending.extend(part)
        elif hasattr(part, "__dataclass_fields__"):
            pending.extend(getattr(part, name) for name in part.__dataclass_fields__ if name not in without)
    return found


def renamed(node: Any, names: Mapping[str, str]) -> Any:
    """The tree with its sources called by other names."""
    if isinstance(node, tuple):
        return tuple(renamed(one, names) for one in node)
    if not hasattr(node, "__dataclass_fields__"):
        return node
    parts = {name: renamed(getattr(node, name), names) for name in node.__dataclass_fields__}
    if "source" in parts:
        parts["source"] = names.get(parts["source"], parts["source"])
    return type(node)(**parts)
