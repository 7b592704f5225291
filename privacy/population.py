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

from privacy.algebra import Call, Column, Filter, Join, Literal, Scan, conjuncts

if TYPE_CHECKING:
    from privacy.algebra import Question, Relation, Scalar
    from privacy.policy import Table
    from privacy.profile import Histogram, Profile, TableProfile

_PARTS = 3
"""Kinds of units that one bin of the histogram of rows makes."""
_LEAST_UNITS = 100
_SLOWEST = 0.5
_SOMEBODY = 0.5
"""Fewer units than this are nobody."""


@dataclass(frozen=True)
class Kind:
    """Units alike: how many, their rows, the groups these fall into, the L2 length of the row counts over
    these, and the place of these units in the order of all."""

    units: float
    rows: float
    groups: float
    length: float
    place: float

    def thinned(self, share: float) -> Kind:
        """With a share of their rows, in no more groups than rows are left."""
        rows = self.rows * share
        groups = max(min(self.groups, rows), min(rows, 1.0))
        spread = max(min((self.rows / self.length) ** 2, rows), 1.0)
        return Kind(self.units, rows, groups, rows / math.sqrt(spread), self.place)


@dataclass(frozen=True)
class Population:
    """The units of a question, from those with the fewest rows to those with the most."""

    kinds: tuple[Kind, ...]
    table: TableProfile
    kept: float
    """Share of a unit's rows that filters are taken to leave."""

    def thinned(self, share: float) -> Population:
        """The same units with a share of their rows."""
        return Population(tuple(one.thinned(share) for one in self.kinds), self.table, self.kept * share)


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
    return Population(tuple(kinds), found, 1.0).thinned(selectivity(question.input, table))


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
        """The size at a share of the order: within a bin it grows evenly."""
        rank, before = place * self.units, 0.0
        size = 0.0
        for digits, count in enumerate(self._counts):
            if count == 0:
                continue
            low = float(1 << (digits - 1)) if digits else 0.0
            size = low * (1.0 + min(max((rank - before) / count, 0.0), 1.0)) if digits > 1 else low
            before += count
            if rank <= before:
                break
        return size

    def spread(self, rows: _Order, place: float) -> float:
        """Over how many groups of equal size the rows would have this length."""
        length = max(self.at(place), 1.0)
        return max((rows.at(place) / length) ** 2, 1.0)


def _continued(histogram: Histogram, declared: int) -> list[float]:
    """The units of each bin. Where the last ones are lost in noise they are taken to go on as they began,
    each bin with the same part of the one before it, as far as the noise leaves room for them. Not so where
    nothing is seen beyond the size that the provider declares to be the largest that matters."""
    counts = [float(count) for count in histogram.significant]
    last = max((place for place, count in enumerate(counts) if count > 0), default=0)
    if last == 0 or counts[last - 1] <= 0 or last <= declared.bit_length():
        return counts
    ratio = min(counts[last] / counts[last - 1], _SLOWEST)
    for place in range(last + 1, len(counts)):
        room = histogram.counts[place] + histogram.sigma
        counts[place] = min(counts[place - 1] * ratio, max(room, 0.0))
        if counts[place] < _SOMEBODY:
            counts[place] = 0.0
            break
    return counts


def _key_orders(scalar: Scalar, table: TableProfile) -> tuple[_Order, _Order] | None:
    """Of a key that is a column of the table: units in the order of its groups, and of lengths over them."""
    key = table.keys.get(scalar.name.lower()) if isinstance(scalar, Column) else None
    return None if key is None else (_Order(key.groups), _Order(key.lengths))


def sizes_at(histogram: Histogram, population: Population) -> list[float]:
    """The size that each kind of units has by a histogram of whole rows, before filters."""
    order = _Order(histogram)
    return [order.at(one.place) if order.units else 0.0 for one in population.kinds]


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


def selectivity(relation: Relation, table: Table) -> float:
    """The share of rows that the filters of a relation are taken to leave."""
    share = 1.0
    while not isinstance(relation, Scan):
        if isinstance(relation, Filter):
            share *= selected(relation.predicate, table)
            relation = relation.input
        else:
            assert isinstance(relation, Join)
            relation = relation.left
    return max(share, _LEAST)


def selected(predicate: Scalar, table: Table) -> float:
    """The share of rows on which a predicate is taken to be true."""
    share = 1.0
    for one in conjuncts(predicate):
        share *= min(max(_selected(one, table), _LEAST), 1.0)
    return share


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
