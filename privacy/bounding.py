"""One Bound for a question, and the integer sums and released columns that its measures come to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from privacy.algebra import TRUE, Aggregate, Bound, Call, Column, Key, Literal, Measure, Question, Scalar, Sum
from privacy.arithmetic import LIMIT
from privacy.errors import Refused
from privacy.policy import LARGEST_CAPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.policy import Table


MAX_GRID = 100_000
NORMAL_95 = 1.959963984540054
"""Half-width of a 95% interval in standard deviations."""


@dataclass(frozen=True)
class Options:
    """What a buyer may choose: none of it depends on data.

    Attributes:
        max_groups: groups one privacy unit may contribute to (default: the policy's).
        max_rows_per_group: rows of one unit that count within a group (default: the policy's).
        max_rows: rows of one unit that count when there are no groups (default: the policy's).
        intervals: add ``<column>_low`` and ``<column>_high`` (95%) for every column that has an interval.
    """

    max_groups: int | None = None
    max_rows_per_group: int | None = None
    max_rows: int | None = None
    intervals: bool = False


@dataclass(frozen=True)
class Lowered:
    """A question as integer sums.

    Attributes:
        sensitivities: for each sum, the square of the L2 distance one unit can move it by.
        parts: for each measure of the question, the sums it is computed from.
        units: the sum that counts distinct units, when keys are private.
    """

    aggregate: Aggregate
    sensitivities: tuple[int, ...]
    parts: tuple[tuple[Sum, ...], ...]
    units: Sum | None


def lower(question: Question, table: Table, options: Options) -> Lowered:
    """Bound the question and lower its measures to sums, each distinct sum once.

    Raises:
        Refused: ``too_many_groups``, ``option_invalid`` or ``overflow``.
    """
    bound = _bound(question, table, options)
    asked = [_sums(measure, bound.rows) for measure in question.measures]
    thresholded = bool(bound.keys) and not bound.grid
    units = _sum("units", TRUE) if thresholded else None
    distinct = {one.text: one for sums in asked for one in sums}
    if units is not None:
        distinct[units.text] = units
    named = {text: _named(distinct[text], f"c{place}") for place, text in enumerate(sorted(distinct))}
    sums = tuple(named.values())
    return Lowered(
        Aggregate(bound, sums),
        tuple(_sensitivity_squared(one, bound) for one in sums),
        tuple(tuple(named[one.text] for one in parts) for parts in asked),
        None if units is None else named[units.text],
    )


def _bound(question: Question, table: Table, options: Options) -> Bound:
    keys = tuple(sorted(question.keys, key=lambda key: key.text))
    keys = tuple(Key(f"k{place}", key.scalar, key.domain) for place, key in enumerate(keys))
    cap = _cap(options.max_groups, table.max_groups, "max_groups")
    per_group = _cap(options.max_rows_per_group, table.max_rows_per_group, "max_rows_per_group")
    in_all = _cap(options.max_rows, table.max_rows, "max_rows")
    if not keys:
        return Bound(question.input, question.unit, (), 1, in_all, ranked=False, grid=False)
    size = math.prod(len(key.domain) for key in keys if key.domain is not None)
    grid = all(key.domain is not None for key in keys)
    if grid and size > MAX_GRID:
        raise Refused(
            "too_many_groups",
            f"The public key sets make {size} groups; at most {MAX_GRID} can be answered.",
            hint="Group by fewer columns.",
        )
    groups = min(cap, size) if grid else cap
    return Bound(
        question.input, question.unit, keys, groups, per_group, ranked=not grid or groups < size, grid=grid
    )


def _cap(asked: int | None, default: int, name: str) -> int:
    if asked is None:
        return default
    most = LARGEST_CAPS[name]
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= most:
        raise Refused(
            "option_invalid", f"{name} must be a whole number from 1 to {most}.", hint=f"Choose {name}."
        )
    return asked


def _sum(
    kind: str, condition: Scalar, argument: Scalar | None = None, low: int = 0, high: int = 0, middle: int = 0
) -> Sum:
    if max(abs(low), abs(high)) >= LIMIT:
        raise Refused(
            "overflow",
            "What one unit may contribute could exceed 2^62.",
            hint="Ask with smaller max_rows or max_rows_per_group, or sum a narrower expression.",
        )
    return Sum("", kind, argument, condition, low, high, middle)


def _named(one: Sum, name: str) -> Sum:
    return Sum(name, one.kind, one.argument, one.condition, one.low, one.high, one.middle)


def _sums(measure: Measure, rows: int) -> tuple[Sum, ...]:
    low, high = measure.low, measure.high
    if measure.kind == "units":
        return (_sum("units", measure.condition),)
    if measure.kind == "rows":
        return (_sum("rows", measure.condition, high=rows),)
    if measure.kind == "sum":
        return (_sum("total", measure.condition, measure.argument, rows * min(low, 0), rows * max(high, 0)),)
    middle = (low + high) // 2
    reach = rows * max(high - middle, middle - low)
    centred = _sum("centred", measure.condition, measure.argument, -reach, reach, middle)
    return (_sum("rows", measure.condition, high=rows), centred)


def _sensitivity_squared(one: Sum, bound: Bound) -> int:
    """One unit adds to at most l0 groups, and to each at most its cap: Delta^2 = l0 * cap^2."""
    cap = 1 if one.kind == "units" else max(abs(one.low), abs(one.high), 1)
    return bound.groups * cap * cap


# From released integers to the numbers that were asked for


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
    value, low, high = (_unscaled(one, measure.decimals if measure.kind == "sum" else 0) for one in numbers)
    return Definition(value, low, high)


def _unscaled(number: Scalar, decimals: int) -> Scalar:
    if decimals == 0:
        return number
    return _call("div", number, _number(10**decimals))


def _average(measure: Measure, middle: int, columns: Sequence[Scalar], sigmas: Sequence[float]) -> Definition:
    """middle + centred / count, and by the delta method its deviation; NULL where the count is not
    positive."""
    count, centred = columns
    offset = _call("div", centred, count)
    mean = _unscaled(_call("add", _number(middle), offset), measure.decimals)
    spread = _call("mul", offset, _number(sigmas[0]))
    variance = _call("add", _number(sigmas[1] * sigmas[1]), _call("mul", spread, spread))
    deviation = _call("div", _call("sqrt", variance), count)
    half = _unscaled(_call("mul", _number(NORMAL_95), deviation), measure.decimals)
    numbers = [mean, _call("sub", mean, half), _call("add", mean, half)]
    value, low, high = (_where_counted(count, _held(number, measure)) for number in numbers)
    return Definition(value, low, high)


def _held(number: Scalar, measure: Measure) -> Scalar:
    """A mean lies within the bounds of what it is a mean of; noise may not."""
    ends = [_number(Decimal(end).scaleb(-measure.decimals)) for end in (measure.low, measure.high)]
    return _call("held", number, *ends)


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
    reach = max(measure.high - middle, middle - measure.low)
    return {
        size: NORMAL_95 * math.hypot(sigmas[1], reach * sigmas[0]) / size / 10**measure.decimals
        for size in (100, 1_000, 10_000)
    }
