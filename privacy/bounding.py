"""One Bound for a question, and the integer sums and released columns that its measures come to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from privacy.algebra import TRUE, Aggregate, Bound, Key, Question, Sum
from privacy.errors import Refused
from privacy.measures import named_sum, sum_of, sums_of
from privacy.policy import LARGEST_CAPS

if TYPE_CHECKING:
    from privacy.policy import Table


MAX_GRID = 100_000


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
    asked = [sums_of(measure, bound.rows) for measure in question.measures]
    thresholded = bool(bound.keys) and not bound.grid
    units = sum_of("units", TRUE) if thresholded else None
    distinct = {one.text: one for sums in asked for one in sums}
    if units is not None:
        distinct[units.text] = units
    named = {text: named_sum(distinct[text], f"c{place}") for place, text in enumerate(sorted(distinct))}
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


def _sensitivity_squared(one: Sum, bound: Bound) -> int:
    """One unit adds to at most l0 groups, and to each at most its cap: Delta^2 = l0 * cap^2."""
    cap = 1 if one.kind == "units" else max(abs(one.low), abs(one.high), 1)
    return bound.groups * cap * cap
