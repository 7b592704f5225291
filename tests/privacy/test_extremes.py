"""The arithmetic of scaling at its ends: parts that no table could hold, given to the engine as they are.

Each statement runs as it would on stored rows, with lengths measured and with lengths stored. The engine
fails where an integer does not fit, and a failure that hangs on data would tell of them: so that it runs,
whatever a unit has, is half of what is shown here.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

import privacy
from privacy.algebra import Aggregate, Sum, Total
from privacy.bounding import FINENESS
from privacy.engines import duckdb
from privacy.engines.duckdb import Known, exact_sql
from privacy.engines.duckdb.factors import PRECISION, fits_bigint, held, narrow, scaled
from tests.privacy.test_sensitivity import POLICY, TYPES

SQL = "SELECT code, sum(cost) AS s, avg(cost) AS a FROM visits GROUP BY code"
NORMS = [1, 2**24, 2**25 - 1, 2**25, 2**26, 2**30 - 1, 2**30, 2**31, 2**32, 2**36, 2**46, 2**60]
BOUNDS = [
    (0, 1),
    (-10, 25),
    (-25, -10),
    (1000, 1001),
    (-(2**31), 2**31),
    (2**31 - 1, 2**31),
    (-(2**31), -(2**31) + 1),
    (0, 2**31 + 1),
    (-(10**12), 10**12),
    (-(2**48), 2**47),
]
COUNTS = [1, 2, 3, 1000, 2**13, 2**31 - 1, 2**31, 2**31 + 1, 2**40, 2**62]
Unit = list[tuple[int, int]]
"""The count and the total of each of a unit's groups."""


def _aggregate(low: int, high: int, strategy: str) -> Aggregate:
    document: dict[str, Any] = copy.deepcopy(POLICY)
    document["tables"]["visits"]["columns"]["cost"] = {"bounds": [low, high]}
    policy = privacy.Policy.from_document(document, TYPES)
    plan = privacy.plan(SQL, policy, rho=1.0, options=privacy.Options(strategy=strategy))
    return plan.releases[0].lowered.aggregate


def _limited(one: Sum, norm: int, middle: int) -> Sum:
    """A sum with another limit and another middle, as the planner would make it."""
    less = middle - one.middle if one.kind == "centred" else 0
    moved = dataclasses.replace(one, middle=one.middle + less, low=one.low - less, high=one.high - less)
    return dataclasses.replace(moved, norm_squared=norm**2, shift=max(FINENESS - norm.bit_length(), 0))


def _with(aggregate: Aggregate, norms: Iterator[int], middle: int, totals: bool) -> Aggregate:
    """Limits in place of the planner's, and if told so totals of what the unit has and of what is left."""
    sums, limits = (
        tuple(_limited(one, next(norms), middle) for one in part)
        for part in (aggregate.sums, aggregate.limits)
    )
    added = [
        Total(f"{name}{one.name}", one, 2**40, kept=name == "k") for name in "tk" for one in sums if totals
    ]
    return dataclasses.replace(aggregate, sums=sums, limits=limits, totals=tuple(added), shown_by=None)


def _units(low: int, high: int) -> list[Unit]:
    """At both ends and in the middle of what so many rows may come to, in one group and in many."""
    ends: list[Unit] = [[(count, count * one)] for count in COUNTS for one in (low, high, (low + high) // 2)]
    mixed = [(count, count * (low if place % 2 else high)) for place, count in enumerate(COUNTS)]
    many: list[Unit] = [[(2**62, 2**62 * high)] * 200, [(2**31, 2**31 * low)] * 200, [(1, high)] * 500]
    return [*ends, mixed, *many]


def _given(units: list[Unit]) -> pa.Table:
    """Each unit with groups of its own, so that what it comes to is seen. Totals have 128 bits."""
    rows = [(u, f"{u} {g}", n, str(t)) for u, groups in enumerate(units) for g, (n, t) in enumerate(groups)]
    kinds = {"u": pa.int32(), "k": pa.string(), "n": pa.int64(), "t": pa.string()}
    return pa.table(
        {name: pa.array([row[place] for row in rows], kinds[name]) for place, name in enumerate(kinds)}
    )


def _parts_sql(aggregate: Aggregate) -> str:
    (key,) = aggregate.input.keys
    columns = ["u", f"k AS {key.name}"]
    for one in aggregate.sums + aggregate.limits:
        columns.append(f"n AS n_{one.name}")
        columns += [f"CAST(t AS HUGEINT) AS t_{one.name}"] if one.argument is not None else []
    return f"SELECT {', '.join(columns)} FROM given"


def _lengths_sql(aggregate: Aggregate) -> str | None:
    """What factors are made of, from what is stored of the parts; None where that does not tell it."""
    total = duckdb.StoredTotal("t", next(one for one in aggregate.sums if one.kind == "total"), "n")
    rows = 'SELECT u AS "#unit", u AS "#owner", n, CAST(t AS HUGEINT) AS t FROM given'
    numbers = {f"{of}_{one.name}": of for one in aggregate.sums + aggregate.limits for of in "nt"}
    measured = duckdb.measured_sql(aggregate, numbers, [total])
    if measured is None:
        return None
    stored = duckdb.lengths_of(duckdb.Selected("", (), ()), rows, ["n"], [total]).sql
    return f"WITH _lengths AS ({stored}) {measured}"


def _value(one: Sum, count: int, total: int) -> int:
    return {"units": min(count, 1), "rows": count, "total": total}.get(one.kind, total - count * one.middle)


def _check(aggregate: Aggregate, units: list[Unit], found: list[dict[str, Any]]) -> None:
    """No unit is longer than its limit; what is well within all limits is what it was."""
    (key,) = aggregate.input.keys
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in found:
        rows.setdefault(int(row[key.name].split()[0]), []).append(row)
    for u, groups in enumerate(units):
        mine = sorted(rows[u], key=lambda row: int(row[key.name].split()[1]))
        for one in aggregate.sums:
            assert sum(row[one.name] ** 2 for row in mine) <= one.sensitivity_squared
        values = {one: [_value(one, n, t) for n, t in groups] for one in aggregate.sums + aggregate.limits}
        few = all(n <= 2**13 for n, _ in groups)  # so many are counted as they are, however large numbers are
        if few and all((2 * sum(map(abs, of))) ** 2 <= one.norm_squared for one, of in values.items()):
            for one in aggregate.sums:
                assert [row[one.name] for row in mine] == [value << one.shift for value in values[one]]


@pytest.mark.parametrize("strategy", ["clip", "weights"])
@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_whatever_a_unit_has_it_is_no_longer_than_its_limit(
    low: int, high: int, strategy: str, engine: Any
) -> None:
    """Narrow limits and wide ones, one for all sums or one for each, around any middle: nothing overflows,
    lengths stored are lengths measured to the last bit, and no unit's numbers outgrow what is charged for."""
    asked, units, drawn = _aggregate(low, high, strategy), _units(low, high), random.Random(low + high)
    given, middles = _given(units), itertools.cycle([(low + high) // 2, low, high])
    limits: list[Iterator[int]] = [itertools.repeat(norm) for norm in NORMS]
    limits += [iter([drawn.choice(NORMS) for _ in range(8)]) for _ in range(4)]
    stored = 0
    for place, norms in enumerate(limits):
        aggregate = _with(asked, norms, next(middles), totals=place % 4 == 3)
        parts = _parts_sql(aggregate)
        found = engine(exact_sql(aggregate, Known(parts)), {"given": given}).to_pylist()
        _check(aggregate, units, found)
        lengths = _lengths_sql(aggregate)
        if lengths is not None:
            stored += 1
            assert engine(exact_sql(aggregate, Known(parts, lengths)), {"given": given}).to_pylist() == found
    told = max(abs(low), abs(high)) <= 2**31 and not (strategy == "weights" and low < 0)
    assert (stored > 0) is told


def _draws(one: Sum, drawn: random.Random) -> Iterator[tuple[int, int]]:
    """Values that the sum may have, and factors that they may have been given: also the largest of both."""
    most, norm = 2**62, 2 ** ((one.norm_squared.bit_length() - 1) // 2)
    for bits in range(63):
        for value in (2**bits, 2**bits - 1, drawn.randrange(2**bits, 2 ** (bits + 1)), norm, norm + 1):
            held = min(value, most)
            largest = min(2**PRECISION, (norm << PRECISION) // max(held, 1))
            for factor in {largest, max(largest - 1, 0), drawn.randint(0, largest), min(1, largest)}:
                yield held, factor
                yield -held, factor


@pytest.mark.parametrize("bits", [26, 29, 30, 31, 32, 36, 40, 46, 50, 60])
def test_two_products_are_one(bits: int, engine: Any) -> None:
    """A value times its factor, cut toward zero, against integers without an end: the same for every sign."""
    drawn, compared = random.Random(bits), 0
    (total,) = (one for one in _aggregate(-(2**31), 2**31, "clip").sums if one.kind == "total")
    for reach in (2**15, 2**25, 2**31):
        wide = dataclasses.replace(_limited(total, 2**bits, 0), low=-reach, high=reach)
        for shift in sorted({0, wide.shift, max(FINENESS - bits, 0)}):
            one = dataclasses.replace(wide, shift=shift)
            if narrow(one) or not fits_bigint(one):
                continue
            pairs = [(v, w) for v, w in _draws(one, drawn) if abs(v) <= min(reach << 31, 2**62)]
            compared += _compare(one, pairs, engine)
    assert compared > 1000 or bits < 31


def _compare(one: Sum, pairs: list[tuple[int, int]], engine: Any) -> int:
    values = {"t": [str(value) for value, _ in pairs], "w": [factor for _, factor in pairs]}
    named = f"SELECT CAST(t AS HUGEINT) AS t_{one.name}, w AS w_{one.name}, 1 AS n_{one.name} FROM given"
    shown = f"SELECT {held(one)} AS v, w_{one.name} AS w, {scaled(one)} AS part FROM ({named})"
    found, steps = engine(shown, {"given": pa.table(values)}).to_pylist(), 2 ** (PRECISION - one.shift)
    for row in found:
        assert row["part"] == abs(row["v"]) * row["w"] // steps * (1 if row["v"] >= 0 else -1)
    return len(pairs)
