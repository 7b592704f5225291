"""Above the noise everything is free: several releases in one statement, each question asked once."""

from __future__ import annotations

from typing import Any

import pytest

import privacy

SALT = b"a salt of the tests"


def _plan(sql: str, policy: privacy.Policy, **budget: Any) -> privacy.Plan:
    return privacy.plan(sql, policy, **(budget or {"rho": 0.01}))


def _measures(plan: privacy.Plan) -> list[int]:
    return [len(one.release.measures) for one in plan.releases]


# Questions


def test_equal_questions_are_asked_once(flights_policy: privacy.Policy) -> None:
    """Two aggregations of the same rows by the same keys share one release, its threshold and its counts."""
    plan = _plan(
        "WITH a AS (SELECT dest, count(*) AS n FROM flights GROUP BY dest), "
        "b AS (SELECT f.dest, avg(f.distance) AS miles FROM flights f GROUP BY 1) "
        "SELECT a.dest, a.n, b.miles FROM a JOIN b USING (dest)",
        flights_policy,
    )
    assert _measures(plan) == [4]  # units for the threshold, rows, rows with a distance, their sum
    assert plan.cost.delta_pico == flights_policy.max_delta_per_query_pico
    alone = _plan("SELECT dest, count(*) AS n, avg(distance) AS m FROM flights GROUP BY dest", flights_policy)
    assert plan.release_digest == alone.release_digest


@pytest.mark.parametrize(
    ("sql", "measures"),
    [
        ("SELECT origin FROM (SELECT origin, avg(distance) AS d FROM flights GROUP BY origin) AS t", [1]),
        ("SELECT n FROM (SELECT count(*) AS n, sum(distance) AS s FROM flights) AS t", [1]),
        ("WITH t AS (SELECT count(*) AS n FROM flights), u AS (SELECT sum(distance) AS s FROM flights) "
         "SELECT s FROM u", [1]),
        ("WITH t AS (SELECT origin, count(*) AS n, sum(distance) AS s FROM flights GROUP BY origin) "
         "SELECT x.n, y.s FROM t AS x JOIN t AS y USING (origin)", [2]),
        ("SELECT k FROM (SELECT origin AS k, count(*) AS n FROM flights GROUP BY origin UNION ALL "
         "SELECT dest, sum(distance) FROM flights GROUP BY dest) AS t", [1, 1]),
        ("SELECT origin, n FROM (SELECT origin, count(*) AS n, avg(distance) AS d FROM flights "
         "GROUP BY ROLLUP (origin)) AS t", [1, 1]),
    ],
)  # fmt: skip
def test_numbers_that_nothing_shows_are_not_released(
    sql: str, measures: list[int], flights_policy: privacy.Policy
) -> None:
    assert _measures(_plan(sql, flights_policy)) == measures


def test_the_order_of_branches_does_not_change_what_is_released(flights_policy: privacy.Policy) -> None:
    late = "SELECT 'late' AS what, count(*) AS n FROM flights WHERE arr_delay > 15"
    whole = "SELECT 'all' AS what, count(*) AS n FROM flights"
    one = _plan(f"{late} UNION ALL {whole}", flights_policy)
    other = _plan(f"{whole} UNION ALL {late}", flights_policy)
    assert one.release_digest == other.release_digest
    assert one.digest != other.digest


def test_the_cost_is_split_over_all_releases(flights_policy: privacy.Policy) -> None:
    plan = _plan(
        "SELECT dest AS k, count(*) AS n FROM flights GROUP BY dest UNION ALL "
        "SELECT carrier, count(*) FROM flights GROUP BY carrier",
        flights_policy,
        rho_nano=9_000_000,
    )
    assert plan.cost == privacy.Cost(9_000_000, flights_policy.max_delta_per_query_pico)
    assert [measure.rho_nano for one in plan.releases for measure in one.release.measures] == [3_000_000] * 3


def test_keys_keep_their_places_whatever_the_order_of_tables(
    flights_policy: privacy.Policy, flights_files: dict[str, str], noiseless: Any
) -> None:
    sql = (
        "SELECT a.name, f.origin, count(*) AS n FROM airlines a JOIN flights f ON f.carrier = a.carrier "
        "GROUP BY a.name, f.origin"
    )
    rows = noiseless(_plan(sql, flights_policy), flights_files).to_pylist()
    assert {row["origin"] for row in rows} <= {"EWR", "JFK", "LGA"}


def test_the_same_number_named_twice_is_the_same_number(
    flights_policy: privacy.Policy, flights_files: dict[str, str], sandbox: privacy.Sandbox
) -> None:
    sql = (
        "WITH t AS (SELECT month, count(*) AS n FROM flights GROUP BY month) "
        "SELECT x.month, x.n - y.n AS nothing FROM t AS x JOIN t AS y ON x.month = y.month"
    )
    answer = privacy.answer(_plan(sql, flights_policy), flights_files, salt=SALT, sandbox=sandbox)
    assert answer.table["nothing"].to_pylist() == [0] * 12


# Intervals through unions


def test_a_column_of_several_releases_has_an_interval_in_each_row(
    flights_policy: privacy.Policy, flights_files: dict[str, str], sandbox: privacy.Sandbox
) -> None:
    plan = privacy.plan(
        "SELECT origin, month, count(*) AS n FROM flights GROUP BY ROLLUP (origin, month)",
        flights_policy,
        rho=0.1,
        options=privacy.Options(intervals=True),
    )
    answer = privacy.answer(plan, flights_files, salt=SALT, sandbox=sandbox)
    assert answer.table.num_rows == 3 * 12 + 3 + 1
    widths = {pair[1] - pair[0] for pair in answer.intervals["n"] if pair is not None}
    assert None not in answer.intervals["n"]
    sigmas = [one.sigma(one.lowered.aggregate.sums[0]) for one in plan.releases]
    assert len(widths) == len(set(sigmas)) == 3
    assert [max(widths)] == [2 * width for width in (plan.columns[2].half_width,) if width is not None]
    assert plan.columns[2].sigma == max(sigmas)
    assert answer.table.column_names == ["origin", "month", "n", "n_low", "n_high"]


def test_an_error_is_met_in_every_branch(flights_policy: privacy.Policy) -> None:
    sql = (
        "SELECT 'all' AS what, count(*) AS n FROM flights UNION ALL "
        "SELECT origin, count(*) FROM flights GROUP BY origin"
    )
    plan = privacy.plan(sql, flights_policy, error={"n": 2000})
    reached = plan.columns[1].half_width
    assert reached is not None
    assert reached <= 2000
    widths = [
        column.half_width
        for one in (
            "SELECT count(*) AS n FROM flights",
            "SELECT origin, count(*) AS n FROM flights GROUP BY origin",
        )
        for column in privacy.plan(one, flights_policy, rho_nano=plan.cost.rho_nano // 2).columns
        if column.half_width is not None
    ]
    assert max(widths) == reached


def test_a_constant_beside_a_released_number_is_sure(
    flights_policy: privacy.Policy, flights_files: dict[str, str], sandbox: privacy.Sandbox
) -> None:
    sql = "SELECT count(*) AS n FROM flights UNION ALL SELECT 5 FROM airlines WHERE carrier = 'UA'"
    plan = privacy.plan(sql, flights_policy, rho=0.1)
    answer = privacy.answer(plan, flights_files, salt=SALT, sandbox=sandbox)
    (interval, sure), width = answer.intervals["n"], plan.columns[0].half_width
    assert interval is not None
    assert width is not None
    assert interval[1] - interval[0] == 2 * width
    assert sure == (5, 5)


# What the private part may not see


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT count(*) AS n FROM flights WHERE distance > (SELECT avg(distance) FROM flights)",
         "private_subquery"),
        ("SELECT count(*) AS n FROM flights f JOIN (SELECT carrier, count(*) AS n FROM flights "
         "GROUP BY carrier) AS t ON f.carrier = t.carrier", "unsupported_join"),
        ("SELECT count(*) AS n FROM flights f, (SELECT count(*) AS n FROM flights) AS t", "unsupported_join"),
        ("SELECT count(*) AS n FROM (SELECT tailnum, (SELECT count(*) FROM flights) AS m FROM flights) AS t",
         "private_subquery"),
        ("SELECT count(*) AS n FROM flights f JOIN planes p ON f.tailnum = p.tailnum "
         "AND f.distance > (SELECT avg(distance) FROM flights)", "private_subquery"),
        ("SELECT count(*) AS n FROM airlines a JOIN airlines b ON a.carrier = b.carrier "
         "AND 5 < (SELECT count(*) FROM planes) JOIN flights f ON f.carrier = a.carrier", "unsupported_join"),
        ("SELECT count(*) AS n FROM flights f LEFT JOIN airlines a ON f.carrier = a.carrier "
         "AND f.distance > (SELECT count(*) FROM airports)", "unsupported_subquery"),
    ],
)  # fmt: skip
def test_released_numbers_do_not_choose_private_rows(
    sql: str, code: str, flights_policy: privacy.Policy
) -> None:
    """The exact part is read before any noise is drawn: nothing below a release reads another."""
    with pytest.raises(privacy.Refused) as caught:
        _plan(sql, flights_policy)
    assert caught.value.code == code
