# ruff: noqa: S608 - generating SQL is what this file is for; no foreign text comes in
"""Scaling a unit's numbers down to the length that they may have. The proof stands in `privacy.bounding`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from privacy.engines.duckdb.literals import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.algebra import Aggregate, Sum, Total

PRECISION = 30
"""Factors are integers over ``2 ** PRECISION``."""
LONGEST = 48
"""Bits of a vector's entries when its length is taken: squares of 2^31 of them fit HUGEINT."""
NARROW = 31
"""Bits of entries that fit 64 bits squared, and times a factor: dividing those takes a tenth of the time."""
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
    """What a unit's rows in a group come to, before anything is bounded: a HUGEINT."""
    count, total = quoted("n_" + one.name), quoted("t_" + one.name)
    if one.kind == "units":
        return f"least({count}, {huge(1)})"
    if one.kind in ("rows", "histogram"):
        return count
    return total if one.kind == "total" else f"({total} - {count} * {huge(one.middle)})"


def halvings(one: Sum) -> int:
    """How often a vector is halved before its length is taken, so that the length allowed has 30 bits."""
    return max(math.isqrt(one.norm_squared).bit_length() - PRECISION, 0)


def narrow(one: Sum) -> bool:
    """Whether a unit may add so little that what does not fit 31 bits is far beyond it."""
    return math.isqrt(one.norm_squared).bit_length() + _ROOM <= NARROW


def held(one: Sum) -> str:
    """`uncut` within what the length of a vector can be taken of: a BIGINT where that is `narrow`.

    A total never is more than ``reach`` times what any count is held within: no sum outgrows the count of its
    rows. A count is held in what is far beyond the length allowed: rows of a histogram weigh nothing there.
    """
    most = 2**NARROW if narrow(one) else 2 ** (LONGEST + halvings(one))
    if one.kind in ("total", "centred"):
        most = min(most, one.reach << NARROW)
    within = f"greatest(least({uncut(one)}, {huge(most)}), {huge(-most)})"
    return f"CAST({within} AS BIGINT)" if narrow(one) else within


def scaled(one: Sum) -> str:
    """A unit's part in a group: its numbers times its factor, toward zero, in steps of ``2 ** -shift``."""
    steps = 2 ** (PRECISION - one.shift)
    return f"(({held(one)} * {quoted('w_' + one.name)}) // {(big if narrow(one) else huge)(steps)})"


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
    large = f"{huge(groups)} * {part} * {part} >= {huge(one.sensitivity_squared)}"
    return f"CASE WHEN {large} THEN {part} ELSE 0 END"


def as_bigint(total: str) -> str:
    """A sum over units, 0 where there are none, within what noise is added to."""
    whole = f"coalesce({total}, {huge(0)})"
    return f"CAST(greatest(least({whole}, {huge(LARGEST)}), {huge(SMALLEST)}) AS BIGINT)"


class Factors:
    """The factor of each sum for each unit: ``w_<sum>`` over ``2 ** PRECISION``.

    Sums over rows that meet one condition share a factor, so that their ratios are those of the unit's rows.
    """

    def __init__(self, aggregate: Aggregate) -> None:
        self._totals = aggregate.totals
        self._weights = aggregate.input.strategy == "weights"
        self._classes: dict[str, list[Sum]] = {}
        for one in aggregate.sums + aggregate.limits:
            if one.kind == "distinct":
                continue
            self._classes.setdefault(_class(one), []).append(one)

    def sql(self, parts: str) -> str:
        """One row for each unit: ``u``, the factors, and of each total what the unit has of it."""
        lengths, factors = ["u"], ["u"]
        for members in self._classes.values():
            limits = [one for one in members if not _implied(one, members)]
            lengths += [f"sum({self._entry(one)}) AS {quoted('q_' + one.name)}" for one in limits]
            parted = ", ".join(self._factor(one) for one in limits)
            factor = f"least({parted})" if len(limits) > 1 else parted
            factors += [f"CAST({factor} AS BIGINT) AS {quoted('w_' + one.name)}" for one in members]
        summed = {total.of.name: total.of for total in self._totals}
        lengths += [f"sum({held(one)}) AS {quoted('l_' + name)}" for name, one in summed.items()]
        factors += [quoted("l_" + name) for name in summed]
        measured = f"SELECT {', '.join(lengths)} FROM {parts} GROUP BY u"
        return f"SELECT {', '.join(factors)} FROM ({measured}) AS lengths"

    def totals_sql(self) -> str:
        """One row with each total, as a BIGINT. Reads ``units``."""
        return f"SELECT {', '.join(map(_total, self._totals))} FROM units"

    def _entry(self, one: Sum) -> str:
        """What an entry adds to the length of the vector."""
        return _size(one) if self._weighs(one) else f"{_size(one)} * {_size(one)}"

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
    return size if step == 1 else f"(({size} + {huge(step - 1)}) // {huge(step)})"


def _by_size(one: Sum) -> str:
    """What a row weighs where all rows of a unit together may weigh as much as so many."""
    allowed = math.isqrt(one.norm_squared) >> halvings(one)
    rows = f"greatest({quoted('q_' + one.name)}, {huge(1)})"
    return f"least({huge(allowed << PRECISION)} // {rows}, {huge(2**PRECISION)})"


def _by_length(one: Sum) -> str:
    """The largest factor at which the vector is short enough, or one less; 2^30 where it is already.

    The root is an estimate; that ``w * w * q`` is within the limit is checked in integers.
    """
    length = quoted("q_" + one.name)
    limit = one.norm_squared >> 2 * halvings(one)
    most = limit << 2 * PRECISION
    root = f"sqrt(CAST('{most}' AS DOUBLE) / CAST(greatest({length}, {huge(1)}) AS DOUBLE))"
    near = f"CAST(floor(least({root}, CAST('{2**PRECISION}' AS DOUBLE))) AS HUGEINT)"
    fits = [
        f"WHEN {guess} * {guess} * {length} <= {huge(most)} THEN {guess}" for guess in (near, f"({near} - 1)")
    ]
    return (
        f"CASE WHEN {length} <= {huge(limit)} THEN {huge(2**PRECISION)} {' '.join(fits)} ELSE {huge(0)} END"
    )
