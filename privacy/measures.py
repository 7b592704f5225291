"""What each aggregate is computed from, and how its value and interval follow from released integers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from privacy.algebra import Call, Column, Literal, Measure, Number, Scalar, Sum
from privacy.arithmetic import LIMIT
from privacy.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = {"rows": "count", "units": "count_distinct", "sum": "sum", "avg": "avg"}
"""Kinds of measures, and what the column of an answer is called for each."""
NORMAL_95 = 1.959963984540054
"""Half-width of a 95% interval in standard deviations."""


def sum_of(
    kind: str, condition: Scalar, argument: Scalar | None = None, low: int = 0, high: int = 0, middle: int = 0
) -> Sum:
    """A sum, without a name yet. What one unit adds to a group lies in ``[low, high]``.

    Raises:
        Refused: ``overflow``.
    """
    if max(abs(low), abs(high)) >= LIMIT:
        raise Refused(
            "overflow",
            "What one unit may contribute could exceed 2^62.",
            hint="Ask with smaller max_rows or max_rows_per_group, or sum a narrower expression.",
        )
    return Sum("", kind, argument, condition, low, high, middle)


def named_sum(one: Sum, name: str) -> Sum:
    """The sum under a column name of the exact table."""
    return Sum(name, one.kind, one.argument, one.condition, one.low, one.high, one.middle)


def sums_of(measure: Measure, rows: int) -> tuple[Sum, ...]:
    """The integer sums that a measure is computed from, each unit having at most ``rows`` rows in a group."""
    if measure.kind == "units":
        return (sum_of("units", measure.condition),)
    if measure.kind == "rows":
        return (sum_of("rows", measure.condition, high=rows),)
    (number,) = measure.numbers
    low, high = number.low, number.high
    if measure.kind == "sum":
        return (sum_of("total", measure.condition, number.scalar, rows * min(low, 0), rows * max(high, 0)),)
    middle = (low + high) // 2
    reach = rows * max(high - middle, middle - low)
    centred = sum_of("centred", measure.condition, number.scalar, -reach, reach, middle)
    return (sum_of("rows", measure.condition, high=rows), centred)


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
        sigmas, widths: noise scale and 95% half-width of each of the parts.
    """
    columns = [Column("released", one.name, "integer") for one in parts]
    if measure.kind == "avg":
        return _average(measure, parts[1].middle, columns, sigmas)
    width = Literal(widths[0], "integer")
    numbers: list[Scalar] = [columns[0]]
    numbers += [Call(name, (columns[0], width), "integer") for name in ("sub", "add")]
    value, low, high = (_unscaled(one, scale_of(measure)) for one in numbers)
    return Definition(value, low, high)


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
