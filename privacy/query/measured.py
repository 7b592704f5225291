"""Aggregates over private rows: from a call to the measure that it asks for."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from sqlglot import exp

from privacy.algebra import Column, Measure, Number, Scalar, conjunction, conjuncts
from privacy.arithmetic import NotFixed, always_present, presence
from privacy.policy import UNIT
from privacy.query.numbers import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from privacy.query.catalog import Catalog, Rows
    from privacy.query.scalars import Scalars
    from privacy.query.text import Source

AVAILABLE = (
    "Use count, sum, avg, var_samp, stddev, covar_samp, corr, regr_slope or another aggregate of the list in "
    "the documentation."
)
_OF_ONE: dict[type, str] = {
    exp.Sum: "sum",
    exp.Avg: "avg",
    exp.Variance: "var_samp",
    exp.VariancePop: "var_pop",
    exp.Stddev: "stddev_samp",
    exp.StddevSamp: "stddev_samp",
    exp.StddevPop: "stddev_pop",
}
_OF_TWO: dict[type, str] = {
    exp.CovarPop: "covar_pop",
    exp.CovarSamp: "covar_samp",
    exp.Corr: "corr",
    exp.RegrSlope: "regr_slope",
    exp.RegrIntercept: "regr_intercept",
    exp.RegrR2: "regr_r2",
    exp.RegrCount: "rows",
    exp.RegrAvgx: "avg",
    exp.RegrAvgy: "avg",
}
_SYMMETRIC = frozenset({"covar_pop", "covar_samp", "corr", "regr_r2"})


def is_aggregate(node: exp.Expr) -> bool:
    """Whether the node is a call of an aggregate, supported or not."""
    return isinstance(node, exp.AggFunc | exp.Filter | exp.IgnoreNulls | exp.RespectNulls | exp.WithinGroup)


def refuse_nested(source: Source, call: exp.Expr) -> None:
    """Refuse an aggregate whose arguments call another."""
    for argument in call.iter_expressions():
        inner = next((part for part in argument.walk() if is_aggregate(part)), None)
        if inner is not None:
            hint = "Aggregate in a subquery, then aggregate its released rows."
            source.refuse(inner, "nested_aggregate", "An aggregate cannot hold another.", hint)


class PrivateCalls:
    """Reads the aggregate calls of a block of private rows.

    Args:
        rows: the scalar compiler of the rows below.
        input_: the rows, of one privacy unit each.
    """

    def __init__(self, source: Source, catalog: Catalog, rows: Scalars, input_: Rows) -> None:
        self.source = source
        self.catalog = catalog
        self.rows = rows
        self.input = input_

    def measure(self, call: exp.Expr, condition: Scalar) -> tuple[Measure, str]:
        """The measure of a call, and the type of its column.

        Raises:
            Refused: with the code, position and hint of the first thing that is not allowed.
        """
        if isinstance(call, exp.ArrayAgg):
            self.source.refuse(call, "raw_rows", "A list of values would show raw rows.", AVAILABLE)
        reader = self._READERS.get(type(call))
        if reader is None:
            name = self.source.word(call)
            self.source.refuse(call, "unsupported_function", f"{name} is not available.", AVAILABLE)
        refuse_nested(self.source, call)
        return reader(self, call, condition)

    # One number

    def _of_one(self, call: exp.Expr, condition: Scalar) -> tuple[Measure, str]:
        self.rows.only(call, "this")
        number = self._number(call, call.this, condition)
        kind = _OF_ONE[type(call)]
        whole = kind == "sum" and number.decimals == 0
        counted = self._where_present(condition, number.scalar)
        return Measure(kind, counted, (number,)), "integer" if whole else "float"

    def _of_two(self, call: exp.Expr, condition: Scalar) -> tuple[Measure, str]:
        """The first argument is the dependent variable; rows count where both are there."""
        self.rows.only(call, "this", "expression")
        numbers = [self._number(call, call.args.get(name), condition) for name in ("this", "expression")]
        counted = self._where_present(condition, *(number.scalar for number in numbers))
        kind = _OF_TWO[type(call)]
        if kind == "rows":
            return Measure("rows", counted), "integer"
        if kind == "avg":
            numbers = numbers[1:] if isinstance(call, exp.RegrAvgx) else numbers[:1]
        if kind in _SYMMETRIC:
            numbers.sort(key=lambda number: number.text)
        return Measure(kind, counted, tuple(numbers)), "float"

    def _number(self, call: exp.Expr, argument: exp.Expr | None, condition: Scalar) -> Number:
        if argument is None:
            message = "This aggregate needs an expression."
            self.source.refuse(call, "unsupported_function", message, AVAILABLE)
        if isinstance(argument, exp.Distinct):
            message = "DISTINCT is not available here."
            self.source.refuse(argument, "unsupported_function", message, AVAILABLE)
        found = self._numbers(condition).fixed(argument, self.rows.compile(argument))
        return Number(found.scalar, found.low, found.high, found.decimals)

    def _numbers(self, condition: Scalar) -> Numbers:
        return Numbers(self.catalog, self.rows, [*self.input.conditions, *conjuncts(condition)])

    def _where_present(self, condition: Scalar, *scalars: Scalar) -> Scalar:
        """The condition, and that the scalars are not NULL where that is not known."""
        unsure = [presence(one) for one in scalars if not always_present(one, self._present)]
        return conjunction([condition, *unsure]) if unsure else condition

    def _present(self, column: Column) -> bool:
        return column.source not in self.input.nullable and self.catalog.present(column)

    # Counts

    def _count(self, call: exp.Expr, condition: Scalar) -> tuple[Measure, str]:
        self.rows.only(call, "this", "big_int")
        argument = call.this
        if argument is None or isinstance(argument, exp.Star):
            if argument is not None:
                self.rows.only(argument)
            return Measure("rows", condition), "integer"
        if isinstance(argument, exp.Distinct):
            unit = self.rows.compile(self._distinct(argument))
            if self.catalog.identity(unit) != UNIT:
                message = "Only distinct privacy units can be counted."
                hint = f"Use count(DISTINCT {self.input.unit.name if self.input.unit else 'unit'})."
                self.source.refuse(argument, "unsupported_function", message, hint)
            counted = condition if unit in self.input.units else self._where_present(condition, unit)
            return Measure("units", counted), "integer"
        scalar = self.rows.compile(argument)
        if not self.catalog.selectable(scalar):
            hint = "Use count(*), with the column in WHERE or FILTER."
            self.source.refuse(argument, "not_selectable", "This column may be used in filters only.", hint)
        with suppress(NotFixed):  # counting needs no range: any expression is there or not
            scalar = self._numbers(condition).known(scalar).scalar
        return Measure("rows", self._where_present(condition, scalar)), "integer"

    def _distinct(self, argument: exp.Expr) -> exp.Expr:
        self.rows.only(argument, "expressions")
        if len(argument.expressions) != 1:
            message = "DISTINCT takes one expression here."
            self.source.refuse(argument, "unsupported_function", message, AVAILABLE)
        inner: exp.Expr = argument.expressions[0]
        return inner

    _READERS: ClassVar[dict[type, Callable[..., tuple[Measure, str]]]] = {
        exp.Count: _count,
        **dict.fromkeys(_OF_ONE, _of_one),
        **dict.fromkeys(_OF_TWO, _of_two),
    }
