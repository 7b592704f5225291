"""One Bound for a question, and the integer sums that its measures come to: what one unit may contribute.

Every strategy turns the numbers of one unit into integers whose L2 length over all groups is at most
``sqrt(norm_squared)`` of each `Sum`, whatever its rows are; and it turns them one unit at a time, from that
unit's own rows, the salt and public numbers alone. So when a unit comes or goes, each released column moves
by no more. The proofs stand here; `tests/privacy/test_sensitivity.py` looks for counterexamples.

``caps``
    A unit keeps at most l0 groups, chosen by keyed rank, and in each a part within ``linf`` times the range
    of one row. The length is at most sqrt(l0) times the largest part.

``clip``
    Let v be a unit's vector over all its groups (public key sets are applied before). All sums over rows that
    meet one condition share one factor ``f = w / 2**30`` with the integer ``w <= 2**30`` such that
    ``w^2 |v|^2 <= 2^60 norm^2`` for every vector v whose length is limited, checked in exact integers. The
    unit's part in a group is ``v_g * w // 2**(30 - shift)``, rounded toward zero: so its length is at most
    ``f |v| 2^shift <= norm 2^shift``. A vector of which each row adds at most ``reach`` needs no limit of its
    own where the count of rows has one: ``|v| <= reach |n|`` holds group by group. Vectors too long for the
    engine's integers are measured by their values halved b times and rounded away from zero: they are longer
    so, never shorter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from privacy.algebra import TRUE, Aggregate, Bound, Key, Measure, Question, Sum
from privacy.arithmetic import LIMIT
from privacy.errors import Refused
from privacy.measures import sums_of
from privacy.policy import LARGEST_CAPS

if TYPE_CHECKING:
    from privacy.policy import Table

MAX_GRID = 100_000
STRATEGIES = ("caps", "clip")
FINENESS = 20
"""Bits that are kept of the largest part of a unit where a strategy scales parts down."""


@dataclass(frozen=True)
class Options:
    """What a buyer may choose: none of it depends on data.

    Attributes:
        max_groups: groups one privacy unit may contribute to (default: the policy's).
        max_rows_per_group: rows of one unit that count within a group (default: the policy's).
        max_rows: rows of one unit that count when there are no groups (default: the policy's).
        intervals: add ``<column>_low`` and ``<column>_high`` (95%) for every column that has an interval.
        strategy: how a unit's contribution is bounded, one of `STRATEGIES` (default: the planner chooses).
    """

    max_groups: int | None = None
    max_rows_per_group: int | None = None
    max_rows: int | None = None
    intervals: bool = False
    strategy: str | None = None


@dataclass(frozen=True)
class Lowered:
    """A question as integer sums.

    Attributes:
        sensitivities: for each sum, the square of the L2 distance one unit can move its column by.
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
    asked = [[_bounded(one, bound) for one in sums_of(measure)] for measure in question.measures]
    thresholded = bool(bound.keys) and not bound.grid
    units = _bounded(sums_of(Measure("units", TRUE))[0], bound) if thresholded else None
    distinct = {one.text: one for sums in asked for one in sums}
    if units is not None:
        distinct[units.text] = units
    named = {text: replace(distinct[text], name=f"c{place}") for place, text in enumerate(sorted(distinct))}
    sums = tuple(named.values())
    return Lowered(
        Aggregate(bound, sums),
        tuple(one.sensitivity_squared for one in sums),
        tuple(tuple(named[one.text] for one in parts) for parts in asked),
        None if units is None else named[units.text],
    )


def _bound(question: Question, table: Table, options: Options) -> Bound:
    keys = tuple(sorted(question.keys, key=lambda key: key.text))
    keys = tuple(Key(f"k{place}", key.scalar, key.domain) for place, key in enumerate(keys))
    cap = _cap(options.max_groups, table.max_groups, "max_groups")
    per_group = _cap(options.max_rows_per_group, table.max_rows_per_group, "max_rows_per_group")
    in_all = _cap(options.max_rows, table.max_rows, "max_rows")
    there = question.rows_per_unit
    if there is not None:
        per_group, in_all = min(per_group, there), min(in_all, there)
    strategy = _strategy(options)
    if not keys:
        return Bound(question.input, question.unit, (), 1, in_all, False, False, strategy)
    size = math.prod(len(key.domain) for key in keys if key.domain is not None)
    grid = all(key.domain is not None for key in keys)
    if grid and size > MAX_GRID:
        raise Refused(
            "too_many_groups",
            f"The public key sets make {size} groups; at most {MAX_GRID} can be answered.",
            hint="Group by fewer columns.",
        )
    known = [most for most in (size if grid else None, question.groups_per_unit) if most is not None]
    groups = min([cap, *known])
    fits = bool(known) and min(known) <= cap
    ranked = not fits and (strategy == "caps" or not grid)
    return Bound(question.input, question.unit, keys, groups, per_group, ranked, grid, strategy)


def _strategy(options: Options) -> str:
    chosen = options.strategy or "caps"
    if chosen not in STRATEGIES:
        names = ", ".join(STRATEGIES)
        raise Refused("option_invalid", "There is no such strategy.", hint=f"Choose strategy from {names}.")
    return chosen


def _cap(asked: int | None, default: int, name: str) -> int:
    if asked is None:
        return default
    most = LARGEST_CAPS[name]
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= most:
        raise Refused(
            "option_invalid", f"{name} must be a whole number from 1 to {most}.", hint=f"Choose {name}."
        )
    return asked


def _bounded(one: Sum, bound: Bound) -> Sum:
    """The sum with the L2 length that a unit's parts have at most: sqrt(l0) times the largest part.

    Raises:
        Refused: ``overflow``.
    """
    part = one.reach * (bound.rows if one.by_rows else 1)
    if part >= LIMIT:
        raise Refused(
            "overflow",
            "What one unit may contribute could exceed 2^62.",
            hint="Ask with smaller max_rows or max_rows_per_group, or sum a narrower expression.",
        )
    squared = bound.groups * part * part
    shift = 0 if bound.strategy == "caps" else max(FINENESS - math.isqrt(squared).bit_length(), 0)
    return replace(one, norm_squared=squared, shift=shift)
