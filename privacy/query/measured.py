"""Aggregates over private rows: from a call to the measure that it asks for."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from sqlglot import exp

from privacy.algebra import Column, Literal, Measure, Number, Scalar, columns_of, conjunction, conjuncts
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
_QUANTILES = (
    exp.Median, exp.PercentileCont, exp.PercentileDisc, exp.Quantile, exp.ApproxQuantile, exp.Min, exp.Max,
)  # fmt: skip
_EXTREMES: dict[type, tuple[str, Decimal]] = {
    exp.Median: ("quantile", Decimal("0.5")),
    exp.Min: ("min", Decimal("0.01")),
    exp.Max: ("max", Decimal("0.99")),
}
MAX_SHARES = 100
_SHARE_HINT = "Write it as in quantile_cont(x, 0.9) or quantile_cont(x, [0.25, 0.75])."
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
        reader = self._READERS.get(type(call))
        if reader is None:
            name = self.source.word(call)
            self.source.refuse(call, "unsupported_function", f"{name} is not available.", AVAILABLE)
        for part in (call.this, call.expression) if isinstance(call, exp.WithinGroup) else (call,):
            refuse_nested(self.source, part)
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
            return self._count_distinct(argument, condition), "integer"
        scalar = self._selectable(argument)
        with suppress(NotFixed):  # counting needs no range: any expression is there or not
            scalar = self._numbers(condition).known(scalar).scalar
        return Measure("rows", self._where_present(condition, scalar)), "integer"

    def _count_distinct(self, argument: exp.Distinct, condition: Scalar) -> Measure:
        """Of the unit, or of any value: then each unit counts with a few."""
        value = self._selectable(self._distinct(argument))
        if self.catalog.identity(value) == UNIT:
            counted = condition if value in self.input.units else self._where_present(condition, value)
            return Measure("units", counted)
        if value.type == "null" or (isinstance(value, Literal) and value.value is None):
            self.source.refuse(argument, "type_mismatch", "This is always NULL.", "Count a column.")
        domain: tuple[Scalar, ...] | None = (value,) if isinstance(value, Literal) else None
        if columns_of(value):
            domain = self.catalog.domain(value, self.input.conditions)
        most = () if domain is None else (Decimal(len(domain)),)
        return Measure("distinct", self._where_present(condition, value), value=value, parameters=most)

    def _selectable(self, argument: exp.Expr) -> Scalar:
        scalar = self.rows.compile(argument)
        if not self.catalog.selectable(scalar) and self.catalog.identity(scalar) != UNIT:
            hint = "Use count(*), with the column in WHERE or FILTER."
            self.source.refuse(argument, "not_selectable", "This column may be used in filters only.", hint)
        return scalar

    # Quantiles

    def _quantile(self, call: exp.Expr, condition: Scalar) -> tuple[Measure, str]:
        """quantile_cont(x, shares) and its kin, median(x), min(x) and max(x)."""
        self.rows.only(call, "this", "expression", "quantile")
        shares = call.args.get("expression") or call.args.get("quantile")
        if isinstance(call, exp.Median | exp.Min | exp.Max):
            kind, share = _EXTREMES[type(call)]
            return self._quantiles(call, call.this, condition, kind, [share])
        if shares is None:
            self.source.refuse(call, "unsupported_function", "A share is needed.", _SHARE_HINT)
        many = isinstance(shares, exp.Array)
        found = [self._share(one) for one in (shares.expressions if many else [shares])]
        return self._quantiles(call, call.this, condition, "quantiles" if many else "quantile", found)

    def _within_group(self, call: exp.WithinGroup, condition: Scalar) -> tuple[Measure, str]:
        """percentile_cont(shares) WITHIN GROUP (ORDER BY x)."""
        inner, order = call.this, call.expression
        if not isinstance(inner, exp.PercentileCont | exp.PercentileDisc) or not isinstance(order, exp.Order):
            name = self.source.word(call)
            self.source.refuse(call, "unsupported_function", f"{name} is not available.", AVAILABLE)
        self.rows.only(inner, "this")
        self.rows.only(order, "expressions")
        (ordered,) = order.expressions if len(order.expressions) == 1 else (order,)
        if not isinstance(ordered, exp.Ordered):
            self.source.refuse(order, "unsupported_clause", "Order by one number.", _SHARE_HINT)
        self.rows.only(ordered, "this", "desc", "nulls_first")
        many = isinstance(inner.this, exp.Array)
        shares = [self._share(one) for one in (inner.this.expressions if many else [inner.this])]
        if ordered.args.get("desc"):
            shares = [1 - share for share in shares]
        return self._quantiles(call, ordered.this, condition, "quantiles" if many else "quantile", shares)

    def _quantiles(
        self, call: exp.Expr, argument: exp.Expr, condition: Scalar, kind: str, shares: list[Decimal]
    ) -> tuple[Measure, str]:
        if not 1 <= len(shares) <= MAX_SHARES:
            message = f"From one to {MAX_SHARES} shares can be asked for at once."
            self.source.refuse(call, "unsupported_function", message, _SHARE_HINT)
        number = self._number(call, argument, condition)
        counted = self._where_present(condition, number.scalar)
        measure = Measure(kind, counted, (number,), parameters=tuple(shares), leaves=self.leaves)
        return measure, "list" if kind == "quantiles" else "float"

    def _share(self, node: exp.Expr) -> Decimal:
        found = self.rows.compile(node)
        value = found.value if isinstance(found, Literal) else None
        if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 < value < 1:
            message = "A share is a literal number between 0 and 1."
            self.source.refuse(node, "type_mismatch", message, _SHARE_HINT)
        return Decimal(value)

    def _distinct(self, argument: exp.Expr) -> exp.Expr:
        self.rows.only(argument, "expressions")
        if len(argument.expressions) != 1:
            message = "DISTINCT takes one expression here."
            self.source.refuse(argument, "unsupported_function", message, AVAILABLE)
        inner: exp.Expr = argument.expressions[0]
        return inner

    _READERS: ClassVar[dict[type, Callable[..., tuple[Measure, str]]]] = {
        exp.Count: _count,
        exp.WithinGroup: _within_group,
        **dict.fromkeys(_QUANTILES, _quantile),
        **dict.fromkeys(_OF_ONE, _of_one),
        **dict.fromkeys(_OF_TWO, _of_two),
    }
