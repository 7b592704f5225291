"""The auditor's own statistics: its bounds against exact sums, its verdicts on mechanisms that are known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest

from privacy.accounting import ParameterInvalid, epsilon
from privacy.auditor import (
    Claim,
    Event,
    Verdict,
    audit,
    beta,
    half_lines,
    kinds,
    probability_at_least,
    probability_at_most,
)
from privacy.mechanisms import discrete_gaussian
from tests.statistics.chance import FALSE_ALARM, too_many

Sampler = Callable[[int], Sequence[float]]


def tail(k: int, n: int, p: Fraction) -> Fraction:
    """P(X >= k), X binomial(n, p), exactly."""
    yes, no = p.numerator, p.denominator - p.numerator
    return Fraction(sum(math.comb(n, i) * yes**i * no ** (n - i) for i in range(k, n + 1)), p.denominator**n)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 7), (5, 12), (30, 31), (40, 40), (3, 90), (60, 200)])
@pytest.mark.parametrize("share", ["1/1000", "1/7", "1/2", "13/14", "999/1000"])
def test_the_beta_function_is_the_binomial_tail(k: int, n: int, share: str) -> None:
    assert beta(float(Fraction(share)), k, n - k + 1) == pytest.approx(
        float(tail(k, n, Fraction(share))), rel=1e-10
    )


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 50), (7, 50), (50, 50), (180, 200), (2, 400)])
@pytest.mark.parametrize("alarm", [0.05, 1e-3, 1e-8])
def test_a_lower_bound_is_where_so_many_successes_become_unlikely(k: int, n: int, alarm: float) -> None:
    """Clopper and Pearson's definition, in exact rationals: never too high, and hardly too low."""
    bound = Fraction(probability_at_least(k, n, alarm))
    assert tail(k, n, bound) <= Fraction(alarm)
    assert tail(k, n, bound * (1 + Fraction(1, 10**6))) > Fraction(alarm)


def test_bounds_at_the_ends() -> None:
    assert probability_at_least(0, 100, 0.001) == 0.0
    assert probability_at_most(100, 100, 0.001) == 1.0
    assert probability_at_most(0, 100, 0.05) == pytest.approx(1 - 0.05 ** (1 / 100), rel=1e-6)
    assert probability_at_least(100, 100, 0.05) == pytest.approx(0.05 ** (1 / 100), rel=1e-6)
    assert probability_at_least(10**6, 10**6, 1e-9) == pytest.approx(1e-9**1e-6, rel=1e-9)


def test_lower_bounds_are_too_high_as_seldom_as_they_say() -> None:
    """20,000 bounds at 1%: misses are binomial with probability <= 1%, too many has false alarm 1e-6."""
    generator = random.Random(11)
    too_high = [probability_at_least(successes, 40, 0.01) > 0.3 for successes in range(41)]
    misses = sum(too_high[sum(generator.random() < 0.3 for _ in range(40))] for _ in range(20_000))
    assert not too_many(misses, 20_000, 0.01)
    assert misses > 0


@pytest.mark.parametrize("arguments", [(-1, 5, 0.1), (6, 5, 0.1), (0, 0, 0.1), (1, 2, 0.0), (1, 2, 1.0)])
def test_bounds_of_nothing_are_refused(arguments: tuple[int, int, float]) -> None:
    with pytest.raises(ParameterInvalid):
        probability_at_least(*arguments)


# Claims


def test_a_rho_stands_for_the_pairs_of_its_conversion() -> None:
    claim = Claim.zcdp(500_000_000, 7)
    assert all(one == epsilon(500_000_000, round(delta * 1e12) - 7) for one, delta in claim.pairs)
    assert len({delta for _, delta in claim.pairs}) == len(claim.pairs) >= 9
    assert Claim.at_most(0.25).pairs == ((0.0, 0.25),)


# Verdicts on mechanisms whose epsilon is known


def coin(truth: bool, epsilon_: float) -> Sampler:
    """Randomised response: says the truth with odds exp(epsilon), so that exactly epsilon is shown."""
    honest = math.exp(epsilon_) / (1 + math.exp(epsilon_))
    generator = random.SystemRandom()
    return lambda runs: [float(truth == (generator.random() < honest)) for _ in range(runs)]


def gaussian(value: int, sigma: float) -> Sampler:
    return lambda runs: [float(one) for one in discrete_gaussian([value] * runs, sigma)]


def _audit(claim: Claim, one: Sampler, other: Sampler, runs: int = 20_000) -> Verdict:
    return audit(claim, one, other, half_lines, runs, 1 - FALSE_ALARM)


def test_a_tight_claim_stands_and_a_smaller_one_falls() -> None:
    """Randomised response at epsilon 1; missed far below 1e-6, false alarm 1e-6."""
    one, other = coin(True, 1.0), coin(False, 1.0)
    assert not _audit(Claim(((1.0, 0.0),)), one, other).refuted
    found = _audit(Claim(((0.8, 0.0),)), one, other)
    assert found.refuted
    assert 0.8 < found.epsilon_shown < 1.1
    assert "refuted" in str(found)
    assert "0.800" in str(found)


def test_either_of_the_neighbours_may_be_the_likelier() -> None:
    """A mechanism that shows D' alone is refuted as one that shows D alone."""
    sometimes: Sampler = lambda runs: [float(place % 10 == 0) for place in range(runs)]  # noqa: E731
    never: Sampler = lambda runs: [0.0] * runs  # noqa: E731
    assert _audit(Claim(((3.0, 0.01),)), sometimes, never).refuted
    found = _audit(Claim(((3.0, 0.01),)), never, sometimes)
    assert found.refuted
    assert found.event.endswith("on the smaller")


def test_delta_is_not_given_twice() -> None:
    """An event of probability 0.1 against 0: delta 0.1 is kept, delta 0.08 is not."""
    generator = random.SystemRandom()
    sometimes: Sampler = lambda runs: [float(generator.random() < 0.1) for _ in range(runs)]  # noqa: E731
    never: Sampler = lambda runs: [0.0] * runs  # noqa: E731
    assert not _audit(Claim.at_most(0.1), sometimes, never, 50_000).refuted
    found = _audit(Claim.at_most(0.08), sometimes, never, 50_000)
    assert found.refuted
    assert found.delta_shown > 0.08


@pytest.mark.parametrize(("rho", "runs"), [(0.1, 100_000), (0.5, 30_000), (2.0, 20_000)])
def test_a_gaussian_keeps_its_rho_and_no_quarter_of_it(rho: float, runs: int) -> None:
    """False alarm 1e-6; a claim of a quarter of the rho is refuted, by 10 standard deviations."""
    sigma = 20 / math.sqrt(2 * rho)
    one, other = gaussian(20, sigma), gaussian(0, sigma)
    assert not _audit(Claim.zcdp(round(rho * 1e9)), one, other, runs).refuted
    assert _audit(Claim.zcdp(round(rho * 1e9 / 4)), one, other, runs).refuted


def test_equal_laws_are_never_told_apart() -> None:
    """1,000 audits of equal coins at 99%: refutations are binomial, too many has false alarm 1e-6."""
    generator = random.Random(5)
    same: Sampler = lambda runs: [generator.randrange(8) for _ in range(runs)]  # noqa: E731
    claim = Claim.at_most(0)
    refuted = sum(audit(claim, same, same, kinds, 80, 0.99).refuted for _ in range(1_000))
    assert not too_many(refuted, 1_000, 0.01)


def test_choosing_and_testing_use_different_runs() -> None:
    """An outlier of the first half alone is no evidence."""
    once: Sampler = lambda runs: [1.0] * (runs // 2) + [0.0] * (runs - runs // 2)  # noqa: E731
    never: Sampler = lambda runs: [0.0] * runs  # noqa: E731
    assert not _audit(Claim.at_most(0), once, never).refuted


def test_the_surest_event_is_tested_and_not_the_luckiest() -> None:
    """A rare outcome that the first half alone shows, beside a common one that both halves show."""

    def of(*halves: tuple[int, int]) -> Callable[[int], Sequence[str]]:
        return lambda runs: [
            "rare" if place < rare else "common" if place < rare + common else "none"
            for rare, common in halves
            for place in range(runs // 2)
        ]

    lucky, unlucky = of((150, 3_000), (0, 3_000)), of((0, 1_500), (0, 1_500))
    assert audit(Claim.at_most(0), lucky, unlucky, kinds, 20_000, 1 - FALSE_ALARM).refuted


def test_names_are_compared_as_names() -> None:
    def of(*shares: str) -> Callable[[int], Sequence[str]]:
        return lambda runs: [shares[place % len(shares)] for place in range(runs)]

    found = audit(Claim.at_most(0), of("a", "b"), of("a", "c"), kinds, 2_000, 0.999)
    assert found.refuted
    assert not audit(Claim.at_most(0.5), of("a", "b"), of("a", "c"), kinds, 2_000, 0.999).refuted


# Use that makes no sense


def test_an_audit_needs_runs_confidence_and_events() -> None:
    draw = coin(True, 1.0)
    for runs, confidence in ((3, 0.9), (100, 1.0), (100, 0.0)):
        with pytest.raises(ParameterInvalid):
            audit(Claim.at_most(0), draw, draw, half_lines, runs, confidence)
    with pytest.raises(ParameterInvalid):
        audit(Claim.at_most(0), draw, lambda runs: [0.0] * (runs - 1), half_lines, 100)
    with pytest.raises(ParameterInvalid):
        audit(Claim.at_most(0), draw, draw, lambda _one, _other: [], 100)
    with pytest.raises(ParameterInvalid):
        audit(Claim(()), draw, draw, lambda _one, _other: [Event("any", bool)], 100)
