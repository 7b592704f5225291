"""Counts of many public values at once, and what is told from counts: the most frequent, any, all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from privacy.algebra import Sum
from privacy.measures.estimates import Asked, Estimate, Facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from privacy.algebra import Measure
    from privacy.values import Value

_TYPES = {
    "boolean": pa.bool_(), "integer": pa.int64(), "float": pa.float64(), "decimal": pa.float64(),
    "text": pa.string(), "date": pa.date32(), "timestamp": pa.timestamp("us"),
}  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """A flat histogram over labels: a map of noisy counts, or a list of the labels with the largest ones."""

    column: str
    top: bool = False

    @property
    def interval(self) -> bool:
        """Whether its column has an interval."""
        return not self.top

    def sums(self, measure: Measure) -> tuple[Sum, ...]:
        """The one histogram, without sums over runs of leaves."""
        leaves = len(measure.labels)
        return (Sum("", "histogram", measure.value, measure.condition, 0, 1, leaves=leaves, levels=1),)

    def estimate(self, asked: Asked, columns: Sequence[NDArray[Any]]) -> Estimate:
        """Counts and their interval, or the labels by falling count, those with a positive one."""
        labels = _labels(asked.measure)
        counts = np.rint(columns[0]).astype(np.int64)
        if not self.top:
            return Estimate(*(_maps(labels, counts + side * asked.widths[0]) for side in (0, -1, 1)))
        size = int(asked.measure.parameters[0])
        order = np.argsort(-counts, axis=1, kind="stable")[:, :size]
        lengths = (np.take_along_axis(counts, order, axis=1) > 0).sum(axis=1)
        shown = np.concatenate([row[:length] for row, length in zip(order, lengths, strict=True)] or [[]])
        values = labels.take(pa.array(shown.astype(np.int64)))
        lists = pa.ListArray.from_arrays(_offsets(lengths), values)
        nothing = pa.nulls(len(lists), lists.type)
        return Estimate(lists, nothing, nothing)

    def facts(self, asked: Asked) -> Facts:
        """The error of each count."""
        width = asked.widths[0]
        if not self.top:
            return Facts(asked.sigmas[0], float(width), note="of each count")
        return Facts(asked.sigmas[0], note=f"of each of the counts that decide: 95% within {width:,}")


@dataclass(frozen=True)
class Decided:
    """Whether any unit has a row that counts, told from the noisy number of units that have one.

    Attributes:
        negated: whether it is asked whether none has.
    """

    column: str
    negated: bool

    interval = False

    def sums(self, measure: Measure) -> tuple[Sum, ...]:
        """The number of units that decide it."""
        return (Sum("", "units", None, measure.condition, 0, 1),)

    def estimate(self, asked: Asked, columns: Sequence[NDArray[Any]]) -> Estimate:
        """True or false in each group: more units than noise alone explains, or not."""
        found = columns[0] > asked.widths[0]
        value = pa.array(~found if self.negated else found)
        nothing = pa.nulls(len(value), value.type)
        return Estimate(value, nothing, nothing)

    def facts(self, asked: Asked) -> Facts:
        """How often it is wrong."""
        width = asked.widths[0]
        note = (
            "approximate: at most 2.5% of the time wrong where no unit decides it, and where "
            f"{2 * width + 1:,} units or more do; fewer may go unseen"
        )
        return Facts(asked.sigmas[0], note=note)


def _labels(measure: Measure) -> pa.Array:
    kind = measure.labels[0].type
    values = [_plain(label.value, kind) for label in measure.labels]
    return pa.array(values, _TYPES[kind])


def _plain(value: Value | None, kind: str) -> Any:
    """What lies beyond the last boundary has no end."""
    if kind not in ("float", "decimal"):
        return value
    return np.inf if value is None else float(value)  # type: ignore[arg-type]


def _maps(labels: pa.Array, counts: NDArray[np.int64]) -> pa.Array:
    groups = len(counts)
    keys = pa.concat_arrays([labels] * groups) if groups else labels.slice(0, 0)
    offsets = _offsets(np.full(groups, len(labels)))
    return pa.MapArray.from_arrays(offsets, keys, pa.array(counts.ravel()))


def _offsets(lengths: NDArray[Any]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


LABELLED: dict[str, Labelled | Decided] = {
    "histogram": Labelled("histogram"),
    "top_k": Labelled("top_k", top=True),
    "bool_and": Decided("bool_and", negated=True),
    "bool_or": Decided("bool_or", negated=False),
}
"""By kind of measure."""
