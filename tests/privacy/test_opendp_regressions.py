"""Defects of OpenDP 0.16 that this engine does not inherit, each by the number of its report.

For each, what was wrong there is put to our own doors. Where OpenDP still shows it here, a second test says
so and fails once that is mended: then read its report again and decide what may be used. The three of its
Polars layer (#2939, #2941, #2949) need polars to be shown; the engine needs none.
"""

from __future__ import annotations

import math
import random
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import opendp.prelude as dp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from privacy.accounting import choice_rho_nano, sigma_for, threshold_for
from privacy.mechanisms import charge_choice_nano, charge_nano
from privacy.release import Measure, Release, Threshold, perturb
from tests.privacy.conftest import SALT
from tests.statistics.chance import probability_at_least

FALSE_ALARM = 1e-6
MENDED = "OpenDP has mended this: read the report again"
SILENT = 0.01  # at this sigma P(noise != 0) < 1e-2000
BIG = 2**38
POLICY = {
    "domain": "people:test",
    "rho": 10.0,
    "delta": 1e-6,
    "max_rho_per_query": 5.0,
    "tables": {
        "visits": {
            "unit": "person",
            "max_groups": 100,
            "max_rows_per_group": 1,
            "max_rows": 100,
            "columns": {
                "far": {"bounds": [BIG, BIG + 1], "decimals": 2},
                "x": {"bounds": [-1e6, 1e6], "decimals": 0},
                "g": {"keys": list(range(100))},
            },
        },
    },
}
TYPES = {"visits": {"person": "integer", "far": "float", "x": "float", "g": "integer"}}


@pytest.fixture
def plan() -> Any:
    policy = privacy.Policy.from_document(POLICY, TYPES)
    return lambda sql, **given: privacy.plan(sql, policy, **({"rho": 1.0} | given))


def visits(rows: list[dict[str, Any]], floats: pa.DataType | None = None) -> pa.Table:
    types = {"integer": pa.int64(), "float": floats or pa.float64()}
    return pa.Table.from_pylist(
        rows, pa.schema([(name, types[kind]) for name, kind in TYPES["visits"].items()])
    )


def moved(plan: privacy.Plan, exact: Any, one: pa.Table, other: pa.Table) -> list[int]:
    """For each measure, the squared distance of the exact numbers of two databases."""
    released = plan.releases[0].release
    tables = []
    for rows in (one, other):
        lines = exact(plan, {"visits": rows}).to_pylist()
        tables.append({tuple(line.pop(key) for key in released.keys): line for line in lines})
    first, second = tables
    return [
        sum(
            (first.get(key, {}).get(measure.name, 0) - second.get(key, {}).get(measure.name, 0)) ** 2
            for key in first.keys() | second.keys()
        )
        for measure in released.measures
    ]


def claimed(plan: privacy.Plan) -> list[int]:
    return [measure.sensitivity_squared for measure in plan.releases[0].release.measures]


# #2922: keys at the threshold itself are shown, and their probability was left out of delta.


def shown(counts: list[int], sigma: float, value: int) -> int:
    """Keys that `perturb` shows."""
    measure = Measure("n", 1, sigma, charge_nano(1, sigma))
    release = Release(("k",), (measure,), Threshold("n", value, 10**11))
    exact = pa.table({"k": pa.array(range(len(counts)), pa.int64()), "n": pa.array(counts, pa.int64())})
    return int(perturb(exact, release).num_rows)


def test_2922_a_count_at_the_threshold_is_shown_one_below_is_not() -> None:
    value = threshold_for(SILENT, 1, 10**11)
    assert shown([value], SILENT, value) == 1
    assert shown([value - 1], SILENT, value) == 0


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("delta", [10**6, 10**10, 10**11])
def test_2922_delta_holds_the_probability_of_the_threshold_itself(sigma: float, delta: int) -> None:
    """P(1 + Z >= T), T included, in 50 digits; left out, T would be one lower."""
    value = threshold_for(sigma, 1, delta)
    with localcontext() as context:
        context.prec = 50
        weights = {k: (-(Decimal(k) ** 2) / (2 * Decimal(sigma) ** 2)).exp() for k in range(-200, 201)}
        total = sum(weights.values())
        tail = sum(weight for k, weight in weights.items() if 1 + k >= value) / total
        beyond = sum(weight for k, weight in weights.items() if 1 + k > value) / total
    assert tail <= Decimal(delta) / 10**12
    assert value == 2 or beyond < tail


def test_2922_opendp_still_shows_more_keys_than_it_reports() -> None:
    """100,000 keys of one user each: 1.35% are shown, 0.49% reported. False alarm of the bound 1e-6."""
    space = dp.vector_domain(dp.atom_domain(T=str)), dp.symmetric_distance()
    counted: Any = dp.t.make_count_by(*space) >> dp.m.then_laplace_threshold(scale=1.0, threshold=5)
    keys = 100_000
    shown_keys = len(counted([f"user{number}" for number in range(keys)]))
    reported = counted.map(1)[1]
    assert probability_at_least(shown_keys, keys, FALSE_ALARM) > 2 * reported, MENDED


# #2923: the mean is rounded, so that one record moves the deviations of all others.

FAR = [0.25, 0.5, 0.75, 0.0, 1.0]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT avg(far) AS a FROM visits",
        "SELECT sum(far) AS s FROM visits",
        "SELECT avg((far - 274877906944) * (far - 274877906944)) AS v FROM visits",
    ],
)
def test_2923_numbers_far_from_zero_move_no_more_than_is_charged(sql: str, plan: Any, exact: Any) -> None:
    made = plan(sql)
    random_ = random.Random(2923)
    rows = [{"person": person, "far": BIG + random_.choice(FAR)} for person in range(1024)]
    for far in FAR:
        changed = [{"person": -1, "far": BIG + far}]
        distances = moved(made, exact, visits(rows + changed), visits(rows))
        assert all(distance <= claim for distance, claim in zip(distances, claimed(made), strict=True))
        if far == 1.0:
            assert any(distances)


def test_2923_opendp_still_claims_less_than_one_record_moves() -> None:
    far, records = 2.0**50, 1024
    domain = dp.vector_domain(dp.atom_domain(bounds=(far, far + 1), nan=False), size=records)
    deviations: Any = dp.t.make_sum_of_squared_deviations(domain, dp.symmetric_distance())
    one, other = [far + 0.25] * records, [far + 0.5] + [far + 0.25] * (records - 1)
    assert abs(deviations(one) - deviations(other)) > deviations.map(2), MENDED


# #2939: NaN became NULL in a binned column that was taken to have none; its count was released without noise.


@pytest.mark.parametrize("counted", ["count(x)", "count(*)", "count(CASE WHEN x > 1.5 THEN 1 END)"])
def test_2939_a_count_over_nan_is_noised_and_moves_no_more_than_is_charged(
    counted: str, plan: Any, exact: Any, sandbox: privacy.Sandbox, tmp_path: Path
) -> None:
    made = plan(f"SELECT {counted} AS n FROM visits", rho=1e-4)
    rows = [{"person": person, "x": 1.0} for person in range(15)]
    with_nan = [*rows, {"person": -1, "x": math.nan}]
    distances = moved(made, exact, visits(with_nan), visits(rows))
    assert all(distance <= claim for distance, claim in zip(distances, claimed(made), strict=True))
    file = str(tmp_path / "visits.parquet")
    pq.write_table(visits(with_nan), file)
    answers = {
        privacy.answer(made, {"visits": file}, salt=SALT, sandbox=sandbox).table.column("n")[0].as_py()
        for _ in range(4)
    }
    assert len(answers) > 1  # at sigma 7,000 four counts are equal with probability below 1e-12


def test_2939_nan_falls_in_no_bin(plan: Any, exact: Any) -> None:
    bins = "CASE WHEN x <= 1.5 THEN 0 WHEN x > 1.5 THEN 1 END"
    made = plan(f"SELECT {bins} AS bin, count(*) AS n FROM visits GROUP BY bin")
    rows = [{"person": person, "x": x} for person, x in enumerate([math.nan, math.nan, 1.0])]
    one = 1 << made.releases[0].lowered.aggregate.sums[0].shift
    assert exact(made, {"visits": visits(rows)}).to_pylist() == [{"k0": 0, "c0": one}, {"k0": 1, "c0": 0}]


# #2941: sums in 32-bit floats were taken to be in 64 bits: they overflow, and their order decides.


@pytest.mark.parametrize("floats", [pa.float32(), pa.float64()], ids=str)
def test_2941_sums_of_32_bit_floats_are_exact_in_any_order(
    floats: pa.DataType, plan: Any, exact: Any
) -> None:
    made = plan("SELECT sum(x) AS s FROM visits WHERE CAST(x AS REAL) IS NOT NULL")
    huge = [1e38] * 4 + [-1e38] * 7 + [16777216.0, 1.0, 1.0, -16777216.0]
    rows = [{"person": number, "x": value} for number, value in enumerate(huge)]
    sums = {str(exact(made, {"visits": visits(order, floats)}).to_pylist()) for order in (rows, rows[::-1])}
    assert len(sums) == 1
    for left_out in range(len(rows)):
        rest = rows[:left_out] + rows[left_out + 1 :]
        distances = moved(made, exact, visits(rows, floats), visits(rest, floats))
        assert all(distance <= claim for distance, claim in zip(distances, claimed(made), strict=True))


def test_2941_a_sum_after_a_cast_to_32_bits_is_refused(plan: Any) -> None:
    with pytest.raises(privacy.Refused) as caught:
        plan("SELECT sum(CAST(x AS REAL)) AS s FROM visits")
    assert caught.value.code == "missing_bounds"


# #2949: a bound on groups survived the redefinition of the grouping column, so that groups merged after it.


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT k, count(*) AS n FROM (SELECT g * 0 AS k FROM visits) AS v GROUP BY k",
        "SELECT k, count(*) AS n FROM (SELECT 0 AS k FROM (SELECT g FROM visits) AS u) AS v GROUP BY k",
        "WITH u AS (SELECT person, g AS k FROM visits), v AS (SELECT person, k % 2 AS k FROM u) "
        "SELECT k, count(*) AS n FROM v GROUP BY k",
        "SELECT g % 3 AS k, count(*) AS n, count(DISTINCT person) AS m FROM visits GROUP BY k",
    ],
)
def test_2949_merged_groups_move_no_more_than_is_charged(sql: str, plan: Any, exact: Any) -> None:
    """A unit with one row in each of 100 groups: merged, they are bounded again and charged as they are."""
    made = plan(sql)
    one, other = ([{"person": person, "g": g} for g in range(100)] for person in (0, 1))
    distances = moved(made, exact, visits(one + other), visits(other))
    assert any(distances)
    assert all(distance <= claim for distance, claim in zip(distances, claimed(made), strict=True))


# The privacy filter: a query over the budget ends it for all that follow.


def test_a_query_over_the_budget_leaves_the_next_one_answerable(plan: Any) -> None:
    """The books' part of it is in `tests/settlement/test_ledger.py`: an overdrawn entry changes nothing."""
    cheap = plan("SELECT count(*) AS n FROM visits", rho=0.1)
    with pytest.raises(privacy.Refused):
        plan("SELECT count(*) AS n FROM visits", rho=7.0)
    assert plan("SELECT count(*) AS n FROM visits", rho=0.1).cost == cheap.cost


def test_opendps_filter_still_ends_with_the_first_query_over_its_budget() -> None:
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    odometer = dp.c.make_fully_adaptive_composition(*space, dp.zero_concentrated_divergence())
    ask: Any = dp.c.make_privacy_filter(odometer, 1.0, 1.0)([0, 0])
    cheap, dear = (dp.m.make_gaussian(*space, sigma_for(1, rho)) for rho in (10**8, 5 * 10**9))
    assert len(ask(cheap)) == 2
    with pytest.raises(dp.OpenDPException):
        ask(dear)
    with pytest.raises(dp.OpenDPException, match="exhausted"):
        ask(cheap)  # fails here once it is mended: read the report again


# #2911, mended in 0.16: under zCDP a choice was charged as the exponential mechanism and made by another one.


def test_2911_choices_are_charged_by_both_maps() -> None:
    """That their law is the exponential mechanism's is tested in `tests/statistics/test_noise.py`."""
    assert charge_choice_nano(2, 1.0) == choice_rho_nano(2, 1.0) == 500_000_000
