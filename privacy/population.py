"""What a contribution profile expects of the units that a question is about.

A profile has one histogram for each size of a unit: rows, groups, lengths, sums. Here they are put
together: units are taken in the order of their rows, and the unit at a share p of that order is given the
size at the same share p of every other histogram, as if who has more rows had more of everything. That is
how sizes mostly go together; and it only decides how much is counted, never whether a unit is protected.

Everything is computed with + - * / and the square root, which IEEE 754 fixes to the last bit: a plan is the
same on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from privacy.algebra import Call, Column, Filter, Join, Literal, Scan, columns_of, conjuncts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from privacy.algebra import Question, Relation, Scalar
    from privacy.policy import Table
    from privacy.profile import Histogram, Profile, TableProfile

_PARTS = 3
"""Kinds of units that one bin of the histogram of rows makes."""
_LEAST_UNITS = 100
_SLOWEST = 0.5
_BEYOND_DOUBT = 3.0
"""Deviations of the noise above which a bin has units although they are larger than the provider declares."""
_SOMEBODY = 0.5
"""Fewer units than this are nobody."""
_APART, _TOGETHER = (0.8, 0.2, 0.0), (0.5, 0.3, 0.2)
"""Parts of what a filter leaves of which nothing is known: rows here and there, what lies between, and all
rows of some units. As expected, and where more is left of single units."""
_MOST = 0.8
"""A condition that leaves a larger share leaves rows."""
_MORE = 3.0
"""So many times more rows may be left than expected."""
_ALONE = 1.5
"""Of a key of which units have no more groups than this, a unit has one value."""
_NOBODY = 0.01
_MANY = 8.0
_FEW = 1e-9


@dataclass(frozen=True)
class Left:
    """Shares of rows that conditions leave: of those that hold for all rows of a unit or for none, of those
    that hold for one row as for another, and of those of which that is not known."""

    of_units: float = 1.0
    of_rows: float = 1.0
    unknown: float = 1.0
    parts: tuple[float, float, float] = _APART

    @property
    def share(self) -> float:
        """Of all rows."""
        return max(self.of_units * self.of_rows * self.unknown, _LEAST)

    def ways(self) -> list[tuple[float, float]]:
        """Parts, and of which share of the units they are: what is unknown leaves rows here and there, or all
        rows of some units, or something between."""
        if self.unknown >= 1.0:
            return [(1.0, max(self.of_units, self.share))]
        ends = (1.0, math.sqrt(self.unknown), self.unknown)
        return [
            (part, max(self.of_units * end, self.share)) for part, end in zip(self.parts, ends, strict=True)
        ]

    def more(self) -> Left:
        """What may be left instead, where that is unknown."""
        return Left(self.of_units, self.of_rows, min(_MORE * self.unknown, 1.0), _TOGETHER)

    def __mul__(self, other: Left) -> Left:
        return Left(
            self.of_units * other.of_units, self.of_rows * other.of_rows, self.unknown * other.unknown
        )


@dataclass(frozen=True)
class Kind:
    """Units alike: how many, their rows, the groups these fall into, the L2 length of the row counts over
    these, the place of these units in the order of all, and the share of their rows that filters left."""

    units: float
    rows: float
    groups: float
    length: float
    place: float
    kept: float = 1.0

    def thinned(self, left: Left) -> list[Kind]:
        """The units and rows that filters leave: each way that `Left` may come to be, with its part."""
        if left.share >= 1.0:
            return [self]
        found: list[Kind] = []
        for part, of_units in left.ways():
            if not part:
                continue
            units, rows = part * self.units * of_units, left.share / of_units
            found += [self._left(units * likely, several) for likely, several in _drawn(self.rows, rows)]
        return found

    def _left(self, units: float, rows: float) -> Kind:
        """So many of the units with so many rows left, in no more groups than that."""
        spread = max(min((self.rows / self.length) ** 2, rows), 1.0)
        length, kept = rows / math.sqrt(spread), self.kept * rows / self.rows
        return Kind(units, rows, max(min(self.groups, rows), 1.0), length, self.place, kept)


def _thinned(kinds: Iterable[Kind], left: Left) -> tuple[Kind, ...]:
    found = [kind for one in kinds for kind in one.thinned(left) if kind.units >= _NOBODY]
    return tuple(sorted(found, key=lambda one: (one.rows, one.place)))


def _drawn(rows: float, share: float) -> list[tuple[float, float]]:
    """How many rows are left, and how likely, where each is left with the same chance: about as many as are
    expected where these are many; else one, or more, or none, which is left out."""
    expected = rows * share
    if share >= 1.0 or expected >= _MANY:
        return [(1.0, max(expected, 1.0))]
    others = _power(1.0 - share, round(rows) - 1)
    none, one = others * (1.0 - share), min(max(round(rows), 1) * share * others, expected)
    more = 1.0 - none - one
    if more * 2.0 < _FEW or (expected - one) / max(more, _FEW) < 2.0:
        return [(expected, 1.0)]
    return [(one, 1.0), (more, (expected - one) / more)]


def _power(base: float, exponent: int) -> float:
    found = 1.0
    while exponent > 0:
        found, base, exponent = found * base if exponent % 2 else found, base * base, exponent // 2
    return found


@dataclass(frozen=True)
class Population:
    """The units of a question, from those with the fewest rows to those with the most."""

    kinds: tuple[Kind, ...]
    table: TableProfile
    more: tuple[Kind, ...] | None = None
    """The units where filters leave more than expected; None where no filter makes it a guess."""

    def where(self, predicate: Scalar, declared: Table) -> Population:
        """The units with the rows for which a predicate is taken to hold."""
        return self.thinned(_left_by(conjuncts(predicate), declared, self.table))

    def thinned(self, left: Left) -> Population:
        """The units that are left, from those with the fewest rows on."""
        if left.share >= 1.0:
            return self
        return Population(
            _thinned(self.kinds, left), self.table, _thinned(self.more or self.kinds, left.more())
        )


def population_of(question: Question, table: Table, profile: Profile) -> Population | None:
    """The units of a question; None where the profile does not know its rows.

    It knows those of one private table, joined with public tables and filtered or not.
    """
    found = profile.tables.get(table.name.lower())
    if found is None or not _plain(question.input):
        return None
    rows = _Order(found.rows, table.max_rows)
    if rows.units < _LEAST_UNITS:
        return None
    keys = [_key_orders(key.scalar, found) for key in question.keys]
    grid = math.prod(len(key.domain) if key.domain is not None else 10**9 for key in question.keys)
    kinds = []
    for place, units in rows.parts():
        most = max(rows.at(place), 1.0)
        groups, spread = 1.0, 1.0
        for orders in keys:
            groups *= orders[0].at(place) if orders else most
            spread *= orders[1].spread(rows, place) if orders else 1.0
        groups = max(min(groups, most, float(grid)), 1.0)
        kinds.append(Kind(units, most, groups, most / math.sqrt(min(spread, most)), place))
    return Population(tuple(kinds), found).thinned(_filtered(question.input, table, found))


class _Order:
    """Units in the order of one size: the size at a share of the order."""

    def __init__(self, histogram: Histogram, declared: int = 0) -> None:
        self._counts = _continued(histogram, declared)
        self.units = math.fsum(self._counts)

    def parts(self) -> list[tuple[float, float]]:
        """Shares of the order and how many units each stands for."""
        found, before = [], 0.0
        for count in self._counts:
            step = count / _PARTS
            found += [((before + step * (part + 0.5)) / self.units, step) for part in range(_PARTS) if count]
            before += count
        return found

    def at(self, place: float) -> float:
        """The size at a share of the order."""
        rank, before = place * self.units, 0.0
        size = 0.0
        for digits, count in enumerate(self._counts):
            if count == 0:
                continue
            low = float(1 << (digits - 1)) if digits else 0.0
            part = min(max((rank - before) / count, 0.0), 1.0)
            size = low * (1.0 + self._within(digits, part)) if digits > 1 else low
            before += count
            if rank <= before:
                break
        return size

    def _within(self, digits: int, part: float) -> float:
        """Where in a bin that share of its units ends: units lie as densely at its ends as halfway to the
        bins beside it, and in between the density changes evenly."""
        here = self._density(digits)
        low, high = (here + self._density(digits - 1)) / 2, (here + self._density(digits + 1)) / 2
        root = math.sqrt(low * low + part * (high * high - low * low))
        return part * (low + high) / (low + root)

    def _density(self, digits: int) -> float:
        inside = 1 < digits < len(self._counts)
        return self._counts[digits] / float(1 << (digits - 1)) if inside else 0.0

    def spread(self, rows: _Order, place: float) -> float:
        """Over how many groups of equal size the rows would have this length."""
        length = max(self.at(place), 1.0)
        return max((rows.at(place) / length) ** 2, 1.0)


def _continued(histogram: Histogram, declared: int) -> list[float]:
    """The units of each bin. Where the last ones are lost in noise they are taken to go on as they began,
    each bin with the same part of the one before it, as far as the noise leaves room for them.

    Where nothing is seen beyond the size that the provider declares to be the largest that matters, they go
    on by one bin at most, and not beyond that size: in one bin the noise may hide the busiest units, and an
    answer without them is wrong by more than it tells; in two bins it hardly hides what matters. And beyond
    that size more than a chance among many bins has to be seen.
    """
    believed = declared.bit_length()
    counts = _believed(histogram, believed) if declared else [float(one) for one in histogram.significant]
    last = max((place for place, count in enumerate(counts) if count > 0), default=0)
    if last == 0 or counts[last - 1] <= 0:
        return counts
    ratio = min(counts[last] / counts[last - 1], _SLOWEST)
    end = min(believed, last + 1) if last <= believed else len(counts) - 1
    for place in range(last + 1, min(end + 1, len(counts))):
        room = histogram.counts[place] + histogram.sigma
        counts[place] = min(counts[place - 1] * ratio, max(room, 0.0))
        if counts[place] < _SOMEBODY:
            counts[place] = 0.0
            break
    return counts


def _believed(histogram: Histogram, believed: int) -> list[float]:
    """The units of each bin, up to the first beyond the declared size, and beyond the fullest, in which they
    are not beyond doubt."""
    counts = [float(count) for count in histogram.significant]
    fullest = max(range(len(counts)), key=lambda place: counts[place])
    for place in range(max(believed, fullest) + 1, len(counts)):
        if counts[place] < _BEYOND_DOUBT * histogram.sigma:
            return counts[:place] + [0.0] * (len(counts) - place)
    return counts


def _key_orders(scalar: Scalar, table: TableProfile) -> tuple[_Order, _Order] | None:
    """Of a key that is a column of the table: units in the order of its groups, and of lengths over them."""
    key = table.keys.get(scalar.name.lower()) if isinstance(scalar, Column) else None
    return None if key is None else (_Order(key.groups), _Order(key.lengths))


def sizes_at(histogram: Histogram, kinds: Sequence[Kind]) -> list[float]:
    """The size that each kind of units has by a histogram over all rows, before filters."""
    order = _Order(histogram)
    sizes = {place: order.at(place) if order.units else 0.0 for place in {one.place for one in kinds}}
    return [sizes[one.place] for one in kinds]


def _plain(relation: Relation) -> bool:
    """Whether the rows are those of one private table, some of them filtered away, joined with public
    ones."""
    if isinstance(relation, Filter):
        return _plain(relation.input)
    if isinstance(relation, Join):
        return _plain(relation.left) and isinstance(relation.right, Scan) and relation.right.unit is None
    return isinstance(relation, Scan) and relation.unit is not None


# How many rows a condition leaves: guesses from declarations alone, as optimizers make them

_EQUAL, _RANGE, _LIKE, _NULL, _LEAST = 0.1, 1 / 3, 0.1, 0.1, 0.001


def _filtered(relation: Relation, table: Table, profile: TableProfile) -> Left:
    """What the filters of a relation are taken to leave."""
    left = Left()
    while not isinstance(relation, Scan):
        if isinstance(relation, Filter):
            left *= _left_by(conjuncts(relation.predicate), table, profile)
            relation = relation.input
        else:
            assert isinstance(relation, Join)
            relation = relation.left
    return left


def _left_by(conditions: Iterable[Scalar], table: Table, profile: TableProfile) -> Left:
    """What conditions are taken to leave together. Where a unit has one value of the keys that a condition is
    about it leaves units, where it has many of one of them, rows."""
    left = Left()
    for one in conditions:
        share = min(max(_selected(one, table), _LEAST), 1.0)
        if share > _MOST:
            left *= Left(of_rows=share)
            continue
        keys = [profile.keys.get(column.name.lower()) for column in columns_of(one)]
        typical = [_Order(key.groups).at(0.5) for key in keys if key is not None]
        if any(groups > _ALONE for groups in typical):
            left *= Left(of_rows=share)
        else:
            left *= Left(of_units=share) if typical and None not in keys else Left(unknown=share)
    return left


def _selected(one: Scalar, table: Table) -> float:
    if not isinstance(one, Call):
        return 0.5
    if one.operation in ("and", "or", "not"):
        return _combined(one, table)
    if one.operation in ("eq", "not_distinct", "in"):
        return _equal(one, table) * (len(one.arguments) - 1)
    if one.operation in ("ne", "distinct"):
        return 1 - _equal(one, table)
    if one.operation in ("lt", "le"):
        return _ranged(one, table)
    return {"is_null": _NULL, "like": _LIKE, "ilike": _LIKE}.get(one.operation, _RANGE)


def _combined(one: Call, table: Table) -> float:
    shares = [_selected(part, table) for part in one.arguments]
    if one.operation == "and":
        return math.prod(shares)
    return min(math.fsum(shares), 1.0) if one.operation == "or" else 1 - shares[0]


def _equal(one: Call, table: Table) -> float:
    column = next((part for part in one.arguments if isinstance(part, Column)), None)
    declared = None if column is None else table.column(column.name)
    return _EQUAL if declared is None or declared.keys is None else 1 / len(declared.keys)


def _ranged(one: Call, table: Table) -> float:
    """A bounded column and a constant: the part of the bounds that is left, as if values were spread
    evenly."""
    left, right = one.arguments
    column, constant = (left, right) if isinstance(left, Column) else (right, left)
    declared = table.column(column.name) if isinstance(column, Column) else None
    if declared is None or declared.low is None or declared.high is None or not isinstance(constant, Literal):
        return _RANGE
    if not isinstance(constant.value, int | Decimal) or declared.high == declared.low:
        return _RANGE
    value = float(constant.value) * float(10**declared.decimals)
    below = (value - declared.low) / (declared.high - declared.low)
    return below if column is left else 1 - below
