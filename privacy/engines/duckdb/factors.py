# ruff: noqa: S608 - generating SQL is what this file is for; no foreign text comes in
"""Scaling a unit's numbers down to the length that they may have. The proof stands in `privacy.bounding`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from privacy.algebra import TRUE
from privacy.engines.duckdb.literals import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from privacy.algebra import Aggregate, Sum, Total

PRECISION = 30
"""Factors are integers over ``2 ** PRECISION``."""
LONGEST = 48
"""Bits of a vector's entries when its length is taken: squares of 2^31 of them fit HUGEINT."""
NARROW = 31
"""Bits of counts that fit 64 bits times a factor: dividing those takes a tenth of the time."""
_TOTAL = 45
"""Bits within which totals are held beside them."""
_ADDED = ("total", "centred")
_ROOM = 6
"""Bits by which an entry must exceed the length allowed before it is cut for that."""
SMALLEST, LARGEST = -(2**62), 2**62
_WHOLE = 2**92
"""What a unit has over all groups is taken within this, so that its product with a factor fits HUGEINT."""


def huge(number: int) -> str:
    """An integer constant of 128 bits."""
    return f"CAST('{number}' AS HUGEINT)"


def big(number: int) -> str:
    """An integer constant of 64 bits."""
    return f"CAST('{number}' AS BIGINT)"


def uncut(one: Sum) -> str:
    """What a unit's rows in a group come to, before it is bounded: a BIGINT of counts, else a HUGEINT."""
    count, total = quoted("n_" + one.name), quoted("t_" + one.name)
    if one.kind == "units":
        return big(1) if same_in_all_groups(one) else f"least({count}, {big(1)})"
    if one.kind in ("rows", "histogram"):
        return count
    return total if one.kind == "total" else f"({total} - {count} * {huge(one.middle)})"


def same_in_all_groups(one: Sum) -> bool:
    """Whether a unit adds the same to each of its groups: there is none without a row of it."""
    return one.kind == "units" and one.condition == TRUE


def halvings(one: Sum) -> int:
    """How often a vector is halved before its length is taken, so that the length allowed has 30 bits."""
    return max(math.isqrt(one.norm_squared).bit_length() - PRECISION, 0)


def narrow(one: Sum) -> bool:
    """Whether a unit may add so little that its numbers, within `rows_held`, fit 64 bits times a factor."""
    bits = math.isqrt(one.norm_squared).bit_length()
    most = (rows_held(one) * widest(one)).bit_length() - 1 if one.kind in _ADDED else NARROW
    return bits <= PRECISION and bits + _ROOM <= most and abs(one.middle) <= widest(one) <= 2**NARROW


def widest(one: Sum) -> int:
    """The largest absolute value of what is added up in a row, before anything is taken off."""
    return max(abs(one.low + one.middle), abs(one.high + one.middle), 1)


def rows_held(one: Sum) -> int:
    """A count of rows is held within so many, where it is narrow; their total within what so many may add.

    So numbers around any middle are no more than ``reach`` times the count of their rows, and below 2^47:
    squares of 2^31 of them fit HUGEINT. What is wider than that is not narrow.
    """
    if one.kind not in _ADDED:
        return 1 << NARROW
    return 1 << max(min(NARROW, _TOTAL - widest(one).bit_length()), 0)


def held(one: Sum) -> str:
    """`uncut` within what the length of a vector can be taken of: a BIGINT where that `fits_bigint`.

    A total never is more than ``reach`` times what any count is held within: no sum outgrows the count of its
    rows. A count is held in what is far beyond the length allowed: rows of a histogram weigh nothing there.
    """
    if narrow(one):
        return _narrowly_held(one)
    most = _most_held(one)
    within = f"greatest(least({uncut(one)}, {huge(most)}), {huge(-most)})"
    return f"CAST({within} AS BIGINT)" if fits_bigint(one) else within


def _most_held(one: Sum) -> int:
    most: int = 2 ** (LONGEST + halvings(one))
    return min(most, one.reach << NARROW) if one.kind in _ADDED else most


def fits_bigint(one: Sum) -> bool:
    """Whether `held` has 64 bits."""
    return narrow(one) or _most_held(one) <= LARGEST


def _narrowly_held(one: Sum) -> str:
    if one.kind == "units":
        return uncut(one)
    rows = rows_held(one)
    counted = f"least({quoted('n_' + one.name)}, {big(rows)})"
    if one.kind not in _ADDED:
        return counted
    total = total_held(one, quoted("t_" + one.name))
    return f"({total} - {counted} * {big(one.middle)})" if one.kind == "centred" else total


def total_held(one: Sum, total: str) -> str:
    """A total within what as many rows may add as their count is held within, as a BIGINT."""
    low, high = min(one.low + one.middle, 0) * rows_held(one), max(one.high + one.middle, 0) * rows_held(one)
    return f"CAST(greatest(least({total}, {big(high)}), {big(low)}) AS BIGINT)"


def scaled(one: Sum) -> str:
    """A unit's part in a group: its numbers times its factor, toward zero, in steps of ``2 ** -shift``.

    What fits 64 bits but not times a factor is multiplied in two: the higher bits, whose product with the
    factor needs no division, and the lower ones. Both have the sign of the whole, so that what is cut off is
    cut off toward zero.
    """
    value, factor, steps = held(one), quoted("w_" + one.name), 2 ** (PRECISION - one.shift)
    if narrow(one) and one.kind not in _ADDED:  # never negative
        return f"(({value} * {factor}) >> {PRECISION - one.shift})"
    if narrow(one) or not fits_bigint(one):
        return f"(({value} * {factor}) // {(big if narrow(one) else huge)(steps)})"
    return f"(({value} // {big(steps)}) * {factor} + (({value} % {big(steps)}) * {factor}) // {big(steps)})"


def row_weight(one: Sum) -> str:
    """What a row weighs in a histogram where a unit's numbers are scaled down."""
    return f"(({quoted('w_' + one.name)} * {big(2**one.shift)}) // {big(2**PRECISION)})"


def held_together(one: Sum, sums: Sequence[Sum]) -> list[Sum]:
    """The sums whose lengths decide the factor of ``one``: their factor is one and the same."""
    if one.kind == "distinct":
        return []
    members = [other for other in sums if other.kind != "distinct" and _class(other) == _class(one)]
    return [other for other in members if not _implied(other, members)]


def _class(one: Sum) -> str:
    return f"{one.by_rows} {one.condition.text}"


def not_small(part: str, one: Sum, groups: int) -> str:
    """The part, or 0 where ``groups`` parts of its size would be shorter than a unit's numbers may be: no
    more than ``groups`` parts of a unit are left."""
    least = _root_above(-(-one.sensitivity_squared // groups))
    return f"CASE WHEN {part} >= {huge(least)} THEN {part} ELSE 0 END"


def _root_above(square: int) -> int:
    """The least whole number whose square is no less."""
    root = math.isqrt(square)
    return root if root * root == square else root + 1


def as_bigint(total: str) -> str:
    """A sum over units, 0 where there are none, within what noise is added to."""
    whole = f"coalesce({total}, {huge(0)})"
    return f"CAST(greatest(least({whole}, {huge(LARGEST)}), {huge(SMALLEST)}) AS BIGINT)"


@dataclass(frozen=True)
class Measured:
    """A sum over a unit's groups: of its numbers of a sum, of their squares, or of their sizes."""

    of: Sum
    squared: bool = False
    sizes: bool = False


class Factors:
    """The factor of each sum for each unit: ``w_<sum>`` over ``2 ** PRECISION``.

    Sums over rows that meet one condition share a factor, so that their ratios are those of the unit's rows.
    """

    def __init__(self, aggregate: Aggregate) -> None:
        self._totals = aggregate.totals
        self._summed = {total.of.name: total.of for total in self._totals}
        self._weights = aggregate.input.strategy == "weights"
        self._shown_by, self._groups = aggregate.shown_by, aggregate.input.groups
        self._classes: dict[str, list[Sum]] = {}
        for one in aggregate.sums + aggregate.limits:
            if one.kind == "distinct":
                continue
            self._classes.setdefault(_class(one), []).append(one)

    def sql(self, parts: str, measured: str | None = None) -> str:
        """One row for each unit: ``u``, the factors, and of each total what the unit has of it.

        Args:
            measured: a SELECT of what `measures` names, where that is known already.
        """
        factors = ["u"]
        for members in self._classes.values():
            parted = ", ".join(self._factor(one) for one in self._limits(members))
            factor = f"least({parted})" if len(self._limits(members)) > 1 else parted
            factors += [f"CAST({factor} AS BIGINT) AS {quoted('w_' + one.name)}" for one in members]
        factors += [quoted("l_" + name) for name in self._summed]
        lengths = f"SELECT {', '.join(['*', *self._roots()])} FROM ({measured or self._measured(parts)}) AS q"
        found = f"SELECT {', '.join(factors)} FROM ({lengths}) AS lengths"
        return f"SELECT {', '.join(['*', *self._everywhere()])} FROM ({found}) AS factors"

    def measures(self) -> Mapping[str, Measured]:
        """What is measured of each unit over all its groups, by name."""
        lengths = {
            f"q_{one.name}": Measured(one, not self._weighs(one), self._weighs(one))
            for one in self._limited()
        }
        return lengths | {f"l_{name}": Measured(one) for name, one in self._summed.items()}

    def _limits(self, members: Sequence[Sum]) -> list[Sum]:
        return [one for one in members if not _implied(one, members)]

    def _limited(self) -> list[Sum]:
        return [one for members in self._classes.values() for one in self._limits(members)]

    def _roots(self) -> list[str]:
        return [_root(one) for one in self._limited() if not self._weighs(one)]

    def _measured(self, parts: str) -> str:
        lengths = ["u"]
        for name, one in self.measures().items():
            entry = self._entry(one.of) if one.squared or one.sizes else held(one.of)
            lengths.append(f"sum({entry}) AS {quoted(name)}")
        return f"SELECT {', '.join(lengths)} FROM {parts} GROUP BY u"

    def _everywhere(self) -> list[str]:
        """What is the same in all groups of a unit: what its rows weigh in a histogram, ``r_<sum>``, and its
        part in a count of units, ``p_<sum>``."""
        sums = [one for members in self._classes.values() for one in members]
        weights = [f"{row_weight(one)} AS {quoted('r_' + one.name)}" for one in sums if one.leaves]
        counted = [one for one in sums if same_in_all_groups(one)]
        return weights + [f"{self._part(one)} AS {quoted('p_' + one.name)}" for one in counted]

    def _part(self, one: Sum) -> str:
        return not_small(scaled(one), one, self._groups) if one.name == self._shown_by else scaled(one)

    def totals_sql(self) -> str:
        """One row with each total, as a BIGINT. Reads ``units``."""
        return f"SELECT {', '.join(map(_total, self._totals))} FROM units"

    def _entry(self, one: Sum) -> str:
        """What an entry adds to the length of the vector."""
        size = _size(one)
        if self._weighs(one):
            return size
        wide = one.kind in _ADDED or not narrow(one)
        return f"CAST({size} AS HUGEINT) * {size}" if wide else f"{size} * {size}"

    def _weighs(self, one: Sum) -> bool:
        return self._weights and one.by_rows

    def _factor(self, one: Sum) -> str:
        return _by_size(one) if self._weighs(one) else _by_length(one)


def _total(total: Total) -> str:
    whole = f"greatest(least({quoted('l_' + total.of.name)}, {huge(_WHOLE)}), {huge(-_WHOLE)})"
    if total.kept:
        whole = f"(({whole} * {quoted('w_' + total.of.name)}) // {huge(2 ** (PRECISION - total.of.shift))})"
    cap = total.cap << total.shift
    part = f"greatest(least({whole}, {huge(cap)}), {huge(-cap)})"
    return f"{as_bigint(f'sum({part})')} AS {quoted(total.name)}"


def _implied(one: Sum, members: Sequence[Sum]) -> bool:
    """Whether the limit on the count of rows keeps the vector within its own."""
    return one.kind != "rows" and any(
        rows.kind == "rows" and one.norm_squared >= one.reach**2 * rows.norm_squared for rows in members
    )


def _size(one: Sum) -> str:
    """The size of an entry, halved as often as need be and rounded away from zero."""
    size, step = f"abs({held(one)})", 2 ** halvings(one)
    whole = big if fits_bigint(one) else huge
    return size if step == 1 else f"(({size} + {whole(step - 1)}) // {whole(step)})"


def _by_size(one: Sum) -> str:
    """What a row weighs where all rows of a unit together may weigh as much as so many."""
    allowed = math.isqrt(one.norm_squared) >> halvings(one)
    rows = f"greatest({quoted('q_' + one.name)}, {huge(1)})"
    return f"least({huge(allowed << PRECISION)} // {rows}, {huge(2**PRECISION)})"


def _root(one: Sum) -> str:
    """An estimate of the largest factor at which the vector is short enough, as a BIGINT ``e_<sum>``."""
    most = _shortest(one) << 2 * PRECISION
    root = f"sqrt(CAST('{most}' AS DOUBLE) / CAST(greatest({quoted('q_' + one.name)}, {huge(1)}) AS DOUBLE))"
    return (
        f"CAST(floor(least({root}, CAST('{2**PRECISION}' AS DOUBLE))) AS BIGINT) AS {quoted('e_' + one.name)}"
    )


def _by_length(one: Sum) -> str:
    """The largest factor at which the vector is short enough, or one less; 2^30 where it is already.

    The root is an estimate; that ``w * w * q`` is within the limit is checked in integers.
    """
    length, near, limit = quoted("q_" + one.name), quoted("e_" + one.name), _shortest(one)
    most = huge(limit << 2 * PRECISION)
    fits = [f"WHEN {guess} * {guess} * {length} <= {most} THEN {guess}" for guess in (near, f"({near} - 1)")]
    return f"CASE WHEN {length} <= {huge(limit)} THEN {big(2**PRECISION)} {' '.join(fits)} ELSE {big(0)} END"


def _shortest(one: Sum) -> int:
    """The square of the length that a vector may have, halved as its entries are."""
    return one.norm_squared >> 2 * halvings(one)
