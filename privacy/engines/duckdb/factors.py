# ruff: noqa: S608 - generating SQL is what this file is for; no foreign text comes in
"""Scaling a unit's numbers down to the length that they may have. The proof stands in `privacy.bounding`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from privacy.engines.duckdb.literals import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.algebra import Sum

PRECISION = 30
"""Factors are integers over ``2 ** PRECISION``."""
LONGEST = 48
"""Bits of a vector's entries when its length is taken: squares of 2^31 of them fit HUGEINT."""


def huge(number: int) -> str:
    """An integer constant of 128 bits."""
    return f"CAST('{number}' AS HUGEINT)"


def uncut(one: Sum) -> str:
    """What a unit's rows in a group come to, before anything is bounded: a HUGEINT."""
    count, total = quoted("n_" + one.name), quoted("t_" + one.name)
    if one.kind == "units":
        return f"least({count}, {huge(1)})"
    if one.kind == "rows":
        return count
    return total if one.kind == "total" else f"({total} - {count} * {huge(one.middle)})"


def halvings(one: Sum) -> int:
    """How often a vector is halved before its length is taken, so that the length allowed has 30 bits."""
    return max(math.isqrt(one.norm_squared).bit_length() - PRECISION, 0)


def held(one: Sum) -> str:
    """`uncut` within what the length of a vector can be taken of."""
    most = 2 ** (LONGEST + halvings(one))
    return f"greatest(least({uncut(one)}, {huge(most)}), {huge(-most)})"


def scaled(one: Sum) -> str:
    """A unit's part in a group: its numbers times its factor, toward zero, in steps of ``2 ** -shift``."""
    return f"(({held(one)} * {quoted('w_' + one.name)}) // {huge(2 ** (PRECISION - one.shift))})"


def held_together(one: Sum, sums: Sequence[Sum]) -> list[Sum]:
    """The sums whose lengths decide the factor of ``one``: their factor is one and the same."""
    members = [other for other in sums if _class(other) == _class(one)]
    return [other for other in members if not _implied(other, members)]


def _class(one: Sum) -> str:
    return f"{one.by_rows} {one.condition.text}"


class Factors:
    """The factor of each sum for each unit: ``w_<sum>`` over ``2 ** PRECISION``.

    Sums over rows that meet one condition share a factor, so that their ratios are those of the unit's rows.
    """

    def __init__(self, sums: Sequence[Sum]) -> None:
        self._classes: dict[str, list[Sum]] = {}
        for one in sums:
            self._classes.setdefault(_class(one), []).append(one)

    def sql(self, parts: str) -> str:
        """One row for each unit: ``u`` and the factors."""
        lengths, factors = ["u"], ["u"]
        for members in self._classes.values():
            limits = [one for one in members if not _implied(one, members)]
            lengths += [f"sum({_square(one)}) AS {quoted('q_' + one.name)}" for one in limits]
            factor = ", ".join(_factor(one) for one in limits)
            factor = f"least({factor})" if len(limits) > 1 else factor
            factors += [f"{factor} AS {quoted('w_' + one.name)}" for one in members]
        measured = f"SELECT {', '.join(lengths)} FROM {parts} GROUP BY u"
        return f"SELECT {', '.join(factors)} FROM ({measured}) AS lengths"


def _implied(one: Sum, members: Sequence[Sum]) -> bool:
    """Whether the limit on the count of rows keeps the vector within its own."""
    return one.kind != "rows" and any(
        rows.kind == "rows" and one.norm_squared >= one.reach**2 * rows.norm_squared for rows in members
    )


def _square(one: Sum) -> str:
    """The square of an entry, halved as often as need be and rounded away from zero."""
    size, step = f"abs({held(one)})", 2 ** halvings(one)
    size = size if step == 1 else f"(({size} + {huge(step - 1)}) // {huge(step)})"
    return f"{size} * {size}"


def _factor(one: Sum) -> str:
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
