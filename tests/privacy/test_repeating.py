"""Numbers bought before serve again: repeats are free, more rho costs the difference, arithmetic nothing."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from tests.privacy.conftest import SALT

BY_ORIGIN = "SELECT origin, count(*) AS n FROM flights GROUP BY origin"
WITH_MEAN = "SELECT origin, count(*) AS n, avg(dep_delay) AS d FROM flights GROUP BY origin"
BY_DEST = "SELECT dest, count(DISTINCT tailnum) AS n FROM flights GROUP BY dest"


@pytest.fixture
def ask(flights_policy: privacy.Policy, flights_files: dict[str, str], sandbox: privacy.Sandbox) -> Any:
    def run(
        sql: str, rho: str, earlier: privacy.Released | None = None
    ) -> tuple[privacy.Plan, privacy.Answer]:
        plan = privacy.plan(sql, flights_policy, rho=rho, earlier=earlier)
        return plan, privacy.answer(plan, flights_files, salt=SALT, sandbox=sandbox)

    return run


def test_a_repeat_is_free_and_the_same_however_it_is_written(ask: Any) -> None:
    _, first = ask(BY_ORIGIN, "0.01")
    again = "SELECT origin, count(*) * 2 AS twice FROM flights AS f GROUP BY 1 ORDER BY twice DESC"
    plan, second = ask(again, "0.01", first.released)
    assert plan.cost == privacy.Cost(0, 0)
    twice = dict(zip(*second.table.to_pydict().values(), strict=True))
    assert twice == {origin: 2 * n for origin, n in zip(*first.table.to_pydict().values(), strict=True)}


def test_a_repeat_reads_no_private_row(
    flights_policy: privacy.Policy, flights_files: dict[str, str], sandbox: privacy.Sandbox, ask: Any
) -> None:
    _, first = ask(BY_ORIGIN, "0.01")
    plan = privacy.plan(BY_ORIGIN, flights_policy, rho="0.01", earlier=first.released)
    empty = pq.read_table(flights_files["flights"]).slice(0, 0)
    path = f"{flights_files['flights']}.empty.parquet"
    pq.write_table(empty, path)
    other = privacy.answer(plan, {**flights_files, "flights": path}, salt=SALT, sandbox=sandbox)
    assert other.table.equals(first.table)


def test_less_rho_than_was_paid_gives_the_better_numbers_for_nothing(ask: Any) -> None:
    dear, first = ask(BY_ORIGIN, "0.1")
    plan, second = ask(BY_ORIGIN, "0.01", first.released)
    assert plan.cost.rho_nano == 0
    assert second.table.column("n").equals(first.table.column("n"))
    assert plan.columns[1].sigma == dear.columns[1].sigma


def test_more_rho_costs_the_difference_and_is_as_good_as_asked_at_once(ask: Any) -> None:
    small, first = ask(BY_ORIGIN, "0.01")
    at_once, _ = ask(BY_ORIGIN, "0.05")
    plan, second = ask(BY_ORIGIN, "0.05", first.released)
    assert plan.cost.rho_nano == at_once.cost.rho_nano - small.cost.rho_nano
    assert plan.columns[1].sigma == pytest.approx(at_once.columns[1].sigma, rel=1e-5)
    assert second.table.column("n").type == pa.int64()
    assert plan.digest == at_once.digest  # what was released before does not change what is asked
    third, _ = ask(BY_ORIGIN, "0.05", second.released)
    assert third.cost.rho_nano == 0
    fourth, _ = ask(BY_ORIGIN, "0.06", second.released)
    assert fourth.cost.rho_nano == pytest.approx(10_000_000, abs=2)


def test_a_sum_over_the_same_rows_is_not_paid_twice(ask: Any) -> None:
    count, first = ask(BY_ORIGIN, "0.01")
    both, _ = ask(WITH_MEAN, "0.03")  # the count, and two sums for the mean of the known delays
    plan, second = ask(WITH_MEAN, "0.03", first.released)
    assert plan.cost.rho_nano == both.cost.rho_nano - count.cost.rho_nano
    assert second.table.column("n").equals(first.table.column("n"))
    assert all(-60 <= mean <= 600 for mean in second.table.column("d").to_pylist())


def test_private_keys_are_repeated_but_not_refined(ask: Any) -> None:
    first_plan, first = ask(BY_DEST, "0.05")
    plan, second = ask(BY_DEST, "0.05", first.released)
    assert plan.cost == privacy.Cost(0, 0)
    assert second.table.equals(first.table)
    more, _ = ask(BY_DEST, "0.1", first.released)
    assert more.cost.rho_nano > first_plan.cost.rho_nano
    assert more.cost.delta_pico == first_plan.cost.delta_pico


def test_other_rows_are_another_question(ask: Any) -> None:
    _, first = ask(BY_ORIGIN, "0.01")
    plan, _ = ask(
        "SELECT origin, count(*) AS n FROM flights WHERE month = 1 GROUP BY origin", "0.01", first.released
    )
    assert plan.cost.rho_nano == pytest.approx(10_000_000, abs=2)


def test_released_numbers_survive_as_bytes(ask: Any) -> None:
    _, first = ask(WITH_MEAN, "0.01")
    _, second = ask(BY_DEST, "0.05")
    both = first.released + second.released
    kept = privacy.Released.from_bytes(both.to_bytes())
    assert kept == both
    plan, again = ask(WITH_MEAN, "0.01", kept)
    assert plan.cost.rho_nano == 0
    assert again.table.equals(first.table)


@pytest.mark.parametrize("kept", [b"", b"no numbers", b"\xff" * 400])
def test_other_bytes_are_no_released_numbers(kept: bytes, ask: Any) -> None:
    _, first = ask(BY_ORIGIN, "0.01")
    whole = first.released.to_bytes()
    for damaged in (kept, kept + whole[:-20], whole[: len(whole) // 2]):
        with pytest.raises(privacy.ReleasedInvalid):
            privacy.Released.from_bytes(damaged)


def test_a_refined_answer_has_the_variance_it_states(flights_policy: privacy.Policy, engine: Any) -> None:
    """400 refinements by the plan's own parts. By the chi-square law with 400 degrees of freedom the ratio
    lies outside [0.65, 1.45] with probability below 1e-7."""
    plan = privacy.plan("SELECT count(*) AS n FROM flights", flights_policy, rho="0.01")
    (first,) = plan.releases
    exact = pa.table({"c0": pa.array([1_000_000], pa.int64())})
    errors = []
    for _ in range(400):
        earlier = privacy.Released((first.released(_perturbed(exact, first)),))
        refined = privacy.plan(
            "SELECT count(*) AS n FROM flights", flights_policy, rho="0.03", earlier=earlier
        )
        (one,) = refined.releases
        table = one.released(_perturbed(exact, one)).table
        errors.append(table.column("c0")[0].as_py() - 1_000_000)
    sigma = one.release.measures[0].sigma
    ratio = math.fsum(error * error for error in errors) / len(errors) / sigma**2
    assert 0.65 < ratio < 1.45


def _perturbed(exact: pa.Table, one: Any) -> pa.Table:
    from privacy.release import perturb

    return perturb(exact, one.drawn)
