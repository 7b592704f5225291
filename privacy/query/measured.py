"""Aggregates over private rows: from a call to the measure that it asks for."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar, NoReturn

from sqlglot import exp

from privacy.algebra import Column, Literal, Measure, Number, Scalar, columns_of, conjunction, conjuncts
from privacy.arithmetic import NotFixed, always_present, presence
from privacy.policy import UNIT
from privacy.query.leaves import named_histogram, top_k
from privacy.query.numbers import Numbers
from privacy.query.shares import QUANTILES, quantile, within_group

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
NAMED = frozenset({"histogram"})
"""Aggregates that the parser does not know by name."""
_SYMMETRIC = frozenset({"covar_pop", "covar_samp", "corr", "regr_r2"})


def is_aggregate(node: exp.Expr) -> bool:
    """Whether the node is a call of an aggregate, supported or not."""
    named = isinstance(node, exp.Anonymous) and str(node.this).lower() in NAMED
    return named or isinstance(
        node, exp.AggFunc | exp.Filter | exp.IgnoreNulls | exp.RespectNulls | exp.WithinGroup
    )


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
        leaves: how many bins a histogram may have.
    """

    def __init__(self, source: Source, catalog: Catalog, rows: Scalars, input_: Rows, leaves: int) -> None:
        self.source = source
        self.catalog = catalog
        self.rows = rows
        self.input = input_
        self.leaves = leaves

    def measure(self, call: exp.Expr, condition: Scalar) -> tuple[Measure, str]:
        """The measure of a call, and the type of its column.

        Raises:
            Refused: with the code, position and hint of the first thing that is not allowed.
        """
        if isinstance(call, exp.ArrayAgg):
            self.source.refuse(call, "raw_rows", "A list of values would show raw rows.", AVAILABLE)
        reader = _named(call) if isinstance(call, exp.Anonymous) else self._READERS.get(type(call))
        if reader is None:
            self.refuse(call)
        for part in (call.this, call.expression) if isinstance(call, exp.WithinGroup) else (call,):
            refuse_nested(self.source, part)
        return reader(self, call, condition)

    def refuse(self, call: exp.Expr) -> NoReturn:
        """Refuse a call that is not on the list."""
        name = self.source.word(call)
        self.source.refuse(call, "unsupported_function", f"{name} is not available.", AVAILABLE)

    # One number

    def _of_one(self, call: exp.Expr, condition: Scalar) -> tuple[Measure, str]:
        self.rows.only(call, "this")
        number = self.number(call, call.this, condition)
        kind = _OF_ONE[type(call)]
        whole = kind == "sum" and number.decimals == 0
        counted = self.where_present(condition, number.scalar)
        return Measure(kind, counted, (number,)), "integer" if whole else "float"

    def _of_two(self, call: exp.Expr, condition: Scalar) -> tuple[Measure, str]:
        """The first argument is the dependent variable; rows count where both are there."""
        self.rows.only(call, "this", "expression")
        numbers = [self.number(call, call.args.get(name), condition) for name in ("this", "expression")]
        counted = self.where_present(condition, *(number.scalar for number in numbers))
        kind = _OF_TWO[type(call)]
        if kind == "rows":
            return Measure("rows", counted), "integer"
        if kind == "avg":
            numbers = numbers[1:] if isinstance(call, exp.RegrAvgx) else numbers[:1]
        if kind in _SYMMETRIC:
            numbers.sort(key=lambda number: number.text)
        return Measure(kind, counted, tuple(numbers)), "float"

    def number(self, call: exp.Expr, argument: exp.Expr | None, condition: Scalar) -> Number:
        """The bounded number that an argument is."""
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

    def where_present(self, condition: Scalar, *scalars: Scalar) -> Scalar:
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
            return self._count_distinct(argument, condition), "integer"
        scalar = self.selectable(argument)
        with suppress(NotFixed):  # counting needs no range: any expression is there or not
            scalar = self._numbers(condition).known(scalar).scalar
        return Measure("rows", self.where_present(condition, scalar)), "integer"

    def _count_if(self, call: exp.CountIf, condition: Scalar) -> tuple[Measure, str]:
        self.rows.only(call, "this")
        return Measure("rows", self._also(call, condition)), "integer"

    def _any_or_all(self, call: exp.LogicalAnd | exp.LogicalOr, condition: Scalar) -> tuple[Measure, str]:
        """Told from the noisy number of units with a row that decides it."""
        self.rows.only(call, "this")
        kind = "bool_and" if isinstance(call, exp.LogicalAnd) else "bool_or"
        return Measure(kind, self._also(call, condition, negated=kind == "bool_and")), "boolean"

    def _also(self, call: exp.Expr, condition: Scalar, *, negated: bool = False) -> Scalar:
        predicate = self.rows.predicate(call.this)
        if negated:
            predicate = self.rows.call(call, "not", [predicate], "boolean")
        return conjunction([condition, predicate])

    def _count_distinct(self, argument: exp.Distinct, condition: Scalar) -> Measure:
        """Of the unit, or of any value: then each unit counts with a few."""
        value = self.selectable(self._distinct(argument))
        if self.catalog.identity(value) == UNIT:
            counted = condition if value in self.input.units else self.where_present(condition, value)
            return Measure("units", counted)
        if value.type == "null" or (isinstance(value, Literal) and value.value is None):
            self.source.refuse(argument, "type_mismatch", "This is always NULL.", "Count a column.")
        domain: tuple[Scalar, ...] | None = (value,) if isinstance(value, Literal) else None
        if columns_of(value):
            domain = self.catalog.domain(value, self.input.conditions)
        most = () if domain is None else (Decimal(len(domain)),)
        return Measure("distinct", self.where_present(condition, value), value=value, parameters=most)

    def selectable(self, argument: exp.Expr) -> Scalar:
        """The value that an argument is, which may be more than filtered by."""
        scalar = self.rows.compile(argument)
        if not self.catalog.selectable(scalar) and self.catalog.identity(scalar) != UNIT:
            hint = "Use count(*), with the column in WHERE or FILTER."
            self.source.refuse(argument, "not_selectable", "This column may be used in filters only.", hint)
        return scalar

    def _distinct(self, argument: exp.Expr) -> exp.Expr:
        self.rows.only(argument, "expressions")
        if len(argument.expressions) != 1:
            message = "DISTINCT takes one expression here."
            self.source.refuse(argument, "unsupported_function", message, AVAILABLE)
        inner: exp.Expr = argument.expressions[0]
        return inner

    _READERS: ClassVar[dict[type, Callable[..., tuple[Measure, str]]]] = {
        exp.Count: _count,
        exp.CountIf: _count_if,
        exp.LogicalAnd: _any_or_all,
        exp.LogicalOr: _any_or_all,
        exp.WithinGroup: within_group,
        exp.ApproxTopK: top_k,
        **dict.fromkeys(QUANTILES, quantile),
        **dict.fromkeys(_OF_ONE, _of_one),
        **dict.fromkeys(_OF_TWO, _of_two),
    }


def _named(call: exp.Anonymous) -> Callable[..., tuple[Measure, str]] | None:
    name = str(call.this).lower()
    return {"histogram": named_histogram}.get(name)
