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
    own where the count of rows has one: ``|v| <= reach |n|`` holds group by group. Before anything is
    measured or scaled, each v_g is clamped to what the engine's integers can square, a sum never beyond
    ``reach`` times what a count of rows is clamped to, so that this holds still. Vectors too long even so are
    measured by their values halved b times and rounded away from zero: they are longer so, never shorter.

``weights``
    As ``clip``, with ``w <= 2^30 K / n`` for the n rows of the unit that meet the condition: then the sizes
    of its parts sum to at most K times the range of one row, and no vector is longer than that sum.

``none``
    The relation holds at most so many rows of a unit by construction (`Question.rows_per_unit`), in so many
    groups: ``caps`` of these, which never bind, so that nothing is ranked.

Private keys. Where groups are shown by a noisy number of units (`Aggregate.shown_by`), a unit adds to at most
`Bound.groups` keys: by rank with ``caps``; with the others a part e of length-limit N is dropped unless ``e^2
groups >= N^2``, and no more than that many parts can be as long without being longer than N together. A key
to which nobody adds anything is not a candidate. `privacy.accounting.threshold_above` proves the rest.

Totals. A `Total` is a sum over units of one number each, clamped to its cap: it moves by at most the cap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from privacy.algebra import TRUE, Aggregate, Bound, Key, Measure, Question, Sum, Total
from privacy.arithmetic import LIMIT
from privacy.errors import Refused
from privacy.measures import sums_of, tree_of
from privacy.policy import LARGEST_CAPS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privacy.policy import Table

MAX_GRID = 100_000
STRATEGIES = ("caps", "clip", "weights")
SCALING = frozenset({"clip", "weights"})
FINENESS = 20
"""Bits that are kept of the largest part of a unit where a strategy scales parts down."""
_MEASURED = frozenset({"rows", "total", "centred", "histogram"})
"""Kinds of sums over rows whose own vector can be measured."""
MAX_SHOWN = 10_000
SHOWN_TO_CAP = 64
"""Where nothing is dropped by rank, a unit may bring about this many times more groups than its cap says."""


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
class Design:
    """How a unit is bounded: chosen from public numbers alone.

    Sums are named by their text before they are bounded.

    Attributes:
        groups, rows: l0 and linf; of a question without groups, ``rows`` counts in all.
        shown: how many groups with private keys one unit may bring about where nothing is dropped by rank.
        most: rows that one unit can have in all, where the relation says so.
        distinct: so many groups with so many different values in each make up the length that a unit's
            numbers of different values may have.
        fits: whether no unit can have more than `groups` groups.
        lengths: squares of the L2 lengths that a unit's numbers may have; without one, as of `groups`
            groups with `rows` rows in each. middles: what is taken off each row of a centred sum, instead
            of the middle of its bounds. totals: what a unit may add to the total of a sum as it was, and as
            it is left (None: without that total). shares: parts of rho, in any unit, by sum, and by "whole"
            or "kept" and the sum for its totals; empty for equal ones.
    """

    strategy: str
    groups: int
    rows: int
    shown: int
    most: int | None = None
    fits: bool = False
    distinct: tuple[int, int] = (1, 1)
    lengths: Mapping[str, int] = field(default_factory=dict)
    middles: Mapping[str, int] = field(default_factory=dict)
    totals: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    shares: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Lowered:
    """A question as integer sums.

    Attributes:
        parts: for each measure of the question, the sums it is computed from.
        units: the sum that counts distinct units, when keys are private.
        parts_of_rho: for each of `noised`, its part of what the question may cost, in any unit; empty for
            equal ones.
    """

    aggregate: Aggregate
    parts: tuple[tuple[Sum, ...], ...]
    units: Sum | None
    parts_of_rho: tuple[int, ...] = ()

    def made_up(self, measure: int) -> bool:
        """Whether a measure is scaled up by totals."""
        parts = self.parts[measure]
        return len(parts) == 1 and any(total.of == parts[0] for total in self.aggregate.totals)

    @property
    def numbers(self) -> int:
        """How many noisy numbers public keys make; with private ones how many groups are shown is not known
        before, and this counts those of one."""
        keys = self.aggregate.input.keys if self.aggregate.input.grid else ()
        groups = math.prod(len(key.domain) for key in keys if key.domain is not None)
        return groups * sum(tree_of(one).nodes if one.leaves else 1 for one in self.aggregate.sums)

    @property
    def noised(self) -> tuple[Sum | Total, ...]:
        """What is released with noise: the sums, then the totals."""
        return (*self.aggregate.sums, *self.aggregate.totals)

    @property
    def sensitivities(self) -> tuple[int, ...]:
        """For each of `noised`, the square of the L2 distance one unit can move its column by."""
        return tuple(one.sensitivity_squared for one in self.noised)


def lower(question: Question, table: Table, options: Options, design: Design | None = None) -> Lowered:
    """Bound the question and lower its measures to sums, each distinct sum once.

    Args:
        design: how it is bounded; without one, by the policy's caps and the options.

    Raises:
        Refused: ``too_many_groups``, ``option_invalid`` or ``overflow``.
    """
    chosen = design or plain_design(question, table, options)
    bound = _bound(question, chosen)
    asked = [sums_of(measure) for measure in question.measures]
    wanted = [one for sums in asked for one in sums]
    units = None
    if bound.keys and not bound.grid:
        (units,) = sums_of(Measure("units", TRUE))
        wanted.append(units)
    bounded = {one.text: _bounded(one, chosen) for one in wanted}
    order = sorted(bounded, key=lambda text: bounded[text].text)
    named = {text: replace(bounded[text], name=f"c{place}") for place, text in enumerate(order)}
    shown_by = None if units is None else named[units.text]
    totals = _totals(named, chosen)
    shown = None if shown_by is None else shown_by.name
    return Lowered(
        Aggregate(bound, tuple(named.values()), shown, _limits(named, chosen), tuple(totals.values())),
        tuple(tuple(named[one.text] for one in parts) for parts in asked),
        shown_by,
        tuple(chosen.shares[name] for name in (*named, *totals)) if chosen.shares else (),
    )


def plain_design(question: Question, table: Table, options: Options) -> Design:
    """The policy's caps and the options, without knowledge of how units contribute.

    Grouped questions are clipped to the length that the caps allow: the noise is the same, and rather than
    dropping groups and rows a unit's numbers are scaled down together.

    Raises:
        Refused: ``too_many_groups`` or ``option_invalid``.
    """
    groups = _cap(options.max_groups, table.max_groups, "max_groups")
    per_group = _cap(options.max_rows_per_group, table.max_rows_per_group, "max_rows_per_group")
    in_all = _cap(options.max_rows, table.max_rows, "max_rows")
    if options.strategy not in (None, *STRATEGIES):
        hint = f"Choose strategy from {', '.join(STRATEGIES)}."
        raise Refused("option_invalid", "There is no such strategy.", hint=hint)
    there = question.rows_per_unit
    if there is not None:
        per_group, in_all = min(per_group, there), min(in_all, there)
    if not question.keys:
        strategy = options.strategy or ("caps" if there is None or there > in_all else "none")
        return Design(strategy, 1, in_all, 1, there, distinct=(1, groups))
    known = [most for most in (grid_of(question), question.groups_per_unit) if most is not None]
    fits = bool(known) and min(known) <= groups
    values, groups = groups, min([groups, *known])
    given = fits and there is not None and there <= per_group
    strategy = options.strategy or ("none" if given else "clip")
    shown = min([groups * SHOWN_TO_CAP, MAX_SHOWN, *known]) if strategy in SCALING else groups
    return Design(
        strategy, groups, in_all if strategy == "weights" else per_group, shown, there, fits, (groups, values)
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


def grid_of(question: Question) -> int | None:
    """How many groups the public key sets make; None where the keys of some are private.

    Raises:
        Refused: ``too_many_groups``.
    """
    if any(key.domain is None for key in question.keys):
        return None
    size = math.prod(len(key.domain or ()) for key in question.keys)
    if size > MAX_GRID:
        message = f"The public key sets make {size} groups; at most {MAX_GRID} can be answered."
        raise Refused("too_many_groups", message, hint="Group by fewer columns.")
    return size


def _bound(question: Question, design: Design) -> Bound:
    keys = tuple(sorted(question.keys, key=lambda key: key.text))
    keys = tuple(Key(f"k{place}", key.scalar, key.domain) for place, key in enumerate(keys))
    grid = bool(keys) and grid_of(question) is not None
    ranked = bool(keys) and design.strategy == "caps" and not design.fits
    dropped = design.strategy not in SCALING  # what is not counted is not shown: the noise is for `groups`
    groups = design.groups if grid or not keys or dropped else design.shown
    return Bound(question.input, question.unit, keys, groups, design.rows, ranked, grid, design.strategy)


def _bounded(one: Sum, design: Design) -> Sum:
    """The sum with the L2 length that a unit's parts have at most.

    Raises:
        Refused: ``overflow``.
    """
    if one.kind == "distinct":
        return _bounded_values(one, design)
    middle = design.middles.get(one.text, one.middle)
    moved = replace(
        one, middle=middle, low=one.low + one.middle - middle, high=one.high + one.middle - middle
    )
    squared = design.lengths.get(one.text) or _length_squared(moved, design)
    if max(squared, moved.reach**2) >= LIMIT**2:
        raise Refused(
            "overflow",
            "What one unit may contribute could exceed 2^62.",
            hint="Ask with smaller max_rows or max_rows_per_group, or sum a narrower expression.",
        )
    fine = FINENESS if design.strategy in SCALING or one.leaves else 0
    return replace(moved, norm_squared=squared, shift=max(fine - math.isqrt(squared).bit_length(), 0))


def _bounded_values(one: Sum, design: Design) -> Sum:
    """Different values: as many as caps would leave, in whichever groups they are."""
    groups, values = design.distinct
    values = min(values, one.high)
    squared = groups * values**2 if design.most is None else min(groups * values**2, design.most**2)
    return replace(one, high=values, norm_squared=squared)


def _length_squared(one: Sum, design: Design) -> int:
    """Of caps: sqrt(l0) times the largest part. Of weights, and of so many rows in all: what these may
    add."""
    if not one.by_rows:
        return design.groups * one.reach**2
    squared = design.groups * design.rows**2
    in_all = [design.rows] if design.strategy == "weights" else []
    in_all += [design.most] if design.most is not None else []
    return one.reach**2 * min([squared, *(rows**2 for rows in in_all)])


def _limits(named: Mapping[str, Sum], design: Design) -> tuple[Sum, ...]:
    """A count of rows to scale by, where sums need one that is not released itself."""
    if design.strategy not in SCALING:
        return ()
    counted = {one.condition.text for one in named.values() if one.kind == "rows"}
    needed: dict[str, Sum] = {}
    for text, one in named.items():
        measured = one.kind in _MEASURED and (design.strategy == "clip" or text in design.lengths)
        if one.by_rows and one.condition.text not in counted and not measured:
            needed[one.condition.text] = Sum("", "rows", None, one.condition, 0, 1)
    limits = [_bounded(needed[text], design) for text in sorted(needed)]
    return tuple(replace(one, name=f"n{place}") for place, one in enumerate(limits))


def _totals(named: Mapping[str, Sum], design: Design) -> dict[str, Total]:
    """By the names that a design has for their shares."""
    totals: dict[str, Total] = {}
    for text, one in named.items():
        whole, kept = design.totals.get(text, (None, None))
        if whole is not None:
            totals[f"whole {text}"] = Total(f"t{one.name}", one, whole, kept=False)
        if kept is not None:
            totals[f"kept {text}"] = Total(f"k{one.name}", one, kept, kept=True)
    return totals
