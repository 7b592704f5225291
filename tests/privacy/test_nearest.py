"""A refusal names the nearest statement that is answered, where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

import privacy
from privacy.query.nearest import search

TWINS = [
    ("SELECT * FROM flights", "SELECT count(*) AS n FROM flights"),
    (
        "SELECT f.* FROM flights f WHERE f.month = 1 ORDER BY f.dep_delay LIMIT 3",
        "SELECT count(*) AS n FROM flights AS f WHERE f.month = 1",
    ),
    ("SELECT DISTINCT tailnum FROM flights", "SELECT count(DISTINCT tailnum) AS n FROM flights"),
    ("SELECT origin FROM flights", "SELECT origin, count(*) AS n FROM flights GROUP BY origin"),
    (
        "SELECT tailnum, dep_delay FROM flights LIMIT 5",
        "SELECT count(*) AS n, avg(dep_delay) AS dep_delay FROM flights",
    ),
    (
        "SELECT dest, count(*) AS n FROM flights",
        "SELECT dest, count(*) AS n FROM flights GROUP BY dest",
    ),
    (
        "SELECT tailnum, count(*) AS n FROM flights GROUP BY tailnum",
        "SELECT avg(n) AS n FROM (SELECT tailnum, count(*) AS n FROM flights GROUP BY tailnum) AS each",
    ),
    (
        "SELECT origin, tailnum, count(*) AS n FROM flights GROUP BY origin, tailnum",
        "SELECT origin, count(*) AS n FROM flights GROUP BY origin",
    ),
    ("SELECT sum(year) AS s FROM flights", "SELECT count(year) AS s FROM flights"),
    (
        "SELECT sum(dep_delay > 15) AS late FROM flights",
        "SELECT sum(CASE WHEN dep_delay > 15 THEN 1 ELSE 0 END) AS late FROM flights",
    ),
    (
        "SELECT avg(distance / air_time) AS speed FROM flights",
        "SELECT avg(distance) / avg(air_time) AS speed FROM flights",
    ),
    ("SELECT sum(DISTINCT distance) AS s FROM flights", "SELECT sum(distance) AS s FROM flights"),
    (
        "SELECT sum(count(*)) AS n FROM flights GROUP BY dest",
        "SELECT sum(n) AS n FROM (SELECT dest, count(*) AS n FROM flights GROUP BY dest) AS t",
    ),
    (
        "SELECT count(*) AS n FROM flights a JOIN planes b ON a.year = b.year",
        "SELECT count(*) AS n FROM flights AS a JOIN planes AS b ON a.tailnum = b.tailnum",
    ),
    (
        "SELECT count(*) AS n FROM flights SEMI JOIN airlines USING (carrier)",
        "SELECT count(*) AS n FROM flights WHERE carrier IN (SELECT carrier FROM airlines)",
    ),
    (
        "SELECT count(*) AS n FROM flights NATURAL JOIN airlines",
        "SELECT count(*) AS n FROM flights JOIN airlines USING (carrier)",
    ),
    (
        "SELECT name FROM airlines WHERE carrier IN (SELECT carrier FROM flights)",
        "SELECT name FROM airlines WHERE carrier IN (SELECT carrier FROM flights GROUP BY carrier)",
    ),
    (
        "SELECT count(*) AS n FROM flights WHERE distance > (SELECT avg(distance) FROM flights)",
        "SELECT avg(distance) FROM flights",
    ),
    (
        "SELECT count(*) AS n FROM flights f WHERE month = 1 AND "
        "dep_delay > (SELECT avg(g.dep_delay) FROM flights g WHERE g.dest = f.dest)",
        "SELECT count(*) AS n FROM flights AS f WHERE month = 1",
    ),
    (
        "SELECT dest, count(*) AS n FROM (SELECT tailnum, dest, row_number() OVER (ORDER BY dep_delay) AS k "
        "FROM flights) AS t WHERE k < 10 GROUP BY dest",
        "SELECT dest, count(*) AS n FROM (SELECT tailnum, dest, row_number() OVER (PARTITION BY tailnum "
        "ORDER BY dep_delay) AS k FROM flights) AS t WHERE k < 10 GROUP BY dest",
    ),
    (
        "SELECT sum(dep_delay) OVER (PARTITION BY dest) AS s FROM flights",
        "SELECT dest, sum(dep_delay) AS s FROM flights GROUP BY dest",
    ),
    (
        "SELECT origin, count(*) AS n FROM flights GROUP BY origin QUALIFY n > 5",
        "SELECT origin, count(*) AS n FROM flights GROUP BY origin HAVING n > 5",
    ),
    (
        "SELECT count(*) AS n FROM (SELECT tailnum FROM flights LIMIT 10) AS t",
        "SELECT count(*) AS n FROM (SELECT tailnum FROM flights) AS t",
    ),
    ("SELECT count(*) AS n FROM flight", "SELECT count(*) AS n FROM flights"),
    ("SELECT count(*) AS n FROM 'flights.parquet'", "SELECT count(*) AS n FROM flights"),
    ("SELECT avg(dep_delays) AS d FROM flights", "SELECT avg(dep_delay) AS d FROM flights"),
    ("SELECT count(*) AS n FROM flights USING SAMPLE 10%", "SELECT count(*) AS n FROM flights"),
    (
        "SELECT count(*) AS n FROM flights WHERE month = 1 AND random() < 0.5",
        "SELECT count(*) AS n FROM flights WHERE month = 1",
    ),
    (
        "SELECT count(*) AS n FROM flights WHERE carrier = 5",
        "SELECT count(*) AS n FROM flights WHERE carrier = '5'",
    ),
    ("SELECT count(*) AS n FROM flights; DROP TABLE flights", "SELECT count(*) AS n FROM flights"),
    ("EXPLAIN SELECT count(*) AS n FROM flights", "SELECT count(*) AS n FROM flights"),
    ("SUMMARIZE flights", "SELECT count(*) AS n FROM flights"),
    (
        "SELECT count(*) AS n FROM flights WHERE ((month = 1)",
        "SELECT count(*) AS n FROM flights WHERE ((month = 1))",
    ),
    ("SELET count(*) AS n FROM flights", "SELECT count(*) AS n FROM flights"),
]  # fmt: skip


def _refused(sql: str, policy: privacy.Policy) -> privacy.Refused:
    with pytest.raises(privacy.Refused) as caught:
        privacy.plan(sql, policy, rho=0.01)
    return caught.value


@pytest.mark.parametrize(("sql", "nearest"), TWINS)
def test_the_nearest_statement_is_named_and_answered(
    sql: str, nearest: str, flights_policy: privacy.Policy
) -> None:
    assert _refused(sql, flights_policy).nearest == nearest
    assert privacy.plan(nearest, flights_policy, rho=0.01).columns


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "ATTACH 'other.db'",
        "DROP TABLE flights",
        "SELECT (((((",
        "SELECT count(*) FROM flights WHERE " + "(" * 101 + "true" + ")" * 101,
    ],
)
def test_where_nothing_is_near_nothing_is_named(sql: str, flights_policy: privacy.Policy) -> None:
    assert _refused(sql, flights_policy).nearest is None


def test_a_statement_with_many_faults_is_mended_step_by_step(flights_policy: privacy.Policy) -> None:
    refused = _refused(
        "SELECT origin, string_agg(dest, ',') AS d, sum(year) AS y FROM flights TABLESAMPLE reservoir(10) "
        "WHERE time_hour < now() GROUP BY origin ORDER BY dep_delay",
        flights_policy,
    )
    assert refused.nearest == (
        "SELECT origin, count(dest) AS d, count(year) AS y FROM flights "
        "WHERE time_hour < CAST('2026-01-01 00:00:00' AS TIMESTAMP) GROUP BY origin"
    )


def test_the_search_is_short(flights_policy: privacy.Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is wrong with a statement, few others are compiled for it."""
    compiled: list[str] = []
    original = search.nearest

    def counting(failed: search.Attempt, policy: privacy.Policy, attempted: search.Compile) -> str | None:
        def counted(text: str) -> search.Attempt:
            compiled.append(text)
            return attempted(text)

        return original(failed, policy, counted)

    monkeypatch.setattr("privacy.query.statement.nearest", counting)
    faults = " AND ".join(f"random() < {number}" for number in range(40))
    assert _refused(f"SELECT * FROM flights WHERE {faults}", flights_policy).nearest is None
    assert 1 < len(compiled) <= search.MAX_ATTEMPTS


def test_long_statements_are_refused_without_a_search(flights_policy: privacy.Policy) -> None:
    conditions = " AND ".join(f"dep_delay <> {number}" for number in range(400))
    assert _refused(f"SELECT * FROM flights WHERE {conditions}", flights_policy).nearest is None


def test_most_of_the_refused_statements_have_a_nearest_one(flights_policy: privacy.Policy) -> None:
    """Of those that ask the dataset's tables for something; each is planned in test_statements.py."""
    lines = (Path(__file__).parent / "fixtures" / "refused.sql").read_text().splitlines()
    asked = [line for line in lines if not line.startswith("--") and "FROM" in line and "flights" in line]
    offered = [sql for sql in asked if _refused(sql, flights_policy).nearest is not None]
    print(f"{len(offered)} of {len(asked)} have a nearest statement")
    assert len(asked) > 300
    assert len(offered) > 0.9 * len(asked)
