"""Exact aggregates in, noisy table out: the one place where protected numbers become public ones.

A `Release` says which integer columns are noised, how strongly, and what is charged for it. `perturb`
recomputes every claim and refuses to run on one that is too small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from privacy.accounting import threshold_above
from privacy.errors import PrivacyError
from privacy.mechanisms import charge_nano, discrete_gaussian
from privacy.tree import noised_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from privacy.tree import Tree

_NODES_AT_ONCE = 2**22


class ChargeMismatch(PrivacyError):
    """A release claims to cost less than it does. Nothing was drawn."""

    code = "charge_mismatch"
    hint = "Plan the query again; if it happens again, report it as a defect."


class ExactTableInvalid(PrivacyError):
    """The exact table is not of the release's shape. Nothing was drawn."""

    code = "exact_table_invalid"
    hint = "Report it as a defect of the planner or the engine."


@dataclass(frozen=True)
class Measure:
    """An integer column that is released with discrete Gaussian noise.

    Attributes:
        name: column of the exact table.
        sensitivity_squared: square of the L2 distance by which one unit can move the column, over all groups.
        sigma: noise scale, in the column's own (fixed point) unit.
        rho_nano: what is charged for it.
    """

    name: str
    sensitivity_squared: int
    sigma: float
    rho_nano: int


@dataclass(frozen=True)
class Histogram:
    """A list of leaves and their counts, released as the nodes of a tree over them (`privacy.tree`).

    Attributes:
        name: column of the exact table: lists of pairs ``b``, the leaf, and ``w``, an integer; NULL without
            any.
        level_squared: square of the L2 distance, over groups, by which one unit can move the counts, which
            are taken in L1 within a group.
        sigma: noise scale of every node.
        rho_nano: what is charged for it.
        tree: the public shape.
    """

    name: str
    level_squared: int
    sigma: float
    rho_nano: int
    tree: Tree

    @property
    def sensitivity_squared(self) -> int:
        """Square of the L2 distance by which one unit can move the nodes, over all groups."""
        return self.tree.sensitivity_squared(self.level_squared)


Noised = Measure | Histogram


@dataclass(frozen=True)
class Threshold:
    """Private keys: a row is shown iff the noisy `measure` is at least `value`.

    The measure must be a sum over units of what each adds to a group, none of it negative. Rows to which no
    unit adds anything are never shown, and draw no noise.

    Attributes:
        groups: to how many groups one unit adds anything, at most; None where it adds 1 to each, so that the
            squared sensitivity says it.
        most: what one unit adds to one group, at most.
    """

    measure: str
    value: int
    delta_pico: int
    groups: int | None = None
    most: int = 1


@dataclass(frozen=True)
class Release:
    """Key columns, noised measures and, for private keys, the threshold. Public: it depends on no data.

    Attributes:
        totals: numbers of all groups together, each noised once: columns that hold the same in every row.
    """

    keys: tuple[str, ...]
    measures: tuple[Noised, ...]
    threshold: Threshold | None = None
    totals: tuple[Noised, ...] = ()

    @property
    def noised(self) -> tuple[Noised, ...]:
        """The measures, then the totals."""
        return self.measures + self.totals

    @property
    def rho_nano(self) -> int:
        """Nano-rho of the whole release: the sum over its measures and totals."""
        return sum(measure.rho_nano for measure in self.noised)

    @property
    def delta_pico(self) -> int:
        """Pico-delta of the whole release: the threshold's, or 0."""
        return self.threshold.delta_pico if self.threshold else 0


def check_charges(release: Release) -> None:
    """Recompute each claim of the release, from sensitivity, sigma and threshold alone.

    Raises:
        ChargeMismatch: a measure's `rho_nano` is below its charge, the threshold is below the one its delta
        pays
            for, or it names no measure of this release.
    """
    for measure in release.noised:
        if measure.rho_nano < charge_nano(measure.sensitivity_squared, measure.sigma):
            raise ChargeMismatch(f"The measure {measure.name} costs more than the plan charges.")
    threshold = release.threshold
    if threshold is None:
        return
    counted = [measure for measure in release.measures if measure.name == threshold.measure]
    if not counted or not release.keys:
        raise ChargeMismatch("The threshold needs keys and a measure of its own release.")
    squared = counted[0].sensitivity_squared
    groups = squared if threshold.groups is None else threshold.groups
    needed = threshold_above(counted[0].sigma, squared, threshold.most, groups, threshold.delta_pico)
    if threshold.value < needed:
        raise ChargeMismatch("The threshold is lower than its delta pays for.")


def perturb(exact: pa.Table, release: Release) -> pa.Table:
    """Noise every measure, hide keys below the threshold, order rows by key.

    Args:
        exact: the key columns and, as integers of any width (or decimals of scale 0), the measures and
            totals; one row for each key, and exactly one row where there are no keys.
        release: what is released, at what scale and cost.

    Returns:
        Keys in their own types, then measures and totals as int64, histograms as lists of all nodes, the top
        level first; rows in key order, NULL last, never in scan order.

    Raises:
        ChargeMismatch: see `check_charges`.
        ExactTableInvalid: missing, further or repeated columns, a NULL or fractional measure, a repeated key.
    """
    check_charges(release)
    table = _validated(exact, release)
    totals = {total.name: _total(table, total) for total in release.totals}
    noisy: dict[str, pa.Array] = {}
    if release.threshold is not None:
        table, noisy = _shown(table, release, release.threshold)
    for measure in release.measures:
        if measure.name not in noisy:
            noisy[measure.name] = _noised(table, measure)
    columns = [table.column(key) for key in release.keys]
    columns += [pa.chunked_array([noisy[measure.name]]) for measure in release.measures]
    columns += [pa.array([number] * table.num_rows, pa.int64()) for number in totals.values()]
    return pa.table(columns, names=[*release.keys, *(measure.name for measure in release.measures), *totals])


def _shown(table: pa.Table, release: Release, threshold: Threshold) -> tuple[pa.Table, dict[str, pa.Array]]:
    """The rows whose noisy count reaches the threshold, and that count: hidden rows need no further noise."""
    measure = next(measure for measure in release.measures if measure.name == threshold.measure)
    table = table.filter(pc.greater(table.column(measure.name), 0))
    counts = _noised(table, measure)
    shown = pc.greater_equal(counts, threshold.value)
    return table.filter(shown), {measure.name: counts.filter(shown)}


def _total(table: pa.Table, total: Noised) -> int:
    """The noisy total; where nobody has a row there is none to read it from, and it is 0 and noise.

    Raises:
        ExactTableInvalid: it is not the same in every row.
    """
    values = pc.unique(table.column(total.name)).to_pylist() or [0]
    if len(values) > 1:
        raise ExactTableInvalid(f"The total {total.name} must be one number.")
    return discrete_gaussian([int(values[0])], total.sigma)[0]


def _noised(table: pa.Table, measure: Noised) -> pa.Array:
    if isinstance(measure, Histogram):
        return _noised_nodes(table.column(measure.name), measure)
    values = [int(value) for value in table.column(measure.name).to_pylist()]
    return pa.array(discrete_gaussian(values, measure.sigma), pa.int64())


def _noised_nodes(lists: pa.ChunkedArray, measure: Histogram) -> pa.Array:
    """Every node of each group's tree, drawn a few groups at a time."""
    size = max(_NODES_AT_ONCE // measure.tree.nodes, 1)
    parts = [_dense(lists.slice(start, size), measure) for start in range(0, len(lists), size)]
    drawn = [np.concatenate(noised_tree(one, measure.tree, measure.sigma), axis=1).ravel() for one in parts]
    nodes = np.concatenate(drawn) if drawn else np.empty(0, np.int64)
    return pa.FixedSizeListArray.from_arrays(pa.array(nodes, pa.int64()), measure.tree.nodes)


def _dense(lists: pa.ChunkedArray, measure: Histogram) -> NDArray[np.int64]:
    """One row for each list, one column for each leaf.

    Raises:
        ExactTableInvalid: a leaf that is none, or twice in a list.
    """
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    pairs = pc.list_flatten(lists)
    leaves = pc.struct_field(pairs, "b").to_numpy().astype(np.int64)
    counts = pc.struct_field(pairs, "w").to_numpy().astype(np.int64)
    places = np.repeat(np.arange(len(lengths)), lengths) * measure.tree.leaves + leaves
    inside = (leaves >= 0) & (leaves < measure.tree.leaves)
    if not inside.all() or len(np.unique(places)) < len(places):
        raise ExactTableInvalid(f"The histogram {measure.name} has leaves of its own.")
    dense = np.zeros(len(lengths) * measure.tree.leaves, np.int64)
    dense[places] = counts
    return dense.reshape(len(lengths), measure.tree.leaves)


def _validated(exact: pa.Table, release: Release) -> pa.Table:
    names = [*release.keys, *(measure.name for measure in release.noised)]
    if sorted(exact.column_names) != sorted(names) or len(set(names)) != len(names) or not release.noised:
        raise ExactTableInvalid("The exact table does not have the columns of the release.")
    for measure in release.noised:
        column = exact.column(measure.name)
        if isinstance(measure, Histogram):
            _check_lists(column, measure.name)
        elif not _is_integral(column.type) or column.null_count:
            raise ExactTableInvalid(f"The measure {measure.name} must be an integer in every row.")
    if not release.keys:
        if exact.num_rows != 1:
            raise ExactTableInvalid("A release without keys must have exactly one row.")
        return exact
    return _sorted(exact, release.keys)


def _check_lists(column: pa.ChunkedArray, name: str) -> None:
    kind = column.type
    pairs = kind.value_type if pa.types.is_list(kind) else None
    if pairs is None or not pa.types.is_struct(pairs) or {field.name for field in pairs} != {"b", "w"}:
        raise ExactTableInvalid(f"The histogram {name} must be lists of leaves and counts.")
    if any(not pa.types.is_integer(field.type) for field in pairs):
        raise ExactTableInvalid(f"The histogram {name} must have integers.")
    flat = pc.list_flatten(column)
    if flat.null_count or any(pc.struct_field(flat, field.name).null_count for field in pairs):
        raise ExactTableInvalid(f"The histogram {name} has a gap.")


def _is_integral(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or (pa.types.is_decimal(type_) and type_.scale == 0))


def _sorted(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Rows in key order, NULL last. A repeated key would let a unit move more rows than it is charged for."""
    for key in keys:
        table = _plain(table, key)
    by_key = [(key, "ascending", "at_end") for key in keys if not pa.types.is_null(table.column(key).type)]
    if table.group_by(list(keys), use_threads=False).aggregate([]).num_rows != table.num_rows:
        raise ExactTableInvalid("The exact table repeats a key.")
    return table.take(pc.sort_indices(table, sort_keys=by_key)) if by_key else table


def _plain(table: pa.Table, key: str) -> pa.Table:
    column = table.column(key)
    if not pa.types.is_dictionary(column.type):
        return table
    return table.set_column(table.column_names.index(key), key, column.cast(column.type.value_type))
