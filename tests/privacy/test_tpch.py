"""TPC-H for unit = customer: what is answered, exactly as SQL means it, and what is not, with the reason."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from tests.privacy import tpch
from tests.privacy.conftest import SALT
from tests.privacy.plain import alike, rows

LINES = (Path(__file__).parent / "fixtures" / "tpch.sql").read_text().splitlines()
QUERIES = {
    title.split()[1]: (" ".join(title.split()[2:]), sql)
    for title, sql in pairwise(LINES)
    if title.startswith("-- Q") and not sql.startswith("--")
}
ACCEPTED = {name: sql for name, (refusal, sql) in QUERIES.items() if not refusal}
REFUSED = {name: found for name, found in QUERIES.items() if found[0]}


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    return tpch.database()


def test_sixteen_of_the_queries_are_answered_and_the_rest_refused_for_a_reason() -> None:
    assert len(QUERIES) == 22
    assert len(ACCEPTED) >= 16
    reasons = {refusal.split()[0] for refusal, _ in REFUSED.values()}
    assert reasons == {"unit_as_key", "correlated", "private_subquery"}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_queries_say_why_and_where(name: str) -> None:
    expected, sql = REFUSED[name]
    with pytest.raises(privacy.Refused) as caught:
        privacy.plan(sql, tpch.policy(), rho=0.1)
    refused = caught.value
    assert f"{refused.code} {refused.line}:{refused.column}" == expected


@pytest.mark.parametrize("name", ACCEPTED)
def test_with_wide_caps_and_no_noise_the_answer_is_plain_sql(
    name: str, tables: dict[str, pa.Table], noiseless: Any
) -> None:
    caps = privacy.Options(1_000, 10_000, 10_000, strategy="caps")
    plan = privacy.plan(ACCEPTED[name], tpch.policy(max_rows=10_000), rho=10, options=caps)
    ours = rows(noiseless(plan, {table: tables[table] for table in plan.tables}))
    with duckdb.connect() as connection:
        for table, held in tables.items():
            connection.register(table, held)
        plain = rows(connection.sql(ACCEPTED[name].rstrip(";")).to_arrow_table())
    assert plain
    assert [row for row in plain if not any(alike(row, other) for other in ours)] == []
    grids = [one.lowered.aggregate.input.grid for one in plan.releases]
    assert len(ours) == len(plain) or any(grids)


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_queries_run_in_the_sandbox(
    name: str, tables: dict[str, pa.Table], tmp_path: Path, sandbox: privacy.Sandbox
) -> None:
    plan = privacy.plan(ACCEPTED[name], tpch.policy(), rho=0.5)
    for table in plan.tables:
        pq.write_table(tables[table], tmp_path / f"{table}.parquet")
    files = {table: tmp_path / f"{table}.parquet" for table in plan.tables}
    answer = privacy.answer(plan, files, salt=SALT, sandbox=sandbox)
    assert answer.table.column_names == [column.name for column in plan.columns]


def test_a_plan_says_where_private_rows_are_found_joined_and_capped() -> None:
    words = privacy.plan(ACCEPTED["Q5"], tpch.policy(), rho=0.1).explain().splitlines()
    assert "finds the o_custkey of a row of lineitem by l_orderkey = orders.o_orderkey" in words
    assert "keeps at most 1 row of customer for each c_custkey, where it is joined" in words
    features = privacy.plan(ACCEPTED["Q13"], tpch.policy(), rho=0.1).explain().splitlines()
    assert "aggregates customer, orders within each c_custkey" in features
    assert "so that each c_custkey has at most 1 row to count" in features
