"""How the rho and delta of a statement become the noise of its releases."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from privacy.accounting import sigma_for, threshold_above
from privacy.measures import tree_of
from privacy.release import Histogram, Measure, Release, Threshold
from privacy.shares import split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.algebra import Sum, Total
    from privacy.bounding import Lowered
    from privacy.release import Noised


def releases_of(lowered: Sequence[Lowered], rho_nano: int, delta_pico: int) -> tuple[Release, ...]:
    """The releases of a statement's questions, which together cost no more than is given.

    Raises:
        ParameterInvalid: too little rho for the sums or their bounds.
    """
    thresholds = sum(one.units is not None for one in lowered)
    shares = iter(_shares(lowered, rho_nano))
    found = tuple(
        _release(one, [next(shares) for _ in one.noised], delta_pico // max(thresholds, 1)) for one in lowered
    )
    assert sum(one.rho_nano for one in found) <= rho_nano
    return found


def _shares(lowered: Sequence[Lowered], rho_nano: int) -> list[int]:
    """Rho in proportion to the parts that the designs name, whose mean is the same for every question."""
    sensitivities = [squared for one in lowered for squared in one.sensitivities]
    if not any(one.parts_of_rho for one in lowered):
        return split(rho_nano, sensitivities)
    parts: list[Fraction] = []
    for one in lowered:
        named = one.parts_of_rho or (1,) * len(one.noised)
        parts += [Fraction(part * len(named), sum(named)) for part in named]
    weights = [part**2 / squared for part, squared in zip(parts, sensitivities, strict=True)]
    return split(rho_nano, sensitivities, weights)


def _release(lowered: Lowered, shares: Sequence[int], delta_pico: int) -> Release:
    aggregate, share = lowered.aggregate, iter(shares)
    measures = tuple(_measure(one, next(share)) for one in aggregate.sums)
    totals = tuple(_number(one, next(share)) for one in aggregate.totals)
    keys = tuple(key.name for key in aggregate.input.keys)
    return Release(keys, measures, _threshold(lowered, measures, delta_pico), totals)


def _measure(one: Sum, share: int) -> Noised:
    if not one.leaves:
        return _number(one, share)
    sigma = sigma_for(one.sensitivity_squared, share)
    return Histogram(one.name, one.level_squared, sigma, share, tree_of(one))


def _number(one: Sum | Total, share: int) -> Measure:
    squared = one.sensitivity_squared
    return Measure(one.name, squared, sigma_for(squared, share), share)


def _threshold(lowered: Lowered, noised: Sequence[Noised], delta_pico: int) -> Threshold | None:
    if lowered.units is None:
        return None
    (measure,) = (one for one in noised if one.name == lowered.units.name)
    groups, most = lowered.aggregate.input.groups, 1 << lowered.units.shift
    value = threshold_above(measure.sigma, measure.sensitivity_squared, most, groups, delta_pico)
    return Threshold(measure.name, value, delta_pico, groups, most)
