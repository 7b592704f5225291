"""The aggregates: which integer sums each is computed from, and what is made of their released values.

An aggregate over private rows is lowered to integer sums (`sums_of`), which are bounded, summed exactly and
noised; from the noisy numbers its value and interval are computed (`estimate`), and from their scales alone
its error is stated before anything is read (`facts`). Nothing here sees an exact number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from privacy.measures.counts import COUNTS, Counted
from privacy.measures.estimates import Asked, Estimate, Facts, unshifted
from privacy.measures.labelled import LABELLED
from privacy.measures.moments import STATISTICS
from privacy.measures.quantiles import QUANTILES
from privacy.measures.sums import tree_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from privacy.algebra import Measure, Sum
    from privacy.measures.labelled import Decided, Labelled
    from privacy.measures.moments import Statistic
    from privacy.measures.quantiles import Quantile

    Kind = Counted | Statistic | Quantile | Labelled | Decided

__all__ = [
    "KINDS", "Asked", "Estimate", "Facts", "estimate", "facts", "scale_of", "sums_of", "tree_of", "unshifted",
]  # fmt: skip

KINDS: Mapping[str, Kind] = {**COUNTS, **STATISTICS, **QUANTILES, **LABELLED}
"""By kind of measure, how it is computed and what its column is called."""


def sums_of(measure: Measure) -> tuple[Sum, ...]:
    """The integer sums that a measure is computed from, each with the range of what one row adds.

    Raises:
        Refused: ``overflow``.
    """
    return KINDS[measure.kind].sums(measure)


def estimate(asked: Asked, columns: Sequence[NDArray[Any]]) -> Estimate:
    """A measure's value and interval in each group, from its released sums."""
    return KINDS[asked.measure.kind].estimate(asked, columns)


def facts(asked: Asked) -> Facts:
    """A measure's error, from public numbers alone."""
    return KINDS[asked.measure.kind].facts(asked)


def scale_of(measure: Measure) -> int | None:
    """Decimals of a measure that is one released sum; None where it is made of several."""
    kind = KINDS[measure.kind]
    return kind.decimals(measure) if isinstance(kind, Counted) else None
