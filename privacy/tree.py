"""Noisy b-ary trees over histograms: any run of leaves is a sum of few nodes, so that its noise stays small.

A group's leaves (public bins) are summed upward into a tree whose nodes have up to `branching` children;
every node is released with discrete Gaussian noise of one sigma, and the estimates are made consistent, so
that each node is the sum of its children ([H10]). The tree is ragged, not padded: what is known to be empty
costs no noise.

Privacy. Let c_g be an L1 bound of the change of group g's leaf vector when all rows of one unit are added or
removed, and D2 an upper bound of the sum over groups of c_g^2. A level's nodes of a group are sums over
disjoint runs of its leaves, so the vector of a level changes by at most c_g in L1, hence by at most c_g in
L2; over all groups a level changes by at most sqrt(D2) in L2. The tree is one vector made of `levels` such
parts: its squared L2 sensitivity is at most levels * D2, and the Gaussian mechanism releases it at rho =
levels * D2 / (2 sigma^2). The bound is attained: a unit with all its rows in one bin moves one node of each
level by c_g. Everything after the noise is post-processing of it.

The root itself is not released: the top level's sum estimates it, and one more level costs what it gains (at
equal rho the mean variance of a prefix sum differs by less than 5% at 64 to 4,096 leaves).

Sources:
    [H10] Hay, Rastogi, Miklau, Suciu, "Boosting the Accuracy of Differentially Private Histograms Through
          Consistency", VLDB 2010. Here with unequal variances, so that ragged trees are exact too: the
          estimates are the generalised least squares of all nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from privacy.accounting import ParameterInvalid
from privacy.mechanisms import CLAMP, discrete_gaussian

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

MAX_LEAVES = 2**16
_MAX_BRANCHING = 64
_WASTE = 1.05  # variance given away for fewer nodes: each of them costs a draw


@dataclass(frozen=True)
class Tree:
    """The public shape of a tree.

    Attributes:
        leaves: number of bins of a group.
        branching: most children of a node; `leaves` or more makes a flat histogram.

    Raises:
        ParameterInvalid: leaves not in [1, 65536], or branching below 2.
    """

    leaves: int
    branching: int

    def __post_init__(self) -> None:
        if not 1 <= self.leaves <= MAX_LEAVES or self.branching < 2:
            raise ParameterInvalid("A tree has 1 to 65536 leaves and a branching of at least 2.")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Nodes of each level, the top one first and the leaves last."""
        sizes = [self.leaves]
        while sizes[0] > self.branching:
            sizes.insert(0, -(-sizes[0] // self.branching))
        return tuple(sizes)

    @property
    def levels(self) -> int:
        """Number of released levels: what one unit's change is multiplied by."""
        return len(self.sizes)

    @property
    def nodes(self) -> int:
        """Released values of one group."""
        return sum(self.sizes)

    def sensitivity_squared(self, level_squared: int) -> int:
        """Squared L2 sensitivity of the whole tree: see the proof above.

        Args:
            level_squared: D2, the bound of the sum over groups of the squared L1 change of a group's leaves.
        """
        return self.levels * level_squared


@lru_cache(maxsize=256)
def best_tree(leaves: int) -> Tree:
    """The shape with the fewest nodes whose mean variance, at equal rho, is within 5% of the least.

    The variance is that of the balance `below - above` of a cut, averaged over the cuts: what quantiles need.
    """
    widths = [*range(2, min(leaves, _MAX_BRANCHING) + 1), max(leaves, 2)]
    shapes = [Tree(leaves, width) for width in widths]
    costs = [shape.levels * float(balance_variances(shape, 1.0, 0.5).mean()) for shape in shapes]
    good = [shape for shape, cost in zip(shapes, costs, strict=True) if cost <= _WASTE * min(costs)]
    return min(good, key=lambda shape: (shape.nodes, shape.branching))


def noised_tree(counts: Integers, shape: Tree, sigma: float) -> list[Integers]:
    """All nodes of every group's tree with independent discrete Gaussian noise.

    Leaves are first clamped to +-2^62 / leaves, which no change outgrows and which keeps sums within int64.

    Args:
        counts: exact integers, one row for each group and one column for each leaf.
        shape: the tree.
        sigma: noise scale of every node.

    Returns:
        For each level, the top one first, noisy integers of shape (groups, nodes of the level).

    Raises:
        ParameterInvalid: counts are not int64 of that width, or sigma is not usable.
    """
    if counts.dtype != np.int64 or counts.ndim != 2 or counts.shape[1] != shape.leaves:
        raise ParameterInvalid("The counts must be int64, one column for each leaf.")
    reach = CLAMP // shape.leaves
    exact = [np.clip(counts, -reach, reach)]
    for _ in shape.sizes[1:]:
        exact.insert(0, _sums(exact[0], shape))
    noisy = discrete_gaussian(np.concatenate([level.ravel() for level in exact]), sigma)
    cuts = np.cumsum([level.size for level in exact])[:-1]
    return [part.reshape(level.shape) for part, level in zip(np.split(noisy, cuts), exact, strict=True)]


def leaf_estimates(levels: Sequence[Integers | Floats], shape: Tree) -> Floats:
    """The least-squares leaves of each group: unbiased, and any sum of them has the least variance there is.

    Upward, a node's own noisy value and the sum of its children are weighted by their precision; downward,
    what a node knows beyond its children is shared among them in proportion to their variances.
    """
    ups = _upward_variances(shape)
    estimates = [np.asarray(levels[-1], np.float64)]
    sums: list[Floats] = []
    for own, variances in zip(levels[-2::-1], ups[:0:-1], strict=True):
        below, spread = _sums(estimates[0], shape), _sums(variances, shape)
        sums.insert(0, below)
        estimates.insert(0, (below + spread * np.asarray(own, np.float64)) / (spread + 1))
    final = estimates[0]
    for level in range(1, shape.levels):
        spread = _sums(ups[level], shape)
        surplus = (final - sums[level - 1]) / spread
        final = estimates[level] + ups[level] * surplus[:, _parents(shape, level)]
    return final


def prefix_variances(shape: Tree, sigma: float) -> Floats:
    """Variance of the estimated sum of the first i leaves, for i = 0 to `leaves`; exact for variance sigma^2.

    A discrete Gaussian's variance is at most sigma^2, so that it is an upper bound where sigma is small.
    """
    return _prefix_moments(shape)[0] * sigma**2


def balance_variances(shape: Tree, sigma: float, q: float) -> Floats:
    """Variance of `below - q * total` at each of the `leaves + 1` cuts; exact as in `prefix_variances`."""
    variances, with_total = _prefix_moments(shape)
    result: Floats = (variances - 2 * q * with_total + q * q * variances[-1]) * sigma**2
    return result


@lru_cache(maxsize=256)
def _prefix_moments(shape: Tree) -> tuple[Floats, Floats]:
    """For each prefix, its variance and its covariance with the total, at sigma = 1."""
    variances, with_total = _ascend(shape)
    return _frozen(np.concatenate([[0.0], variances])), _frozen(np.concatenate([[0.0], with_total]))


def _ascend(shape: Tree) -> tuple[Floats, Floats]:
    """The same for the prefixes that end with each leaf, from the leaves to the root.

    Within a node, a prefix is its earlier children and a prefix within one child; estimates of siblings from
    their own subtrees are independent. The node's noisy value y = s + e, s the sum of its children's
    estimates with variance S, e of variance 1, changes an estimate f to f + cov(f, s) (y - s) / (S + 1): its
    variance falls by cov^2 / (S + 1), and its covariance with the node's new estimate is cov / (S + 1).
    """
    ups = _upward_variances(shape)
    nodes = np.arange(shape.leaves)
    variances = covariances = np.ones(shape.leaves)
    for level in range(shape.levels - 1, -1, -1):
        parents = nodes // shape.branching if level else np.zeros_like(nodes)
        before = np.concatenate([[0.0], np.cumsum(ups[level])])
        left = before[nodes] - before[parents * shape.branching]
        variances, covariances = variances + left, covariances + left
        if level:
            spread = _sums(ups[level], shape)[parents] + 1
            variances, covariances = variances - covariances**2 / spread, covariances / spread
        nodes = parents
    return variances, covariances


@lru_cache(maxsize=256)
def _upward_variances(shape: Tree) -> tuple[Floats, ...]:
    """Variance of each node's estimate from its own subtree alone, at sigma = 1; top level first."""
    ups = [np.ones(shape.leaves)]
    for _ in shape.sizes[1:]:
        spread = _sums(ups[0], shape)
        ups.insert(0, spread / (spread + 1))
    return tuple(_frozen(variances) for variances in ups)


def _sums(values: NDArray[Any], shape: Tree) -> NDArray[Any]:
    """Sums of each parent's children, along the last axis."""
    starts = np.arange(0, values.shape[-1], shape.branching)
    return np.add.reduceat(values, starts, axis=-1)


def _parents(shape: Tree, level: int) -> NDArray[np.intp]:
    return np.arange(shape.sizes[level]) // shape.branching


def _frozen(values: Floats) -> Floats:
    values.setflags(write=False)  # it is cached
    return values
