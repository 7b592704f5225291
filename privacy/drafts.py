"""A strategy worked out for one question: what each of its sums is limited to, and what that is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from privacy.algebra import TRUE, Call, Column, Measure
from privacy.limits import Crowd, Limit, Vectors, norm
from privacy.measures import sums_of, tree_of
from privacy.population import sizes_at
from privacy.tree import balance_variances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from privacy.algebra import Number, Question, Sum
    from privacy.bounding import Design
    from privacy.policy import Table
    from privacy.population import Kind, Population
    from privacy.profile import Histogram, NumberProfile

SHOWING = 0.3
"""The part of rho that showing private keys is worth."""
_SPILT = 0.05
"""The share of rows that a limit on a sum around its centre may cost beside the limit on rows."""
_OWN = 2.0
"""Units with as many rows differ in their sum around a centre: some have so many times what is usual."""
_UNKNOWN = 4.0
"""A row is taken to add a quarter of the most that it can, where nothing is known."""
_VARIED = ((1 / 2, 0.5), (1 / 3, 1.0), (1 / 6, 2.5))
"""How likely the sum of what is left of a unit is so many times the mean, where that is a row."""
_ALIKE = 0.25
"""How much the units of a group are alike, where groups may differ in the kind of their units: by one key."""
_EVEN = 0.5
"""How much less a ratio depends on the kinds of units than a sum does."""
_MIDST = 0.5
"""The quantile that is taken to be read from a histogram: the noise there is about that of any other."""
_MIXED = 0.15
"""How far the shares of a unit's rows below a quantile lie from those of its group, as a rule."""
_FINE = 1_000_000
_ORDER = {"rows": 0, "sum": 1}
"""What is worked out first: a count that is asked for decides how rows are limited."""


@dataclass(frozen=True)
class Expected:
    """What is expected of one aggregate in a typical group, relative to it.

    Attributes:
        noise: by noise.
        bias: the share of what it counts, in all groups together, that is missing.
        error: by noise and by what is not counted.
        ratio: how much larger the released numbers are made to make up for what is not counted.
    """

    noise: float
    bias: float
    error: float
    ratio: float = 1.0


@dataclass(frozen=True)
class Setting:
    """A question with the units that a profile expects.

    Attributes:
        k: 1 / sqrt(2 rho).
        groups: how many groups there are of typical size.
        totals: how many totals make up for what is not counted; 0 where none may.
    """

    question: Question
    table: Table
    population: Population
    k: float
    groups: float
    private: bool
    totals: int


@dataclass
class Draft:
    """A design in the making.

    Args:
        base: the strategy and, unless the best limits are looked for, its caps.
    """

    setting: Setting
    base: Design
    best: bool
    lengths: dict[str, int] = field(default_factory=dict)
    middles: dict[str, int] = field(default_factory=dict)
    totals: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)

    def expected(self) -> tuple[Expected, ...]:
        """What is expected of each measure; works out the limits on the way."""
        measures = self.setting.question.measures
        order = sorted(range(len(measures)), key=lambda place: _ORDER.get(measures[place].kind, len(_ORDER)))
        found = {place: self._measure(measures[place]) for place in order}
        return tuple(found[place] for place in range(len(measures)))

    def design(self) -> Design:
        """The base with the limits that were worked out."""
        self._show()
        most = max(self.parts.values())
        shares = {name: max(round(part / most * _FINE), 1) for name, part in self.parts.items()}
        return replace(
            self.base, lengths=self.lengths, middles=self.middles, totals=self.totals, shares=shares
        )

    def _show(self) -> None:
        """The count of units that shows private keys; as short as can be, unless it is asked for as well."""
        if self.setting.private:
            (units,) = sums_of(Measure("units", TRUE))
            self.lengths.setdefault(units.text, 1)
            worth = math.fsum(self.parts.values()) * SHOWING / (1 - SHOWING)
            self.parts[units.text] = max(self.parts.get(units.text, 0.0), worth) or 1.0

    @property
    def _k(self) -> float:
        """As if rho were shared evenly among the measures."""
        return self.setting.k * math.sqrt(
            len(self.setting.question.measures) / (1 - SHOWING * self.setting.private)
        )

    def _measure(self, measure: Measure) -> Expected:
        population = self.setting.population.where(measure.condition, self.setting.table)
        sums = sums_of(measure)
        if measure.kind == "units":
            return self._units(sums[0], population)
        if measure.kind == "rows":
            return self._counted(sums[0], population)
        if measure.kind == "sum":
            return self._summed(sums[0], measure.numbers[0], population)
        return self._ratio(sums, measure.numbers, population)

    # Counts and sums

    def _units(self, one: Sum, population: Population) -> Expected:
        crowd = self._crowd(
            population,
            lambda kinds: [Vectors(kind.units, kind.groups, math.sqrt(kind.groups)) for kind in kinds],
        )
        if self.best:
            return self._taken(one, crowd.best(self._k, totals=self.setting.totals))
        most = self.base.groups
        shares = crowd.shares(most)
        if self.base.strategy == "caps":
            shares = [share * share for share in shares]
        return self._taken(one, crowd.capped(shares, most, self._k))

    def _counted(self, one: Sum, population: Population) -> Expected:
        return self._taken(one, self._limit(population, self.setting.totals))

    def _summed(self, one: Sum, number: Number, population: Population) -> Expected:
        profile = self._profile(number)
        if profile is None:
            return self._taken(one, self._limit(population, 0), one.reach, _UNKNOWN)
        crowd = self._sums(profile.sums, population)
        if self.best and self.base.strategy == "clip":
            one_sided = number.low >= 0 or number.high <= 0
            return self._taken(one, crowd.best(self._k, totals=self.setting.totals if one_sided else 0))
        squared = self._limit(population, 0).squared
        shares = self._shares(population, squared)
        return self._taken(one, crowd.capped(shares, squared * one.reach**2, self._k))

    def _limit(self, population: Population, totals: int) -> Limit:
        """The limit on counts of rows: the best, or the base's."""
        rows = self._rows(population)
        if self.best:
            return rows.best(self._k, totals=totals)
        squared = self.base.groups * self.base.rows**2
        return rows.capped(self._shares(population, squared), squared, self._k)

    def _shares(self, population: Population, squared: int) -> list[float]:
        """What the strategy leaves of the rows of each kind of units."""
        if self.base.strategy != "caps":
            return self._rows(population).shares(squared)
        return [_capped(kind, self.base) for kind in population.kinds]

    def _taken(self, one: Sum, limit: Limit, reach: int = 1, unknown: float = 1.0) -> Expected:
        """Write down a limit on rows, of each of which ``reach`` is added, or on the sum itself."""
        if self.best:
            self.lengths[one.text] = limit.squared * reach**2
            names = [one.text, f"whole {one.text}", f"kept {one.text}"]
            if limit.whole is not None:
                self.totals[one.text] = (limit.whole, limit.kept)
            for name, part in zip(names, limit.parts, strict=True):
                if part:
                    self.parts[name] = max(part * unknown, self.parts.get(name, 0.0))
        noise = limit.noise * unknown
        error = math.sqrt(max(limit.cost**2 - limit.noise**2, 0.0) + noise**2)
        return Expected(noise, limit.bias, error, limit.ratio)

    # Averages and whatever else is a ratio: what is not counted is missing above and below the line

    def _ratio(self, sums: Sequence[Sum], numbers: Sequence[Number], population: Population) -> Expected:
        """Limits on rows and on the sums over them. In a ratio nothing is missing but who has many rows."""
        profile = self._profile(numbers[0]) if len(numbers) == 1 and len(sums) == 2 else None
        rows = self._rows(population)
        centred = None if profile is None else _centred(profile, population)
        found = [
            self._ratio_at(rows, squared, population, sums, centred) for squared in self._tried(rows, sums)
        ]
        best = min(found, key=lambda one: (round(one.error * 1e6), one.rows))
        if self.best:
            self._take_ratio(best, sums, profile)
        return Expected(best.noise, best.bias, best.error)

    def _tried(self, rows: Crowd, sums: Sequence[Sum]) -> list[int]:
        """Limits on rows, squared: the base's, or that of a count beside it, or any."""
        if not self.best:
            return [self.base.groups * self.base.rows**2]
        given = [self.lengths[one.text] for one in sums if one.kind == "rows" and one.text in self.lengths]
        return given or rows.tried()

    def _ratio_at(
        self,
        rows: Crowd,
        squared: int,
        population: Population,
        sums: Sequence[Sum],
        centred: _Centred | None,
    ) -> _Ratio:
        """What one limit on rows is worth, relative to the size of the average."""
        shares = rows.shares(squared) if self.best else self._shares(population, squared)
        left, root = max(rows.left(shares), 1e-9), math.sqrt(squared)
        beside = self.best and self._beside(sums[0])
        length, spread, level = 2.0 * root, 1.0, 1.0  # a number of which nothing is known: half of its reach
        if centred is not None:
            spread, level = centred.spread, centred.level
            clipped = self.best and self.base.strategy == "clip"
            length = centred.length(rows, shares, beside=beside) if clipped else sums[1].reach * root
        scale = self.setting.groups / left / level * _summing(sums[0])
        parts = (spread * root * scale, length * scale)
        noise = (parts[0] + parts[1] * (len(sums) - 1)) * self._k
        moved = rows.shape(shares, rows.mass / left, _EVEN) * spread / level
        if self.setting.groups <= 1:  # busy units may differ from others, and nothing tells how
            moved = _EVEN * rows.uneven(shares) * spread / level
        moved *= _MIXED if sums[0].leaves else 1.0
        missing = rows.missing(squared) if beside else 0.0
        error = norm(noise, moved, missing)
        return _Ratio(squared, length, noise, 1 - left / max(rows.mass, 1e-9), error, parts)

    def _beside(self, one: Sum) -> bool:
        """Whether a sum is asked for that is scaled down together with this one."""
        asked = self.setting.question.measures
        sums = [part for other in asked if other.kind == "sum" for part in sums_of(other)]
        return any(part.condition == one.condition for part in sums)

    def _take_ratio(self, best: _Ratio, sums: Sequence[Sum], profile: NumberProfile | None) -> None:
        (rows,) = sums_of(Measure("rows", sums[0].condition))
        self.lengths.setdefault(rows.text, best.rows)  # scaled by, where it is not among the sums
        for one in sums:
            counted, squared = one.kind == "rows", best.rows * one.reach**2
            if profile is not None and not counted:
                self.middles[one.text] = profile.centre
                moved = one.middle - profile.centre
                squared = best.rows * max(abs(one.low + moved), abs(one.high + moved)) ** 2
                if self.base.strategy == "clip":
                    squared = min(math.ceil(best.length**2), squared)
            self.lengths.setdefault(one.text, max(squared, 1))
            self.parts[one.text] = max(best.parts[0 if counted else 1], self.parts.get(one.text, 0.0))

    # What the units of the question have

    def _crowd(self, population: Population, of: Callable[[Sequence[Kind]], Iterable[Vectors]]) -> Crowd:
        groups, alike = self.setting.groups, _ALIKE * math.sqrt(len(self.setting.question.keys))
        more = None if population.more is None else Crowd(of(population.more), groups, alike)
        return Crowd(of(population.kinds), groups, alike, more)

    def _rows(self, population: Population) -> Crowd:
        return self._crowd(
            population,
            lambda kinds: [Vectors(one.units, one.rows, self._length(one, one.rows)) for one in kinds],
        )

    def _sums(self, sums: Histogram, population: Population) -> Crowd:
        clipped = self.best and self.base.strategy == "clip"

        def vectors(kinds: Sequence[Kind]) -> list[Vectors]:
            return [
                Vectors(kind.units * part, mass, self._length(kind, mass))
                for kind, size in zip(kinds, sizes_at(sums, kinds), strict=True)
                for part, mass in _varied(size * kind.kept, kind, varied=clipped)
            ]

        return self._crowd(population, vectors)

    def _length(self, kind: Kind, mass: float) -> float:
        """The length of a vector of that mass which lies over the groups as the rows do; of weights, the
        mass."""
        return mass if self.base.strategy == "weights" else mass * kind.length / kind.rows

    def _profile(self, number: Number) -> NumberProfile | None:
        """What is known of a number that is a bounded column as it stands."""
        scalar = number.scalar
        if not isinstance(scalar, Call) or scalar.operation != "clamp":
            return None
        column, table = scalar.arguments[0], self.setting.population.table
        found = table.numbers.get(column.name.lower()) if isinstance(column, Column) else None
        return found if found is not None and any(found.sums.significant) else None


@dataclass(frozen=True)
class _Ratio:
    """What limits on rows (squared) and on the sum over them are worth."""

    rows: int
    length: float
    noise: float
    bias: float
    error: float
    parts: tuple[float, float]


@dataclass(frozen=True)
class _Centred:
    """Of a number around its centre, for each kind of units the length of their sums over the groups; and
    what a row adds on average, around the centre and in all."""

    lengths: tuple[float, ...]
    spread: float
    level: float

    def length(self, rows: Crowd, shares: Sequence[float], *, beside: bool) -> float:
        """How long a unit's vector must be allowed to be, so that it costs few rows beside the limit on
        rows; and hardly any where that is what a sum beside it loses."""
        parts = [
            (length * share, one.units * one.mass * share)
            for length, one, share in zip(self.lengths, rows.vectors, shares, strict=True)
        ]
        room = (0.0 if beside else _SPILT) * math.fsum(weight for _, weight in parts)
        found = 1.0
        for length, weight in sorted(parts, reverse=True):
            found, room = length, room - weight
            if room < 0:
                break
        return max(found * (_OWN if beside else 1.0), 1.0)


def _centred(profile: NumberProfile, population: Population) -> _Centred:
    """Of thinned rows as much is left around the centre as if they were independent, which is most."""
    kinds = population.kinds
    found = zip(kinds, sizes_at(profile.deviations, kinds), strict=True)
    moved = [size * math.sqrt(one.kept) for one, size in found]
    sizes = [size * one.kept for one, size in zip(kinds, sizes_at(profile.sums, kinds), strict=True)]
    rows = math.fsum(one.units * one.rows for one in kinds)
    spread, level = (
        math.fsum(one.units * size for one, size in zip(kinds, found, strict=True)) / rows
        for found in (moved, sizes)
    )
    lengths = tuple(_OWN * size * one.length / one.rows for size, one in zip(moved, kinds, strict=True))
    return _Centred(lengths, max(spread, 1.0), max(level, 1.0))


def _varied(mass: float, kind: Kind, *, varied: bool) -> list[tuple[float, float]]:
    """The sums of units with few rows left: not what as many rows have on average, and rows that belong
    together pass a filter together."""
    if kind.kept >= 1.0 or not varied:
        return [(1.0, mass)]
    root = math.sqrt(max(kind.rows, 1.0))
    return [(part, mass * (1.0 + (times - 1.0) / root)) for part, times in _VARIED]


def _summing(one: Sum) -> float:
    """How much larger the noise is of what is read from a histogram than that of a count of rows."""
    if not one.leaves:
        return 1.0
    shape = tree_of(one)
    return math.sqrt(shape.levels * float(balance_variances(shape, 1.0, _MIDST).max()))


def _capped(kind: Kind, base: Design) -> float:
    """What caps leave of the rows of units: so many groups, and in each so many rows."""
    spread = (kind.rows / kind.length) ** 2
    return min(1.0, base.groups / max(kind.groups, 1.0)) * min(1.0, base.rows * spread / kind.rows)
