"""Ranges of numbers: as the policy declares them, or as the statement itself states them.

They are clamped to, like any bounds: what one unit may contribute never rests on a filter being applied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from privacy.algebra import Call, Column, Literal, Scalar
from privacy.arithmetic import LIMIT, Bounds, Fixed, held
from privacy.values import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.query.catalog import Catalog, Rows

LEAST_DECIMALS = 6
"""Decimals that are kept of a number without declared ones, unless a literal has more."""


@dataclass(frozen=True)
class Reach:
    """What is known of a number's range; None where an end is not known."""

    low: Decimal | None = None
    high: Decimal | None = None

    def within(self, other: Reach) -> Reach:
        """The range of numbers that lie in both."""
        lows = [end for end in (self.low, other.low) if end is not None]
        highs = [end for end in (self.high, other.high) if end is not None]
        return Reach(max(lows, default=None), min(highs, default=None))

    @property
    def empty(self) -> bool:
        return self.low is not None and self.high is not None and self.low > self.high


class Ranges:
    """Bounds of columns and expressions on rows for which ``conditions`` are true."""

    def __init__(self, catalog: Catalog, conditions: Sequence[Scalar]) -> None:
        self._catalog = catalog
        self._conditions = conditions

    def bounds_of(self, scalar: Scalar) -> Bounds | None:
        """Bounds as integers of the number's decimals, or None when an end is not known."""
        if scalar.type not in NUMBERS or not self._catalog.selectable(scalar):
            return None
        declared = self._catalog.facts(scalar).bounds if isinstance(scalar, Column) else None
        reach = self.stated(scalar).within(_confined(scalar))
        if declared is not None:
            return _narrowed(declared, reach)
        if reach.low is None or reach.high is None or reach.empty:
            return None
        return _scaled(reach.low, reach.high, _decimals(scalar, reach))

    def narrowed(self, scalar: Scalar, number: Fixed) -> Fixed:
        """The fixed point form of ``scalar``, held to what the conditions say of the whole expression."""
        if number.null or isinstance(scalar, Column | Literal):
            return number
        proven = Bounds(number.low, number.high, number.decimals)
        bounds = _narrowed(proven, self.stated(scalar))
        return number if bounds == proven else held(number, bounds.low, bounds.high)

    def stated(self, scalar: Scalar) -> Reach:
        """What comparisons with literals say."""
        reach = Reach()
        for part in self._conditions:
            if isinstance(part, Call) and part.operation in ("eq", "le", "lt", "in"):
                reach = reach.within(_compared(part, scalar))
        return reach


def held_by_number(rows: Rows, catalog: Catalog) -> Rows:
    """The rows, with as many of one unit as conditions on their numbers leave."""
    ranges = Ranges(catalog, rows.conditions)
    counts = [] if rows.most is None else [rows.most]
    for column in rows.numbered:
        reach = ranges.stated(column)
        if reach.high is not None:
            low = max(math.ceil(reach.low or 1), 1)
            counts.append(max(math.floor(reach.high) - low + 1, 1))
    return replace(rows, most=min(counts)) if counts else rows


def _compared(part: Call, scalar: Scalar) -> Reach:
    bare = [_bare(argument) for argument in part.arguments]
    if scalar not in bare:
        return Reach()
    literals = [_number(one) for one in bare if one != scalar]
    numbers = [one for one in literals if one is not None]
    if not numbers or len(numbers) < len(literals):
        return Reach()
    if part.operation in ("eq", "in"):
        return Reach(min(numbers), max(numbers))
    strict = part.operation == "lt" and scalar.type == "integer"
    if bare[0] == scalar:
        return Reach(high=_before(numbers[0]) if strict else numbers[0])
    return Reach(low=-_before(-numbers[0]) if strict else numbers[0])


def _before(number: Decimal) -> Decimal:
    """The largest whole number below."""
    return Decimal(math.ceil(number) - 1)


def _bare(scalar: Scalar) -> Scalar:
    """The number itself: comparing as doubles does not change it."""
    if isinstance(scalar, Call) and scalar.operation == "to_float":
        return _bare(scalar.arguments[0])
    return scalar


def _number(scalar: Scalar) -> Decimal | None:
    value = scalar.value if isinstance(scalar, Literal) else None
    return Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None


def _confined(scalar: Scalar) -> Reach:
    """What least(..., literal) and greatest(..., literal) say of themselves."""
    number = _number(scalar)
    if number is not None:
        return Reach(number, number)
    scalar = _bare(scalar)
    if not isinstance(scalar, Call) or scalar.operation not in ("least", "greatest"):
        return Reach()
    parts = [_confined(argument) for argument in scalar.arguments]
    lows, highs = [part.low for part in parts], [part.high for part in parts]
    known_lows, known_highs = _known(lows), _known(highs)
    if scalar.operation == "least":
        low = min(known_lows) if len(known_lows) == len(parts) else None
        return Reach(low, min(known_highs, default=None))
    high = max(known_highs) if len(known_highs) == len(parts) else None
    return Reach(max(known_lows, default=None), high)


def _known(ends: list[Decimal | None]) -> list[Decimal]:
    return [end for end in ends if end is not None]


def _decimals(scalar: Scalar, reach: Reach) -> int:
    if scalar.type == "integer":
        return 0
    ends = [end.normalize() for end in (reach.low, reach.high) if end]
    return max([LEAST_DECIMALS, *(-int(end.as_tuple().exponent) for end in ends)])


def _scaled(low: Decimal, high: Decimal, decimals: int) -> Bounds:
    """Integers around the range; of one beyond 2^62 enough to be refused."""
    if max(low.copy_abs(), high.copy_abs()).adjusted() + decimals > 20:
        return Bounds(-LIMIT, LIMIT, decimals)
    return Bounds(math.floor(low.scaleb(decimals)), math.ceil(high.scaleb(decimals)), decimals)


def _narrowed(declared: Bounds, reach: Reach) -> Bounds:
    """Declared bounds less what a filter excludes; the declared ones where nothing would be left."""
    ends = Reach(*(Decimal(end).scaleb(-declared.decimals) for end in (declared.low, declared.high)))
    both = ends.within(reach)
    if both.empty or both.low is None or both.high is None:
        return declared
    return _scaled(both.low, both.high, declared.decimals)
