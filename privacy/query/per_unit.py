"""Aggregation within each privacy unit: features of a person, to be aggregated over people afterwards.

Every result is a function of the unit's own rows, and the same however they lie: sums are sums of integers,
and what would choose among rows (first, any_value, a list) is refused. Results have public bounds, which they
are clamped to when they are summed in turn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp

from privacy.algebra import TRUE, Call, Column, Literal, PerUnit, Scalar, conjuncts
from privacy.arithmetic import LIMIT, Bounds, Fixed
from privacy.policy import UNIT
from privacy.query.catalog import Catalog, Facts, Rows
from privacy.query.measured import is_aggregate
from privacy.query.numbers import Numbers

if TYPE_CHECKING:
    from privacy.query.scalars import Scalars
    from privacy.query.text import Source

MEAN_DECIMALS = 6
"""Further decimals that the bounds of a mean have."""
SPREAD_LIMIT = 2**32
"""Variances are wide already: they have further decimals below this limit, so that there is room for sums."""
_AVAILABLE = (
    "Use count, sum, avg, median, var_samp, stddev, min, max, bool_and or bool_or of each unit's rows."
)


def is_per_unit(rows: Rows, keys: list[Scalar], catalog: Catalog) -> bool:
    """Whether groups by these keys lie within one unit each."""
    if rows.unit is None:
        return False
    return any(
        isinstance(key, Column) and catalog.identity(key) is not None and key.source not in rows.nullable
        for key in keys
    )


def each_once(rows: Rows, unit: str, place: exp.Expr, scalars: Scalars, catalog: Catalog) -> Rows:
    """Rows that name their unit, each once: what is kept is a function of the unit's own rows.

    Raises:
        Refused: ``unsupported_clause`` at ``place``, rows of several units might be equal.
    """
    if not is_per_unit(rows, list(rows.columns.values()), catalog):
        message = "DISTINCT over several units' rows is not supported in a subquery."
        hint = f"Select the privacy unit as well, {unit}."
        scalars.source.refuse(place, "unsupported_clause", message, hint)
    grouping = UnitGrouping(scalars.source, catalog, scalars, rows, catalog.fresh("p"))
    grouping.set_keys([(place, scalar) for scalar in rows.columns.values()])
    columns = {name: grouping.keys.get(one.text, one) for name, one in rows.columns.items()}
    return grouping.rows(columns, ())


@dataclass
class UnitGrouping:
    """Collects the keys and aggregates of a block that is grouped by the unit, and answers for them."""

    source: Source
    catalog: Catalog
    scalars: Scalars
    input: Rows
    name: str
    keys: dict[str, Column] = field(default_factory=dict)
    nodes: list[exp.Expr] = field(default_factory=list)
    grouped: list[tuple[str, Scalar]] = field(default_factory=list)
    measures: dict[str, tuple[str, Call]] = field(default_factory=dict)

    @property
    def unit(self) -> Column:
        assert self.input.unit is not None
        return Column(self.name, "u", self.input.unit.type)

    def set_keys(self, nodes: list[tuple[exp.Expr, Scalar]]) -> None:
        """The grouping expressions, named in canonical order; the unit is always one of them."""
        self.nodes = [node for node, _ in nodes]
        self.catalog.derive(self.unit, Facts(identity=UNIT, present=True))
        scalars = {scalar.text: scalar for _, scalar in nodes}
        for text in sorted(scalars):
            scalar = scalars[text]
            if scalar in self.input.units:
                self.keys[text] = self.unit
            elif isinstance(scalar, Literal):
                continue
            else:
                name = f"k{len(self.grouped)}"
                self.grouped.append((name, scalar))
                self.keys[text] = self.catalog.derive(
                    Column(self.name, name, scalar.type), self._key_facts(scalar)
                )

    def _key_facts(self, scalar: Scalar) -> Facts:
        """A key is one of the values that its expression has."""
        domain = self.catalog.domain(scalar, self.input.conditions)
        return replace(
            self._numbers(TRUE).facts(scalar), identity=self.catalog.identity(scalar), domain=domain
        )

    def special(self, node: exp.Expr) -> Scalar | None:
        """What a node above the grouping stands for: an aggregate, a key, or (None) something to compile."""
        if is_aggregate(node):
            return self._aggregate(node)
        alike = isinstance(node, exp.Column) or any(type(one) is type(node) for one in self.nodes)
        if alike and not any(is_aggregate(part) for part in node.walk()):
            scalar = self.scalars.compile(node)
            if scalar.text in self.keys or isinstance(scalar, Literal):
                return self.keys.get(scalar.text, scalar)
        if isinstance(node, exp.Column):
            message = f"The column {node.name} is neither grouped nor aggregated."
            hint = f"Add it to GROUP BY, or aggregate it, as in max({node.name})."
            self.source.refuse(node, "ungrouped_column", message, hint)
        return None

    def rows(self, columns: dict[str, Scalar], kept: tuple[Scalar, ...]) -> Rows:
        """One row for each unit and value of the keys."""
        assert self.input.unit is not None
        measures = tuple((name, call) for name, call in self.measures.values())
        relation = PerUnit(self.name, self.input.filtered, self.input.unit, tuple(self.grouped), measures)
        alone = not self.grouped
        most = 1 if alone else self.input.groups([scalar for _, scalar in self.grouped])
        return Rows(
            relation,
            columns,
            self.unit,
            self.input.table,
            kept,
            units=frozenset([self.unit]),
            most=most,
            each={} if most is None else {self.name: most},
            factor=self.input.factor,
        )

    # Aggregates

    def _aggregate(self, node: exp.Expr) -> Scalar:
        condition: Scalar = TRUE
        call = node
        if isinstance(node, exp.Filter):
            self.scalars.only(node, "this", "expression")
            call = node.this
            self._refuse_nested(node.expression)
            condition = self.scalars.predicate(node.expression.this)
        if type(call) not in _AGGREGATES:
            self._refuse(call, f"{self.source.word(call)} is not available within a unit.")
        self.scalars.only(call, "this", "big_int")
        if call.this is not None:
            self._refuse_nested(call.this)
        if isinstance(call, exp.Count):
            return self._count(call, condition)
        if call.this is None or isinstance(call.this, exp.Distinct | exp.Star):
            self._refuse(call, "This aggregate needs an expression.")
        operation = _AGGREGATES[type(call)]
        if operation in _EXACT:
            return self._exact(call, condition, operation)
        if operation in ("bool_and", "bool_or"):
            scalar = self.scalars.predicate(call.this)
            facts = self._numbers(condition).facts(scalar)
            return self._measured(operation, condition, (scalar,), "boolean", facts)
        return self._extreme(call, operation, condition, self.scalars.compile(call.this))

    def _refuse(self, node: exp.Expr, message: str) -> NoReturn:
        self.source.refuse(node, "unsupported_function", message, _AVAILABLE)

    def _refuse_nested(self, node: exp.Expr) -> None:
        inner = next((part for part in node.walk() if is_aggregate(part)), None)
        if inner is not None:
            hint = "Aggregate in a subquery, then aggregate its rows."
            self.source.refuse(inner, "nested_aggregate", "An aggregate cannot hold another.", hint)

    def _count(self, call: exp.Count, condition: Scalar) -> Scalar:
        argument = call.this
        facts = Facts(Bounds(0, self._max_rows, 0), present=True)
        if argument is None or isinstance(argument, exp.Star):
            if argument is not None:
                self.scalars.only(argument)
            return self._measured("count", condition, (), "integer", facts)
        operation = "count"
        if isinstance(argument, exp.Distinct):
            self.scalars.only(argument, "expressions")
            if len(argument.expressions) != 1:
                self._refuse(argument, "DISTINCT takes one expression here.")
            operation, argument = "count_distinct", argument.expressions[0]
        scalar = self.scalars.compile(argument)
        facts = replace(facts, selectable=self.catalog.selectable(scalar))
        return self._measured(operation, condition, (scalar,), "integer", facts)

    @property
    def _max_rows(self) -> int:
        """Rows of one unit that the policy would count."""
        return self.input.table.max_rows if self.input.table is not None else 1

    def _exact(self, call: exp.Expr, condition: Scalar, operation: str) -> Scalar:
        """An aggregate that is computed from integers, scaled back by a power of ten."""
        number = self._numbers(condition).fixed(call.this, self.scalars.compile(call.this))
        kind, scaled = "float", number.decimals
        if operation == "exact_sum":
            kind, bounds = "integer", total_bounds(number, self._max_rows)
        elif operation in ("exact_avg", "exact_median"):
            bounds = mean_bounds(number)
        else:
            number = self._centred(call, number)
            most = 2 * max(-number.low, number.high) ** 2
            root = operation.startswith("exact_stddev")
            number = replace(number, low=0, high=math.isqrt(most) + 1 if root else most)
            bounds = mean_bounds(number, SPREAD_LIMIT)
            scaled *= 1 if root else 2
        column = self._measured(operation, condition, (number.scalar,), kind, Facts(bounds))
        return column if scaled == 0 else Call("div", (column, Literal(10**scaled, "integer")), "float")

    def _centred(self, call: exp.Expr, number: Fixed) -> Fixed:
        """Less the middle of its bounds: its variance stays the same. That of n values is at most n / (n - 1)
        times their reach squared."""
        middle = (number.low + number.high) // 2
        low, high = number.low - middle, number.high - middle
        if 2 * max(-low, high) ** 2 >= LIMIT:
            hint = "Use tighter bounds or fewer decimals, as in stddev(least(greatest(x, 0), 1000))."
            message = "The squares of this expression could exceed 2^62."
            self.source.refuse(call, "overflow", message, hint)
        moved = Call("exact_sub", (number.scalar, Literal(middle, "integer")), "integer")
        return replace(number, scalar=moved, low=low, high=high)

    def _extreme(self, call: exp.Expr, operation: str, condition: Scalar, scalar: Scalar) -> Scalar:
        if scalar.type == "null":
            self.source.refuse(call, "type_mismatch", "This is always NULL.", "Aggregate a column.")
        facts = self._numbers(condition).facts(scalar)
        return self._measured(operation, condition, (scalar,), scalar.type, facts)

    def _numbers(self, condition: Scalar) -> Numbers:
        return Numbers(self.catalog, self.scalars, [*self.input.conditions, *conjuncts(condition)])

    def _measured(
        self, operation: str, condition: Scalar, scalars: tuple[Scalar, ...], kind: str, facts: Facts
    ) -> Column:
        made = Call(f"aggregate_{operation}", (condition, *scalars), kind)
        name, _ = self.measures.setdefault(made.text, (f"m{len(self.measures)}", made))
        return self.catalog.derive(Column(self.name, name, kind), facts)


def total_bounds(number: Fixed, rows: int) -> Bounds:
    """Of a sum of at most ``rows`` integers; held below 2^62, where a sum of it is refused."""
    return Bounds(max(rows * min(number.low, 0), -LIMIT), min(rows * max(number.high, 0), LIMIT), 0)


def mean_bounds(number: Fixed, limit: int = LIMIT) -> Bounds:
    """Of a mean of integers, with as many further decimals as there is room for below ``limit``."""
    reach = max(abs(number.low), abs(number.high), 1)
    room = (digits for digits in range(MEAN_DECIMALS, -1, -1) if reach * 10**digits < limit)
    decimals = next(room, 0)
    return Bounds(number.low * 10**decimals, number.high * 10**decimals, decimals)


_AGGREGATES: dict[type, str] = {
    exp.Count: "count",
    exp.Sum: "exact_sum",
    exp.Avg: "exact_avg",
    exp.Median: "exact_median",
    exp.Variance: "exact_var_samp",
    exp.VariancePop: "exact_var_pop",
    exp.Stddev: "exact_stddev_samp",
    exp.StddevSamp: "exact_stddev_samp",
    exp.StddevPop: "exact_stddev_pop",
    exp.Min: "min",
    exp.Max: "max",
    exp.LogicalAnd: "bool_and",
    exp.LogicalOr: "bool_or",
}
_EXACT = frozenset(operation for operation in _AGGREGATES.values() if operation.startswith("exact_"))
