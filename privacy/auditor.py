"""Tries to refute a privacy claim from outcomes alone: neighbouring databases, many runs, exact statistics.

A mechanism that keeps (epsilon, delta) gives every event E almost the same probability on neighbours D and
D': ``P[E] <= exp(epsilon) P'[E] + delta``. The auditor looks for an event that breaks this. Half of the runs
choose the event, the other half test it, so that the choice costs no confidence; the test sets a lower
confidence bound of P[E] against an upper one of P'[E]. A refutation is a proof of a defect up to the stated
false alarm; its absence proves nothing, and planted faults show how much would have been seen.

Nothing here draws at random or knows of any mechanism: outcomes come from the caller.

Sources:
    [CP34]  Clopper, Pearson, "The Use of Confidence or Fiducial Limits ...", Biometrika 26, 1934.
    [DWWZK] Ding, Wang, Wang, Zhang, Kifer, "Detecting Violations of Differential Privacy", CCS 2018.
    [CKS20] as in `privacy.accounting`, for the (epsilon, delta) pairs that a rho stands for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Generic, TypeVar

from privacy.accounting import PICO, ParameterInvalid, epsilon

Outcome = TypeVar("Outcome")

DELTAS_PICO = tuple(round(PICO * share) for share in (3e-1, 2e-1, 1e-1, 5e-2, 2e-2, 1e-2, 1e-3, 1e-4, 1e-6))
"""At these the loss of a rho is stated as an epsilon: large ones see a scale, small ones see a tail."""
CUTS = (0.0005, 0.002, 0.005, 0.01, 0.02, 0.05, *(place / 20 for place in range(2, 19)))
CUTS += tuple(1 - share for share in CUTS[:6])
MOST_KINDS = 64
_TAIL_MARGIN = 1e-7  # covers the error of `beta` below, about 1e-9 at a million runs


@dataclass(frozen=True)
class Claim:
    """What is promised: each of these (epsilon, delta) pairs, for either order of the neighbours."""

    pairs: tuple[tuple[float, float], ...]

    @classmethod
    def zcdp(cls, rho_nano: int, delta_pico: int = 0) -> Claim:
        """The pairs of a (rho, delta)-approximate zCDP promise, one for each of `DELTAS_PICO`."""
        return cls(tuple((epsilon(rho_nano, at), (at + delta_pico) / PICO) for at in DELTAS_PICO))

    @classmethod
    def at_most(cls, delta: float) -> Claim:
        """No event may become more likely by more than `delta`; 0 promises that outcomes tell nothing."""
        return cls(((0.0, delta),))


@dataclass(frozen=True)
class Event(Generic[Outcome]):
    """A set of outcomes, with a name for the report."""

    name: str
    holds: Callable[[Outcome], bool]


Choice = Callable[[Sequence[Outcome], Sequence[Outcome]], Iterable[Event[Outcome]]]
"""From some outcomes on D and on D', the events that are worth a look."""


@dataclass(frozen=True)
class Verdict:
    """What an audit found.

    Attributes:
        runs: outcomes drawn of each database; half of them tested the event.
        event: what was tested; ``on the smaller`` where D' is the one on which it is more likely.
        epsilon, delta: the pair of the claim that the first half came closest to refuting.
        likely: Clopper-Pearson lower bound of the event's probability where it is more likely.
        unlikely: Clopper-Pearson upper bound of it on the neighbour.
        confidence: a true claim is refuted with at most the rest of the probability.
    """

    runs: int
    event: str
    epsilon: float
    delta: float
    likely: float
    unlikely: float
    confidence: float

    @property
    def epsilon_shown(self) -> float:
        """Lower bound of the epsilon that the event shows at the claimed delta; -inf where it shows none."""
        more = self.likely - self.delta
        return math.log(more / self.unlikely) if more > 0 else -math.inf

    @property
    def delta_shown(self) -> float:
        """Lower bound of the delta that the event shows at the claimed epsilon, at least 0."""
        return max(0.0, self.likely - math.exp(self.epsilon) * self.unlikely)

    @property
    def refuted(self) -> bool:
        """Whether the claim is false, at this confidence."""
        return self.delta_shown > self.delta

    def __str__(self) -> str:
        found = "refuted" if self.refuted else "not refuted"
        claim = f"claimed ({self.epsilon:.3f}, {self.delta:.3g})"
        shown = f"shown epsilon >= {self.epsilon_shown:.3f} or delta >= {self.delta_shown:.3g}"
        return f"{found} in {self.runs} runs: {claim}, {shown}, by {self.event}"


def audit(
    claim: Claim,
    sample_with: Callable[[int], Sequence[Outcome]],
    sample_without: Callable[[int], Sequence[Outcome]],
    events: Choice[Outcome],
    runs: int,
    confidence: float = 0.999,
) -> Verdict:
    """Try to refute a claim on one pair of neighbours.

    Args:
        claim: what is promised of the pair.
        sample_with, sample_without: so many independent outcomes of the mechanism on D and on D'.
        events: the candidates; complements and both orders of the neighbours are looked at as well.
        runs: outcomes to draw of each, at least 4.
        confidence: of a refutation. The event, its direction and the pair are fixed before the second half
            is looked at, so that one test is made and nothing has to be corrected for.

    Raises:
        ParameterInvalid: too few runs, a confidence outside (0, 1), or a sampler that does not give `runs`
            outcomes.
    """
    if runs < 4 or not 0 < confidence < 1:
        raise ParameterInvalid("An audit needs 4 runs and a confidence between 0 and 1.")
    drawn = [sample(runs) for sample in (sample_with, sample_without)]
    if any(len(outcomes) != runs for outcomes in drawn):
        raise ParameterInvalid("A sampler must give as many outcomes as it is asked for.")
    half = runs // 2
    alarm = (1 - confidence) / 2  # each of the two bounds is wrong with at most this probability
    chosen = _chosen(claim, [outcomes[:half] for outcomes in drawn], events, alarm)
    seen, unseen = (chosen.count(outcomes[half:]) for outcomes in chosen.ordered(drawn))
    likely = probability_at_least(seen, runs - half, alarm)
    unlikely = probability_at_most(unseen, runs - half, alarm)
    return Verdict(runs, chosen.name, chosen.epsilon, chosen.delta, likely, unlikely, confidence)


def probability_at_least(successes: int, trials: int, alarm: float) -> float:
    """Clopper-Pearson lower bound of a probability [CP34]: above it with probability at most `alarm`.

    The p at which so many successes or more have probability `alarm`, by bisection; never rounded up.
    """
    if not 0 <= successes <= trials or trials < 1 or not 0 < alarm < 1:
        raise ParameterInvalid("A bound needs 0 <= successes <= trials and an alarm between 0 and 1.")
    low, high = 0.0, successes / trials
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if not low < middle < high:
            break
        tail = beta(middle, successes, trials - successes + 1) * (1 + _TAIL_MARGIN)
        low, high = (middle, high) if tail <= alarm else (low, middle)
    return low


def probability_at_most(successes: int, trials: int, alarm: float) -> float:
    """Clopper-Pearson upper bound of a probability: below it with probability at most `alarm`."""
    return 1 - probability_at_least(trials - successes, trials, alarm)


def beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b): P(X >= a) for X binomial(a + b - 1, x).

    By its continued fraction (Abramowitz and Stegun 26.5.8, evaluated by Lentz's method) on the side of the
    mean where it converges quickly.
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - beta(1 - x, b, a)
    front = _log_gamma(a + b) - _log_gamma(a) - _log_gamma(b) + a * math.log(x) + b * math.log1p(-x)
    return min(1.0, math.exp(front) * _fraction(x, a, b) / a)


def half_lines(one: Sequence[float], other: Sequence[float]) -> Iterator[Event[float]]:
    """Outcomes of at least some cut, for numbers: cuts at quantiles of what was seen, far tails included."""
    ordered = sorted([*one, *other])
    cuts = sorted({ordered[min(int(share * len(ordered)), len(ordered) - 1)] for share in CUTS})
    for cut in cuts:
        yield Event(f"at least {cut:.6g}", lambda outcome, cut=cut: outcome >= cut)  # type: ignore[misc]


def kinds(one: Sequence[Hashable], other: Sequence[Hashable]) -> Iterator[Event[Hashable]]:
    """Each outcome that was seen, the commonest first, for outcomes that are names rather than numbers."""
    counts: dict[Hashable, int] = {}
    for outcome in (*one, *other):
        counts[outcome] = counts.get(outcome, 0) + 1
    common = sorted(counts, key=lambda outcome: (-counts[outcome], str(outcome)))[:MOST_KINDS]
    for place, kind in enumerate(common):
        yield Event(f"kind {place + 1}", lambda outcome, kind=kind: outcome == kind)  # type: ignore[misc]
    known = frozenset(common)
    yield Event("any other kind", lambda outcome: outcome not in known)


@dataclass(frozen=True)
class _Chosen(Generic[Outcome]):
    """An event, whether its complement is meant, whether D' comes first, and the pair to hold it against."""

    event: Event[Outcome]
    complement: bool
    swapped: bool
    epsilon: float
    delta: float

    @property
    def name(self) -> str:
        outcome = f"not {self.event.name}" if self.complement else self.event.name
        return f"{outcome}, on the smaller" if self.swapped else outcome

    def count(self, outcomes: Sequence[Outcome]) -> int:
        return sum(1 for outcome in outcomes if self.event.holds(outcome) != self.complement)

    def ordered(self, drawn: Sequence[Sequence[Outcome]]) -> Sequence[Sequence[Outcome]]:
        return drawn[::-1] if self.swapped else drawn


def _chosen(
    claim: Claim, halves: Sequence[Sequence[Outcome]], events: Choice[Outcome], alarm: float
) -> _Chosen[Outcome]:
    """The candidate that would be closest to refuting the claim, were it tested on these halves."""
    runs = len(halves[0])
    best: tuple[tuple[float, float, float], _Chosen[Outcome]] | None = None
    for event in events(*halves):
        counts = [sum(map(bool, map(event.holds, half))) for half in halves]
        if best is not None and sum(counts) in (0, 2 * runs):
            continue  # always or never: such an event tells nothing, and would hide how close others come
        for swapped in (False, True):
            first, second = counts[::-1] if swapped else counts
            for complement in (False, True):
                seen, unseen = (runs - first, runs - second) if complement else (first, second)
                for epsilon_, delta in claim.pairs:
                    worth = _worth(seen, unseen, runs, alarm, epsilon_, delta)
                    if best is None or worth > best[0]:
                        best = worth, _Chosen(event, complement, swapped, epsilon_, delta)
    if best is None:
        raise ParameterInvalid("An audit needs at least one event and one pair of the claim.")
    return best[1]


def _worth(
    seen: int, unseen: int, runs: int, alarm: float, epsilon_: float, delta: float
) -> tuple[float, float, float]:
    """How surely the other half would refute; how much more epsilon is shown than claimed; where none is, how
    near to showing any.

    The excess over the claim is counted in the width of the bounds, so that beyond 1 it refutes: the event
    with the most epsilon to show is often a rare one that was lucky in this half.
    """
    likely, unlikely = _about(seen, runs, alarm)[0], _about(unseen, runs, alarm)[1]
    factor = math.exp(min(epsilon_, 100.0))
    excess = seen / runs - factor * unseen / runs - delta
    width = seen / runs - likely + factor * (unlikely - unseen / runs)
    shown = math.log((likely - delta) / unlikely) - epsilon_ if likely > delta else -math.inf
    return excess / width if excess > 0 else 0.0, shown, likely - factor * unlikely - delta


@lru_cache(maxsize=65536)
def _about(successes: int, trials: int, alarm: float) -> tuple[float, float]:
    """Wilson's score interval: close to the exact bounds and quick, good enough to choose by."""
    z = -NormalDist().inv_cdf(alarm)
    share, spread = successes / trials, z * z / trials
    middle = (share + spread / 2) / (1 + spread)
    reach = z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, middle - reach), min(1.0, middle + reach)


@lru_cache(maxsize=4096)
def _log_gamma(number: float) -> float:
    return math.lgamma(number)


def _fraction(x: float, a: float, b: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away(1 + term * d, tiny)
            c = _away(1 + term / c, tiny)
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            return value
    raise AssertionError("the continued fraction of the beta function did not converge")


def _away(number: float, tiny: float) -> float:
    return number if abs(number) > tiny else tiny
