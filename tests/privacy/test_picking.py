"""Where the public part only picks columns no worker is asked; the table is the one that it would give."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from privacy.engines.duckdb import released_table
from privacy.picking import picked
from privacy.sandbox import Task

SALT = bytes(16)
DAYS = [dt.date(2020, 1, 1), dt.date(1, 1, 1), dt.date(9999, 12, 31), None]
WORDS = ["b", "a", "", "B", "\U0001f600", "\uffff", "é", "e\u0301", "a\u0000b", None]
UNITS = 40

POLICY: dict[str, Any] = {
    "domain": "picked",
    "rho": 100.0,
    "delta": 1e-3,
    "max_rho_per_query": 50.0,
    "max_delta_per_query": 4e-4,
    "tables": {
        "rows": {
            "unit": "unit",
            "max_groups": 40,
            "max_rows_per_group": 40,
            "max_rows": 400,
            "columns": {
                "word": {"keys": "private"},
                "day": {"keys": "private"},
                "sign": {"keys": [True, False]},
                "small": {"keys": [-2, -1, 0, 1, 2]},
                "amount": {"bounds": [-5, 5], "decimals": 2},
                "whole": {"bounds": [-5, 5]},
            },
        }
    },
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("picked") / "rows.parquet"
    count = UNITS * 40
    table = pa.table({
        "unit": pa.array([place % UNITS for place in range(count)], pa.int32()),
        "word": pa.array([WORDS[place // UNITS % len(WORDS)] for place in range(count)]),
        "day": pa.array([DAYS[place // UNITS % len(DAYS)] for place in range(count)], pa.date32()),
        "sign": [place // UNITS % 2 == 0 for place in range(count)],
        "small": pa.array([place // UNITS % 5 - 2 for place in range(count)], pa.int8()),
        "amount": [place % 1000 / 100 - 5 for place in range(count)],
        "whole": pa.array([place % 11 - 5 for place in range(count)], pa.int64()),
    })  # fmt: skip
    pq.write_table(table, path)
    return {"rows": str(path)}


@pytest.fixture(scope="module")
def policy(files: dict[str, str]) -> privacy.Policy:
    return privacy.Policy.from_document(POLICY, {"rows": privacy.schemas.parquet_schema(files["rows"])})


PICKED = [
    "SELECT count(*) AS n FROM rows",
    "SELECT sum(amount) AS a, avg(whole) AS w, count(*) AS n FROM rows",
    "SELECT word, count(*) AS n FROM rows GROUP BY word",
    "SELECT day, count(*) AS n, avg(amount) AS a FROM rows GROUP BY day",
    "SELECT day AS one, day AS two, sum(whole) AS s FROM rows GROUP BY day",
    "SELECT sign, small, sum(whole) AS s FROM rows GROUP BY sign, small",
    "SELECT small, sign, avg(amount) AS s FROM rows GROUP BY sign, small",
    "SELECT small, word, count(*) AS n FROM rows GROUP BY small, word",
    "SELECT word, count(*) AS n FROM rows WHERE whole > 90 GROUP BY word",
    "SELECT count(*) AS n FROM rows GROUP BY small",
    "SELECT small, count(DISTINCT unit) AS u FROM rows GROUP BY small ORDER BY small",
]
COMPUTED = [
    "SELECT small, count(*) AS n FROM rows GROUP BY small ORDER BY small DESC",
    "SELECT small, count(*) AS n FROM rows GROUP BY small ORDER BY n",
    "SELECT small, count(*) AS n FROM rows GROUP BY small ORDER BY small LIMIT 2",
    "SELECT small, count(*) AS n FROM rows GROUP BY small HAVING count(*) > 0",
    "SELECT small, 2 * count(*) AS n FROM rows GROUP BY small",
    "SELECT small, count(*) AS n FROM rows GROUP BY small UNION ALL SELECT 9, count(*) FROM rows",
]


def _shown(plan: privacy.Plan, files: dict[str, str], sandbox: privacy.Sandbox) -> list[pa.Table]:
    """The released relations of one answer."""
    answer = privacy.answer(plan, files, salt=SALT, sandbox=sandbox)
    tables = zip(plan.releases, answer.released.tables, strict=True)
    return [one.shown(released.table) for one, released in tables]


@pytest.mark.parametrize("rho", [5.0, 0.02])
@pytest.mark.parametrize("sql", PICKED)
def test_what_is_picked_is_what_the_engine_gives(
    sql: str, rho: float, policy: privacy.Policy, files: dict[str, str], sandbox: privacy.Sandbox
) -> None:
    plan = privacy.plan(sql, policy, rho=rho)
    shown = _shown(plan, files, sandbox)
    given = {released_table(place): table for place, table in enumerate(shown)}
    found = picked(plan, shown)
    assert found is not None
    assert found.equals(sandbox.run(Task(plan.public_sql, {}, given)))


@pytest.mark.parametrize("sql", COMPUTED)
def test_whatever_is_more_goes_to_the_engine(
    sql: str, policy: privacy.Policy, files: dict[str, str], sandbox: privacy.Sandbox
) -> None:
    plan = privacy.plan(sql, policy, rho=5.0)
    assert picked(plan, _shown(plan, files, sandbox)) is None


def test_no_number_and_negative_zero_are_what_the_engine_makes_of_them(
    policy: privacy.Policy, sandbox: privacy.Sandbox
) -> None:
    plan = privacy.plan("SELECT word, avg(amount) AS a FROM rows GROUP BY word", policy, rho=5.0)
    values = pa.array([float("nan"), -0.0, float("inf"), None, 1.5, float("-inf")])
    words = pa.array(["f", None, "d", "c", "a", "b"])
    shown = pa.table({"k0": words, "m0": values, "m0_low": values, "m0_high": values})
    found = picked(plan, [shown])
    given = sandbox.run(Task(plan.public_sql, {}, {released_table(0): shown}))
    assert found is not None
    assert found.equals(given)
    assert [str(one) for one in found["o1"].to_pylist()] == [str(one) for one in given["o1"].to_pylist()]
    assert picked(plan, [shown.set_column(0, "k0", pa.array(range(6), pa.uint64()))]) is None
