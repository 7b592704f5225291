"""Window functions: syntax tree -> windows of the algebra.

Of private rows a window lies within one unit: its partition names the unit, or a key that only one unit has
(then the unit is added to it). What a row gets is a function of its own unit's rows. Ties in the order are
broken by what the statement reads of the rows, so that it does not matter where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp

from privacy.algebra import TRUE, Call, Column, Literal, Order, Scalar, Window, Windowed
from privacy.arithmetic import Bounds
from privacy.query.catalog import Catalog, Facts, Rows
from privacy.query.numbers import Numbers
from privacy.query.per_unit import mean_bounds, total_bounds
from privacy.values import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.query.scalars import Scalars
    from privacy.query.text import Source

MAX_OFFSET = 1_000_000
_AVAILABLE = (
    "Use row_number, rank, dense_rank, percent_rank, cume_dist, ntile, lag, lead, first_value, last_value, "
    "nth_value, count, sum, avg, min or max."
)


@dataclass
class Windows:
    """Collects the window functions of one block over the rows that its WHERE leaves."""

    source: Source
    catalog: Catalog
    scalars: Scalars
    input: Rows
    name: str
    defined: Sequence[exp.Expr] = ()
    windows: dict[str, tuple[str, Window]] = field(default_factory=dict)
    _named: set[str] = field(default_factory=set)

    @property
    def private(self) -> bool:
        return self.input.unit is not None

    def rows(self, columns: dict[str, Scalar]) -> Rows:
        """The input with the columns of its windows, if there are any."""
        for one in self.defined:
            if one.this.name.lower() not in self._named:
                hint = "Name it after OVER, or leave it out."
                self.source.refuse(one, "unsupported_clause", "This window is not used.", hint)
        if not self.windows:
            return replace(self.input, columns=columns)
        relation = Windowed(self.name, self.input.filtered, tuple(self.windows.values()))
        most = self.input.most
        each = dict(self.input.each) if most is None else {**self.input.each, self.name: most}
        numbered = self.input.numbered | {
            Column(self.name, name, "integer") for name, one in self.windows.values() if self._numbers(one)
        }
        return replace(
            self.input, relation=relation, columns=columns, filters=(), each=each, numbered=numbered
        )

    def _numbers(self, window: Window) -> bool:
        """Whether the window numbers the rows of each unit, from 1 on."""
        units = [part for part in window.partition if part in self.input.units]
        return window.operation == "row_number" and len(units) == len(window.partition) > 0

    def compile(self, node: exp.Expr) -> Scalar:
        """The column that a window function becomes.

        Raises:
            Refused: ``private_window`` where it spans several units, or a function or frame that is not
                supported.
        """
        assert isinstance(node, exp.Window)
        self.scalars.only(node, "this", "partition_by", "order", "spec", "alias", "over")
        over = self._over(node)
        partition = self._partition(over)
        order = self._order(over)
        call = node.this
        condition: Scalar = TRUE
        if isinstance(call, exp.Filter):
            self.scalars.only(call, "this", "expression")
            condition = self.scalars.predicate(call.expression.this)
            call = call.this
        operation = _OPERATIONS.get(type(call))
        if operation is None:
            self._refuse(call, f"{self.source.word(call)} is not available as a window function.")
        if condition != TRUE and operation not in _AGGREGATES:
            self._refuse(call, "FILTER belongs to aggregates.")
        arguments, kind, facts = self._call(call, operation, condition)
        exact = self.private and operation in ("sum", "avg")
        frame = self._frame(over, operation)
        if operation in ("last_value", "nth_value") and order and frame is None:
            message = f"{operation} of the rows so far is not supported."
            hint = "Add ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING."
            self.source.refuse(node, "unsupported_clause", message, hint)
        window = Window(f"exact_{operation}" if exact else operation, arguments, partition, order, frame)
        column = self._made(window, kind, facts)
        return self._scaled(call, column) if exact else column

    # Partition, order and frame

    def _over(self, node: exp.Window) -> exp.Expr:
        """The window's own clauses, or those of the WINDOW clause that it names."""
        alias = node.args.get("alias")
        if alias is None:
            return node
        name = alias.name.lower()
        found = next((one for one in self.defined if one.this.name.lower() == name), None)
        if found is None or any(node.args.get(part) for part in ("partition_by", "order", "spec")):
            hint = "Name a window of the WINDOW clause, or write OVER (PARTITION BY ... ORDER BY ...)."
            self.source.refuse(alias, "unsupported_clause", "This form of OVER is not supported.", hint)
        self._named.add(name)
        self.scalars.only(found, "this", "partition_by", "order", "spec")
        return found

    def _partition(self, node: exp.Expr) -> tuple[Scalar, ...]:
        found = [self.scalars.compile(part) for part in node.args.get("partition_by") or []]
        parts = {part.text: part for part in found if not isinstance(part, Literal)}
        unit = self.input.unit
        if unit is not None and not any(part in self.input.units for part in found):
            owned = [part for part in found if self.catalog.identity(part) is not None]
            if not any(isinstance(part, Column) and part.source not in self.input.nullable for part in owned):
                message = "A window over several units' rows would mix what they contribute."
                hint = f"Partition by the privacy unit, {unit.name}."
                self.source.refuse(node, "private_window", message, hint)
            parts[unit.text] = unit
        return tuple(parts[text] for text in sorted(parts))

    def _order(self, node: exp.Expr) -> tuple[Order, ...]:
        order = node.args.get("order")
        if order is None:
            return ()
        self.scalars.only(order, "expressions")
        return tuple(self._ordered(item) for item in order.expressions)

    def _ordered(self, item: exp.Expr) -> Order:
        self.scalars.only(item, "this", "desc", "nulls_first")
        if isinstance(item.this, exp.Var):
            message = "ORDER BY ALL is not supported."
            self.source.refuse(item.this, "unsupported_clause", message, "Name the columns.")
        scalar = self.scalars.compile(item.this)
        return Order(scalar, bool(item.args.get("desc")), bool(item.args.get("nulls_first")))

    def _frame(self, node: exp.Expr, operation: str) -> tuple[int | None, int | None] | None:
        """A ROWS frame as (preceding, following), or None for the usual one."""
        spec = node.args.get("spec")
        if spec is None:
            return None
        self.scalars.only(spec, "kind", "start", "start_side", "end", "end_side")
        ends = [self._end(spec, name) for name in ("start", "end")]
        usual = ends == [(None, "PRECEDING"), (0, "FOLLOWING")]
        kind = str(spec.args.get("kind") or "").upper()
        if kind == "RANGE" and usual:
            return None
        if ends == [(None, "PRECEDING"), (None, "FOLLOWING")]:
            kind = "ROWS"  # all rows, whichever way they are counted
        if kind != "ROWS" or ends[0] == (None, "FOLLOWING") or ends[1] == (None, "PRECEDING"):
            hint = "Write it as in ROWS BETWEEN 6 PRECEDING AND CURRENT ROW."
            self.source.refuse(spec, "unsupported_clause", "This window frame is not supported.", hint)
        if operation not in _AGGREGATES and operation not in _VALUES:
            hint = "Leave the frame out: it has no effect here."
            self.source.refuse(spec, "unsupported_clause", "A rank takes no frame.", hint)
        (before, start), (after, end) = ends
        preceding = before if start == "PRECEDING" or before is None else -before
        following = after if end == "FOLLOWING" or after is None else -after
        if preceding is not None and following is not None and -preceding > following:
            hint = "Let the frame start before it ends."
            self.source.refuse(spec, "unsupported_clause", "This window frame is empty.", hint)
        return preceding, following

    def _end(self, spec: exp.Expr, name: str) -> tuple[int | None, str]:
        value = spec.args.get(name)
        side = str(spec.args.get(f"{name}_side") or "").upper()
        if value is None or value == "CURRENT ROW":
            return 0, "PRECEDING" if name == "start" else "FOLLOWING"
        if value == "UNBOUNDED":
            return None, side
        return self._whole(value, 0), side

    def _whole(self, node: exp.Expr, least: int) -> int:
        found = self.scalars.compile(node)
        number = found.value if isinstance(found, Literal) else None
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= MAX_OFFSET:
            hint = f"Use one from {least} to {MAX_OFFSET}."
            self.source.refuse(node, "type_mismatch", "A literal whole number is needed here.", hint)
        return number

    # Functions

    def _call(
        self, call: exp.Expr, operation: str, condition: Scalar
    ) -> tuple[tuple[Scalar, ...], str, Facts]:
        """The arguments, type and facts of a window function."""
        counted = Facts(Bounds(0, self._max_rows, 0), present=True)
        if operation in ("row_number", "rank", "dense_rank"):
            self.scalars.only(call)
            return (), "integer", counted
        if operation in ("percent_rank", "cume_dist"):
            self.scalars.only(call)
            return (), "float", Facts(present=True)
        if operation == "ntile":
            self.scalars.only(call, "this")
            tiles = self._whole(call.this, 1)
            return (Literal(tiles, "integer"),), "integer", Facts(Bounds(1, tiles, 0), present=True)
        if operation in ("lag", "lead"):
            return self._neighbour(call)
        if operation == "nth_value":
            return self._nth(call)
        self.scalars.only(call, "this", "big_int")
        if operation == "count":
            return self._counted(call, condition), "integer", counted
        scalar = self.scalars.compile(call.this)
        if operation in ("sum", "avg"):
            return self._summed(call, operation, scalar, condition)
        if scalar.type == "null":
            self.source.refuse(call, "type_mismatch", "This is always NULL.", "Name a column.")
        return (_where(condition, scalar),), scalar.type, self._fixed.facts(scalar)

    def _neighbour(self, call: exp.Expr) -> tuple[tuple[Scalar, ...], str, Facts]:
        """lag and lead: a value of another row of the partition, or a literal where there is none."""
        self.scalars.only(call, "this", "offset", "default")
        scalar = self.scalars.compile(call.this)
        if scalar.type == "null":
            self.source.refuse(call, "type_mismatch", "This is always NULL.", "Name a column.")
        offset, default = call.args.get("offset"), call.args.get("default")
        steps = 1 if offset is None else self._whole(offset, 0)
        arguments: list[Scalar] = [scalar, Literal(steps, "integer")]
        facts = self._fixed.facts(scalar)
        if default is not None:
            found = self.scalars.compile(default)
            if not isinstance(found, Literal):
                hint = "Leave it out, and use coalesce."
                self.source.refuse(default, "type_mismatch", "A literal is needed here.", hint)
            arguments.append(self.scalars.converted(default, found, scalar.type))
            facts = replace(facts, bounds=None, domain=None)
        return tuple(arguments), scalar.type, facts

    def _nth(self, call: exp.Expr) -> tuple[tuple[Scalar, ...], str, Facts]:
        self.scalars.only(call, "this", "offset")
        scalar = self.scalars.compile(call.this)
        if scalar.type == "null":
            self.source.refuse(call, "type_mismatch", "This is always NULL.", "Name a column.")
        place = Literal(self._whole(call.args["offset"], 1), "integer")
        return (scalar, place), scalar.type, self._fixed.facts(scalar)

    def _counted(self, call: exp.Expr, condition: Scalar) -> tuple[Scalar, ...]:
        if call.this is None or isinstance(call.this, exp.Star):
            return () if condition == TRUE else (_where(condition, TRUE),)
        if isinstance(call.this, exp.Distinct):
            self._refuse(call.this, "DISTINCT is not available in a window.")
        return (_where(condition, self.scalars.compile(call.this)),)

    def _summed(
        self, call: exp.Expr, operation: str, scalar: Scalar, condition: Scalar
    ) -> tuple[tuple[Scalar, ...], str, Facts]:
        if isinstance(call.this, exp.Distinct) or scalar.type not in NUMBERS:
            self.source.refuse(
                call.this, "type_mismatch", "A number is needed here.", "Use a numeric column."
            )
        if not self.private:
            whole = operation == "sum" and scalar.type == "integer"
            return (_where(condition, scalar),), "integer" if whole else "float", Facts()
        number = self._fixed.fixed(call.this, scalar)
        mean = operation == "avg"
        bounds = mean_bounds(number) if mean else total_bounds(number, self._max_rows)
        return (_where(condition, number.scalar),), "float" if mean else "integer", Facts(bounds)

    def _scaled(self, call: exp.Expr, column: Column) -> Scalar:
        """Sums and means of private numbers are of integers, scaled back by a power of ten."""
        decimals = self._fixed.known(self.scalars.compile(call.this)).decimals
        return column if decimals == 0 else Call("div", (column, Literal(10**decimals, "integer")), "float")

    @property
    def _fixed(self) -> Numbers:
        return Numbers(self.catalog, self.scalars, self.input.conditions)

    @property
    def _max_rows(self) -> int:
        return self.input.table.max_rows if self.input.table is not None else 1

    def _made(self, window: Window, kind: str, facts: Facts) -> Column:
        selectable = facts.selectable and all(map(self.catalog.selectable, window.arguments))
        name, _ = self.windows.setdefault(window.text, (f"m{len(self.windows)}", window))
        column = Column(self.name, name, kind)
        return self.catalog.derive(column, replace(facts, selectable=selectable)) if self.private else column

    def _refuse(self, node: exp.Expr, message: str) -> NoReturn:
        self.source.refuse(node, "unsupported_function", message, _AVAILABLE)


def _where(condition: Scalar, scalar: Scalar) -> Scalar:
    """What an aggregate with FILTER is taken of: NULL where the condition does not hold."""
    if condition == TRUE:
        return scalar
    return Call("case", (condition, scalar, Literal(None, scalar.type)), scalar.type)


_OPERATIONS: dict[type, str] = {
    exp.RowNumber: "row_number",
    exp.Rank: "rank",
    exp.DenseRank: "dense_rank",
    exp.PercentRank: "percent_rank",
    exp.CumeDist: "cume_dist",
    exp.Ntile: "ntile",
    exp.Lag: "lag",
    exp.Lead: "lead",
    exp.FirstValue: "first_value",
    exp.LastValue: "last_value",
    exp.NthValue: "nth_value",
    exp.Count: "count",
    exp.Sum: "sum",
    exp.Avg: "avg",
    exp.Min: "min",
    exp.Max: "max",
}
_AGGREGATES = frozenset({"count", "sum", "avg", "min", "max"})
_VALUES = frozenset({"first_value", "last_value", "nth_value"})
