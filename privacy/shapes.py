"""What it costs to read an exact part in each of the shapes that give the same sums.

Every shape gives bit for bit the same sums before noise: the plain files, a table's rows in the order of
their units, a synopsis, a histogram, either with the lengths of units beside it. So the choice among them is
one of time alone, and is made apart from the strategy, whose error a contribution profile tells: each shape
serves every strategy, at nearly the same cost.

The model adds up nanoseconds of one core per value read, row grouped and sum scaled, rounded from profiles
of the benchmark's questions; only the order of the shapes hangs on them. How many rows, units and groups
there are it knows from the released profile, or takes for typical: never from the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from privacy.algebra import columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.algebra import Aggregate
    from privacy.population import Population

_READ = 4.0
_CONVERTED = 25.0
_GROUPED, _IN_ORDER = 45.0, 14.0
_SUMMED = 6.0
_JOINED = 8.0
_SCALED = 14.0
_FACTOR = 150.0
_LEAVES = 0.6
"""Rows of a histogram for one of the table: most values of a unit are different."""


@dataclass(frozen=True)
class Sizes:
    """How much there is to read: rows of the table, units, and groups of units, each counted for each."""

    rows: float
    units: float
    pairs: float


TYPICAL = Sizes(10_000_000.0, 100_000.0, 1_000_000.0)
"""Of a table without a profile. Only the order of the shapes hangs on it."""


@dataclass(frozen=True)
class Shape:
    """One way to read an exact part.

    Attributes:
        about: what is read, for people.
        seconds: of one core, by the model.
    """

    about: str
    seconds: float


def sizes_of(population: Population) -> Sizes:
    """What a profile tells of the units that a question is about."""
    counts = population.table.rows.significant
    rows = math.fsum(count * 0.75 * 2.0**place for place, count in enumerate(counts) if place)
    units = math.fsum(kind.units for kind in population.kinds)
    pairs = math.fsum(kind.units * kind.groups for kind in population.kinds)
    return Sizes(max(rows, 1.0), max(units, 1.0), max(pairs, 1.0))


def plain(aggregate: Aggregate, sizes: Sizes) -> Shape:
    """The provider's files."""
    numbers = sum(one.argument is not None for one in aggregate.sums)
    each = _READ * len(columns_of(aggregate)) + _CONVERTED * numbers + _GROUPED
    return Shape("plain files", _rows(aggregate, sizes, each))


def in_order(about: str, aggregate: Aggregate, sizes: Sizes) -> Shape:
    """Rows in the order of their units, numbers in fixed point."""
    return Shape(about, _rows(aggregate, sizes, _READ * len(columns_of(aggregate)) + _IN_ORDER))


def synopsis(about: str, aggregate: Aggregate, sizes: Sizes, *, lengths: bool, leaves: bool) -> Shape:
    """What units contribute to groups, or the leaves of their histograms."""
    read = _LEAVES * sizes.rows if leaves else sizes.pairs
    sums = len(aggregate.sums + aggregate.limits)
    each = _READ * (2 + len(aggregate.input.keys) + sums) + _JOINED + _SCALED * sums
    each += 0.0 if lengths else _IN_ORDER + _SUMMED * sums
    found = Shape(about, (read * each + sizes.units * _factors(aggregate)) / 1e9)
    return Shape(f"{about}, with lengths", found.seconds) if lengths else found


def cheapest(shapes: Sequence[Shape]) -> list[Shape]:
    """From the cheapest on; among equals those named first."""
    return sorted(shapes, key=lambda one: one.seconds)


def _rows(aggregate: Aggregate, sizes: Sizes, each: float) -> float:
    sums = len(aggregate.sums + aggregate.limits)
    pair = (_IN_ORDER + _JOINED + (_SCALED + _SUMMED) * sums) if aggregate.input.scales else _SUMMED * sums
    whole = sizes.rows * (each + _SUMMED * sums) + sizes.pairs * pair
    return (whole + sizes.units * _factors(aggregate)) / 1e9


def _factors(aggregate: Aggregate) -> float:
    return _FACTOR * len(aggregate.sums + aggregate.limits) if aggregate.input.scales else 0.0
