"""How likely chance alone would show what a test saw: binomial tails and a chi-square quantile.

A test of this folder fails by chance with probability at most `FALSE_ALARM`, shared among its comparisons.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist

FALSE_ALARM = 1e-6


def discrete_gaussian_pmf(sigma: float) -> dict[int, float]:
    """Probability of each integer within 40 standard deviations; the rest is less than a float can say."""
    reach = math.ceil(40 * sigma)
    weights = {k: math.exp(-k * k / (2 * sigma * sigma)) for k in range(-reach, reach + 1)}
    total = math.fsum(weights.values())
    return {k: value / total for k, value in weights.items()}


def chance_of_at_least(successes: int, trials: int, p: float) -> float:
    """Chernoff's bound of P(X >= successes), X binomial; never below the true probability."""
    share = successes / trials
    if share <= p:
        return 1.0
    if p <= 0:
        return 0.0
    divergence = share * math.log(share / p)
    if share < 1:
        divergence += (1 - share) * math.log((1 - share) / (1 - p))
    return math.exp(-trials * divergence)


def too_many(successes: int, trials: int, p: float, alarm: float = FALSE_ALARM) -> bool:
    """More successes than chance gives, at this false-alarm rate, when each has probability at most p."""
    return chance_of_at_least(successes, trials, p) < alarm


def probability_at_least(successes: int, trials: int, alarm: float) -> float:
    """Lower confidence bound of a probability, wrong with probability at most `alarm`."""
    low, high = 0.0, successes / trials
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if too_many(successes, trials, middle, alarm) else (low, middle)
    return low


def probability_at_most(successes: int, trials: int, alarm: float) -> float:
    """Upper confidence bound of a probability, wrong with probability at most `alarm`."""
    return 1 - probability_at_least(trials - successes, trials, alarm)


def differs_from(draws: Sequence[int], pmf: Mapping[int, float], alarm: float = FALSE_ALARM) -> bool:
    """Chi-square against a pmf. Values are pooled into bins of at least 50 expected draws, tails included.

    The quantile is Wilson and Hilferty's, at a tenth of the alarm to cover its error and the discreteness.
    """
    observed, expected = _pooled(Counter(draws), pmf, len(draws))
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    freedom = len(expected) - 1
    z = -NormalDist().inv_cdf(alarm / 10)
    quantile = freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3
    return statistic > quantile


def _pooled(counts: Counter[int], pmf: Mapping[int, float], draws: int) -> tuple[list[int], list[float]]:
    observed, expected = [0], [0.0]
    for value in sorted(pmf):
        if expected[-1] >= 50:
            observed.append(0)
            expected.append(0.0)
        observed[-1] += counts[value]
        expected[-1] += pmf[value] * draws
    if expected[-1] < 50:
        seen, hoped = observed.pop(), expected.pop()
        observed[-1] += seen
        expected[-1] += hoped
    observed[-1] += sum(counts.values()) - sum(observed)  # draws beyond the pmf's reach
    return observed, expected


def refutes(
    one: Sequence[int],
    other: Sequence[int],
    claims: Iterable[tuple[float, float]],
    alarm: float = FALSE_ALARM,
) -> bool:
    """Whether two samples refute one of the (epsilon, delta) claims: some event is too unlike in probability.

    Events are the half-lines between the samples' extremes, both ways; each bound has its share of the alarm.
    """
    first, second, promises = sorted(one), sorted(other), list(claims)
    cuts = range(min(first[0], second[0]), max(first[-1], second[-1]) + 1)
    share = alarm / (8 * len(cuts) * len(promises))
    for cut in cuts:
        p, q = bisect_left(first, cut), bisect_left(second, cut)
        below, above = (p, q), (len(first) - p, len(second) - q)
        for here, there in (below, above):
            for a, n, b, m in (
                (here, len(first), there, len(second)),
                (there, len(second), here, len(first)),
            ):
                least, most = probability_at_least(a, n, share), probability_at_most(b, m, share)
                if any(least > math.exp(epsilon) * most + delta for epsilon, delta in promises):
                    return True
    return False
