"""How often the stated 95% intervals hold the capped statistic.

    python -m tests.statistics.coverage [--runs N]

The exact part of each statement runs once; its numbers are released many times over, as so many groups of one
table, and the public part is computed of all of them at once. What an interval must hold is what the same
numbers give without noise: bounding is no part of it, it is told of beside the interval.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

import privacy
from privacy.mechanisms import charge_nano
from privacy.planned import PlannedRelease
from privacy.release import perturb

RUNS = 10_000
PROCESSES = 2
LOW, HIGH = 0.94, 0.96
SILENT = 0.01  # at this sigma P(noise != 0) < 1e-2000

POLICY = privacy.Policy.from_document(
    {
        "domain": "people:statistics",
        "rho": 100.0,
        "max_rho_per_query": 100.0,
        "delta": 1e-6,
        "tables": {
            "visits": {
                "unit": "person",
                "max_groups": 4,
                "max_rows_per_group": 5,
                "max_rows": 12,
                "columns": {
                    "ward": {"keys": ["a", "b", "c", "d"]},
                    "code": {"keys": "private"},
                    "cost": {"bounds": [0, 200]},
                    "score": {"bounds": [-50, 50], "decimals": 1},
                },
            }
        },
    },
    {"visits": {"person": "integer", "ward": "text", "code": "integer", "cost": "integer", "score": "float"}},
)


@dataclass(frozen=True)
class Case:
    """A statement whose measure's interval is tried.

    Attributes:
        rho: what it may cost; with little of it noise is not small beside the statistic.
        calibrated: whether the interval must hold between 94% and 96% of the time, or at least 94%.
    """

    measure: str
    rest: str = ""
    rho: float = 5.0
    calibrated: bool = True
    strategy: str = "caps"

    @property
    def sql(self) -> str:
        keys = f"{self.rest.rsplit('BY ')[1]}, " if "GROUP BY" in self.rest else ""
        return f"SELECT {keys}{self.measure} AS x FROM visits {self.rest}"


BY_WARD = "GROUP BY ward"
MOMENTS = [
    "avg(cost)", "avg(score)", "var_samp(cost)", "var_pop(score)", "stddev_samp(cost)", "stddev_pop(score)",
    "covar_pop(score, cost)", "covar_samp(cost, score)", "corr(cost, score)", "regr_slope(score, cost)",
    "regr_intercept(score, cost)", "regr_r2(score, cost)", "regr_avgx(score, cost)",
]  # fmt: skip
COUNTS = [
    "count(*)", "count(score)", "count(DISTINCT person)", "count(DISTINCT code)", "sum(cost)", "sum(score)",
    "count_if(cost > 60)", "regr_count(score, cost)",
]  # fmt: skip
QUANTILES = ["median(cost)", "quantile_cont(score, 0.9)", "min(cost)", "max(score)"]

CASES = [
    *(Case(measure, rho=0.001) for measure in COUNTS),
    *(Case(measure) for measure in MOMENTS),
    *(Case(measure, BY_WARD, 0.01) for measure in COUNTS[:5]),
    *(Case(measure, BY_WARD, 20.0) for measure in MOMENTS),
    *(Case(measure, BY_WARD, 0.01, strategy="clip") for measure in ("count(*)", "sum(cost)")),
    *(Case(measure, BY_WARD, 20.0, strategy="clip") for measure in MOMENTS[:5]),
    # Little rho: noise is not small beside the statistic.
    *(Case(measure, BY_WARD, 0.02) for measure in ("avg(cost)", "var_samp(cost)", "covar_pop(score, cost)")),
    # Where variances may be nothing but noise, a ratio of them says less than it could, never more.
    *(Case(measure, BY_WARD, 0.1, calibrated=False) for measure in MOMENTS[8:12]),
    # The quantile lies somewhere in a bin, and the interval holds the whole of it.
    *(Case(measure, rho=0.05, calibrated=False) for measure in QUANTILES),
    Case("quantile_cont(cost, [0.25, 0.75])", rho=0.001, calibrated=False),
    Case("median(cost)", BY_WARD, 0.01, calibrated=False),
    Case("histogram(ward)", rho=0.005),
    Case("histogram(cost, [20, 50, 100])", rho=0.005),
]


@dataclass(frozen=True)
class Found:
    """What many runs of a case showed, over all its groups (and the numbers of a list or map).

    Attributes:
        trials, held: how many intervals there were, and how many held the statistic.
        null: in how many runs the value was NULL.
    """

    trials: int
    held: int
    null: int

    @property
    def share(self) -> float:
        return self.held / self.trials


def tried(case: Case, runs: int) -> Found:
    """Release the statement's exact numbers many times, and count the intervals that hold the statistic."""
    options = privacy.Options(strategy=case.strategy)
    (one,) = privacy.plan(case.sql, POLICY, rho=case.rho, options=options).releases
    exact = _engine().sql(one.sql).to_arrow_table()
    truth = _numbers(_shown(one, exact, silent=True), "m0")
    noisy = _shown(one, _repeated(exact, runs), silent=False)
    value, low, high = (_numbers(noisy, f"m0{end}") for end in ("", "_low", "_high"))
    wanted = np.repeat(truth, runs, axis=0)
    shown = np.isfinite(value)
    low, high = np.where(np.isfinite(low), low, -np.inf), np.where(np.isfinite(high), high, np.inf)
    held = shown & (low <= wanted) & (wanted <= high)
    return Found(int(shown.sum()), int(held.sum()), int((~shown).sum()))


def _repeated(exact: pa.Table, runs: int) -> pa.Table:
    """Each group as many times, told apart by the number of the run."""
    rows = np.repeat(np.arange(exact.num_rows), runs)
    numbers = np.tile(np.arange(runs), exact.num_rows)
    return exact.take(pa.array(rows)).append_column("run", pa.array(numbers))


def _shown(one: PlannedRelease, exact: pa.Table, *, silent: bool) -> pa.Table:
    release = one.release
    if silent:
        quiet = tuple(
            dataclasses.replace(part, sigma=SILENT, rho_nano=charge_nano(part.sensitivity_squared, SILENT))
            for part in release.measures
        )
        return one.shown(perturb(exact, dataclasses.replace(release, measures=quiet)))
    return one.shown(perturb(exact, dataclasses.replace(release, keys=(*release.keys, "run"))))


def _numbers(table: pa.Table, name: str) -> Any:
    """A column as numbers: one for each row, or of lists and maps several."""
    column = table.column(name).combine_chunks()
    if pa.types.is_map(column.type):
        return column.items.to_numpy(zero_copy_only=False).astype(float).reshape(len(column), -1)
    if pa.types.is_list(column.type):
        missing = np.asarray(column.is_null())
        size = len(column.flatten()) // max(int((~missing).sum()), 1)
        numbers = np.full((len(column), size), np.nan)
        numbers[~missing] = column.flatten().to_numpy().reshape(-1, size)
        return numbers
    return column.to_numpy(zero_copy_only=False).astype(float).reshape(len(column), 1)


@lru_cache(maxsize=1)
def _engine() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET disabled_optimizers = 'top_n_window_elimination'")
    connection.register("visits", _visits())
    connection.register("_salt", pa.table({"salt": ["00"]}))
    return connection


def _visits() -> pa.Table:
    """30,000 people with a few rows each and some with many; the score follows the cost."""
    dice = np.random.default_rng(7)  # the data may be the same each time: what is tried is the noise
    rows = np.minimum(dice.geometric(0.3, 30_000), 40)
    person = np.repeat(np.arange(len(rows)), rows)
    cost = np.minimum(dice.gamma(2.0, 25.0, len(person)), 300).round()
    score = (cost - 50) * 0.4 + dice.normal(0, 15, len(person))
    return pa.table(
        {
            "person": person,
            "ward": np.array(["a", "b", "c", "d"])[dice.choice(4, len(person), p=[0.4, 0.3, 0.2, 0.1])],
            "code": dice.integers(0, 40, len(person)),
            "cost": cost.astype(np.int64),
            "score": pa.array(score, mask=dice.random(len(person)) < 0.05),
        }
    )


def fails(case: Case, found: Found) -> bool:
    """Whether the share of intervals that hold is not where it should be."""
    return found.share < LOW or (case.calibrated and found.share > HIGH)


def _report(runs: int) -> Iterator[tuple[Case, Found]]:
    print(f"{'statement':46} {'rho':>6} {'strategy':8} {'held':>7} {'NULL':>6}", flush=True)
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        for case, found in zip(CASES, pool.map(tried, CASES, repeat(runs)), strict=True):
            print(_line(case, found), flush=True)
            yield case, found


def _line(case: Case, found: Found) -> str:
    null = found.null / (found.trials + found.null)
    asked = "" if case.calibrated else "at least 94%"
    mark = "FAILS" if fails(case, found) else ""
    told = f"{case.measure} {case.rest}"
    return f"{told:46} {case.rho:6g} {case.strategy:8} {found.share:7.2%} {null:6.2%} {asked} {mark}".rstrip()


def main() -> int:
    """Print the table; 1 when an interval holds too seldom, or too often where it is to be calibrated."""
    parser = argparse.ArgumentParser(description="How often the stated 95%% intervals hold the statistic.")
    parser.add_argument("--runs", type=int, default=RUNS)
    wrong = [case for case, found in _report(parser.parse_args().runs) if fails(case, found)]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
