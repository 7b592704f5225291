"""Before noise: leaving out one unit moves the exact numbers by no more than is charged for.

Random databases, made to be hostile: heavy units, NULL and NaN, values far outside their bounds, joins
that multiply
rows. Deterministic bounding means that the claim holds with certainty, so one counterexample is a defect.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from typing import Any

import pyarrow as pa
import pytest

import privacy
from privacy.bounding import STRATEGIES
from privacy.engines.duckdb import exact_sql
from privacy.engines.duckdb.factors import Factors
from privacy.release import Histogram
from tests.privacy.profiles import visits

POLICY = {
    "domain": "people:test",
    "rho": 10.0,
    "delta": 1e-6,
    "tables": {
        "visits": {
            "unit": "person",
            "max_groups": 2,
            "max_rows_per_group": 3,
            "max_rows": 4,
            "columns": {
                "ward": {"keys": ["a", "b", "c"]},
                "code": {"keys": "private"},
                "day": {"keys": [1, 2, 3, 4, 5]},
                "cost": {"bounds": [-10, 25]},
                "score": {"bounds": [-1.5, 2.25], "decimals": 2},
            },
        },
        "wards": {"public": True},
    },
}
TYPES = {
    "visits": {
        "person": "text", "ward": "text", "code": "text", "day": "integer", "cost": "integer",
        "score": "float",
        "note": "text", "big": "integer",
    },
    "wards": {"ward": "text", "city": "text", "beds": "integer"},
}  # fmt: skip
STATEMENTS = [
    "SELECT count(*) AS n FROM visits",
    "SELECT count(cost) AS n, sum(cost) AS s, avg(cost) AS a FROM visits",
    "SELECT count(DISTINCT person) AS n, count(DISTINCT person) FILTER (WHERE cost > 0) AS m FROM visits",
    "SELECT ward, count(*) AS n, sum(cost) AS s FROM visits GROUP BY ward",
    "SELECT ward, day, avg(score) AS a FROM visits GROUP BY ward, day",
    "SELECT code, count(*) AS n, avg(cost) AS a FROM visits GROUP BY code",
    "SELECT code, ward, count(DISTINCT person) AS n, sum(score) AS s FROM visits GROUP BY code, ward",
    "SELECT cost > 0 AS up, sum(cost * cost) AS s FROM visits GROUP BY up",
    "SELECT note, sum(abs(cost) + 1) AS s FROM visits GROUP BY note",
    "SELECT big % 3 AS m, count(*) AS n FROM visits GROUP BY m",
    "SELECT score * 2 AS twice, count(*) AS n FROM visits GROUP BY twice",
    "SELECT w.city, count(*) AS n, sum(v.cost) AS s FROM visits v JOIN wards w ON v.ward = w.ward "
    "GROUP BY w.city",
    "SELECT count(*) AS n, sum(v.score) AS s FROM visits v LEFT JOIN wards w ON v.ward = w.ward",
    "SELECT sum(w.beds_capped) AS s FROM (SELECT v.cost + 0 AS beds_capped FROM visits v, wards w "
    "WHERE v.ward = w.ward) w",
    "SELECT ward, sum(cost) FILTER (WHERE day < 3) AS s, avg(score) FILTER (WHERE note IS NOT NULL) AS a "
    "FROM visits WHERE NOT (code = 'x') GROUP BY ward",
    "SELECT sum(CASE WHEN cost > score THEN score * 3 ELSE cost - 7 END) AS s, avg(cost / 3) AS a "
    "FROM visits",
    "SELECT count(DISTINCT code) AS c, count(DISTINCT score) AS s FROM visits",
    "SELECT ward, count(DISTINCT code) AS c, count(DISTINCT big % 7) FILTER (WHERE day < 4) AS b FROM visits "
    "GROUP BY ward",
    "SELECT code, count(DISTINCT score * 3) AS s, count(DISTINCT note) AS n FROM visits GROUP BY code",
    "SELECT median(cost) AS m, quantile_cont(score, [0.1, 0.9]) AS q FROM visits",
    "SELECT ward, min(cost) AS m, max(score) AS q FROM visits GROUP BY ward",
    "SELECT code, day, median(score) FILTER (WHERE cost > 0) AS m FROM visits GROUP BY code, day",
    "SELECT ward, histogram(day) AS h, approx_top_k(ward, 2) FILTER (WHERE cost > 0) AS t FROM visits "
    "GROUP BY ward",
    "SELECT histogram(score, [-1, 0, 0.5]) AS h, bool_or(cost > 5) AS o, count_if(score < 0) AS n "
    "FROM visits",
    "SELECT code, histogram(ward) AS h, bool_and(day < 4) AS a FROM visits GROUP BY code",
    "SELECT var_samp(cost) AS v, stddev_pop(score) AS s FROM visits",
    "SELECT ward, corr(cost, score) AS r, covar_pop(cost, score) FILTER (WHERE day > 2) AS c FROM visits "
    "GROUP BY ward",
    "SELECT code, regr_slope(cost, score * 1000) AS b, regr_intercept(score, cost) AS a FROM visits "
    "GROUP BY code",
    "SELECT sum(coalesce(cost, 9)) AS s, sum(least(cost, 5)) AS l, sum(greatest(score, 1)) AS g FROM visits",
]
FLOATS = [None, float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1.005, 2.25, -1.5, 1e300, -1e300, 0.1]
INTEGERS = [None, 0, 1, -1, 25, -10, 1000, -1000, 2**63 - 1, -(2**63)]


def _database(seed: int) -> tuple[list[dict[str, Any]], pa.Table]:
    random_ = random.Random(seed)
    people = [*(f"p{number}" for number in range(random_.randint(1, 7))), "", "p1:v"]
    rows = []
    for person in [*people, None]:
        for _ in range(random_.choice([0, 1, 2, 5, 40])):
            rows.append(
                {
                    "person": person,
                    "ward": random_.choice(["a", "b", "c", "d", None]),
                    "code": random_.choice(["x", "y", "z", "", "v1:x", None]),
                    "day": random_.choice([1, 2, 3, 4, 5, 6, None]),
                    "cost": random_.choice(INTEGERS),
                    "score": random_.choice(FLOATS),
                    "note": random_.choice([None, "", "n", "é\U0001f600", "v:1"]),
                    "big": random_.choice(INTEGERS),
                }
            )
    wards = [
        {"ward": random_.choice(["a", "b", "c"]), "city": random_.choice(["N", "S", None]), "beds": 3}
        for _ in range(random_.randint(1, 12))
    ]
    return rows, pa.Table.from_pylist(wards, WARDS)


KINDS = {"text": pa.string(), "integer": pa.int64(), "float": pa.float64()}
VISITS = pa.schema([(name, KINDS[kind]) for name, kind in TYPES["visits"].items()])
WARDS = pa.schema([(name, KINDS[kind]) for name, kind in TYPES["wards"].items()])


CHOSEN = {"chosen": (10.0, visits(6)), "chosen for little rho": (0.01, visits(40, 4))}


def _planned(sql: str, how: str) -> privacy.Plan:
    """Bounded by a strategy, or as is best for a profile."""
    policy = privacy.Policy.from_document(POLICY, TYPES)
    if how in STRATEGIES:
        return privacy.plan(sql, policy, rho=1.0, options=privacy.Options(strategy=how))
    rho, profile = CHOSEN[how]
    return privacy.plan(sql, policy, rho=rho, profile=profile)


@pytest.mark.parametrize("how", [*STRATEGIES, *CHOSEN])
@pytest.mark.parametrize("sql", STATEMENTS)
def test_one_unit_moves_the_sums_by_at_most_the_charged_sensitivity(sql: str, how: str, exact: Any) -> None:
    plan = _planned(sql, how)
    moved = 0
    for seed in range(4):
        rows, wards = _database(seed)
        whole = _sums(plan, exact, rows, wards)
        for person in {row["person"] for row in rows} - {None}:
            without = _sums(plan, exact, [row for row in rows if row["person"] != person], wards)
            moved += _check(plan, whole, without)
    assert moved > 0


def _sums(
    plan: privacy.Plan, exact: Any, rows: list[dict[str, Any]], wards: pa.Table
) -> dict[Any, dict[str, int]]:
    table = exact(plan, {"visits": pa.Table.from_pylist(rows, VISITS), "wards": wards})
    keys = plan.releases[0].release.keys
    return {tuple(row.pop(key) for key in keys): row for row in table.to_pylist()}


def _check(plan: privacy.Plan, whole: dict[Any, dict[str, int]], without: dict[Any, dict[str, int]]) -> int:
    changed = 0
    release = plan.releases[0].release
    for total in release.totals:
        moved = _total(whole, total.name) - _total(without, total.name)
        assert moved**2 <= total.sensitivity_squared
    for measure in release.measures:
        most = measure.level_squared if isinstance(measure, Histogram) else measure.sensitivity_squared
        squared = sum(
            _moved(whole.get(key, {}).get(measure.name), without.get(key, {}).get(measure.name)) ** 2
            for key in whole.keys() | without.keys()
        )
        assert squared <= most
        changed += squared > 0
    if plan.releases[0].lowered.aggregate.input.grid:
        assert whole.keys() == without.keys()
    elif release.keys:
        assert without.keys() <= whole.keys()
        _check_candidates(plan.releases[0], whole, without)
    return changed


def _total(table: dict[Any, dict[str, int]], name: str) -> int:
    """The total that is noised: of nobody's rows it is 0."""
    (value,) = {row[name] for row in table.values()} or {0}
    return value


def _check_candidates(one: Any, whole: dict[Any, dict[str, int]], without: dict[Any, dict[str, int]]) -> None:
    """A unit alone brings about no more keys than the threshold was made for, and adds no more to any."""
    threshold = one.release.threshold
    added = [
        row[threshold.measure] - without.get(key, {}).get(threshold.measure, 0) for key, row in whole.items()
    ]
    own = [
        row[threshold.measure]
        for key, row in whole.items()
        if row[threshold.measure] > 0 and without.get(key, {}).get(threshold.measure, 0) == 0
    ]
    assert min(added, default=0) >= 0
    assert max(added, default=0) <= threshold.most
    assert len(own) <= threshold.groups


def _moved(one: Any, other: Any) -> int:
    """How far a number of a group moved; of a histogram all its leaves together."""
    if isinstance(one, list) or isinstance(other, list):
        first, second = ({pair["b"]: pair["w"] for pair in leaves or []} for leaves in (one, other))
        return sum(abs(first.get(leaf, 0) - second.get(leaf, 0)) for leaf in first.keys() | second.keys())
    return abs(int(one or 0) - int(other or 0))


@pytest.mark.parametrize(
    ("sql", "squared"),
    [
        ("SELECT count(*) AS n FROM visits", [4**2]),
        ("SELECT sum(cost) AS n FROM visits", [(4 * 25) ** 2]),
        ("SELECT ward, count(*) AS n FROM visits GROUP BY ward", [2 * 3**2]),
        ("SELECT ward, sum(cost) AS n FROM visits GROUP BY ward", [2 * (3 * 25) ** 2]),
        ("SELECT cost > 0 AS k, count(*) AS n FROM visits GROUP BY k", [2 * 3**2]),
        ("SELECT 'all' AS k, count(*) AS n FROM visits GROUP BY k", [4**2]),
        ("SELECT count(DISTINCT person) AS n FROM visits", [1]),
        ("SELECT sum(score) AS n FROM visits", [(4 * 225) ** 2]),
        ("SELECT avg(cost) AS n FROM visits", [4**2, (4 * 18) ** 2]),
        ("SELECT var_pop(cost) AS n FROM visits", [4**2, (4 * 18) ** 2, (4 * 18 * 18 // 2) ** 2]),
        (
            "SELECT covar_pop(cost, score) AS n FROM visits",
            [4**2, (4 * 18) ** 2, (4 * 188) ** 2, (4 * 18 * 188) ** 2],
        ),
    ],
)
def test_sensitivity_is_groups_times_the_squared_cap(sql: str, squared: list[int]) -> None:
    plan = _planned(sql, "caps")
    assert sorted(one.sensitivity_squared for one in plan.releases[0].release.measures) == squared


def test_a_claim_that_is_too_small_is_caught(exact: Any) -> None:
    """The test above can fail: half the sensitivity is refuted."""
    plan = privacy.plan(
        "SELECT sum(cost) AS s FROM visits", privacy.Policy.from_document(POLICY, TYPES), rho=1.0
    )
    rows = [{"person": "p", "cost": 25}] * 10
    wards = pa.Table.from_pylist([], WARDS)
    whole, without = _sums(plan, exact, rows, wards), _sums(plan, exact, [], wards)
    squared = (whole[()]["c0"] - without[()]["c0"]) ** 2
    assert (
        plan.releases[0].release.measures[0].sensitivity_squared // 4
        < squared
        <= plan.releases[0].release.measures[0].sensitivity_squared
    )


def test_kept_groups_depend_on_salt_and_unit_alone(engine: Any) -> None:
    """The same groups of a unit are kept however the rows lie and whoever else is in the table."""
    policy = privacy.Policy.from_document(POLICY, TYPES)
    sql = "SELECT code, count(DISTINCT person) AS n FROM visits GROUP BY code"
    plan = privacy.plan(sql, policy, rho=1.0, options=privacy.Options(strategy="caps"))
    rows = [{"person": "p", "code": f"c{number}"} for number in range(30)]
    others = [{"person": "q", "code": "other"}] * 3

    def kept(rows: list[dict[str, Any]], salt: str) -> set[str]:
        tables = {"visits": pa.Table.from_pylist(rows, VISITS), "_salt": pa.table({"salt": [salt]})}
        return {row["k0"] for row in engine(plan.sql, tables).to_pylist()} - {"other"}

    first = kept(rows, "aa")
    assert len(first) == 2
    assert kept(rows[::-1] + others, "aa") == first
    assert any(kept(rows, salt) != first for salt in ("bb", "cc", "dd"))


def test_averages_of_heavy_units_stay_nearly_unbiased(noiseless: Any) -> None:
    """A unit with more rows than its cap weighs as many rows as the cap, at its own mean."""
    policy = privacy.Policy.from_document(POLICY, TYPES)
    plan = privacy.plan("SELECT avg(cost) AS a FROM visits", policy, rho=1.0)
    rows = [{"person": "heavy", "cost": cost} for cost in [0, 20] * 50] + [{"person": "light", "cost": 4}]
    table = pa.Table.from_pylist(rows, VISITS)
    assert noiseless(plan, {"visits": table}).to_pylist() == [
        {"a": pytest.approx((4 * 10 + 4) / 5, abs=0.25)}
    ]


@pytest.mark.parametrize("strategy", ["clip", "weights"])
@pytest.mark.parametrize("bits", [0, 10, 24, 25, 26, 40, 60])
def test_numbers_that_do_not_fit_the_engines_words_are_bounded_too(
    engine: Any, strategy: str, bits: int
) -> None:
    """Whatever length is allowed, a unit alone in the table has no longer numbers, however large its own."""
    document = copy.deepcopy(POLICY)
    document["tables"]["visits"]["columns"]["cost"] = {"bounds": [-(10**12), 10**12]}  # type: ignore[index]
    policy = privacy.Policy.from_document(document, TYPES)
    sql = "SELECT ward, sum(cost) AS s, avg(cost) AS a FROM visits GROUP BY ward"
    plan = privacy.plan(sql, policy, rho=1.0, options=privacy.Options(strategy=strategy))
    whole = plan.releases[0].lowered.aggregate
    rows = [
        {"person": "p", "ward": ward, "cost": cost}
        for ward, cost in [("a", 10**12), ("b", -(10**12)), ("c", 3)]
        for _ in range({"a": 900, "b": 400, "c": 7}[ward])
    ]
    for limited in range(len(whole.sums)):
        sums = [
            dataclasses.replace(one, norm_squared=4**bits, shift=max(20 - bits, 0))
            if place == limited
            else one
            for place, one in enumerate(whole.sums)
        ]
        aggregate = dataclasses.replace(whole, sums=tuple(sums))
        tables = {"visits": pa.Table.from_pylist(rows, VISITS), "_salt": pa.table({"salt": ["aa"]})}
        found = engine(exact_sql(aggregate), tables).to_pylist()
        for one in sums:
            length = sum(row[one.name] ** 2 for row in found)
            assert length <= one.sensitivity_squared
            assert length > 0 or bits < 40


@pytest.mark.parametrize("strategy", ["clip", "weights"])
@pytest.mark.parametrize("bits", [0, 24, 25, 31, 36, 44])
def test_rows_of_a_histogram_never_weigh_more_than_is_allowed(engine: Any, strategy: str, bits: int) -> None:
    """However many rows there are: no file is needed for that, rows are counted before they are weighed."""
    policy = privacy.Policy.from_document(POLICY, TYPES)
    sql = "SELECT ward, median(cost) AS m FROM visits GROUP BY ward"
    plan = privacy.plan(sql, policy, rho=1.0, options=privacy.Options(strategy=strategy))
    whole = plan.releases[0].lowered.aggregate
    (one,) = whole.sums
    made = dataclasses.replace(one, norm_squared=4**bits, shift=max(20 - bits - 1, 0))
    limits = tuple(dataclasses.replace(limit, norm_squared=4**bits) for limit in whole.limits)
    factors = Factors(dataclasses.replace(whole, sums=(made,), limits=limits))
    for rows in (2**bits, 2**bits + 1, 2**31, 2**33, 2**40, 2**50, 2**60):
        counted = {f"n_{summed.name}": [rows] for summed in (made, *limits)}
        row = f"SELECT r_{made.name} AS weight FROM ({factors.sql('parts')}) AS p"
        parts = pa.table({"u": ["p"], **counted})
        (found,) = engine(f"WITH parts AS (FROM given) {row}", {"given": parts}).to_pylist()
        assert int(found["weight"]) * rows <= 2 ** (bits + made.shift)
        assert found["weight"] > 0 or rows > 2**bits
