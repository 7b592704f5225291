"""Budgets, costs, digests and quotes: pure functions of text, policy and options."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pytest

import privacy
from privacy import accounting
from tests.privacy.policies import FLIGHTS_POLICY, FLIGHTS_TYPES

SALT = b"a salt of the tests"
COUNT = "SELECT count(*) AS n FROM flights"


def _plan(sql: str, policy: privacy.Policy, **budget: Any) -> privacy.Plan:
    return privacy.plan(sql, policy, **(budget or {"rho": 0.01}))


def _code(sql: str, policy: privacy.Policy, **budget: Any) -> str:
    with pytest.raises(privacy.Refused) as caught:
        privacy.plan(sql, policy, **budget)
    return caught.value.code


# Budgets


def test_cost_never_exceeds_what_was_asked(flights_policy: privacy.Policy) -> None:
    for rho_nano in (50_000, 1_000_001, 10_000_000, 499_999_999):
        for sql in (COUNT, "SELECT dest, avg(distance) AS a, sum(distance) AS s FROM flights GROUP BY dest"):
            cost = privacy.plan(sql, flights_policy, rho_nano=rho_nano).cost
            assert rho_nano - 4 < cost.rho_nano <= rho_nano


def test_rho_is_read_as_decimal_and_rounded_down(flights_policy: privacy.Policy) -> None:
    assert _plan(COUNT, flights_policy, rho=0.01).cost == privacy.Cost(10_000_000, 0)
    assert _plan(COUNT, flights_policy, rho="0.0100000009").cost.rho_nano == 10_000_000


def test_epsilon_is_met(flights_policy: privacy.Policy) -> None:
    plan = _plan(COUNT, flights_policy, epsilon=1.0)
    assert 0.99 < plan.epsilon <= 1.0
    private = _plan("SELECT dest, count(*) AS n FROM flights GROUP BY dest", flights_policy, epsilon=1.0)
    assert 0.99 < private.epsilon <= 1.0
    assert private.cost.delta_pico == flights_policy.max_delta_per_query_pico == 10_000


def _half_width(plan: privacy.Plan, place: int) -> float:
    found = plan.columns[place].half_width
    assert found is not None
    return found


def test_error_gives_the_least_rho(flights_policy: privacy.Policy) -> None:
    plan = _plan(
        "SELECT origin, count(*) AS n FROM flights GROUP BY origin", flights_policy, error={"n": 400}
    )
    assert plan.columns[1].half_width == 400
    rho = plan.cost.rho_nano
    less = _plan(
        "SELECT origin, count(*) AS n FROM flights GROUP BY origin", flights_policy, rho_nano=rho - 1
    )
    assert _half_width(less, 1) > 400


def test_error_of_a_sum_is_in_its_own_unit() -> None:
    document = {
        **FLIGHTS_POLICY,
        "tables": {"t": {"unit": "u", "columns": {"x": {"bounds": [0, 9.99], "decimals": 2}}}},
    }
    policy = privacy.Policy.from_document(document, {"t": {"u": "text", "x": "float"}})
    plan = _plan("SELECT sum(x) AS s, count(*) AS n FROM t", policy, error={"s": 90000.5, "n": 5000})
    assert _half_width(plan, 0) <= 90000.5
    assert _half_width(plan, 1) <= 5000
    assert plan.releases[0].lowered.sensitivities == (400**2, (400 * 999) ** 2)


@pytest.mark.parametrize(
    ("budget", "code"),
    [
        ({}, "budget_invalid"),
        ({"rho": 0.1, "epsilon": 1.0}, "budget_invalid"),
        ({"rho": 0.6}, "rho_too_large"),
        ({"epsilon": 50.0}, "rho_too_large"),
        ({"error": {"n": 0.001}}, "rho_too_large"),
        ({"rho": 0}, "rho_too_small"),
        ({"rho": -1}, "budget_invalid"),
        ({"rho": float("nan")}, "budget_invalid"),
        ({"rho": "much"}, "budget_invalid"),
        ({"rho_nano": 0}, "budget_invalid"),
        ({"rho_nano": True}, "budget_invalid"),
        ({"rho_nano": 1.5}, "budget_invalid"),
        ({"epsilon": -1.0}, "budget_invalid"),
        ({"error": {}}, "budget_invalid"),
        ({"error": {"m": 5}}, "budget_invalid"),
        ({"error": {"n": -5}}, "budget_invalid"),
        ({"error": {"n": float("nan")}}, "budget_invalid"),
        ({"error": {"n": float("inf")}}, "budget_invalid"),
    ],
)
def test_unusable_budgets(budget: dict[str, Any], code: str, flights_policy: privacy.Policy) -> None:
    assert _code(COUNT, flights_policy, **budget) == code


def test_public_tables_cost_nothing(flights_policy: privacy.Policy, flights_files: dict[str, str]) -> None:
    plan = privacy.plan("SELECT name FROM airlines WHERE carrier = 'UA'", flights_policy)
    assert not plan.private
    assert plan.cost == privacy.Cost(0, 0)
    assert plan.epsilon == 0
    assert [column.kind for column in plan.columns] == ["public"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (privacy.Options(max_groups=0), "option_invalid"),
        (privacy.Options(max_groups=10_001), "option_invalid"),
        (privacy.Options(max_rows_per_group=True), "option_invalid"),
        (privacy.Options(max_rows=1.5), "option_invalid"),  # type: ignore[arg-type]
    ],
)
def test_unusable_options(options: privacy.Options, code: str, flights_policy: privacy.Policy) -> None:
    sql = "SELECT dest, count(*) AS n FROM flights GROUP BY dest"
    assert _code(sql, flights_policy, rho=0.01, options=options) == code


def test_caps_beyond_the_integers_are_refused(flights_policy: privacy.Policy) -> None:
    options = privacy.Options(max_rows=1_000_000_000)
    sql = "SELECT sum(distance * distance * distance) AS s FROM flights"
    assert _code(sql, flights_policy, rho=0.1, options=options) == "overflow"


def test_grids_are_limited() -> None:
    keys = {name: {"keys": list(range(100))} for name in ("a", "b", "c")}
    policy = privacy.Policy.from_document({**FLIGHTS_POLICY, "tables": {"t": {"unit": "u", "columns": keys}}})
    assert (
        _code("SELECT a, b, c, count(*) AS n FROM t GROUP BY a, b, c", policy, rho=0.1) == "too_many_groups"
    )
    assert (
        _plan("SELECT a, b, count(*) AS n FROM t GROUP BY a, b", policy)
        .releases[0]
        .lowered.aggregate.input.grid
    )


# Sharing and splitting


def test_equal_aggregates_are_released_once(flights_policy: privacy.Policy) -> None:
    plan = _plan(
        "SELECT dest, count(dep_delay) AS n, avg(dep_delay) AS a, count(DISTINCT tailnum) AS u, "
        "avg(dep_delay) / 2 AS h "
        "FROM flights GROUP BY dest HAVING count(DISTINCT tailnum) > 3",
        flights_policy,
    )
    assert len(plan.releases[0].release.measures) == 3
    assert {measure.rho_nano for measure in plan.releases[0].release.measures} == {3_333_333}
    threshold = plan.releases[0].release.threshold
    assert threshold is not None
    assert threshold.measure in {measure.name for measure in plan.releases[0].release.measures}


def test_counting_what_is_never_null_is_counting_rows(flights_policy: privacy.Policy) -> None:
    sql = (
        "SELECT count(*) AS n, count(1) AS m, avg(CASE WHEN dep_delay > 5 THEN 1 ELSE 0 END) AS late "
        "FROM flights"
    )
    assert len(_plan(sql, flights_policy).releases[0].release.measures) == 2


def test_averages_are_quoted_by_cell_size(flights_policy: privacy.Policy) -> None:
    column = _plan("SELECT avg(dep_delay) AS a FROM flights", flights_policy, rho=0.1).columns[0]
    assert column.half_width is None
    assert column.table is not None
    assert list(column.table) == [100, 1_000, 10_000]
    assert column.table[100] == 330  # the noise is larger than the cell: nothing is known but the bounds
    assert column.table[100] > column.table[10_000]


def test_the_filter_narrows_a_public_key_set(flights_policy: privacy.Policy) -> None:
    plan = _plan(
        "SELECT origin, count(*) AS n FROM flights WHERE origin IN ('JFK', 'LGA') GROUP BY 1", flights_policy
    )
    domain = plan.releases[0].lowered.aggregate.input.keys[0].domain
    assert domain is not None
    assert [value.value for value in domain] == ["JFK", "LGA"]


# Digests


SAME = [
    [
        "SELECT origin, count(*) AS n FROM flights WHERE month = 1 AND dep_delay > 5 GROUP BY origin",
        "select  ORIGIN ,\n COUNT( * ) as n -- a comment\n from Flights where dep_delay > 5 and (month "
        "= 1) group by 1",
        "SELECT f.origin, count(*) AS n FROM flights AS f WHERE f.month = 1 AND 5 < f.dep_delay GROUP "
        "BY f.origin",
        "SELECT x.origin, count(1) AS n FROM (SELECT * FROM flights WHERE 1 = month) AS x WHERE "
        "dep_delay + 0 > 5 "
        "GROUP BY origin",
        "WITH w AS (SELECT origin, dep_delay AS d FROM flights WHERE month = 1) "
        "SELECT origin, count(*) AS n FROM w WHERE d > 5 GROUP BY origin",
    ],
    [
        "SELECT count(*) AS n FROM flights f JOIN airlines a ON f.carrier = a.carrier WHERE a.name LIKE 'A%'",
        "SELECT count(*) AS n FROM flights, airlines b WHERE b.name LIKE 'A%' AND b.carrier = "
        "flights.carrier",
        "SELECT count(*) AS n FROM flights JOIN airlines USING (carrier) WHERE name LIKE 'A%' AND true",
    ],
]
DIFFERENT = [
    "SELECT origin, count(*) AS n FROM flights GROUP BY origin",
    "SELECT origin, count(*) AS n FROM flights WHERE month = 1 GROUP BY origin",
    "SELECT origin, count(*) AS n FROM flights WHERE month = 2 GROUP BY origin",
    "SELECT origin, count(*) AS n FROM flights WHERE month = 1 OR month = 2 GROUP BY origin",
    "SELECT origin, count(*) AS n FROM flights WHERE dest = '1' GROUP BY origin",
    "SELECT origin, count(*) AS n FROM flights WHERE carrier = '1' GROUP BY origin",
    "SELECT origin, count(dep_delay) AS n FROM flights GROUP BY origin",
    "SELECT origin, count(arr_delay) AS n FROM flights GROUP BY origin",
    "SELECT origin, sum(arr_delay) AS n FROM flights GROUP BY origin",
    "SELECT origin, count(*) FILTER (WHERE month = 1) AS n FROM flights GROUP BY origin",
    "SELECT carrier, count(*) AS n FROM flights GROUP BY carrier",
    "SELECT count(*) AS n FROM planes",
]


@pytest.mark.parametrize("statements", SAME)
def test_digest_ignores_how_a_question_is_written(
    statements: list[str], flights_policy: privacy.Policy
) -> None:
    plans = [_plan(sql, flights_policy) for sql in statements]
    assert len({plan.release_digest for plan in plans}) == 1
    assert len({plan.sql for plan in plans}) == 1


def test_digest_ignores_space_case_and_aliases(flights_policy: privacy.Policy) -> None:
    plans = [_plan(sql, flights_policy) for sql in SAME[0]]
    assert len({plan.digest for plan in plans[2:]}) == 1


def test_digest_tells_questions_budgets_caps_and_policies_apart(flights_policy: privacy.Policy) -> None:
    plans = [_plan(sql, flights_policy) for sql in DIFFERENT]
    plans.append(_plan(DIFFERENT[0], flights_policy, rho=0.02))
    plans.append(privacy.plan(DIFFERENT[0], flights_policy, rho=0.01, options=privacy.Options(max_groups=2)))
    looser = privacy.Policy.from_document({**FLIGHTS_POLICY, "rho": 6.0}, FLIGHTS_TYPES)
    plans.append(_plan(DIFFERENT[0], looser))
    assert len({plan.release_digest for plan in plans}) == len(plans)
    assert len({plan.digest for plan in plans}) == len(plans)


def test_names_and_public_part_are_in_the_plan_digest_alone(flights_policy: privacy.Policy) -> None:
    one = _plan("SELECT origin, count(*) AS n FROM flights GROUP BY origin", flights_policy)
    other = _plan(
        "SELECT count(*) * 2 AS twice FROM flights GROUP BY origin ORDER BY twice LIMIT 1", flights_policy
    )
    assert one.release_digest == other.release_digest
    assert one.digest != other.digest


def test_order_of_keys_and_aggregates_does_not_matter_to_the_release(flights_policy: privacy.Policy) -> None:
    one = _plan(
        "SELECT origin, month, count(*) AS n, sum(distance) AS s FROM flights GROUP BY 1, 2", flights_policy
    )
    other = _plan(
        "SELECT sum(distance) AS s, count(*) AS n FROM flights GROUP BY month, origin", flights_policy
    )
    assert one.release_digest == other.release_digest
    assert one.sql == other.sql


def test_a_plan_holds_no_buyer_text_but_literals(flights_policy: privacy.Policy) -> None:
    sql = (
        'SELECT origin AS "drop table x; --", count(*) AS "n\'" '
        "FROM flights AS \"al;ias\" WHERE dest = 'O''Hare' GROUP BY 1"
    )
    plan = _plan(sql, flights_policy)
    for text in (plan.sql, plan.public_sql):
        assert "drop table" not in text
        assert "al;ias" not in text
    assert "'O''Hare'" in plan.sql
    assert [column.name for column in plan.columns] == ["drop table x; --", "n'"]
    assert SALT.hex() not in plan.sql


# Answers


def test_answer_states_what_a_reader_needs(
    flights_policy: privacy.Policy, flights_files: dict[str, str], sandbox: privacy.Sandbox
) -> None:
    sql = "SELECT count(*) AS n, month FROM flights GROUP BY month"
    options = privacy.Options(intervals=True)
    plan = privacy.plan(sql, flights_policy, rho=0.1, options=options)
    answer = privacy.answer(plan, flights_files, salt=SALT, sandbox=sandbox)
    assert answer.table.column_names == ["n", "n_low", "n_high", "month"]
    assert answer.table.column("month").to_pylist() == list(range(1, 13))
    width = plan.columns[0].half_width
    assert answer.intervals["n"] == [(n - width, n + width) for n in answer.table.column("n").to_pylist()]
    stated = json.loads(answer.table.schema.metadata[b"privacy"])
    assert stated["rho_nano"] == plan.cost.rho_nano == 100_000_000
    assert stated["releases"][0]["strategy"] == "clip"
    assert stated["releases"][0]["lengths"] == [math.sqrt(8 * 50**2)]
    assert stated["columns"]["n"]["sigma"] == plan.columns[0].sigma
    assert answer.table.schema.field("n").type == pa.int64()


def test_thresholded_groups_have_enough_units(
    flights_policy: privacy.Policy, flights_files: dict[str, str], sandbox: privacy.Sandbox
) -> None:
    plan = _plan(
        "SELECT dest, count(DISTINCT tailnum) AS u FROM flights GROUP BY dest", flights_policy, rho=0.1
    )
    answer = privacy.answer(plan, flights_files, salt=SALT, sandbox=sandbox)
    assert 10 < answer.table.num_rows < 105
    stated = json.loads(answer.table.schema.metadata[b"privacy"])
    assert min(answer.table.column("u").to_pylist()) >= int(stated["releases"][0]["threshold_units"])
    dests = answer.table.column("dest").to_pylist()
    assert dests == sorted(dests)


def test_order_and_limit_apply_to_released_values(
    flights_policy: privacy.Policy, flights_files: dict[str, str], sandbox: privacy.Sandbox
) -> None:
    plan = _plan(
        "SELECT carrier, count(*) AS n FROM flights GROUP BY 1 ORDER BY n DESC LIMIT 5",
        flights_policy,
        rho=0.1,
    )
    counts = privacy.answer(plan, flights_files, salt=SALT, sandbox=sandbox).table.column("n").to_pylist()
    assert len(counts) == 5
    assert counts == sorted(counts, reverse=True)


def test_average_of_a_cell_without_rows_is_null(
    sandbox: privacy.Sandbox, flights_policy: privacy.Policy, tmp_path: Any
) -> None:
    """Noise on a count of 0 is at most 0 half of the time, so 16 empty cells hold a NULL but 1 in 2^16 times;
    negative counts are shown as they are. False alarms: below 1e-6 over 60 cells of each kind."""
    import pyarrow.parquet as pq

    path = tmp_path / "flights.parquet"
    pq.write_table(pa.table({"tailnum": ["a"], "carrier": ["zz"], "month": [1], "distance": [1]}), path)
    plan = _plan(
        "SELECT carrier, month, avg(distance) AS a, count(distance) AS n FROM flights GROUP BY 1, 2",
        flights_policy,
        rho=0.1,
    )
    table = privacy.answer(plan, {"flights": path}, salt=SALT, sandbox=sandbox).table
    counts = table.column("n").to_pylist()
    averages = table.column("a").to_pylist()
    assert len(counts) == 192
    assert min(counts) < 0
    # A count that is shown as 0 is less than half a row above or below it.
    missing = [(average is None, count < 0) for average, count in zip(averages, counts, strict=True) if count]
    assert all(none is negative for none, negative in missing)


def test_missing_files_and_short_salts_are_named(
    flights_policy: privacy.Policy, flights_files: dict[str, str]
) -> None:
    plan = _plan(COUNT, flights_policy)
    with pytest.raises(privacy.TablesMissing, match="flights"):
        privacy.answer(plan, {}, salt=SALT)
    with pytest.raises(privacy.TablesMissing, match="salt"):
        privacy.answer(plan, flights_files, salt=b"short")


def test_planning_touches_no_file_and_depends_on_none(
    flights_policy: privacy.Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("pathlib.Path.open", refuse)
    plan = _plan("SELECT dest, avg(distance) AS a FROM flights GROUP BY dest", flights_policy)
    assert plan.sql
    assert plan.columns
    assert plan.explain()


def test_explanation_says_what_is_read_bounded_noised_and_charged(flights_policy: privacy.Policy) -> None:
    sql = "SELECT dest, count(*) AS n, avg(distance) AS a FROM flights GROUP BY dest"
    capped = privacy.plan(sql, flights_policy, rho=0.01, options=privacy.Options(strategy="caps")).explain()
    assert "bounds each tailnum to 8 groups (chosen by keyed rank) and 50 rows in each" in capped
    text = _plan(sql, flights_policy).explain()
    for words in (
        "reads flights",
        "141.421 for rows",
        "the sum of distance around 2500",
        "sqrt(8 / g)",
        "at most 512 groups",
        "no contribution profile",
        "tailnum",
        "sigma",
        "rho 0.01",
        "delta 1e-08",
        "noisy units",
    ):
        assert words in text
    assert "costs nothing" in privacy.plan("SELECT name FROM airlines", flights_policy).explain()


def test_noise_of_a_plan_is_what_accounting_charges(flights_policy: privacy.Policy) -> None:
    for measure in (
        _plan("SELECT origin, avg(distance) AS a FROM flights GROUP BY origin", flights_policy)
        .releases[0]
        .release.measures
    ):
        assert accounting.gaussian_rho_nano(measure.sensitivity_squared, measure.sigma) <= measure.rho_nano
