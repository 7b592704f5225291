"""The table of statements under attack. A new aggregate or shape of statement needs one more entry."""

from __future__ import annotations

import math
from typing import Any

import privacy
from privacy.auditor import Claim, half_lines
from tests.statistics.attacks import Case
from tests.statistics.databases import POLICY, Pair, crowd, million, neighbours, tables, visit

DELTA = POLICY.max_delta_per_query_pico / 1e12


def heavy(**columns: Any) -> Pair:
    """A victim with far more rows than count, all alike."""
    return neighbours([visit(**columns)] * 200)


def everywhere(**columns: Any) -> Pair:
    """A victim with many rows in every public group."""
    rows = [visit(ward=ward, day=day, **columns) for ward in "abc" for day in (1, 2, 3)]
    return neighbours(rows * 5)


def lonely(keys: int = 1, rows: int = 1, others: bool = False) -> Pair:
    """A victim with keys of its own, in a database of its own or in a crowd."""
    own = [visit(code=f"only{key}") for key in range(keys) for _ in range(rows)]
    return neighbours(own, None if others else [])


def nasty() -> Pair:
    """A victim whose numbers are missing, not numbers, infinite or far beyond their bounds."""
    costs = [None, 2**63 - 1, -(2**63), 25, 25, 25]
    odd = [float("nan"), float("inf"), -float("inf"), 1e300, None, -0.0]
    return neighbours([visit(cost=a, score=b) for a, b in zip(costs, odd, strict=True)])


def even() -> Pair:
    """Two wards of the same size but for the victim, so that the victim decides which one is first."""
    others = [visit(f"{ward}{number}", ward=ward) for ward in "ab" for number in range(40)]
    return neighbours([visit(ward="b")] * 5, others)


def multiplied() -> Pair:
    """A victim whose rows are joined to 32 rows of a public table each, ten thousand in all."""
    with_victim = tables([visit()] * 320 + crowd(), copies_of_a_ward=32)
    return Pair(with_victim, tables(crowd(), copies_of_a_ward=32))


def caps(**options: Any) -> privacy.Options:
    return privacy.Options(**options)


FROM = "FROM visits"
COUNT = f"SELECT count(*) AS n {FROM}"
BY_WARD = f"SELECT ward, count(*) AS n {FROM} GROUP BY ward"
BY_CODE = f"SELECT code, count(*) AS n {FROM} GROUP BY code"
UNITS_BY_CODE = f"SELECT code, count(DISTINCT person) AS n {FROM} GROUP BY code"
EACH_PERSON = caps(max_rows=1, max_rows_per_group=1)

CASES = [
    # every aggregate, with a unit that moves it as far as it can
    Case("count", COUNT, heavy),
    Case("count of a column", f"SELECT count(cost) AS n {FROM}", heavy),
    Case("sum at the upper clamp", f"SELECT sum(cost) AS s {FROM}", lambda: heavy(cost=10**6)),
    Case("sum at the lower clamp", f"SELECT sum(least(cost, -1)) AS s {FROM}", lambda: heavy(cost=-(10**6))),
    Case("sum of decimals", f"SELECT sum(score) AS s {FROM}", lambda: heavy(score=1e9)),
    Case("sum of an expression", f"SELECT sum(cost * cost - cost) AS s {FROM}", lambda: heavy(cost=-10)),
    Case("average at the upper bound", f"SELECT avg(cost) AS a {FROM}", lambda: heavy(cost=25)),
    Case("average at the lower bound", f"SELECT avg(score) AS a {FROM}", lambda: heavy(score=-9.0)),
    Case("count of units", f"SELECT count(DISTINCT person) AS n {FROM}", heavy),
    Case(
        "filtered aggregates",
        f"SELECT sum(cost) FILTER (WHERE cost > 24) AS s {FROM}",
        lambda: heavy(cost=25),
    ),
    Case(
        "several aggregates at once",
        f"SELECT count(*) AS n, sum(cost) AS s, avg(score) AS a, count(DISTINCT person) AS u {FROM}",
        lambda: heavy(cost=25, score=2.25),
    ),
    # groups
    Case("public groups", BY_WARD, everywhere),
    Case(
        "caps on groups",
        f"SELECT ward, day, sum(cost) AS s, count(*) AS n {FROM} GROUP BY ward, day",
        lambda: everywhere(cost=25),
        share=0.5,
    ),
    Case(
        "values outside the key set",
        BY_WARD,
        lambda: neighbours([visit(ward="z"), visit(), visit(ward=None)]),
    ),
    Case(
        "groups of an expression",
        f"SELECT cost > 24 AS high, count(*) AS n, sum(cost) AS s {FROM} GROUP BY high",
        lambda: heavy(cost=25),
    ),
    Case("private groups", f"SELECT code, sum(cost) AS s {FROM} GROUP BY code", lambda: heavy(cost=25)),
    Case(
        "a key of one unit",
        UNITS_BY_CODE,
        lonely,
        rho=0.25,  # at this rho a threshold one too low shows ten times as many
        options=caps(max_groups=1),
        promise=Claim.at_most(DELTA),
        share=25.0,
    ),
    Case(
        "many keys of one unit",
        UNITS_BY_CODE,
        lambda: lonely(keys=300, rows=3),
        promise=Claim.at_most(DELTA),
        share=8.0,
    ),
    Case(
        "many rows behind a key of one unit",
        BY_CODE,
        lambda: lonely(rows=50),
        options=caps(max_rows_per_group=50),
        promise=Claim.at_most(DELTA),
        share=4.0,
    ),
    Case("a key of one unit in a crowd", BY_CODE, lambda: lonely(keys=3, others=True), share=0.5),
    # joins and heavy units
    Case(
        "a unit of a million rows", f"SELECT count(*) AS n, sum(cost) AS s {FROM}", lambda: million(cost=25)
    ),
    Case(
        "a join that multiplies",
        "SELECT w.city, count(*) AS n FROM visits v JOIN wards w ON v.ward = w.ward GROUP BY w.city",
        multiplied,
    ),
    Case(
        "a left join that multiplies",
        "SELECT count(*) AS n, sum(v.cost) AS s FROM visits v LEFT JOIN wards w ON v.ward = w.ward",
        multiplied,
    ),
    # odd values
    Case(
        "missing values",
        f"SELECT count(*) AS n, count(cost) AS c, avg(cost) AS a {FROM}",
        lambda: heavy(cost=None),
    ),
    Case(
        "values that are no numbers", f"SELECT sum(score) AS s, avg(score) AS a, avg(cost) AS b {FROM}", nasty
    ),
    # who the victim is
    Case("a filter for one unit", f"{COUNT} WHERE person = 'victim'", heavy),
    Case("everyone but one unit", (COUNT, f"{COUNT} WHERE person <> 'victim'"), heavy, factors=(1, -1)),
    Case(
        "a group of one unit",
        f"SELECT person = 'victim' AS v, count(*) AS n {FROM} GROUP BY v",
        heavy,
        share=2.0,
    ),
    Case(
        "the only unit there is",
        f"SELECT ward, sum(cost) AS s {FROM} GROUP BY ward",
        lambda: neighbours([visit(cost=25)] * 9, []),
    ),
    # several answers together
    Case("averaging by repetition", COUNT, heavy, rho=0.05, repeats=10, share=0.5),
    Case(
        "two buyers together",
        (COUNT, f"SELECT sum(cost) AS s {FROM}", BY_WARD),
        lambda: heavy(cost=25),
        rho=0.2,
        share=0.5,
    ),
    Case(
        "the same data listed again",
        f"SELECT ward, day, count(*) AS n {FROM} GROUP BY ward, day",
        everywhere,
        rho=0.1,
        salts=tuple(bytes([number]) * 16 for number in range(5)),
        share=0.25,
    ),
    Case("each answer drawn anew", COUNT, heavy, separate=True, share=0.1),
    # what is made of released values
    Case("HAVING", f"{BY_WARD} HAVING count(*) > 40", even, read=len, options=EACH_PERSON, share=0.05),
    Case(
        "ORDER BY",
        f"{BY_WARD} ORDER BY n DESC, ward",
        even,
        read=lambda rows: tuple(row["ward"] for row in rows),
        share=0.05,
    ),
    Case(
        "LIMIT",
        f"{BY_WARD} ORDER BY n DESC, ward LIMIT 1",
        even,
        read=lambda rows: rows[0]["ward"],
        share=0.05,
    ),
    Case(
        "a ratio of aggregates",
        f"SELECT sum(cost) / count(*) AS r {FROM}",
        lambda: neighbours([visit(cost=25)] * 9, [visit(f"p{n}", cost=0) for n in range(40)]),
        read=lambda rows: -math.inf if rows[0]["r"] is None else float(rows[0]["r"]),
        events=half_lines,
        row_by_row=True,
    ),
    Case(
        "an average with its interval",
        f"SELECT avg(cost) AS a {FROM}",
        lambda: neighbours([visit(cost=25)] * 9, [visit(f"p{n}", cost=0) for n in range(40)]),
        options=caps(intervals=True),
        read=lambda rows: -math.inf if rows[0]["a"] is None else float(rows[0]["a"]),
        events=half_lines,
        row_by_row=True,
    ),
]

BY_NAME = {case.name: case for case in CASES}
