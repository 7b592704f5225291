"""The integer sums that aggregates are computed from.

Every number that a statement sums is an integer with proven bounds (`privacy.arithmetic`); a sum says what
one row adds. Moments are taken around public middles: noise follows the largest value that one unit can add,
and that is least around the middle of the bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from privacy.algebra import Call, Literal, Number, Scalar, Sum
from privacy.arithmetic import LIMIT
from privacy.errors import Refused
from privacy.tree import Tree, best_tree

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PRODUCT = 2**32


def count_of(condition: Scalar) -> Sum:
    """The rows that count."""
    return Sum("", "rows", None, condition, 0, 1)


@dataclass(frozen=True)
class Centred:
    """A number less the middle of its bounds: an integer in ``[-reach, reach]``, in steps of 10^-decimals."""

    number: Number

    @property
    def middle(self) -> int:
        return (self.number.low + self.number.high) // 2

    @property
    def decimals(self) -> int:
        return self.number.decimals

    @property
    def reach(self) -> int:
        return max(self.number.high - self.middle, self.middle - self.number.low, 1)

    def sum(self, condition: Scalar) -> Sum:
        """The sum of ``x - middle``."""
        low, high = self.number.low - self.middle, self.number.high - self.middle
        return Sum("", "centred", self.number.scalar, condition, low, high, self.middle)

    def coarse(self, unit: int) -> Scalar:
        """``x - middle`` in whole units, rounded to the nearest; exact for the unit 1."""
        centred = _whole("exact_sub", self.number.scalar, _constant(self.middle))
        if unit == 1:
            return centred
        steps = self.steps(unit)
        shifted = _whole("exact_add", centred, _constant(steps * unit + unit // 2))
        return _whole("exact_sub", _whole("exact_div", shifted, _constant(unit)), _constant(steps))

    def steps(self, unit: int) -> int:
        """The largest size of `coarse`."""
        return self.reach if unit == 1 else -(-self.reach // unit)


def tree_of(one: Sum) -> Tree:
    """The tree that a histogram is released as; of one level, the leaves alone."""
    return Tree(one.leaves, max(one.leaves, 2)) if one.levels == 1 else best_tree(one.leaves)


@dataclass(frozen=True)
class Bins:
    """A number cut into at most ``leaves`` bins of one whole width, from its lower bound on."""

    number: Number
    leaves: int

    @property
    def width(self) -> int:
        """Steps of the number in a bin."""
        return -(-(self.number.high - self.number.low + 1) // self.leaves)

    @property
    def count(self) -> int:
        """How many bins it takes; asked for as many, the bins are the same."""
        return -(-(self.number.high - self.number.low + 1) // self.width)

    def edges(self) -> NDArray[np.float64]:
        """The ends of the bins in steps from the lower bound on: far from zero doubles do not tell steps
        apart. Steps lie within bins, never on an edge."""
        return np.asarray(np.arange(self.count + 1, dtype=np.float64) * self.width - 0.5, np.float64)

    def value(self, steps: NDArray[np.float64]) -> NDArray[np.float64]:
        """What so many steps from the lower bound on are in the number's own unit."""
        return np.asarray((self.number.low + steps) / 10.0**self.number.decimals, np.float64)

    def sum(self, condition: Scalar) -> Sum:
        """The histogram, with the levels of its tree."""
        above = _whole("exact_sub", self.number.scalar, _constant(self.number.low))
        bin_ = above if self.width == 1 else _whole("exact_div", above, _constant(self.width))
        levels = best_tree(self.count).levels
        return Sum("", "histogram", bin_, condition, 0, 1, leaves=self.count, levels=levels)


@dataclass(frozen=True)
class Product:
    """The sum of products of two centred numbers, around the middle of the range of the product.

    Squares lie in [0, reach^2] and are summed less half of that; products of two different numbers lie in
    [-reach reach', reach reach'] and have the middle 0. Factors with many digits are rounded to units of a
    power of ten, the finer one first, until a product is at most 2^32: totals then stay far from 2^62, and
    what is lost is far below the noise.

    Raises:
        Refused: ``overflow``, the bounds of a factor are too wide to be centred.
    """

    left: Centred
    right: Centred

    @cached_property
    def units(self) -> tuple[int, int]:
        """The steps to which the factors are rounded: 1 unless the products would not fit."""
        sides, units = (self.left, self.right), [1, 1]
        if any(4 * side.reach >= LIMIT for side in sides):
            hint = "Use tighter bounds or fewer decimals."
            raise Refused("overflow", "The values of this expression could exceed 2^62.", hint=hint)
        while math.prod(map(Centred.steps, sides, units)) > MAX_PRODUCT:
            finer = 0 if sides[0].steps(units[0]) >= sides[1].steps(units[1]) else 1
            units[finer] *= 10
            if self.square:
                units[1 - finer] = units[finer]
        return units[0], units[1]

    @property
    def square(self) -> bool:
        return self.left == self.right

    @property
    def largest(self) -> int:
        """The largest size of a product, in units."""
        return self.left.steps(self.units[0]) * self.right.steps(self.units[1])

    @property
    def middle(self) -> int:
        """What is taken off each product, in units."""
        return self.largest // 2 if self.square else 0

    def sum(self, condition: Scalar) -> Sum:
        factors = [side.coarse(unit) for side, unit in zip((self.left, self.right), self.units, strict=True)]
        product = Call("exact_mul", tuple(sorted(factors, key=lambda one: one.text)), "integer")
        low = -self.middle if self.square else -self.largest
        return Sum("", "centred", product, condition, low, self.largest - self.middle, self.middle)


def _whole(operation: str, *arguments: Scalar) -> Call:
    return Call(operation, arguments, "integer")


def _constant(number: int) -> Literal:
    return Literal(number, "integer")
