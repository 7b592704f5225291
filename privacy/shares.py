"""How one rho is shared among the measures of a release so that the weighted sum of variances is least.

Measure j with L2 sensitivity Delta_j and share rho_j has variance Delta_j^2 / (2 rho_j). By Cauchy and
Schwarz the sum of w_j times that, given the sum of the shares, is least for shares in proportion to Delta_j
sqrt(w_j), which makes

    sigma_j^2 = (Delta_j / sqrt(w_j)) * sum_i (Delta_i sqrt(w_i)) / (2 rho).

All of it is integer arithmetic: the same shares on every machine, because quotes are compared byte by byte.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from privacy.accounting import ParameterInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

_BITS = 256  # of the largest number under the root: roots are exact to 2^-127 of the largest


def split(
    rho_nano: int, sensitivities_squared: Sequence[int], weights: Sequence[Fraction | float] | None = None
) -> list[int]:
    """Nano-rho for each measure: whole numbers of at least 1 that together are at most `rho_nano`.

    Measures alike in weight times squared sensitivity get equal shares. What rounding down leaves over is
    less than one nano a measure and is not spent.

    Args:
        rho_nano: what the measures may cost together, at least 1 for each.
        sensitivities_squared: square of the L2 sensitivity of each, at least 1.
        weights: what a unit of variance of each is worth, above 0; without weights all count alike relative
            to their sensitivities (weight 1 / Delta^2), which gives equal shares.

    Raises:
        ParameterInvalid: no measure, too little rho, a weight or sensitivity out of range, or as many of one
            as of the other are not given.
    """
    _require(0 < len(sensitivities_squared) <= rho_nano, "There must be at least one nano-rho a measure.")
    _require(min(sensitivities_squared) >= 1, "A squared sensitivity is at least 1.")
    if weights is None:
        return [rho_nano // len(sensitivities_squared)] * len(sensitivities_squared)
    _require(len(weights) == len(sensitivities_squared), "There must be one weight for each measure.")
    _require(
        all(math.isfinite(weight) and weight > 0 for weight in weights), "A weight is finite and above 0."
    )
    roots = _roots(
        [squared * Fraction(weight) for squared, weight in zip(sensitivities_squared, weights, strict=True)]
    )
    return _shared(rho_nano, roots)


def _roots(squares: list[Fraction]) -> list[int]:
    """Square roots in proportion, the largest of at least `_BITS` / 2 bits, exact where they are rational."""
    common = math.lcm(*(square.denominator for square in squares))
    whole = [int(square * common) for square in squares]
    divisor = math.gcd(*whole)
    bits = max(0, _BITS - (max(whole) // divisor).bit_length())
    return [max(1, math.isqrt(number // divisor << bits + bits % 2)) for number in whole]


def _shared(rho_nano: int, roots: list[int]) -> list[int]:
    """Shares in proportion, rounded down; those that would be nothing get 1, and the rest is shared again."""
    shares = [1] * len(roots)
    left = set(range(len(roots)))
    while True:
        whole, total = rho_nano - (len(roots) - len(left)), sum(roots[place] for place in left)
        small = {place for place in left if whole * roots[place] < total}
        if not small:
            break
        left -= small
    for place in left:
        shares[place] = whole * roots[place] // total
    return shares


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ParameterInvalid(message)
