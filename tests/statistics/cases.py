"""The table of statements under attack. A new aggregate or shape of statement needs one more entry."""

from __future__ import annotations

import math
from typing import Any

import privacy
from privacy.auditor import Claim, half_lines
from tests.statistics.attacks import Case
from tests.statistics.databases import (
    POLICY,
    climbing,
    even,
    everywhere,
    heavy,
    lonely,
    million,
    multiplied,
    nasty,
    neighbours,
    torn,
    visit,
)

DELTA = POLICY.max_delta_per_query_pico / 1e12


def caps(**options: Any) -> privacy.Options:
    return privacy.Options(**options)


FROM = "FROM visits"
COUNT = f"SELECT count(*) AS n {FROM}"
BY_WARD = f"SELECT ward, count(*) AS n {FROM} GROUP BY ward"
BY_CODE = f"SELECT code, count(*) AS n {FROM} GROUP BY code"
UNITS_BY_CODE = f"SELECT code, count(DISTINCT person) AS n {FROM} GROUP BY code"
CLIP, CAPS, WEIGHTS = (caps(strategy=name) for name in ("clip", "caps", "weights"))
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
    Case("variance at the bounds", f"SELECT var_samp(cost) AS v {FROM}", torn),
    Case("deviation of decimals", f"SELECT stddev_pop(score) AS v {FROM}", lambda: heavy(score=-1e9)),
    Case("correlation", f"SELECT corr(cost, score) AS r {FROM}", torn),
    Case("covariance", f"SELECT covar_samp(cost, score) AS c {FROM}", torn),
    Case("slope of a regression", f"SELECT regr_slope(score, cost) AS b {FROM}", torn),
    Case(
        "variance in groups",
        f"SELECT ward, variance(cost) AS v {FROM} GROUP BY ward",
        lambda: everywhere(cost=-(10**6)),
    ),
    # groups
    Case("public groups", BY_WARD, everywhere),
    Case(
        "caps on groups",
        f"SELECT ward, day, sum(cost) AS s, count(*) AS n {FROM} GROUP BY ward, day",
        lambda: everywhere(cost=25),
        options=CAPS,
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
        options=caps(max_groups=1, strategy="caps"),
        promise=Claim.at_most(DELTA),
        share=25.0,
    ),
    Case(
        "many keys of one unit",
        UNITS_BY_CODE,
        lambda: lonely(keys=300, rows=3),
        options=CAPS,
        promise=Claim.at_most(DELTA),
        share=8.0,
    ),
    Case(
        "many rows behind a key of one unit",
        BY_CODE,
        lambda: lonely(rows=50),
        options=caps(max_rows_per_group=50, strategy="caps"),
        promise=Claim.at_most(DELTA),
        share=4.0,
    ),
    Case("a key of one unit in a crowd", BY_CODE, lambda: lonely(keys=3, others=True), share=0.5),
    Case(
        "sets of groups",
        f"SELECT ward, day, sum(cost) AS s {FROM} GROUP BY CUBE (ward, day)",
        lambda: everywhere(cost=25),
        share=0.5,
    ),
    Case(
        "sets of public and private groups",
        f"SELECT ward, code, count(*) AS n {FROM} GROUP BY GROUPING SETS ((ward), (code), ())",
        lambda: heavy(code="common"),
    ),
    # the L2 clip in place of caps
    Case("a clipped count", COUNT, heavy, options=CLIP),
    Case(
        "a clipped sum",
        f"SELECT sum(cost) AS s, avg(score) AS a {FROM}",
        lambda: heavy(cost=10**6, score=-9.0),
        options=CLIP,
    ),
    Case(
        "clipped groups",
        f"SELECT ward, day, count(*) AS n, sum(cost) AS s {FROM} GROUP BY ward, day",
        lambda: everywhere(cost=25),
        options=CLIP,
        share=0.5,
    ),
    Case(
        "a clipped group among many",
        f"SELECT ward, day, sum(cost) AS s {FROM} GROUP BY ward, day",
        lambda: heavy(cost=-(10**6)),
        options=CLIP,
        share=0.5,
    ),
    Case(
        "many keys of one unit, clipped",
        UNITS_BY_CODE,
        lambda: lonely(keys=64, rows=3),
        rho=0.25,
        options=caps(max_groups=1, strategy="clip"),
        promise=Claim.at_most(DELTA),
    ),
    Case(
        "more keys of one unit than the clip lets through",
        UNITS_BY_CODE,
        lambda: lonely(keys=3_000),
        options=caps(max_groups=1, strategy="clip"),
        promise=Claim.at_most(DELTA),
    ),
    Case("a clipped group of one unit in a crowd", BY_CODE, lambda: lonely(keys=3, others=True), share=0.5),
    # row weights
    Case("weighted rows", COUNT, heavy, options=WEIGHTS),
    Case(
        "weighted groups",
        f"SELECT ward, day, count(*) AS n, sum(cost) AS s {FROM} GROUP BY ward, day",
        lambda: everywhere(cost=25),
        options=WEIGHTS,
        share=0.5,
    ),
    Case(
        "a weighted average in groups",
        f"SELECT ward, avg(score) AS a {FROM} GROUP BY ward",
        lambda: heavy(score=-9.0),
        options=WEIGHTS,
    ),
    Case("a clipped correlation", f"SELECT corr(cost, score) AS r {FROM}", torn, options=CLIP),
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
    Case(
        "a join on the unit",
        "SELECT v.ward, sum(b.amount) AS s FROM visits v JOIN bills b USING (person) GROUP BY v.ward",
        lambda: everywhere(cost=10**6),
    ),
    Case(
        "a join with oneself",
        "SELECT count(*) AS n, sum(a.cost + b.cost) AS s FROM visits a JOIN visits b ON a.person = b.person",
        lambda: heavy(cost=25),
    ),
    Case(
        "a left join on the unit",
        "SELECT count(*) AS n, count(b.amount) AS m FROM visits v LEFT JOIN bills b USING (person)",
        heavy,
    ),
    Case(
        "a semi-join",
        "SELECT sum(cost) AS s FROM visits WHERE EXISTS (SELECT 1 FROM bills b "
        "WHERE b.person = visits.person AND b.amount > 24)",
        lambda: heavy(cost=25),
    ),
    Case(
        "an anti-join",
        f"{COUNT} WHERE person NOT IN (SELECT person FROM bills WHERE amount < -5 AND person IS NOT NULL)",
        heavy,
    ),
    Case("a unit two tables away", "SELECT sum(price) AS s, count(*) AS n FROM items", heavy),
    Case(
        "a join along the path",
        "SELECT b.amount > 9 AS k, sum(i.price) AS s FROM items i JOIN bills b ON i.bill = b.bill GROUP BY k",
        lambda: heavy(cost=25),
    ),
    Case(
        "rows united",
        "SELECT ward, count(*) AS n FROM (SELECT person, ward FROM visits UNION ALL "
        "SELECT person, ward FROM visits WHERE cost > 3) AS u GROUP BY ward",
        everywhere,
    ),
    # features of a unit
    Case(
        "a sum of each unit",
        "SELECT avg(total) AS a FROM (SELECT person, sum(cost) AS total FROM visits GROUP BY person) AS t",
        lambda: heavy(cost=10**6),
    ),
    Case(
        "a histogram of a feature",
        "SELECT trips, count(*) AS n FROM (SELECT person, least(count(*), 5) AS trips "
        "FROM visits GROUP BY person) AS t GROUP BY trips",
        heavy,
    ),
    Case(
        "units chosen by a feature",
        "WITH busy AS (SELECT person FROM visits GROUP BY person HAVING count(*) > 3) "
        "SELECT count(*) AS n FROM busy",
        heavy,
    ),
    Case(
        "the first rows of each unit",
        "SELECT ward, sum(cost) AS s FROM (SELECT person, ward, cost, row_number() "
        "OVER (PARTITION BY person ORDER BY cost DESC) AS k FROM visits) AS t "
        "WHERE k <= 50 GROUP BY ward",
        lambda: everywhere(cost=25),
    ),
    Case(
        "steps between rows of a unit",
        "SELECT sum(greatest(step, 0)) AS s FROM (SELECT person, cost - lag(cost) "
        "OVER (PARTITION BY person ORDER BY day, cost) AS step FROM visits) AS t",
        climbing,
    ),
    Case(
        "distinct rows of a unit",
        "SELECT count(*) AS n FROM (SELECT DISTINCT person, ward, day FROM visits) AS t",
        everywhere,
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
    Case(
        "several aggregations in one statement",
        "WITH a AS (SELECT count(*) AS n FROM visits), b AS (SELECT sum(cost) AS n "
        "FROM visits) SELECT a.n + b.n AS t FROM a, b",
        lambda: heavy(cost=25),
    ),
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
    Case("HAVING", f"{BY_WARD} HAVING count(*) > 40", even, read=len, options=EACH_PERSON, share=0.08),
    Case(
        "ORDER BY",
        f"{BY_WARD} ORDER BY n DESC, ward",
        even,
        read=lambda rows: tuple(row["ward"] for row in rows),
        share=0.08,
    ),
    Case(
        "LIMIT",
        f"{BY_WARD} ORDER BY n DESC, ward LIMIT 1",
        even,
        read=lambda rows: rows[0]["ward"],
        share=0.08,
    ),
    Case(
        "QUALIFY",
        f"{BY_WARD} QUALIFY rank() OVER (ORDER BY count(*) DESC, ward) = 1",
        even,
        read=lambda rows: rows[0]["ward"],
        share=0.08,
    ),
    Case(
        "a subquery of one value",
        f"{BY_WARD} HAVING count(*) > (SELECT count(*) / 2 FROM visits)",
        even,
        read=len,
        options=EACH_PERSON,
        share=0.08,
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
