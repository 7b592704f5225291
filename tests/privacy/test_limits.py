"""The front door under attack: limits hold before the work is done, and whatever is sent, only `Refused`
comes out."""

from __future__ import annotations

import sys
import threading
from types import FrameType

import pytest

import privacy
from privacy.query import text as front

N = front.MAX_NESTING


def _refused(sql: str, policy: privacy.Policy) -> privacy.Refused:
    with pytest.raises(privacy.Refused) as caught:
        privacy.plan(sql, policy, rho=0.01)
    return caught.value


def _refused_after_calls(sql: str, policy: privacy.Policy) -> tuple[privacy.Refused, int]:
    """The refusal, and how many functions of Python were called for it: a measure of work that is the same
    on every machine, where processor time is not."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        return _refused(sql, policy), calls
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT count(*) AS n FROM flights " + " " * front.MAX_TEXT_BYTES, "too_long"),
        ("SELECT '" + "é" * (front.MAX_TEXT_BYTES // 2) + "'", "too_long"),
        ("SELECT " + "1," * (front.MAX_TOKENS // 2) + "1", "too_long"),
        ("SELECT " + "(" * (N + 1) + "1" + ")" * (N + 1), "too_deep"),
        ("SELECT " + "[" * 4000, "too_deep"),
        ("SELECT " + "CASE WHEN true THEN " * (N + 1) + "1" + " END" * (N + 1), "too_deep"),
        ("SELECT " + "NOT " * (N + 2) + "true", "too_deep"),
        ("SELECT " + "- " * (N + 2) + "1", "too_deep"),
        ("SELECT count(*) FROM flights WHERE dep_delay = 1" + " + 1" * 300, "too_deep"),
        ("SELECT count(*)\x00 FROM flights", "syntax"),
        ("SELECT count(*) FROM flights WHERE dest = '\ud800'", "syntax"),
        ("", "syntax"),
        (" \n\t ", "syntax"),
        ("-- nothing", "syntax"),
    ],
)
def test_limits(sql: str, code: str, flights_policy: privacy.Policy) -> None:
    assert _refused(sql, flights_policy).code == code


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM " + "a LEFT JOIN " * 40 + "b",
        "SELECT * FROM " + "a LEFT JOIN " * 40 + "b " + "ON x " * 20,
        "SELECT " + "struct(" * 40 + ")" * 40,
        "SELECT * FROM " + "( INT8 " * 40 + ")" * 40,
        "WITH x AS (SELECT 1) " + "TIMESTAMP (" * 90,
        "SELECT a FROM t JOIN b ON " + "f( LOCALTIME LIMIT " * 20 + "1",
        "SELECT a " + "= NOT b " * 1600,
        "SELECT " + "NOT - " * 2400 + "1",
        "SELECT " + "interval " * 4000 + "1",
        "SELECT " + "CASE " * 90 + "WHEN " * 2000,
        "SELECT " + "EXISTS " * 4000,
        "SELECT " + "x -> " * 2400 + "1",
        "SELECT 1 " + "UNION SELECT 1 " * 1600,
    ],
)
def test_texts_that_tangle_the_parser_are_refused_quickly(sql: str, flights_policy: privacy.Policy) -> None:
    """Some of these take sqlglot alone minutes; its work is cut off after a few steps for each token. A
    million calls take a third of a second."""
    refused, calls = _refused_after_calls(sql, flights_policy)
    assert refused.hint
    assert 1_000 < calls < 1_000_000


T = "(SELECT month, count(*) AS n FROM flights GROUP BY month)"


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT 1 AS x FROM airlines" + " UNION ALL SELECT 1 FROM airlines" * 70, "too_complex"),
        ("SELECT count(*) FROM flights GROUP BY CUBE (" + ", ".join(["month"] * 40) + ")", "too_complex"),
        ("SELECT count(*) FROM flights GROUP BY " + ", ".join(["ROLLUP (month, day)"] * 9), "too_complex"),
        (f"SELECT {', '.join(f'n + {k} AS x{k}' for k in range(300))} FROM {T} AS t", "too_complex"),
        ("SELECT count(*) AS n FROM flights WHERE " + " || ".join(["dest"] * 400) + " = 'x'", "too_deep"),
        ("SELECT count(*) AS n FROM flights WHERE " + "concat(" * 40 + "dest" + ", dest)" * 40 + " = 'x'",
         "too_complex"),
        ("SELECT count(*) AS n FROM flights WHERE " + "power(" * 60 + "month" + ", 2)" * 60 + " > 1",
         "too_complex"),
        ("SELECT * FROM " + "(SELECT * FROM " * 70 + "airlines" + ") AS t" * 70, "too_deep"),
        (f"SELECT {', '.join(['(SELECT max(n) FROM ' + T + ' AS t)'] * 70)} FROM airlines", "too_complex"),
        ("SELECT count(*) AS n FROM flights f" + " JOIN airlines USING (carrier)" * 40, None),
    ],
)  # fmt: skip
def test_what_would_multiply_is_refused_before_it_does(
    sql: str, code: str | None, flights_policy: privacy.Policy
) -> None:
    """Unions, grouping sets, columns, texts and subqueries: none is unfolded beyond its limit."""
    refused, calls = _refused_after_calls(sql, flights_policy)
    assert code in (None, refused.code)
    assert 1_000 < calls < 500_000


@pytest.mark.parametrize(
    "condition",
    [
        "(" * 90 + "dep_delay > 1" + ")" * 90,
        " AND ".join(f"dep_delay <> {number}" for number in range(1000)),
        " OR ".join(f"dep_delay = {number}" for number in range(1000)),
        f"dep_delay IN ({', '.join(map(str, range(2000)))})",
        "abs(" * 60 + "dep_delay" + ")" * 60 + " > 1",
        "CASE WHEN dep_delay > 1 THEN " * 40 + "true" + " ELSE false END" * 40,
    ],
)
def test_long_but_plain_statements_are_planned(condition: str, flights_policy: privacy.Policy) -> None:
    plan = privacy.plan(f"SELECT count(*) AS n FROM flights WHERE {condition}", flights_policy, rho=0.01)
    assert plan.sql


def test_expressions_cannot_be_blown_up_by_naming_them_again(flights_policy: privacy.Policy) -> None:
    steps = ["a0 AS (SELECT dep_delay AS x FROM flights)"]
    steps += [f"a{k} AS (SELECT x + x AS x FROM a{k - 1})" for k in range(1, 30)]
    sql = f"WITH {', '.join(steps)} SELECT count(*) AS n FROM a29 WHERE x > 1"
    assert _refused(sql, flights_policy).code == "too_complex"
    doubling = [
        f"a{k} AS (SELECT a.* FROM a{k - 1} a JOIN a{k - 1} b ON a.name = b.name)" for k in range(1, 30)
    ]
    sql = f"WITH a0 AS (SELECT name FROM airlines), {', '.join(doubling)} SELECT count(*) AS n FROM a29"
    assert _refused(sql, flights_policy).code == "too_complex"


def test_the_usual_stack_is_left_as_it_was(flights_policy: privacy.Policy) -> None:
    before = sys.getrecursionlimit()
    privacy.plan(
        "SELECT count(*) AS n FROM flights WHERE " + "(" * 90 + "true" + ")" * 90, flights_policy, rho=0.01
    )
    _refused("SELECT " + "(" * 5000, flights_policy)
    assert sys.getrecursionlimit() == before


def test_planning_from_many_threads(flights_policy: privacy.Policy) -> None:
    sql = (
        "SELECT origin, count(*) AS n FROM flights WHERE " + "(" * 80 + "true" + ")" * 80 + " GROUP BY origin"
    )
    digests: list[str] = []
    threads = [
        threading.Thread(target=lambda: digests.append(privacy.plan(sql, flights_policy, rho=0.01).digest))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 8
    assert len(set(digests)) == 1
