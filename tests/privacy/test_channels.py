"""What a buyer can steer must not decide, together with a row, whether an answer comes."""

from __future__ import annotations

import itertools
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from privacy.sandbox import Task
from tests.privacy.conftest import SALT

DOCUMENT = {
    "domain": "people:test",
    "rho": 10.0,
    "delta": 1e-6,
    "tables": {
        "visits": {
            "unit": "person",
            "max_groups": 3,
            "columns": {"x": {"bounds": [0, 10]}, "y": {"bounds": [-1.5, 2.5], "decimals": 1}, "note": {}},
        }
    },
}
TYPES = {"visits": {"person": "text", "x": "integer", "y": "float", "note": "text"}}
POLICY = privacy.Policy.from_document(DOCUMENT, TYPES)
WIDE = "x" * 50_000


def _visits(people: int, notes: list[str]) -> pa.Table:
    return pa.table(
        {
            "person": [f"p{number}" for number in range(people)],
            "x": [number % 12 for number in range(people)],
            "y": [number / 7 - 3 for number in range(people)],
            "note": [notes[number % len(notes)] for number in range(people)],
        }
    )


# The size of the exact table


def test_constants_make_no_groups_and_stay_out_of_the_engine(noiseless: Any) -> None:
    columns = f"note, left('{WIDE}', 3) AS a, 'all' AS b, count(*) AS n"
    sql = f"SELECT {columns} FROM visits GROUP BY note, a, b, 1 + 1"
    plan = privacy.plan(sql, POLICY, rho=1.0)
    assert len(plan.sql) < 5_000
    assert plan.releases[0].release is not None
    assert plan.releases[0].release.keys == ("k0",)
    visits = _visits(4, ["one", "two"])
    shown = noiseless(plan, {"visits": visits}).to_pylist()
    assert shown == [
        {"note": "one", "a": "xxx", "b": "all", "n": 2},
        {"note": "two", "a": "xxx", "b": "all", "n": 2},
    ]
    alone = privacy.plan("SELECT 'all' AS k, count(*) AS n FROM visits GROUP BY k", POLICY, rho=1.0)
    assert alone.releases[0].release is not None
    assert alone.releases[0].release.keys == ()
    assert noiseless(alone, {"visits": visits}).to_pylist() == [{"k": "all", "n": 4}]


def test_at_most_sixteen_keys() -> None:
    keys = [f"x + {number}" for number in range(2, 19)]
    privacy.plan(f"SELECT count(*) AS n FROM visits GROUP BY {', '.join(keys[:16])}, 'a'", POLICY, rho=1.0)
    with pytest.raises(privacy.Refused) as caught:
        privacy.plan(f"SELECT count(*) AS n FROM visits GROUP BY {', '.join(keys)}", POLICY, rho=1.0)
    assert caught.value.code == "too_many_keys"


@pytest.mark.parametrize("key", ["note", "lower(note)", f"CASE WHEN x < 5 THEN '{'y' * 257}' ELSE note END"])
def test_long_names_of_groups_are_null(key: str, exact: Any) -> None:
    plan = privacy.plan(f"SELECT {key} AS k, count(*) AS n FROM visits GROUP BY k", POLICY, rho=1.0)
    assert "256 bytes" in plan.explain()
    table = exact(plan, {"visits": _visits(40, ["é" * 128, "é" * 128 + "z", "z" * 100_000])})
    assert all(name is None or len(name.encode()) <= 256 for name in table["k0"].to_pylist())
    assert None in table["k0"].to_pylist()
    assert "é" * 128 in table["k0"].to_pylist()


def test_a_public_group_has_a_name_that_rows_can_have() -> None:
    sql = f"SELECT CASE WHEN x > 1 THEN '{'y' * 257}' ELSE 'b' END AS k, count(*) AS n FROM visits GROUP BY k"
    with pytest.raises(privacy.Refused) as caught:
        privacy.plan(sql, POLICY, rho=1.0)
    assert caught.value.code == "too_long"


def test_the_limit_on_results_does_not_see_the_exact_table(tmp_path: Path) -> None:
    """Its size is that of groups nobody may know of: none of these is shown."""
    plan = privacy.plan(
        "SELECT note, count(DISTINCT person) AS n FROM visits GROUP BY note", POLICY, rho=0.01
    )
    with privacy.Sandbox(privacy.Limits(result_bytes=20_000), workers=1) as sandbox:
        for groups in (1, 2_000):
            pq.write_table(_visits(2_000, [f"n{one}" for one in range(groups)]), tmp_path / "visits.parquet")
            answer = privacy.answer(plan, {"visits": tmp_path / "visits.parquet"}, salt=SALT, sandbox=sandbox)
            assert answer.table.num_rows == (groups == 1)


def test_a_task_may_have_a_limit_of_its_own() -> None:
    sql = "SELECT repeat('x', 100000) AS x"
    with privacy.Sandbox(privacy.Limits(result_bytes=10_000), workers=1) as sandbox:
        assert sandbox.run(Task(sql, result_bytes=200_000)).num_rows == 1
        with pytest.raises(privacy.EngineFailed) as caught:
            sandbox.run(Task(sql))
        with pytest.raises(privacy.EngineFailed):
            sandbox.run(Task("SELECT 1 AS x", result_bytes=10))
    assert caught.value.code == "query_too_large"


def test_a_buyer_is_shown_one_failure_alone() -> None:
    shown = [privacy.EngineFailed(code, "why").for_buyer() for code in ("query_timeout", "query_too_large")]
    assert {(one.code, str(one), one.hint) for one in shown} == {
        ("query_failed", str(privacy.EngineFailed()), privacy.EngineFailed.hint)
    }


# The price of asking


def test_a_question_costs_at_least_the_minimum() -> None:
    assert POLICY.min_rho_per_query_nano == 100_000
    sql = "SELECT count(*) AS n FROM visits"
    assert privacy.plan(sql, POLICY, rho_nano=100_000).cost.rho_nano == 100_000
    for budget in ({"rho_nano": 99_999}, {"rho": 1e-9}, {"epsilon": 0.001}, {"error": {"n": 10**9}}):
        with pytest.raises(privacy.Refused) as caught:
            privacy.plan(sql, POLICY, **budget)
        assert caught.value.code == "rho_too_small"
        assert "0.0001" in caught.value.hint


def test_the_minimum_may_be_declared() -> None:
    def least(value: object, **rest: Any) -> int:
        document = {**DOCUMENT, **rest, "min_rho_per_query": value}
        return privacy.Policy.from_document(document, TYPES).min_rho_per_query_nano

    assert least("0.0000000011") == 2
    assert least(0.5, max_rho_per_query=0.5) == 500_000_000
    for value, rest in ((0, {}), (-1, {}), ("x", {}), (0.6, {"max_rho_per_query": 0.5})):
        with pytest.raises(privacy.PolicyError) as caught:
            least(value, **rest)
        assert caught.value.path == "min_rho_per_query"
    small = privacy.Policy.from_document({**DOCUMENT, "max_rho_per_query": 1e-8}, TYPES)
    assert small.min_rho_per_query_nano == 10


# Every column is what it is alone

AGGREGATES = [
    "count(*)", "count(x)", "count(y)", "count(DISTINCT person)", "sum(x)", "avg(x)", "sum(y)", "avg(y)",
    "sum(x + 1.5)", "sum(x * 10 + 15)", "sum(1.5)", "sum(15)", "avg(1.5)", "avg(15)", "sum(y * 10)",
    "sum(x / 2)", "avg(x / 2)", "sum(x * 500000)", "sum(abs(y))", "sum(least(x, 5))", "sum(x * 0.1)",
    "sum(x * 0.10)", "sum(x) FILTER (WHERE x > 3)", "avg(y) FILTER (WHERE x > 3)",
]  # fmt: skip


def test_two_aggregates_of_one_statement_are_each_what_it_is_alone(noiseless: Any) -> None:
    tables = {"visits": _visits(60, ["n"])}

    def values(*aggregates: str) -> list[Any]:
        columns = ", ".join(f"{one} AS a{place}" for place, one in enumerate(aggregates))
        plan = privacy.plan(f"SELECT {columns} FROM visits", POLICY, rho=1.0)
        (row,) = noiseless(plan, tables).to_pylist()
        return list(row.values())

    alone = {one: values(one)[0] for one in AGGREGATES}
    pairs = list(itertools.permutations(AGGREGATES, 2))
    must = [("sum(x + 1.5)", "sum(x * 10 + 15)"), ("sum(15)", "sum(1.5)"), ("avg(15)", "avg(1.5)")]
    for pair in must + random.Random(5).sample(pairs, 150):
        assert values(*pair) == [alone[one] for one in pair], pair


def test_sizes_count_the_bytes_of_literals() -> None:
    named = "least(a, a, a, a)"
    sql = f"SELECT count(*) AS n FROM (SELECT person, '{WIDE}' AS a, note FROM visits) q WHERE note < {named}"
    with pytest.raises(privacy.Refused) as caught:
        privacy.plan(sql, POLICY, rho=1.0)
    assert caught.value.code == "too_complex"


# Numbers as they are shown


def test_averages_and_their_intervals_lie_within_the_bounds(tmp_path: Path, sandbox: privacy.Sandbox) -> None:
    """One row against noise of hundreds: the chance that 40 free means all lay within is below 1e-6."""
    pq.write_table(_visits(1, ["n"]), tmp_path / "visits.parquet")
    document = {**DOCUMENT, "rho": 0.01}
    plan = privacy.plan(
        "SELECT x > 20 AS k, avg(y) AS a FROM visits GROUP BY k",
        privacy.Policy.from_document(document, TYPES),
        rho=0.0001,
        options=privacy.Options(intervals=True),
    )
    shown = 0
    for _ in range(20):
        answer = privacy.answer(plan, {"visits": tmp_path / "visits.parquet"}, salt=SALT, sandbox=sandbox)
        for row in answer.table.to_pylist():
            if row["a"] is not None:
                assert -1.5 <= row["a_low"] <= row["a"] <= row["a_high"] <= 2.5
                shown += 1
    assert shown > 0


def test_the_interval_of_a_count_that_selects_rows_says_so(tmp_path: Path, sandbox: privacy.Sandbox) -> None:
    sql = "SELECT note, count(DISTINCT person) AS n, count(*) AS m FROM visits GROUP BY note"
    plan = privacy.plan(sql, POLICY, rho=1.0)
    assert [column.before_threshold for column in plan.columns] == [False, True, False]
    assert plan.explain().count("before the threshold selects") == 1
    pq.write_table(_visits(3, ["n"]), tmp_path / "visits.parquet")
    answer = privacy.answer(plan, {"visits": tmp_path / "visits.parquet"}, salt=SALT, sandbox=sandbox)
    metadata = answer.table.schema.metadata[b"privacy"].decode()
    assert metadata.count('"interval_holds": "before the threshold selects"') == 1
    without = privacy.plan("SELECT count(DISTINCT person) AS n FROM visits", POLICY, rho=1.0)
    assert not without.columns[0].before_threshold


@pytest.mark.parametrize("end", ["n_low", "N_HIGH"])
def test_no_column_is_called_like_the_end_of_an_interval(end: str) -> None:
    sql = f"SELECT count(*) AS n, sum(x) AS {end} FROM visits"
    privacy.plan(sql, POLICY, rho=1.0)
    with pytest.raises(privacy.Refused) as caught:
        privacy.plan(sql, POLICY, rho=1.0, options=privacy.Options(intervals=True))
    assert caught.value.code == "duplicate_column"


# Odd values at the doors


@pytest.mark.parametrize(
    "error",
    [
        {"n": Decimal("NaN")}, {"n": Decimal("sNaN")}, {"n": float("nan")}, {"n": float("inf")}, {"n": "5"},
        {"n": 10**5000}, {"n": Decimal("Infinity")}, {"n": None}, {"n": True}, {5: 5}, {None: 5}, {}, 5, "n",
        [("n", 5)],
    ],
)  # fmt: skip
def test_an_odd_error_is_refused(error: Any) -> None:
    with pytest.raises(privacy.Refused) as caught:
        privacy.plan("SELECT count(*) AS n FROM visits", POLICY, error=error)
    assert caught.value.code == "budget_invalid"


@pytest.mark.parametrize(
    "budget",
    [
        {name: value}
        for name in ("rho", "epsilon", "rho_nano")
        for value in (Decimal("NaN"), "x", ["0.1"], 10**5000)
    ],
)
def test_an_odd_budget_is_refused(budget: Any) -> None:
    with pytest.raises(privacy.Refused):
        privacy.plan("SELECT count(*) AS n FROM visits", POLICY, **budget)


@pytest.mark.parametrize("bounds", [[0, "1e999999"], ["-1e999999999", 0], [0, 10**5000], [0, "1e-999999"]])
def test_huge_bounds_are_a_finding_at_once(bounds: list[Any]) -> None:
    table = {"unit": "person", "columns": {"x": {"bounds": bounds}}}
    with pytest.raises(privacy.PolicyError) as caught:
        privacy.Policy.from_document({**DOCUMENT, "tables": {"visits": table}}, TYPES)
    assert caught.value.path == "tables.visits.columns.x.bounds"


@pytest.mark.parametrize("delta", [0.0011, 0.5, 0.999])
def test_delta_is_a_small_chance(delta: float) -> None:
    with pytest.raises(privacy.PolicyError) as caught:
        privacy.Policy.from_document({**DOCUMENT, "delta": delta}, TYPES)
    assert caught.value.path == "delta"
    privacy.Policy.from_document({**DOCUMENT, "delta": 0.001}, TYPES)


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("float", ["0.1", "0.10000000000000000001"]),
        ("decimal", ["0.1", "0.10000000000000000001"]),
        ("text", ["y" * 257]),
        ("text", ["\ud800"]),
    ],
)
def test_public_keys_are_ones_that_the_engine_tells_apart(kind: str, keys: list[str]) -> None:
    table = {"unit": "person", "columns": {"k": {"keys": keys}}}
    with pytest.raises(privacy.PolicyError) as caught:
        privacy.Policy.from_document(
            {**DOCUMENT, "tables": {"t": table}}, {"t": {"person": "text", "k": kind}}
        )
    assert caught.value.path == "tables.t.columns.k.keys"


def test_values_of_case_that_are_one_double_are_one_group(exact: Any) -> None:
    sql = (
        "SELECT CASE WHEN x > 5 THEN 0.1 ELSE 0.10000000000000000001 END AS k, count(*) AS n "
        "FROM visits GROUP BY k"
    )
    plan = privacy.plan(sql, POLICY, rho=1.0)
    assert exact(plan, {"visits": _visits(9, ["n"])}).num_rows == 1
