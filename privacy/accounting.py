"""rho, delta, epsilon, sigma: what a release costs, exactly, and rounded so that no one is promised too much.

Units are integers: rho in nano (1e-9) and delta in pico (1e-12). Costs round up, budgets round down. Where a
real function is needed (ln, exp, erfc) it is evaluated with a margin larger than its error, on the side that
costs more.

Sources:
    [CKS20] Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020.
    [BS16]  Bun, Steinke, "Concentrated Differential Privacy", TCC 2016.
    [CR21]  Cesar, Rogers, "Bounding, Concentrating, and Truncating", ALT 2021.
"""

from __future__ import annotations

import math
import sys
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from statistics import NormalDist

from privacy.errors import PrivacyError

NANO = 10**9
PICO = 10**12
MAX_RHO_NANO = 10**6 * NANO
_LARGEST = Decimal(sys.float_info.max)
"""No budget is larger than rho = 1e6, which protects nothing: a larger figure is a mistake in its unit."""
MAX_SIGMA = 2.0**58
"""Values are clamped to +-2^62 before noise: up to this sigma int64 saturates with probability < 1e-50."""
MIN_SIGMA = 1e-4
"""Below this the noise is zero with certainty for all that matters."""

_SIGMA_MARGIN = Fraction(1, 10**12)  # covers the rounding of f64 in OpenDP's own map, about 1e-15
_TAIL_MARGIN = 1e-9  # covers libm and summation error of the tails below, about 1e-13
_EXACT_SIGMA = 32.0  # up to here tails are summed term by term
_NORMAL = NormalDist()
_CONTEXT = Context(prec=50, rounding=ROUND_HALF_EVEN)
_MARGIN = Decimal("1e-38")  # far above the error of a dozen operations at 50 digits, far below a float's


class ParameterInvalid(PrivacyError):
    """A privacy parameter outside its range: not a number, negative, zero or absurdly large."""

    code = "parameter_invalid"
    hint = "Give a positive number in the range the message names."


def rho_to_nano(value: float | str | Decimal | Fraction, *, budget: bool = False) -> int:
    """Read a rho as nano-rho, exactly as it is written in decimal.

    Args:
        value: rho; a float is read by its shortest decimal form (0.1 is one tenth).
        budget: round down (what may be spent) instead of up (what is charged).

    Raises:
        ParameterInvalid: not a finite number in [0, 1e6].
    """
    return _to_units(value, NANO, Fraction(MAX_RHO_NANO, NANO), "rho", budget)


def delta_to_pico(value: float | str | Decimal | Fraction, *, budget: bool = False) -> int:
    """Read a delta as pico-delta, exactly as it is written in decimal; `budget` rounds down instead of up.

    Raises:
        ParameterInvalid: not a finite number in [0, 1].
    """
    return _to_units(value, PICO, Fraction(1), "delta", budget)


def epsilon(rho_nano: int, delta_pico: int) -> float:
    """The epsilon at which rho-zCDP is (epsilon, delta)-DP, rounded up.

    The tight conversion of [CKS20], Proposition 12: the least over alpha > 1 of
    ``alpha rho + ln(1 - 1/alpha) - ln(alpha delta) / (alpha - 1)``. Every alpha gives a valid bound, so an
    inexact minimiser can only make the result larger. For (rho, delta')-approximate zCDP the promise is
    (epsilon, delta + delta'): pass the part of delta that no threshold has spent.

    Returns:
        epsilon >= 0; infinity where rho > 0 and delta = 0.
    """
    _require(rho_nano >= 0 and 0 <= delta_pico <= PICO, "rho must not be negative; delta must lie in [0, 1].")
    if rho_nano == 0 or delta_pico == PICO:
        return 0.0
    if delta_pico == 0:
        return math.inf
    bound = _epsilon_bound(rho_nano, delta_pico, _best_alpha(rho_nano / NANO, delta_pico / PICO))
    return 0.0 if bound <= 0 else _float_above(bound)


def rho_nano_for_epsilon(epsilon_: float, delta_pico: int) -> int:
    """The largest nano-rho whose `epsilon` at this delta is at most the one asked; 0 when none is.

    Raises:
        ParameterInvalid: epsilon is not a finite number >= 0, or delta does not lie in (0, 1).
    """
    asked = epsilon_asked(epsilon_)
    _require(asked >= 0, "epsilon must not be negative.")
    _require(0 < delta_pico < PICO, "delta must lie between 0 and 1, both excluded.")
    return _largest_rho(asked, delta_pico)


def epsilon_asked(value: float | str | Decimal) -> float:
    """An asked epsilon as a double.

    Raises:
        ParameterInvalid: it is no finite number, or far out of any range.
    """
    return float(_fraction(value, "epsilon"))


def sigma_for(sensitivity_squared: int, rho_nano: int) -> float:
    """The scale at which a discrete Gaussian of this L2 sensitivity costs at most `rho_nano`.

    Larger than sqrt(sensitivity_squared / (2 rho)) by at most two parts in 1e12, so that OpenDP's own map,
    which rounds upward in f64, also stays within `rho_nano`.

    Args:
        sensitivity_squared: square of the L2 sensitivity of the integer vector, >= 1.
        rho_nano: what may be charged, >= 1.

    Raises:
        ParameterInvalid: an argument below 1, or a sigma above `MAX_SIGMA` (too little rho for these bounds).
    """
    _require(sensitivity_squared >= 1 and rho_nano >= 1, "Sensitivity and rho must be at least one unit.")
    variance = Fraction(sensitivity_squared * NANO, 2 * rho_nano)
    _require(variance < Fraction(MAX_SIGMA) ** 2, "rho is too small for the declared bounds and caps.")
    sigma = math.sqrt(variance * (1 + _SIGMA_MARGIN) ** 2)
    _require(sigma <= MAX_SIGMA, "rho is too small for the declared bounds and caps.")
    if gaussian_rho_nano(sensitivity_squared, sigma) > rho_nano:
        raise AssertionError("sigma_for returned a scale that costs more than was allowed")
    return sigma


def gaussian_rho_nano(sensitivity_squared: int, sigma: float) -> int:
    """Nano-rho of the discrete Gaussian: Delta^2 / (2 sigma^2) in exact rationals, rounded up.

    [CKS20], Theorem 14: independent discrete Gaussians of one sigma on an integer vector of that sensitivity.
    """
    _require(sensitivity_squared >= 0, "The squared sensitivity must not be negative.")
    _require_sigma(sigma)
    return math.ceil(Fraction(NANO * sensitivity_squared) / (2 * Fraction(sigma) ** 2))


def laplace_rho_nano(sensitivity: int, scale: float) -> int:
    """Nano-rho of the discrete Laplace on an integer vector: (Delta_1 / scale)^2 / 2 in exact rationals, up.

    Each value k of the noise has probability proportional to exp(-|k| / scale), so that neighbours at L1
    distance Delta_1 are within eps = Delta_1 / scale of one another, and eps-DP is (eps^2 / 2)-zCDP
    ([BS16], Proposition 1.4).

    Args:
        sensitivity: L1 sensitivity of the vector.
        scale: of the noise.
    """
    _require(sensitivity >= 0, "The sensitivity must not be negative.")
    _require_sigma(scale)
    return math.ceil(NANO * (sensitivity / Fraction(scale)) ** 2 / 2)


def choice_rho_nano(spread: int, scale: float, choices: int = 1) -> int:
    """Nano-rho of choosing candidates by the exponential mechanism: choices * (spread / scale)^2 / 8, up.

    Candidate i is chosen with probability proportional to exp(score_i / scale), then the next among the rest.
    `spread` is the most by which one unit can raise a score plus the most by which it can lower one.

    Proof (after [CR21]) for one choice. Let P and P' be its laws on neighbours. L = ln(P / P') is the
    change of the chosen score over scale, plus a constant: it lies in an interval of length h = spread /
    scale. K(t) = ln E_P'[exp(t L)] has K(0) = K(1) = 0, and K''(t) is the variance of L under a tilted law,
    hence at most h^2 / 4. So K(t) - t (t - 1) h^2 / 8 is concave with zeros at 0 and 1, and not positive for
    t > 1: the Renyi divergence K(t) / (t - 1) is at most t h^2 / 8. Later choices depend on earlier ones in
    the open, and adaptive composition adds ([BS16], Lemma 2.3).

    Args:
        spread: rise plus fall of the scores.
        scale: of the scores.
        choices: number of candidates chosen.
    """
    _require(spread >= 0 and choices >= 1, "The spread must not be negative, and something must be chosen.")
    _require_sigma(scale)
    return math.ceil(NANO * choices * (spread / Fraction(scale)) ** 2 / 8)


def threshold_for(sigma: float, l0: int, delta_pico: int) -> int:
    """The least T (>= 2) such that showing a key iff its noisy unit count is >= T costs at most `delta_pico`.

    The count must be of distinct units. Proof, for D' = D and one more unit: the unit adds at most `l0` keys
    that D does not have, each with a count of exactly 1, and each is shown with probability
    p = P(1 + Z >= T). All of them stay hidden with probability (1 - p)^l0 >= 1 - l0 p. Given that event, the
    output on D' is that of the Gaussian mechanism over the keys of D, so the release is
    (rho, l0 p)-approximate zCDP in the sense of [BS16], Definition 8.1. T is the least integer with
    l0 * (an upper bound of p) <= delta.

    Raises:
        ParameterInvalid: sigma is not usable, l0 < 1, or delta does not lie in (0, 1).
    """
    _require_sigma(sigma)
    _require(l0 >= 1, "l0 must be at least 1.")
    _require(0 < delta_pico < PICO, "A threshold needs a delta between 0 and 1, both excluded.")
    allowed = math.nextafter(float(Fraction(delta_pico, PICO * l0)), 0.0)
    return 1 + _least_tail(sigma, allowed)


def threshold_above(sigma: float, sensitivity_squared: int, most: int, groups: int, delta_pico: int) -> int:
    """`threshold_for`, where a unit may add more than one to a key, and as a rule less: the least such T.

    A unit adds to at most `groups` keys that nobody else has, to each an integer of at most `most`, and the
    squares of what it adds sum to at most `sensitivity_squared` = N^2. Proof, as above, with one more unit:
    in descending order the j-th of what it adds is at most w_j = floor(min(most, N / sqrt(j))), because j of
    them are as large. So some key of its own is shown with probability at most sum_j P(w_j + Z >= T), and
    T is the least integer for which (an upper bound of) that is at most delta. With at most one to each of
    N^2 keys it is `threshold_for`.

    Raises:
        ParameterInvalid: sigma is not usable, a count is below 1, or delta does not lie in (0, 1).
    """
    _require_sigma(sigma)
    _require(min(sensitivity_squared, most, groups) >= 1, "Groups and what is added to them are at least 1.")
    _require(0 < delta_pico < PICO, "A threshold needs a delta between 0 and 1, both excluded.")
    allowed = math.nextafter(float(Fraction(delta_pico, PICO)), 0.0)
    largest = [
        (count, min(most, math.isqrt(sensitivity_squared // first))) for first, count in _doubled(groups)
    ]

    def spent(value: int) -> float:
        return math.fsum(count * _tail(sigma, value - added) for count, added in largest) * (1 + 1e-12)

    low, high = largest[0][1], largest[0][1] + _least_tail(sigma, allowed / groups)
    while high - low > 1:
        middle = (low + high) // 2
        if spent(middle) <= allowed:
            high = middle
        else:
            low = middle
    return high


def _doubled(groups: int) -> list[tuple[int, int]]:
    """1 to `groups` in runs that double: the first of each, and how many there are."""
    firsts = [1 << place for place in range(groups.bit_length())]
    return [(first, min(2 * first - 1, groups) - first + 1) for first in firsts]


def half_width(sigma: float, confidence: float = 0.95) -> int:
    """The least h with P(|Z| <= h) >= confidence for the discrete Gaussian Z.

    The bound is rigorous. It is the least such integer for sigma <= 32, and above that at most one
    larger (and one part in 1e8).

    Raises:
        ParameterInvalid: sigma is not usable, or confidence does not lie in (0, 1).
    """
    _require_sigma(sigma)
    _require(0 < confidence < 1, "The confidence must lie between 0 and 1, both excluded.")
    return _least_tail(sigma, (1 - confidence) / 2) - 1


def laplace_half_width(scale: float, confidence: float = 0.95) -> int:
    """The least h, or one more, with P(|Z| <= h) >= confidence for the discrete Laplace Z.

    P(|Z| > h) = 2 p^(h + 1) / (1 + p) with p = exp(-1 / scale), solved for h with a margin far above libm's
    error (and one part in 1e9).

    Raises:
        ParameterInvalid: scale is not usable, or confidence does not lie in (0, 1).
    """
    _require_sigma(scale)
    _require(0 < confidence < 1, "The confidence must lie between 0 and 1, both excluded.")
    outside = math.nextafter(1 - confidence, 0.0)
    steps = scale * (math.log(2 / outside) - math.log1p(math.exp(-1 / scale)))
    return max(0, math.ceil(steps * (1 + _TAIL_MARGIN) + _TAIL_MARGIN) - 1)


def _to_units(
    value: float | str | Decimal | Fraction, units: int, most: Fraction, name: str, budget: bool
) -> int:
    exact = _fraction(value, name)
    _require(0 <= exact <= most, f"{name} must lie between 0 and {float(most):g}.")
    return math.floor(exact * units) if budget else math.ceil(exact * units)


def _fraction(value: float | str | Decimal | Fraction, name: str) -> Fraction:
    if isinstance(value, Fraction):
        return value
    try:
        text = str(value)
        _require(not isinstance(value, bool) and len(text) <= 100, f"{name} must be a number.")
        number = Decimal(text)
    except InvalidOperation:
        raise ParameterInvalid(f"{name} must be a number.") from None
    _require(number.is_finite(), f"{name} must be finite.")
    _require(
        number.copy_abs() <= _LARGEST and (number == 0 or number.adjusted() >= -300),
        f"{name} is out of range.",
    )
    return Fraction(number)


@lru_cache(maxsize=1024)
def _largest_rho(asked: float, delta_pico: int) -> int:
    """By bisection from where the classic bound rho + 2 sqrt(rho ln(1/delta)) is met: never too far up."""
    root = math.sqrt(math.log(PICO / delta_pico))
    start = int(min((math.sqrt(root * root + asked) - root) ** 2 * NANO, MAX_RHO_NANO))
    low = start if epsilon(start, delta_pico) <= asked else 0
    high = min(2 * start + 1, MAX_RHO_NANO + 1)
    while high <= MAX_RHO_NANO and epsilon(high, delta_pico) <= asked:
        low, high = high, min(4 * high, MAX_RHO_NANO + 1)
    while high - low > 1:  # epsilon(low) <= asked, and high is too large
        middle = (low + high) // 2
        if epsilon(middle, delta_pico) <= asked:
            low = middle
        else:
            high = middle
    return low


def _best_alpha(rho: float, delta: float) -> float:
    """The minimiser, by bisection: the derivative of the bound is rho + ln(alpha delta) / (alpha - 1)^2."""
    low, high = 0.0, 1.0 / delta  # of alpha - 1; at alpha = 1/delta the logarithm vanishes
    for _ in range(200):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if rho * middle * middle + math.log(delta) + math.log1p(middle) < 0:
            low = middle
        else:
            high = middle
    return 1.0 + high


def _epsilon_bound(rho_nano: int, delta_pico: int, alpha_: float) -> Decimal:
    context = _CONTEXT
    alpha = Decimal(max(alpha_, math.nextafter(1.0, 2.0)))
    rho = context.divide(Decimal(rho_nano), Decimal(NANO))
    delta = context.divide(Decimal(delta_pico), Decimal(PICO))
    less_one = context.subtract(alpha, Decimal(1))
    first = context.add(context.multiply(alpha, rho), context.ln(context.divide(less_one, alpha)))
    bound = context.subtract(first, context.divide(context.ln(context.multiply(alpha, delta)), less_one))
    margin = context.multiply(context.add(abs(bound), context.multiply(alpha, rho)), _MARGIN)
    return context.add(bound, context.add(margin, _MARGIN))


def _float_above(number: Decimal) -> float:
    nearest = float(number)
    return nearest if Decimal(nearest) >= number else math.nextafter(nearest, math.inf)


@lru_cache(maxsize=4096)
def _least_tail(sigma: float, allowed: float) -> int:
    """The least m >= 1 with (an upper bound of) P(Z >= m) <= allowed.

    The bisection starts around the normal quantile, which spares most tails; its bracket is checked and
    widened, so that only the speed depends on the guess.
    """
    guess = max(0.0, -_NORMAL.inv_cdf(allowed)) * sigma
    step = 2 + int(guess * 1e-7)
    low = max(0, math.floor(guess) - step)
    while low > 0 and _tail(sigma, low) <= allowed:
        low, step = max(0, low - step), 2 * step
    high, step = low + 4 + int(guess * 2e-7), 4
    while _tail(sigma, high) > allowed:
        low, high, step = high, high + step, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        if _tail(sigma, middle) <= allowed:
            high = middle
        else:
            low = middle
    return high


def _tail(sigma: float, m: int) -> float:
    """An upper bound of P(Z >= m), m >= 1, weights being f(k) = exp(-k^2 / 2 sigma^2)."""
    bound = _summed_tail(sigma, m) if sigma <= _EXACT_SIGMA else _normal_tail(sigma, m)
    return bound * (1 + _TAIL_MARGIN) + 1e-300  # what underflowed is below 1e-300


def _summed_tail(sigma: float, m: int) -> float:
    return _weight_from(sigma, m) / _normaliser(sigma)


def _weight_from(sigma: float, m: int) -> float:
    """The sum of f(k) over k >= m: nine sigma of terms, then a geometric series that exceeds the rest."""
    twice = 2 * sigma * sigma
    last = m + math.ceil(9 * sigma) + 1
    terms = math.fsum(math.exp(-k * k / twice) for k in range(m, last))
    ratio = math.exp(-(2 * last + 1) / twice)  # f(k+1)/f(k) at k = last; smaller further out
    return terms + math.exp(-last * last / twice) / (1 - ratio)


@lru_cache(maxsize=256)
def _normaliser(sigma: float) -> float:
    return 1 + 2 * _weight_from(sigma, 1)


def _normal_tail(sigma: float, m: int) -> float:
    """From the normal law. The sum of all weights is >= sqrt(2 pi) sigma (Poisson summation, all terms
    positive).

    Where f is convex (x >= sigma) f(k) is at most its mean over [k - 1/2, k + 1/2] (Hermite-Hadamard), so the
    tail from m is at most the normal tail from m - 1/2; elsewhere f decreases, and m - 1 serves ([CKS20],
    Prop. 25).
    """
    start = m - 0.5 if m - 0.5 >= sigma else m - 1.0
    return math.erfc(start / (sigma * math.sqrt(2))) / 2


def _require_sigma(sigma: float) -> None:
    _require(
        math.isfinite(sigma) and MIN_SIGMA <= sigma <= MAX_SIGMA, "sigma must lie between 0.0001 and 2^58."
    )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ParameterInvalid(message)
