"""Runs a plan: exact part in the sandbox, noise, public part in the sandbox again."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from privacy.admission import admit
from privacy.algebra import tables_of
from privacy.engines.duckdb import SALT_TABLE, released_table
from privacy.errors import EngineFailed
from privacy.files import Files, TablesMissing, check_private_files, files_of
from privacy.picking import picked
from privacy.release import perturb
from privacy.released import Released
from privacy.sandbox import Limits, Sandbox, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privacy.layout import Layout
    from privacy.plan import Plan
    from privacy.planned import PlannedRelease

Interval = tuple[float, float]

MIN_SALT_BYTES = 16
EXACT_BYTES = 2**30
"""Room for the exact table: its size follows the data, so that the limit on results does not apply to it."""


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        table: exactly the asked columns (and, on request, ``<column>_low`` and ``<column>_high``). Its schema
            metadata states mechanism, noise, caps and cost under the key ``privacy`` as JSON.
        intervals: for each column with noise, the 95% interval of each row, or None where there is none.
            It covers noise, not what the caps left out.
        released: the noisy numbers behind it, to keep: with them the same question is free, and more rho
            costs the difference.
    """

    table: pa.Table
    intervals: dict[str, list[Interval | None]]
    released: Released


def answer(
    plan: Plan,
    tables: Files,
    *,
    salt: bytes,
    sandbox: Sandbox | None = None,
    admitted: bool = False,
    layout: Layout | None = None,
) -> Answer:
    """Answer a plan from Parquet files.

    Args:
        tables: files of each table that the plan reads, by name.
        salt: secret of the dataset version; fixes which groups of a unit are kept, so that repeats keep
        the same.
        sandbox: where the engine runs; without one, a sandbox is made for this answer alone.
        admitted: `admit` has already passed for this plan and these public tables.
        layout: what is kept beside the files; the answer is the same without it, and later.

    Raises:
        TablesMissing: a table's files or the salt are missing.
        TablesUnfit: a private table's file is not one that every question can be answered from.
        Refused: ``join_multiplies``, unless already admitted.
        EngineFailed: the engine did not answer.
    """
    files = files_of(plan.tables, tables)
    if len(salt) < MIN_SALT_BYTES:
        raise TablesMissing(f"The salt must have at least {MIN_SALT_BYTES} bytes.")
    if sandbox is None:
        with Sandbox(Limits(), workers=1) as own:
            return answer(plan, tables, salt=salt, sandbox=own, admitted=admitted, layout=layout)
    if not admitted:
        admit(plan, tables, sandbox=sandbox)
    check_private_files(plan, files, sandbox)
    usable = layout if layout is not None and layout.policy.tables == plan.policy.tables else None
    return _answer(plan, _Reading(files, salt, sandbox, usable))


@dataclass(frozen=True)
class _Reading:
    """What an answer is read from, and where."""

    files: dict[str, tuple[str, ...]]
    salt: bytes
    sandbox: Sandbox
    layout: Layout | None


def _answer(plan: Plan, reading: _Reading) -> Answer:
    files, sandbox = reading.files, reading.sandbox
    released = Released(tuple(one.released(_noisy(one, reading)) for one in plan.releases))
    given = {
        released_table(place): one.shown(table.table)
        for place, (one, table) in enumerate(zip(plan.releases, released.tables, strict=True))
    }
    computed = picked(plan, list(given.values()))
    if computed is None or computed.nbytes > sandbox.limits.result_bytes:
        public = {name: files[name] for name in plan.public_tables}
        computed = sandbox.run(Task(plan.public_sql, public, given))
    return _shown(plan, computed, released)


def _noisy(one: PlannedRelease, reading: _Reading) -> pa.Table | None:
    """The exact part with noise; nothing is read where earlier numbers suffice."""
    if one.drawn is None:
        return None
    exact = _laid(one, reading)
    if exact is None:
        read = {name: reading.files[name] for name in tables_of(one.question.input)}
        exact = _exact(one, one.candidates_sql, read, reading)
    columns = [*one.drawn.keys, *(noised.name for noised in one.drawn.noised)]
    return perturb(exact.select(columns), one.drawn)


def _laid(one: PlannedRelease, reading: _Reading) -> pa.Table | None:
    """The exact part from the layout; None where it does not serve, or its files cannot be read: those may
    be removed or spoiled at any time, and nobody's answer is to hang on that."""
    if reading.layout is None:
        return None
    served = reading.layout.serving(one.lowered.aggregate, reading.files, one.choice.sizes)
    if served is None:
        return None
    try:
        return _exact(one, served.sql, served.files, reading)
    except EngineFailed as failed:
        if failed.code != "query_failed":
            raise
        return None


def _exact(one: PlannedRelease, sql: str, read: Mapping[str, tuple[str, ...]], reading: _Reading) -> pa.Table:
    salted = {SALT_TABLE: pa.table({"salt": [reading.salt.hex()]})} if SALT_TABLE in sql else {}
    bound = one.lowered.aggregate.input
    few = bound.grid or not bound.keys  # the public keys say how many rows there are
    return reading.sandbox.run(Task(sql, read, salted, EXACT_BYTES, at_once=few))


def _shown(plan: Plan, computed: pa.Table, released: Released) -> Answer:
    """The computed columns under the asked names."""
    names: list[str] = []
    columns: list[Any] = []
    intervals: dict[str, list[Interval | None]] = {}
    for place, (column, ends) in enumerate(zip(plan.columns, plan.interval_ends, strict=True)):
        names.append(column.name)
        columns.append(computed.column(f"o{place}"))
        if ends is None:
            continue
        low, high = computed.column(f"l{place}"), computed.column(f"h{place}")
        pairs = zip(low.to_pylist(), high.to_pylist(), strict=True)
        intervals[column.name] = [
            None if one is None or other is None else (one, other) for one, other in pairs
        ]
        if plan.options.intervals:
            names += [f"{column.name}_low", f"{column.name}_high"]
            columns += [low, high]
    table = pa.Table.from_arrays(columns, names=names)
    stated = {"privacy": json.dumps(metadata(plan), sort_keys=True, allow_nan=False)}
    return Answer(table.replace_schema_metadata(stated), intervals, released)


def metadata(plan: Plan) -> dict[str, Any]:
    """What a reader must know to use the numbers: mechanism, noise, caps and cost. The same for any data."""
    if not plan.releases:
        return {"mechanism": "none: public tables only", "rho_nano": 0, "delta_pico": 0, "plan": plan.digest}
    return {
        "mechanism": "discrete gaussian",
        "rho_nano": plan.cost.rho_nano,
        "delta_pico": plan.cost.delta_pico,
        "epsilon": _finite(plan.epsilon),
        "epsilon_at_delta_pico": plan.policy.delta_pico,
        "releases": [_bounds(one) for one in plan.releases],
        "columns": {
            column.name: {
                "kind": column.kind,
                "sigma": _finite(column.sigma),
                "half_width": _finite(column.half_width),
                "half_width_by_rows": _stated(column.table),
                "note": column.note,
                "expected_bias": _finite(column.expected_bias),
                "interval_holds": "before the threshold selects" if column.before_threshold else "as shown",
            }
            for column in plan.columns
        },
        "plan": plan.digest,
    }


def _stated(widths: Mapping[int, float] | None) -> dict[int, float | None] | None:
    """JSON has no number for a width without bound: it is null."""
    if widths is None:
        return None
    return {size: _finite(width) for size, width in widths.items()}


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _bounds(one: PlannedRelease) -> dict[str, Any]:
    """How a unit's contribution to one release was bounded."""
    aggregate, threshold, units = one.lowered.aggregate, one.release.threshold, one.lowered.units
    bound = aggregate.input
    capped = not bound.scales
    return {
        "strategy": bound.strategy,
        "max_groups": bound.groups if bound.keys and capped else None,
        "max_rows_per_group": bound.rows if bound.keys and capped else None,
        "max_rows": bound.rows if capped and not bound.keys else None,
        "lengths": [math.sqrt(summed.norm_squared) for summed in aggregate.sums],  # squares outgrow JSON
        "threshold_units": None
        if threshold is None or units is None
        else threshold.value / (1 << units.shift),
    }
