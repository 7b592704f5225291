"""Numbers that two noisy totals make up for have intervals that cover, also where the totals are hardly more
than noise. False alarm of the whole file: 1e-6.
"""

from __future__ import annotations

import numpy as np
import pytest

from privacy.measures.estimates import Estimate
from privacy.rescaling import Totals, made_up
from tests.statistics.chance import too_many

RUNS = 3000
SIGMA = 100.0
CASES = [
    (groups, two, clear, ratio, uneven, reserve)
    for groups, two in ((3, False), (12, True))
    for clear in (3.0, 4.5, 6.0, 30.0)
    for ratio in (1.0, 1.02, 1.3, 5.0)
    for uneven in (False, True)
    for reserve in (False, True)
]


def _drawn(
    dice: np.random.Generator, exact: np.ndarray, two: bool, clear: float, ratio: float, reserve: bool
) -> Estimate:
    """One release of groups and totals, the latter so many times larger than their noise."""
    values = exact + SIGMA * dice.standard_normal(len(exact))
    kept_sigma = 4 * SIGMA if two else SIGMA * len(exact) ** 0.5
    kept = exact.sum() + kept_sigma * dice.standard_normal() if two else values.sum()
    whole_sigma = ratio * exact.sum() / max(clear, 4.5)
    whole = ratio * exact.sum() + whole_sigma * dice.standard_normal()
    totals = Totals(whole, whole_sigma, kept, kept_sigma, None if two else len(exact), reserve)
    return made_up(values, SIGMA, totals, 0, whole_numbers=True)


def _missed(case: tuple[int, bool, float, float, bool, bool], how: float = 1.0) -> int:
    groups, two, clear, ratio, uneven, reserve = case
    dice = np.random.default_rng(11)
    kept = clear * (4 * SIGMA if two else SIGMA * groups**0.5)
    exact = np.full(groups, kept / groups)
    if uneven:
        exact = np.eye(groups)[0] * kept
    truth, missed = float(exact[0]) * ratio, 0
    for _ in range(RUNS):
        drawn = _drawn(dice, exact, two, clear, ratio, reserve)
        value, low, high = (column[0].as_py() for column in drawn.arrays())
        if low is not None:
            missed += not value - how * (value - low) <= truth <= value + how * (high - value)
    return missed


@pytest.mark.parametrize("case", CASES, ids=str)
def test_intervals_cover_what_is_made_up_for(case: tuple[int, bool, float, float, bool, bool]) -> None:
    """To first order, so that one in a hundred more may miss."""
    assert not too_many(_missed(case), RUNS, 0.06, 1e-6 / len(CASES))


def test_intervals_of_half_the_length_are_caught() -> None:
    """They miss far more often than that."""
    assert too_many(_missed(CASES[-1], 0.5), RUNS, 0.06, 1e-6 / len(CASES))
