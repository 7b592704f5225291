"""The fixture files are the specification of the SQL front door: one statement a line."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import privacy
from tests.privacy.plain import alike, rows

FIXTURES = Path(__file__).parent / "fixtures"
WIDE = {"dep_delay": [-100, 2000], "arr_delay": [-100, 2000], "air_time": [0, 1000], "distance": [0, 10000]}
# Where our answer is meant to differ from plain SQL: NULL forms no public group, and is not skipped by
# greatest; of rows with equal times plain SQL takes any for the first.
DIFFERENT = (
    "CASE carrier WHEN",
    "GROUP BY dep_delay > 15",
    "greatest(dep_delay, 0)",
    "ORDER BY time_hour) AS k",
)


def _lines(name: str) -> list[str]:
    return [line for line in (FIXTURES / name).read_text().splitlines() if line.strip()]


def _accepted() -> list[str]:
    return [line for line in _lines("accepted.sql") if not line.startswith("--")]


def _refused(name: str) -> list[tuple[str, str]]:
    lines = _lines(name)[1:]
    return [(line[3:], after) for line, after in pairwise(lines) if line.startswith("-- ")]


@pytest.mark.parametrize(("expected", "sql"), _refused("refused.sql") + _refused("later.sql"))
def test_refused_with_code_position_and_hint(expected: str, sql: str, flights_policy: privacy.Policy) -> None:
    with pytest.raises(privacy.Refused) as caught:
        privacy.plan(sql, flights_policy, rho=0.01)
    refused = caught.value
    assert f"{refused.code} {refused.line}:{refused.column}" == expected
    assert refused.hint.endswith(".")
    assert len(refused.hint) > 10
    assert str(refused)
    if refused.nearest is not None:
        assert privacy.plan(refused.nearest, flights_policy, rho=0.01).columns


def test_the_fixtures_are_many_and_diverse() -> None:
    """The counts, printed: at least 250 statements that are answered and 300 that are refused."""
    queries = (FIXTURES / "tpch.sql").read_text().splitlines()
    answered = {
        "flights": len(_accepted()),
        "relations": sum(not line.startswith("--") for line in _lines("related.sql")),
        "TPC-H": sum(title.startswith("-- Q") and len(title.split()) == 2 for title in queries),
    }
    refused = {
        "flights": len(_refused("refused.sql")),
        "TPC-H": sum(title.startswith("-- Q") and len(title.split()) > 2 for title in queries),
    }
    codes = Counter(expected.split()[0] for expected, _ in _refused("refused.sql"))
    print(f"answered: {sum(answered.values())} {answered}")
    print(f"refused: {sum(refused.values())} {refused}")
    print(f"refused as: {dict(codes.most_common())}")
    assert answered["flights"] >= 250
    assert refused["flights"] >= 300
    assert len(codes) >= 25
    assert len(set(_accepted())) == len(_accepted())
    assert len({sql for _, sql in _refused("refused.sql")}) == len(_refused("refused.sql"))


@pytest.mark.parametrize(
    "code", ["raw_rows", "unit_as_key", "missing_bounds", "correlated", "private_window"]
)
def test_codes_of_the_corpus_are_in_use(code: str) -> None:
    assert any(expected.startswith(f"{code} ") for expected, _ in _refused("refused.sql"))


@pytest.mark.parametrize("sql", [sql for sql in _accepted() if not any(words in sql for words in DIFFERENT)])
def test_accepted_statements_answer_exactly_what_sql_means(
    sql: str, flights_files: dict[str, str], noiseless: Any
) -> None:
    """With bounds and caps too wide to bind, no noise and no threshold, the answer is plain SQL's: exactly,
    or of quantiles to the width of a bin."""
    plan = privacy.plan(sql, _wide_policy(), rho=0.5, options=privacy.Options(10_000, 1_000_000, 1_000_000))
    ours = rows(noiseless(plan, flights_files))
    extreme = any(column.kind.startswith("approximate") for column in plan.columns)
    plain = _plain(_as_quantiles(sql) if extreme else sql, flights_files)
    widths = [column.resolution or 0.0 for column in plan.columns]
    if re.search(r"\bLIMIT\b", sql):
        assert len(ours) == len(plain)
        return
    missing = [row for row in plain if not any(alike(row, other, widths) for other in ours)]
    assert missing == []
    assert len(ours) == len(plain) or plan.releases[0].lowered.aggregate.input.grid


def _as_quantiles(sql: str) -> str:
    """min and max of a private number are its 1% and 99% quantiles."""
    for name, share in (("min", 0.01), ("max", 0.99)):
        sql = re.sub(
            rf"\b{name}\((distance|dep_delay|arr_delay|air_time)\)", rf"quantile_cont(\1, {share})", sql
        )
    return sql


def _wide_policy() -> privacy.Policy:
    from tests.privacy.policies import FLIGHTS_POLICY, FLIGHTS_TYPES

    document = privacy.Policy.from_document(FLIGHTS_POLICY, FLIGHTS_TYPES).document
    for name, bounds in WIDE.items():
        document["tables"]["flights"]["columns"][name]["bounds"] = bounds
    document["tables"]["flights"]["max_rows"] = 1_000_000
    return privacy.Policy.from_document(document)


def _plain(sql: str, files: dict[str, str]) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET error_on_division_by_zero = false")
        for name, path in files.items():
            # as the policy sees it: the timestamps without zone, flight as text, and no rows of nobody
            replaced = [
                f"{column}::{kind} AS {column}"
                for column, kind in (("time_hour", "TIMESTAMP"), ("flight", "VARCHAR"))
                if f"{column}" in connection.sql(f"FROM '{path}'").columns
            ]
            columns = f"* REPLACE ({', '.join(replaced)})" if replaced else "*"
            nobody = "WHERE tailnum IS NOT NULL" if name in ("flights", "planes") else ""
            connection.execute(f"CREATE VIEW {name} AS SELECT {columns} FROM '{path}' {nobody}")
        return rows(connection.sql(sql.rstrip(";")).to_arrow_table())


def test_null_forms_no_public_group_but_a_private_one(exact: Any) -> None:
    document = {
        "domain": "people:test",
        "rho": 1.0,
        "delta": 1e-6,
        "tables": {"t": {"unit": "u", "columns": {"k": {"keys": ["a", "b"]}, "d": {"keys": "private"}}}},
    }
    policy = privacy.Policy.from_document(document, {"t": {"u": "text", "k": "text", "d": "text"}})
    table = pa.table({"u": ["1", "2", "3"], "k": ["a", None, "c"], "d": ["x", None, "y"]})
    caps = privacy.Options(strategy="caps")
    public = privacy.plan("SELECT k, count(*) AS n FROM t GROUP BY k", policy, rho=0.1, options=caps)
    assert [list(row.values()) for row in exact(public, {"t": table}).to_pylist()] == [["a", 1], ["b", 0]]
    sql = "SELECT d, count(DISTINCT u) AS n FROM t GROUP BY d"
    private = privacy.plan(sql, policy, rho=0.1, options=caps)
    rows = [list(row.values()) for row in exact(private, {"t": table}).to_pylist()]
    assert rows == [["x", 1], ["y", 1], [None, 1]]


def test_least_and_greatest_of_null_are_null(exact: Any, flights_policy: privacy.Policy) -> None:
    """The engine's own would skip NULL and return the other operand, which may be a clamp bound."""
    plan = privacy.plan("SELECT count(greatest(dep_delay, 600)) AS n FROM flights", flights_policy, rho=0.1)
    table = pa.table({"tailnum": ["a", "b"], "dep_delay": pa.array([None, 5], pa.int64())})
    assert exact(plan, {"flights": table}).to_pylist() == [{"c0": 1}]


@pytest.mark.parametrize("sql", _accepted()[::6])
def test_accepted_statements_run_in_the_sandbox(
    sql: str, flights_policy: privacy.Policy, flights_files: dict[str, str], sandbox: privacy.Sandbox
) -> None:
    plan = privacy.plan(sql, flights_policy, rho=0.1)
    answer = privacy.answer(plan, flights_files, salt=b"a salt of the tests", sandbox=sandbox)
    assert answer.table.column_names == [column.name for column in plan.columns]
    for column in plan.columns:
        if column.half_width is not None:
            assert len(answer.intervals[column.name]) == answer.table.num_rows


@pytest.mark.parametrize(
    ("sql", "line", "column"),
    [
        ("SELECT count(*) AS n\nFROM flights\nWHERE passenger = 'Ann'", 3, 7),
        ("SELECT count(*) AS n\n  FROM flights\n WHERE error(dest) IS NULL", 3, 8),
        ("SELECT\n\n  mode ( dep_delay ) AS m FROM flights", 3, 3),
        ("SELECT count(*) AS n FROM flights;\n\nSELECT 1", 3, 1),
        ("SELECT count(*) AS é, passenger FROM flights", 1, 23),
    ],
)
def test_positions_count_lines_and_characters(
    sql: str, line: int, column: int, flights_policy: privacy.Policy
) -> None:
    with pytest.raises(privacy.Refused) as caught:
        privacy.plan(sql, flights_policy, rho=0.01)
    assert (caught.value.line, caught.value.column) == (line, column)
