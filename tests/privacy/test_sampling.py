"""Each decision of the sampler is the exact one, however close, and the law holds where its blocks change.

Where words are scripted, the first proposal is looked at, and the noise is zero where it is refused.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from privacy.accounting import MAX_SIGMA, MIN_SIGMA
from privacy.mechanisms import CLAMP
from privacy.sampling import add_discrete_gaussian, bounds, is_accepted, system_words
from tests.statistics.chance import differs_from, discrete_gaussian_pmf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WORD = 2**64
#: In units of 2^-64. A float errs by 2^10 to 2^15 of them; from 2^24 on it decides alone.
DISTANCES = [sign * 2**k for k in (0, 8, *range(10, 16), 20, 23, 24, 25, 30, 45, 62) for sign in (-1, 1)]
SIGMAS = st.floats(MIN_SIGMA, 100) | st.floats(100, MAX_SIGMA) | st.sampled_from([MIN_SIGMA, 1.0, MAX_SIGMA])


def block_of(sigma: float) -> int:
    """The exponent of t, from its definition."""
    return next(k for k in range(70) if Fraction(2) ** k >= Fraction("1.1775") * Fraction(sigma))


def probability(size: int, zeros: int, sigma: float) -> Decimal:
    """p from its definition, to 200 digits."""
    with localcontext(Context(prec=200, Emin=-(10**17), Emax=10**17)):
        return Decimal(2) ** zeros * (-(Decimal(size) ** 2) / (2 * Decimal(sigma) ** 2)).exp()


class Script:
    """Words: one proposal to look at, then some that are refused, then zeros that are accepted.

    What is asked for in between, 1, 2, 4, ... words at a time, is taken from `further`, and then zeros.
    """

    def __init__(
        self, low: int, zeros: int, chance: int, *, negative: bool = False, further: Sequence[int] = ()
    ) -> None:
        self.first = (low | negative << 63, 1 << zeros if zeros < 64 else 0, chance)
        self.further = list(further)
        self.batches = 0

    def __call__(self, count: int) -> NDArray[np.uint64]:
        if count.bit_count() == 1:  # a batch has three words for each proposal
            return np.array([self.further.pop(0) if self.further else 0 for _ in range(count)], np.uint64)
        self.batches += 1
        place, coins, chance = np.zeros((3, count // 3), np.uint64)
        coins[:] = 1
        if self.batches == 1:
            coins[:], chance[:] = 1 << 40, WORD - 1
            place[0], coins[0], chance[0] = self.first
        return np.concatenate([place, coins, chance])


@settings(max_examples=800)
@given(SIGMAS, st.floats(0, 1), st.integers(0, 5), st.sampled_from(DISTANCES), st.booleans())
def test_a_proposal_is_accepted_iff_its_chance_lies_below_its_probability(
    sigma: float, place: float, zeros: int, distance: int, negative: bool
) -> None:
    """Near and far of the edge, whichever arithmetic decides: against 200 digits."""
    block = block_of(sigma)
    low = min(int(place * 2**block), 2**block - 1)
    size = low + (zeros << block)
    p = probability(size, zeros, sigma) * WORD
    chance = min(max(int(p) + distance, 0), WORD - 1)
    assume(size > 0 and int(p) != chance)
    expected = (-size if negative else size) if chance < int(p) else 0
    script = Script(low, zeros, chance, negative=negative)
    assert add_discrete_gaussian(np.array([7]), sigma, script).tolist() == [7 + expected]


@pytest.mark.parametrize("sigma", [0.7, 3.0, 1e9])
def test_where_64_bits_do_not_decide_more_are_drawn(sigma: float) -> None:
    """The chance is that of p to its 64th bit; its next bits are those of p, one more or one less."""
    block = block_of(sigma)
    low = 2**block // 2
    size = low + (1 << block)
    with localcontext(Context(prec=200)):
        bits = int(probability(size, 1, sigma) * WORD**3)
    first, second, third = bits >> 128, (bits >> 64) % WORD, bits % WORD
    for change, accepted in ((-5, True), (5, False)):
        script = Script(low, 1, first, further=[second, third + change])
        noisy = add_discrete_gaussian(np.array([0]), sigma, script)
        assert noisy.tolist() == [size if accepted else 0]
        assert script.further == [], "all three words were needed"


def test_a_zero_is_accepted_once_and_its_negative_never() -> None:
    assert is_accepted(0, 0, 3.0, WORD - 1, system_words)
    for negative, batches in ((False, 1), (True, 2)):
        script = Script(0, 0, WORD - 1, negative=negative)
        assert add_discrete_gaussian(np.array([5]), 3.0, script).tolist() == [5]
        assert script.batches == batches


@pytest.mark.parametrize(("negative", "end"), [(False, 2**63 - 1), (True, -(2**63))])
def test_noise_beyond_int64_becomes_its_end(negative: bool, end: int) -> None:
    """64 fair bits without a one, then six more: only a chance of all zeros accepts what that proposes."""
    script = Script(0, 64, 0, negative=negative, further=[1 << 6])
    assert add_discrete_gaussian(np.array([3, 4]), MAX_SIGMA, script).tolist() == [end, 4]


@pytest.mark.parametrize("zeros", [8, 15])
@pytest.mark.parametrize(("negative", "end"), [(False, 2**63 - 1), (True, -(2**63))])
def test_noise_of_2_to_the_62nd_does_not_wrap(zeros: int, negative: bool, end: int) -> None:
    """The least that may leave int64 when it is added to the largest value, and what 64 bits cannot shift."""
    script = Script(0, zeros, 0, negative=negative)
    values = np.array([-CLAMP if negative else CLAMP, 4])
    assert add_discrete_gaussian(values, MAX_SIGMA, script).tolist() == [end, 4]


def test_a_fourth_word_decides_where_three_do_not() -> None:
    """Words that are asked for together are all used, in their order."""
    sigma, low = 3.0, 2
    with localcontext(Context(prec=200)):
        bits = int(probability(low, 0, sigma) * WORD**4)
    words = [(bits >> shift) % WORD for shift in (192, 128, 64, 0)]
    for change, accepted in ((-5, True), (5, False)):
        script = Script(low, 0, words[0], further=[*words[1:3], words[3] + change])
        assert add_discrete_gaussian(np.array([0]), sigma, script).tolist() == [low if accepted else 0]


@settings(max_examples=300)
@given(SIGMAS, st.floats(0, 8), st.integers(0, 70), st.integers(8, 60))
def test_bounds_enclose_the_probability(sigma: float, scaled: float, zeros: int, digits: int) -> None:
    size = int(scaled * sigma) + 1
    least, most = bounds(Fraction(size) ** 2 / (2 * Fraction(sigma) ** 2), zeros, digits)
    assert least < probability(size, zeros, sigma) < most


def test_bounds_allow_for_every_rounding() -> None:
    """At few digits the middle of the bounds is off by a good part of what they allow."""
    used = []
    for size in range(1, 400):
        exponent = Fraction(size, 7)
        least, most = bounds(exponent, 0, 6)
        with localcontext(Context(prec=200)):
            middle, true = (least + most) / 2, (-Decimal(size) / 7).exp()
            assert least < true < most
            used.append(abs(true - middle) / (most - least) * 2)
    assert Decimal("0.01") < max(used) < Decimal("0.5")


def test_words_are_fair_bits_that_know_nothing_of_each_other() -> None:
    """Of 2^17 words each bit is a one in half, each two bits differ in half: 5.9 deviations, false alarm 1e-6
    for the 64 and the 2,016 together."""
    words = system_words(2**17)
    bits = np.unpackbits(words.view(np.uint8).reshape(-1, 8), axis=1).astype(np.int64) * 2 - 1
    together = bits.T @ bits
    pairs = together[np.triu_indices(64, 1)]
    assert np.abs(bits.sum(axis=0)).max() < 5.9 * math.sqrt(2**17)
    assert np.abs(pairs).max() < 5.9 * math.sqrt(2**17)


def test_no_draw_is_drawn_again() -> None:
    """300,000 draws at sigma 1e15 are all different: two alike have a chance below 2e-5, so that two pairs of
    them have one below 1e-9."""
    noise = add_discrete_gaussian(np.zeros(300_000, np.int64), 1e15)
    assert len(np.unique(noise)) >= len(noise) - 1


@pytest.mark.parametrize("fault", [0.97, 1.03])
def test_another_scale_is_caught(fault: float) -> None:
    """At wide and at narrow scales: 200,000 draws miss 3% with a probability far below 1e-6."""
    zeros = np.zeros(200_000, np.int64)
    assert differs_from(add_discrete_gaussian(zeros, 6.8 * fault).tolist(), discrete_gaussian_pmf(6.8))
    assert distance_from_normal(add_discrete_gaussian(zeros, 1e9 * fault) / 1e9) > MOST_DISTANT


def test_long_runs_of_bits_count_as_far_as_they_go() -> None:
    script = Script(0, 64, 0, further=[0, 1 << 2])
    assert add_discrete_gaussian(np.array([0]), 0.84, script).tolist() == [130]


@pytest.mark.parametrize("sigma", [0.3, 0.849, 0.85, 1.69, 1.7, 6.79, 6.8])
def test_the_law_holds_on_both_sides_of_where_blocks_grow(sigma: float) -> None:
    """Chi-square of 400,000 draws each; false alarm 1e-6 for all together."""
    draws = add_discrete_gaussian(np.zeros(400_000, np.int64), sigma)
    assert not differs_from(draws.tolist(), discrete_gaussian_pmf(sigma), alarm=1e-6 / 7)


def distance_from_normal(scaled: NDArray[np.float64]) -> float:
    """The largest distance of the two distribution functions."""
    count = len(scaled)
    normal = np.array([NormalDist().cdf(one) for one in np.sort(scaled)])
    ranks = np.arange(count + 1) / count
    return float(max(np.abs(normal - ranks[1:]).max(), np.abs(normal - ranks[:-1]).max()))


#: For 200,000 draws, by Massart's bound: false alarm 1e-6 for four tests together.
MOST_DISTANT = math.sqrt(math.log(2 / (1e-6 / 4)) / (2 * 200_000))


@pytest.mark.parametrize("sigma", [1e6, 1e6 * 1.3, 1e6 * 1.7, MAX_SIGMA])
def test_wide_noise_has_the_normal_law(sigma: float) -> None:
    noise = add_discrete_gaussian(np.zeros(200_000, np.int64), sigma)
    assert distance_from_normal(noise / sigma) < MOST_DISTANT


def test_draws_do_not_depend_on_those_before() -> None:
    """Neighbours' products average to 0 within 5.4 deviations: false alarm 1e-7. So do their sizes'."""
    noise = add_discrete_gaussian(np.zeros(500_000, np.int64), 20.0) / 20.0
    for one in (noise, np.abs(noise) - np.abs(noise).mean()):
        products = one[1:] * one[:-1]
        assert abs(products.mean()) < 5.4 * products.std() / math.sqrt(len(products))
