"""What each aggregate is computed from, and how its value and interval follow from released integers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from privacy.algebra import Call, Column, Literal, Measure, Number, Scalar, Sum

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = {"rows": "count", "units": "count_distinct", "sum": "sum", "avg": "avg"}
"""Kinds of measures, and what the column of an answer is called for each."""
NORMAL_95 = 1.959963984540054
"""Half-width of a 95% interval in standard deviations."""


def sums_of(measure: Measure) -> tuple[Sum, ...]:
    """The integer sums that a measure is computed from, each with the range of what one row adds."""
    if measure.kind == "units":
        return (Sum("", "units", None, measure.condition, 0, 1),)
    rows = Sum("", "rows", None, measure.condition, 0, 1)
    if measure.kind == "rows":
        return (rows,)
    (number,) = measure.numbers
    low, high = number.low, number.high
    if measure.kind == "sum":
        return (Sum("", "total", number.scalar, measure.condition, min(low, 0), max(high, 0)),)
    middle = (low + high) // 2
    return (rows, Sum("", "centred", number.scalar, measure.condition, low - middle, high - middle, middle))


def scale_of(measure: Measure) -> int:
    """Decimals by which a released sum is scaled back."""
    return measure.numbers[0].decimals if measure.kind == "sum" else 0


@dataclass(frozen=True)
class Definition:
    """A released column: its value and the ends of its 95% interval, over released integers."""

    value: Scalar
    low: Scalar
    high: Scalar


def definition(
    measure: Measure, parts: Sequence[Sum], sigmas: Sequence[float], widths: Sequence[int]
) -> Definition:
    """How a measure is computed from its released sums.

    Args:
        sigmas, widths: noise scale and 95% half-width of each of the parts, in the unit of what they sum (not
            shifted).
    """
    columns = [value_of_sum(one) for one in parts]
    if measure.kind == "avg":
        return _average(measure, parts[1].middle, columns, sigmas)
    width = Literal(widths[0], "integer")
    numbers: list[Scalar] = [_whole(columns[0])]
    numbers += [Call(name, (numbers[0], width), "integer") for name in ("sub", "add")]
    value, low, high = (_unscaled(one, scale_of(measure)) for one in numbers)
    return Definition(value, low, high)


def value_of_sum(one: Sum) -> Scalar:
    """A released sum in the unit of what it sums: an integer, or a float where fractions were kept."""
    column = Column("released", one.name, "integer")
    return column if one.shift == 0 else _call("div", column, _number(2**one.shift))


def _whole(number: Scalar) -> Scalar:
    return number if number.type == "integer" else Call("round", (number,), "integer")


def _unscaled(number: Scalar, decimals: int) -> Scalar:
    if decimals == 0:
        return number
    return _call("div", number, _number(10**decimals))


def _average(measure: Measure, middle: int, columns: Sequence[Scalar], sigmas: Sequence[float]) -> Definition:
    """middle + centred / count, and by the delta method its deviation; NULL where the count is not
    positive."""
    count, centred = columns
    (number,) = measure.numbers
    offset = _call("div", centred, count)
    mean = _unscaled(_call("add", _number(middle), offset), number.decimals)
    spread = _call("mul", offset, _number(sigmas[0]))
    variance = _call("add", _number(sigmas[1] * sigmas[1]), _call("mul", spread, spread))
    deviation = _call("div", _call("sqrt", variance), count)
    half = _unscaled(_call("mul", _number(NORMAL_95), deviation), number.decimals)
    numbers = [mean, _call("sub", mean, half), _call("add", mean, half)]
    value, low, high = (_where_counted(count, _held(one, number)) for one in numbers)
    return Definition(value, low, high)


def _held(value: Scalar, number: Number) -> Scalar:
    """A mean lies within the bounds of what it is a mean of; noise may not."""
    ends = [_number(Decimal(end).scaleb(-number.decimals)) for end in (number.low, number.high)]
    return _call("held", value, *ends)


def _where_counted(count: Scalar, value: Scalar) -> Scalar:
    positive = Call("lt", (Literal(0, "integer"), count), "boolean")
    return Call("case", (positive, value, Literal(None, "float")), "float")


def _call(operation: str, *arguments: Scalar) -> Call:
    return Call(operation, arguments, "float")


def _number(number: int | float | Decimal) -> Literal:
    return Literal(number if isinstance(number, Decimal) else Decimal(repr(number)), "float")


def average_half_widths(measure: Measure, middle: int, sigmas: Sequence[float]) -> dict[int, float]:
    """95% half-width of an average by the size of its cell, for a mean at the edge of the bounds (the
    widest)."""
    (number,) = measure.numbers
    reach = max(number.high - middle, middle - number.low)
    return {
        size: NORMAL_95 * math.hypot(sigmas[1], reach * sigmas[0]) / size / 10**number.decimals
        for size in (100, 1_000, 10_000)
    }
