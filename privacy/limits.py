"""How long a unit's numbers may be, so that the error of a typical group is expected to be least.

A sum over units of vectors (one entry a group) is released with noise in proportion to the length N that a
vector may have; what is longer is scaled down to N. With N small little is counted, with N large the noise
is; and what is missing can be made up for: by the ratio of two noisy totals, of what units have and of what
is left of it, in all groups together.

For a typical group of G, with B the mass of all units together and A what is left of it, relative to B / G:

    noise   N G / A, times k = 1 / sqrt(2 rho)
    bias    1 - A / B; nothing where it is made up for, at the price of the noise of the totals
    shape   by how much groups differ in what is left of them: a unit's vector of length l lies somewhere,
    so that
            the deviation is sqrt(G sum_u (r f_u - 1)^2 l_u^2) / B, with f_u a unit's factor and r = B / A

The few heaviest units are left out of B and of the shape: no more than a quarter of the groups, so that a
median group has none of them. All of it is public arithmetic over a released profile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HEAVY = 0.25
_RESERVE = 0.25
"""What the noise of totals counts where they are not expected to differ: they are there in case that filters
leave more of single units than expected."""
_ROOM = 1.25
_PART = 3.0
"""So much more noise a total has where it gets a part of rho."""
_REACHED = 24
"""Limits are tried from the longest vector down to one of 2^(this / 2) of its length."""
_SAME = 1.1
_HARDLY = 1.02
"""Costs within this factor hardly differ: then the limit is taken that leaves out least."""


@dataclass(frozen=True)
class Vectors:
    """Units alike: how many, the mass of their vector (the sum of its entries) and its length."""

    units: float
    mass: float
    length: float


@dataclass(frozen=True)
class Limit:
    """A limit and what is expected of it.

    Attributes:
        squared: square of the length that a unit's vector may have.
        whole, kept: what one unit may add to the total of what units have, and of what is left of it; None
            where nothing is made up for.
        noise: relative error of a typical group by noise, where rho is shared as in `parts`.
        bias: share of the mass of all units, the heaviest included, that is neither counted nor made up for.
        cost: expected relative error of a typical group.
        parts: noise for k = 1 of the sum, of the whole and of the kept total: the best shares of rho are as
            these.
        ratio: how much larger the sums are made to make up for what is missing.
    """

    squared: int
    whole: int | None
    kept: int | None
    noise: float
    bias: float
    cost: float
    parts: tuple[float, float, float]
    ratio: float = 1.0


class Crowd:
    """All units of a question with what they have of one sum, and the groups that these fall into.

    Args:
        vectors: from the lightest units to the heaviest.
        groups: how many typical groups there are.
        alike: how much the units of one group are alike.
        more: the same units where filters leave more of them, when it is a guess what filters leave. Then
            limits have to do in both cases, and totals are mostly kept in reserve.
    """

    def __init__(
        self, vectors: Iterable[Vectors], groups: float, alike: float = 0.0, more: Crowd | None = None
    ) -> None:
        self.vectors = list(vectors)
        self.groups = groups
        self._alike = alike
        self._more = more
        self._light = _without_heaviest(self.vectors, _HEAVY * groups if groups > 1 else 0.0)
        self._all = [one.units for one in self.vectors]
        self._caps: dict[float, int] = {}
        whole = [1.0] * len(self.vectors)
        self.mass, self.in_all = self.left(whole), self._left(whole, self._all)

    def best(self, k: float, *, totals: int) -> Limit:
        """The largest limit that hardly errs more than the best; where it is a guess what filters leave, one
        with totals, if there is such a one.

        Args:
            k: 1 / sqrt(2 rho) for the whole sum.
            totals: how many totals it takes to make up for what is not counted (1 where the sum's own groups
                add up to what is kept, else 2); 0 where that cannot be.
        """
        return self._condensed()._best(k, totals)

    def _condensed(self) -> Crowd:
        """The same with units of about the same length taken together."""
        together: list[list[Vectors]] = []
        for one in sorted(self.vectors, key=lambda one: (one.length, one.mass)):
            if together and one.length <= together[-1][0].length * _SAME:
                together[-1].append(one)
            else:
                together.append([one])
        more = None if self._more is None else self._more._condensed()
        return Crowd((_together(some) for some in together), self.groups, self._alike, more)

    def _best(self, k: float, totals: int) -> Limit:
        tried = [self.limit(squared, k, totals) for squared in self.tried()]
        best = min(tried, key=_cost).squared
        tried += [self.limit(max(best * part // 16, 1), k, totals) for part in (8, 12, 23, 32)]
        least = _HARDLY * min(one.cost for one in tried)
        good = [one for one in tried if one.cost <= least]
        return max(good, key=lambda one: (self._more is not None and one.whole is not None, one.squared))

    def tried(self) -> list[int]:
        """Squares of lengths, each half of the one before, from the longest vector's on."""
        most = max((one.length for one in self.vectors), default=1.0)
        top = math.ceil(most * most).bit_length()
        return [1 << place for place in range(top, max(top - _REACHED, -1), -2)]

    def limit(self, squared: int, k: float, totals: int) -> Limit:
        """What is expected of one limit, with what it misses made up for where that is better."""
        plain = self.capped(self.shares(squared), squared, k)
        if self._more is not None:
            plain = _either(plain, self._more.capped(self._more.shares(squared), squared, k))
        if not totals or not self.mass:
            return plain
        cap = self._cap(k)
        made_up = self._made_up(squared, k, cap, two=totals == 2)
        if self._more is not None:
            made_up = _either(made_up, self._more._made_up(squared, k, cap, two=totals == 2))
        return min(plain, made_up, key=_cost)

    def shares(self, squared: float) -> list[float]:
        """Of each kind of units the share of its mass that a limit leaves."""
        length = math.sqrt(squared)
        return [1.0 if one.length <= length else length / one.length for one in self.vectors]

    def left(self, shares: Sequence[float]) -> float:
        """The mass of the light units of which these shares are left."""
        return self._left(shares, self._light)

    def missing(self, squared: float) -> float:
        """The share of the mass of light units that a limit does not leave, also where there may be more."""
        cases = [self] if self._more is None else [self, self._more]
        return _mean([1 - case.left(case.shares(squared)) / max(case.mass, 1e-9) for case in cases])

    def shape(self, shares: Sequence[float], ratio: float, alike: float = 1.0) -> float:
        """How much groups differ in what is left of them, times the ratio.

        Args:
            alike: how much it matters that groups differ in the kind of their units.
        """
        if self.groups <= 1 or not self.mass:
            return 0.0
        moved = math.fsum(
            units * ((ratio * part - 1) * one.length) ** 2
            for one, part, units in zip(self.vectors, shares, self._light, strict=True)
        )
        return norm(math.sqrt(self.groups * moved) / self.mass, alike * ratio * self._kinds(shares))

    def uneven(self, shares: Sequence[float]) -> float:
        """The part of the weight that lies on other units than their rows would have it (total variation)."""
        mean = max(self.left(shares), 1e-9) / max(self.mass, 1e-9)
        moved = zip(self.vectors, shares, self._light, strict=True)
        apart = math.fsum(units * one.mass * abs(part / mean - 1) for one, part, units in moved)
        return apart / (2 * max(self.mass, 1e-9))

    def _kinds(self, shares: Sequence[float]) -> float:
        """How much groups differ in the share that is left of them, because their units do."""
        mean = self.left(shares) / self.mass
        squares = math.fsum(
            units * one.mass * (part - mean) ** 2
            for one, part, units in zip(self.vectors, shares, self._light, strict=True)
        )
        return self._alike * math.sqrt(squares / self.mass)

    def capped(self, shares: Sequence[float], squared: float, k: float) -> Limit:
        """What is expected where each kind of units keeps a share of its mass, by whatever rule."""
        if not self.mass:
            return Limit(round(squared), None, None, 0.0, 0.0, 0.0, (1.0, 0.0, 0.0))
        part = math.sqrt(squared) * self.groups / self.mass
        missing = max(1 - self.left(shares) / self.mass, 0.0)
        bias = max(1 - self._left(shares, self._all) / self.in_all, 0.0)
        cost = norm(part * k, missing, self.shape(shares, 1.0))
        return Limit(round(squared), None, None, part * k, bias, cost, (part, 0.0, 0.0))

    def _made_up(self, squared: int, k: float, whole: int, *, two: bool) -> Limit:
        shares = self.shares(squared)
        left, total = self.left(shares), self._within(whole)
        kept = self._kept(shares, left, k) if two else 0
        ratio = total / self._left(shares, self._all)
        apart = (1 - 1 / ratio) / (whole / total * k)
        needed = 1.0 if self._more is None else min(max(_RESERVE, apart), 1.0)
        others = (whole / total * needed, kept / left * needed if two else 0.0)
        parts = (math.sqrt(squared) * self.groups / left, *others)
        noise = math.fsum(parts) * k
        cost = norm(noise, abs(ratio * left / self.mass - 1), self.shape(shares, self.mass / left))
        bias = max(1 - total / self.in_all, 0.0)
        return Limit(squared, whole, kept if two else None, noise, bias, cost, parts, max(ratio, 1.0))

    def _cap(self, k: float) -> int:
        """What of a unit counts in the total of what units have."""
        if k not in self._caps:
            cases = [self] if self._more is None else [self, self._more]
            heaviest = max(one.mass for case in cases for one in case.vectors)
            caps = [1 << place for place in range(math.ceil(heaviest).bit_length() + 1)]
            alone = self._more is None
            misses = {cap: _mean([case._misses(cap, k, alone=alone) for case in cases]) for cap in caps}
            self._caps[k] = min(caps, key=lambda cap: (misses[cap], cap))
        return self._caps[k]

    def _misses(self, cap: int, k: float, *, alone: bool) -> float:
        total = self._within(cap)
        return norm(cap / total * k * (_PART if alone else 1.0), total / self.mass - 1)

    def _kept(self, shares: Sequence[float], left: float, k: float) -> int:
        """What of a unit counts in the total of what is left of units."""
        masses = [one.mass * share for one, share in zip(self.vectors, shares, strict=True)]
        pairs = list(zip(self._light, masses, strict=True))

        def misses(cap: int) -> float:
            total = math.fsum(units * min(mass, cap) for units, mass in pairs)
            return norm(_PART * cap / left * k, total / left - 1)

        caps = [1 << place for place in range(math.ceil(_ROOM * max(masses)).bit_length() + 1)]
        return min(caps, key=lambda cap: (misses(cap), cap))

    def _within(self, cap: int) -> float:
        return math.fsum(one.units * min(one.mass, cap) for one in self.vectors)

    def _left(self, shares: Sequence[float], units: Sequence[float]) -> float:
        return math.fsum(
            number * one.mass * part for one, part, number in zip(self.vectors, shares, units, strict=True)
        )


def _cost(limit: Limit) -> tuple[int, int]:
    """Costs that differ by less than a millionth are equal: then the smaller limit is taken."""
    return round(limit.cost * 1e6), limit.squared


def _together(some: Sequence[Vectors]) -> Vectors:
    """As many units with as much mass, of the mean length."""
    units = math.fsum(one.units for one in some)
    mass, length = (
        math.fsum(one.units * size for one, size in zip(some, sizes, strict=True)) / units
        for sizes in ([one.mass for one in some], [one.length for one in some])
    )
    return Vectors(units, mass, length)


def _either(one: Limit, other: Limit) -> Limit:
    """What is expected first, at the cost of what may be the case as well."""
    return replace(one, cost=_mean([one.cost, other.cost]))


def _mean(errors: Sequence[float]) -> float:
    """Of the expected case, and of another that is half as likely."""
    if len(errors) == 1:
        return errors[0]
    return math.sqrt((2 * errors[0] ** 2 + errors[1] ** 2) / 3)


def norm(*errors: float) -> float:
    """Independent errors together."""
    return math.sqrt(math.fsum(error * error for error in errors))


def _without_heaviest(vectors: Sequence[Vectors], groups: float) -> list[float]:
    """Of each kind of units those that are left when the heaviest are not looked at, who lie in so many
    groups."""
    found, left = [one.units for one in vectors], groups
    for place in sorted(range(len(vectors)), key=lambda place: (-vectors[place].mass, place)):
        one = vectors[place]
        spread = max((one.mass / one.length) ** 2, 1.0) if one.length else 1.0
        gone = min(left / spread, one.units)
        left -= gone * spread
        found[place] -= gone
    return found
