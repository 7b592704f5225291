"""Quantiles of a histogram whose leaves were estimated from a noisy tree, with 95% intervals.

At a cut i between leaves, let B_i = below_i - q * total: the true balance rises from -q * total to (1 - q) *
total, and the quantile lies where it crosses zero. Its estimate is unbiased with a public standard deviation
s_i. All of this is post-processing of released numbers.

The interval goes from the cut before the first i with B_i >= -z s_i to the cut after the last i with B_i <= z
s_i. Let v be the true quantile, in the leaf between cuts k and k+1, where the true balance rises from -b to a
(a, b >= 0; a + b is the leaf's count). v lies left of the interval only if all B_i up to k+1 are below -z
s_i, of probability at most Phi(-z - a / s_{k+1}), and right of it at most with Phi(-z - b / s_k). With z =
1.96 that makes at most 5%, whatever the counts. One of the two is negligible where the leaf's count exceeds
the noise; where it is small, and its neighbours' too, a miss needs all of their balances to err the same way.
So z = 1.645 suffices except where a light leaf stands between heavy ones. There the interval is short: 1.96
is used where it would span three leaves or fewer. Coverage is 95 to 98% where the noise is about a leaf's
count, and more where the interval must end at leaf edges or has many noisy cuts to choose from
(`tests/statistics/test_quantiles.py` measures it).

Values that are integers sit best in the middle of a leaf (edges at halves).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from privacy.accounting import ParameterInvalid
from privacy.tree import balance_variances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from privacy.tree import Tree

    Floats = NDArray[np.float64]

_ONE_SIDED, _TWO_SIDED = 1.6448536269514722, 1.959963984540054
_FEW = 3  # leaves of an interval that may be steep at both ends
_CHUNK = 2**22  # numbers held at a time


class Quantiles(NamedTuple):
    """Values and ends of intervals, each of shape (groups, quantiles asked), within the outermost edges."""

    values: Floats
    low: Floats
    high: Floats


def quantiles(
    leaves: Floats, edges: Sequence[float], asked: Sequence[float], shape: Tree, sigma: float
) -> Quantiles:
    """The values where each group's estimated distribution crosses the asked shares.

    Values grow with the share asked, also over several calls: the estimated balance falls with it at every
    cut, and a group whose estimated total is negative is taken to be empty. Within a leaf counts are taken to
    be spread evenly.

    Args:
        leaves: `leaf_estimates`, one row for each group.
        edges: increasing, one more than there are leaves; public.
        asked: shares between 0 and 1, both excluded.
        shape: the tree that the leaves come from.
        sigma: its noise scale.

    Raises:
        ParameterInvalid: edges, shares or leaves are not of that form.
    """
    scale = np.asarray(edges, np.float64)
    _require(leaves.ndim == 2 and leaves.shape[1] == shape.leaves, "The leaves are not those of the tree.")
    _require(scale.shape == (shape.leaves + 1,), "There must be one edge more than leaves.")
    _require(bool(np.isfinite(scale).all() and (np.diff(scale) > 0).all()), "The edges must increase.")
    _require(all(0 < q < 1 for q in asked), "A share lies between 0 and 1, both excluded.")
    rows = max(1, _CHUNK // (shape.leaves + 1))
    parts = [leaves[start : start + rows] for start in range(0, max(len(leaves), 1), rows)]
    order = np.argsort(asked, kind="stable")
    found = [_positions(part, [asked[place] for place in order], shape, sigma) for part in parts]
    back = np.argsort(order, kind="stable")
    columns = (np.concatenate(column)[:, back] for column in zip(*found, strict=True))
    return Quantiles(*(np.interp(column, np.arange(len(scale)), scale) for column in columns))


def _positions(leaves: Floats, asked: Sequence[float], shape: Tree, sigma: float) -> tuple[Floats, ...]:
    """Quantiles and their ends as positions from 0 to `leaves`, for ascending shares."""
    below = np.concatenate([np.zeros((len(leaves), 1)), np.cumsum(leaves, axis=1)], axis=1)
    total, cuts = below[:, -1:], np.arange(shape.leaves + 1, dtype=np.float64)
    triples = []
    for q in asked:
        low, high = _interval(below - q * total, np.sqrt(balance_variances(shape, sigma, q)), cuts)
        value = _crossing(_smoothed(below - q * np.maximum(total, 0.0)), cuts)
        triples.append((value, np.minimum(low, value), np.maximum(high, value)))
    values, lows, highs = (
        np.array(column).reshape(len(asked), len(leaves)).T for column in zip(*triples, strict=True)
    )
    # A smaller share's value is no larger, so its lower end serves too; a larger share's upper end likewise.
    lows = np.maximum.accumulate(lows, axis=1)
    highs = np.minimum.accumulate(highs[:, ::-1], axis=1)[:, ::-1]
    return values, lows, highs


def _interval(balance: Floats, deviations: Floats, cuts: Floats) -> tuple[Floats, Floats]:
    low, high = _hull(balance, _ONE_SIDED * deviations, cuts)
    wider = _hull(balance, _TWO_SIDED * deviations, cuts)
    few = high - low <= _FEW
    return np.where(few, wider[0], low), np.where(few, wider[1], high)


def _hull(balance: Floats, margin: Floats, cuts: Floats) -> tuple[Floats, Floats]:
    """From the cut before the first balance not surely negative to that after the last not surely so."""
    low = np.floor(_crossing(_risen(balance + margin), cuts))
    return low, np.ceil(_crossing(_still(balance - margin), cuts))


def _smoothed(balance: Floats) -> Floats:
    """A curve that never falls: halfway between the highest so far and the lowest from there on."""
    return (_risen(balance) + _still(balance)) / 2


def _risen(balance: Floats) -> Floats:
    return np.maximum.accumulate(balance, axis=1)


def _still(balance: Floats) -> Floats:
    return np.minimum.accumulate(balance[:, ::-1], axis=1)[:, ::-1]


def _crossing(curve: Floats, points: Floats) -> Floats:
    """Where a curve that never falls reaches zero; the first or the last point if it does so outside."""
    after = np.count_nonzero(curve < 0, axis=1)
    rows, right = np.arange(len(curve)), np.clip(after, 1, curve.shape[1] - 1)
    start, end = curve[rows, right - 1], curve[rows, right]
    share = np.divide(-start, end - start, out=np.zeros_like(start), where=end > start)
    left = points[right - 1]
    reached: Floats = left + np.clip(share, 0.0, 1.0) * (points[right] - left)
    return reached


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ParameterInvalid(message)
