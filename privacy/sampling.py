"""The discrete Gaussian, drawn exactly and many at once: P(x) ~ exp(-x^2 / (2 sigma^2)) over all integers.

Rejection. Let t be the least power of two from 1 that is at least 1.1775 sigma: t^2 >= 2 ln(2) sigma^2. A
proposal is x = +-(u + t v) with u uniform on 0, ..., t - 1, with v of probability 2^-(v + 1) (zeros before
the first one among fair bits) and a fair sign, where a negative zero is none. It is accepted with probability

    p = 2^v exp(-x^2 / (2 sigma^2)),

which is at most 2^(v - v^2) <= 1, as |x| >= t v. What is accepted has the law above: 2^-(v + 1) / t times p
is the same multiple of exp(-x^2 / (2 sigma^2)) at every x. A quarter to a half of the proposals are accepted.

Exactness. A proposal is accepted iff a uniform real r lies below p. Of r, 64 bits are drawn at first, and p
is computed in floating point. With y = x^2 / (2 sigma^2), its argument v ln(2) - y errs by (y + v ln(2)) a
few times 2^-53, and p (y + v ln(2)) is at most 1.4, since y >= v^2 ln(2): so p errs by less than 2^-45. Where
r and p are further apart than 2^-40, that decides; elsewhere, once in 2^39 proposals, r and p are worked out
to more and more digits, by intervals, until they part. So no rounding enters a decision, and the law is the
formula's own, at every sigma.

Time. Noise is drawn before a value is seen: how long it takes depends on chance, sigma and the number of
values alone.

Sources:
    [CKS20] Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020: the law,
            and why it must be drawn exactly. Theirs is a rejection from the discrete Laplace, one at a time.
    [K16] Karney, "Sampling Exactly from the Normal Distribution", ACM TOMS 42 (2016): bits of a uniform real
          are drawn as they are needed.
"""

from __future__ import annotations

import math
import os
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Integers = NDArray[np.int64]
    Words = Callable[[int], NDArray[np.uint64]]

_LN2 = math.log(2)
_BLOCK = 1.1775  # above sqrt(2 ln 2) = 1.17741...
_SURE = 2.0**-40
_MOST_AT_ONCE = 2**17  # proposals: 10 MiB of working memory
_WIDE = 2**62  # below it, noise on values within +-2^62 stays within int64


def system_words(count: int) -> NDArray[np.uint64]:
    """So many independent uniform words of 64 bits, of the operating system's secure generator."""
    return np.frombuffer(os.urandom(8 * count), np.uint64)


def add_discrete_gaussian(values: Integers, sigma: float, words: Words = system_words) -> Integers:
    """The values plus independent discrete Gaussian noise; a sum that int64 cannot hold becomes its end.

    About 0.2 us a value. Draws are independent of each other, also in other threads and after a fork.

    Args:
        values: one dimension, within +-2^62.
        sigma: scale, from 0.0001 to 2^58.
        words: source of uniform words of 64 bits; another than the system's is for tests.
    """
    noise = _draws(len(values), sigma, words)
    if noise.dtype == np.int64:
        sums: Integers = values + noise
        return sums
    ends = np.iinfo(np.int64)
    exact = (int(value) + int(one) for value, one in zip(values, noise, strict=True))
    return np.array([min(max(one, ends.min), ends.max) for one in exact], np.int64)


def _draws(count: int, sigma: float, words: Words) -> NDArray[Any]:
    """Noise alone, as int64; as Python's integers where one reaches 2^62, at which sums might wrap.

    That is less likely than 1e-50 even at the largest scale.
    """
    block = max(math.ceil(math.log2(_BLOCK * sigma)), 0)
    share = max(sigma * math.sqrt(math.pi / 2) / 2 ** (block + 1), 0.25)
    parts: list[NDArray[Any]] = [np.empty(0, np.int64)]
    missing = count
    while missing:
        proposals = min(int(1.05 * missing / share) + 16, _MOST_AT_ONCE)
        part = _accepted(proposals, sigma, block, words)[:missing]
        parts.append(part)
        missing -= len(part)
    return np.concatenate(parts)


def _accepted(proposals: int, sigma: float, block: int, words: Words) -> NDArray[Any]:
    """Those of so many proposals that are accepted, in their order; ``block`` is the exponent of t."""
    place, coins, chance = words(3 * proposals).reshape(3, proposals)
    low = (place & np.uint64(2**block - 1)).astype(np.int64)
    high = np.bitwise_count(~coins & (coins - np.uint64(1)))  # zeros before the first one; 64 without any
    negative = place >> np.uint64(63) == 1
    over = chance * 2.0**-64 - _likelihood(low, high, sigma, block)
    accepted = over < -_SURE
    exact: dict[int, int] = {}
    for i in np.flatnonzero(np.abs(over) <= _SURE).tolist():
        zeros = _zeros(int(high[i]), words)
        exact[i] = int(low[i]) + (zeros << block)
        accepted[i] = is_accepted(exact[i], zeros, sigma, int(chance[i]), words)
    accepted &= ~(negative & (low == 0) & (high == 0))
    kept = np.flatnonzero(accepted)
    sizes: NDArray[Any] = low[kept] + (high[kept].astype(np.int64) << block)
    for i in exact.keys() & set(kept.tolist()) if exact else ():
        sizes = sizes.astype(object) if exact[i] >= _WIDE else sizes
        sizes[np.searchsorted(kept, i)] = exact[i]
    return np.where(negative[kept], -sizes, sizes)


def _likelihood(low: Integers, high: NDArray[np.uint8], sigma: float, block: int) -> NDArray[np.float64]:
    """p, within 2^-45."""
    scaled = (low * 2.0**-block + high) * (2.0**block / sigma)
    with np.errstate(under="ignore"):
        likely: NDArray[np.float64] = np.exp(high * _LN2 - scaled * scaled / 2)
    return likely


def _zeros(seen: int, words: Words) -> int:
    """Zeros before the first one, of which a word of 64 has shown the first."""
    while seen % 64 == 0 and seen:
        word = int(words(1)[0])
        fresh = (word & -word).bit_length() - 1 if word else 64
        seen += fresh
        if fresh < 64:
            break
    return seen


def is_accepted(size: int, zeros: int, sigma: float, chance: int, words: Words) -> bool:
    """Whether a uniform real r lies below p = 2^zeros exp(-size^2 / (2 sigma^2)), decided exactly.

    Args:
        size: |x| of a proposal.
        zeros: its v.
        sigma: scale; taken as the rational number that the float is.
        chance: the first 64 bits of r.
        words: where further bits of r come from.
    """
    if size == 0:
        return True  # p = 1, which intervals would never part from an r of ones
    exponent = Fraction(size) ** 2 / (2 * Fraction(sigma) ** 2)
    bits = 64
    while True:
        digits = 20 + bits // 3
        least, most = bounds(exponent, zeros, digits)
        down, up = _context(digits, ROUND_FLOOR), _context(digits, ROUND_CEILING)
        if up.divide(Decimal(chance + 1), Decimal(2**bits)) <= least:
            return True
        if down.divide(Decimal(chance), Decimal(2**bits)) >= most:
            return False
        for word in words(bits // 64):
            chance, bits = (chance << 64) | int(word), bits + 64


def bounds(exponent: Fraction, zeros: int, digits: int) -> tuple[Decimal, Decimal]:
    """Bounds of p = 2^zeros exp(-exponent), from arithmetic with so many digits.

    Each operation errs by a relative 10^(1 - digits) at most: the quotient, and with it exp's argument, by
    `exponent` times that; exp and the product add one such error each. More than ten times that is allowed.
    """
    down, up = _context(digits, ROUND_FLOOR), _context(digits, ROUND_CEILING)
    quotient = up.divide(Decimal(exponent.numerator), Decimal(exponent.denominator))
    near = up.multiply(Decimal(2**zeros), up.exp(quotient.copy_negate()))
    error = up.multiply(near, Decimal(math.ceil(exponent) + 3).scaleb(2 - digits, up))
    return down.subtract(near, error), up.add(near, error)


def _context(digits: int, rounding: str) -> Context:
    return Context(prec=digits, rounding=rounding, Emin=MIN_EMIN, Emax=MAX_EMAX)
