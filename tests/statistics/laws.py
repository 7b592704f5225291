"""Attacks on the noise itself, and on whole answers as they come out of the engine's own process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import pyarrow as pa

import privacy
from privacy.auditor import Claim, kinds
from privacy.release import perturb
from tests.statistics.attacks import Attack, Case
from tests.statistics.cases import DELTA, caps
from tests.statistics.databases import COPIES, POLICY, Pair, Row, Tables, heavy, neighbours, tables, visit
from tests.statistics.laboratory import Laboratory
from tests.statistics.sampling import Exact, stacked

NOTHING = Claim.at_most(0)
ONE_GROUP = caps(max_groups=1)


# The noise


def alone() -> Pair:
    """A victim with an outlier and nobody else."""
    return neighbours([visit(cost=2**62)] * 9, [])


def low_bits(laboratory: Laboratory) -> Attack:
    """What the lowest bits of a sum say: nothing, for noise this wide is even modulo 16 up to 1e-100."""
    case = Case("low bits", "SELECT sum(score) AS s FROM visits", lambda: heavy(score=0.01))
    return _of_values(laboratory, case, lambda value, _exact, _sigma: value % 16)


def noise_scale(laboratory: Laboratory) -> Attack:
    """How far off an answer is: as far with an outlier as without."""
    case = Case("noise scale", "SELECT sum(cost) AS s FROM visits", alone)
    return _of_values(laboratory, case, lambda value, exact, sigma: abs(value - exact) > 1.2 * sigma)


def _of_values(laboratory: Laboratory, case: Case, seen: Callable[[int, int, float], Hashable]) -> Attack:
    """Outcomes made of one released integer, the exact one and the scale of the noise."""
    plan = privacy.plan(str(case.sql), case.policy, rho=case.rho)
    pair = case.pair()

    def sampler(side: Any) -> Callable[[int], Sequence[Hashable]]:
        (exact,) = laboratory.engine.exact(plan, side)
        (measure,) = exact.release.measures
        (true,) = exact.table.column(measure.name).to_pylist()
        return lambda runs: [
            seen(value, true, measure.sigma) for value in stacked(exact, runs)[measure.name].to_pylist()
        ]

    return Attack(case.name, NOTHING, sampler(pair.larger), sampler(pair.smaller), kinds, share=2.0)


def order_of_rows(laboratory: Laboratory) -> Attack:
    """The order of an answer's rows tells nothing of the order in the files; equal tables, read backwards."""
    rows = [visit(f"p{number}", code=f"c{number % 4}") for number in range(400)]
    plan = privacy.plan("SELECT code, count(*) AS n FROM visits GROUP BY code", POLICY, rho=0.5)
    (exact,) = laboratory.engine.exact(plan, tables(rows))
    backwards = dataclasses.replace(exact, table=exact.table.take(list(range(exact.table.num_rows))[::-1]))

    def sampler(one: Exact) -> Callable[[int], Sequence[Hashable]]:
        return lambda runs: [
            tuple(perturb(one.table, one.release).column(one.release.keys[0]).to_pylist())
            for _ in range(runs)
        ]

    return Attack("order of rows", NOTHING, sampler(exact), sampler(backwards), kinds, share=0.08)


def refined(laboratory: Laboratory) -> Attack:
    """The same question with more rho: what both draws tell costs what the dearer one does alone.

    The combination of the two that is shown weighs them as the likelihood ratio does.
    """
    sql = "SELECT copy, count(*) AS n FROM visits GROUP BY copy"
    cheap = privacy.plan(sql, POLICY, rho=0.2, options=ONE_GROUP)
    dear = privacy.plan(sql, POLICY, rho=0.5, options=ONE_GROUP)
    (first,) = cheap.releases

    def sampler(made: Tables) -> Callable[[int], Sequence[float]]:
        (exact,) = laboratory.engine.exact(cheap, made)

        def draw_once() -> list[float]:
            kept = privacy.Released((first.released(perturb(exact.table, exact.release)),))
            again = privacy.plan(sql, POLICY, rho=0.5, options=ONE_GROUP, earlier=kept)
            (more,) = again.releases
            assert more.drawn is not None
            assert cheap.cost.rho_nano + again.cost.rho_nano <= dear.cost.rho_nano
            shown = more.released(perturb(exact.table, more.drawn)).table
            return [float(number) for number in shown.column(more.release.measures[0].name).to_pylist()]

        return lambda runs: many(draw_once, runs)

    larger, smaller = map(sampler, copied(visit()))
    return Attack("asked again with more rho", Claim.zcdp(dear.cost.rho_nano), larger, smaller)


# Whole answers. A table of four thousand groups, each with people of its own, is four thousand experiments.


def answered_count(laboratory: Laboratory) -> Attack:
    """A count that came out of the engine's process, through noise and public part."""
    return _answered(laboratory, "a count as it is answered", "count(*)", visit())


def answered_sum(laboratory: Laboratory) -> Attack:
    """A sum likewise, with a victim far beyond its bounds."""
    return _answered(laboratory, "a sum as it is answered", "sum(cost)", visit(cost=10**9))


def _answered(laboratory: Laboratory, name: str, aggregate: str, row: Row) -> Attack:
    plan = privacy.plan(
        f"SELECT copy, {aggregate} AS n FROM visits GROUP BY copy", POLICY, rho=0.5, options=ONE_GROUP
    )
    larger, smaller = copied(row)

    def sampler(side: str, made: Tables) -> Callable[[int], Sequence[float]]:
        files = laboratory.files(f"{aggregate[:3]}-{side}", made)

        def draw_once() -> list[float]:
            return [float(number) for number in laboratory.answer(plan, files).table["n"].to_pylist()]

        return lambda runs: many(draw_once, runs)

    sides = sampler("larger", larger), sampler("smaller", smaller)
    return Attack(name, Claim.zcdp(plan.cost.rho_nano), *sides)


def copied(row: Row) -> tuple[Tables, Tables]:
    """Many neighbours in one: in each group somebody, and on one side a victim of its own besides."""
    others = [visit(f"p{copy}", copy=copy) for copy in range(COPIES)]
    victims = [{**row, "person": f"victim{copy}", "copy": copy} for copy in range(COPIES) for _ in range(5)]
    return tables([*others, *victims]), tables(others)


def many(draw_once: Callable[[], list[float]], runs: int) -> list[float]:
    """As many outcomes as are asked for, from draws of many at a time."""
    found: list[float] = []
    while len(found) < runs:
        found += draw_once()
    return found[:runs]


def answered_keys(laboratory: Laboratory) -> Attack:
    """Keys of one unit each in a whole answer: each is shown with probability at most delta."""
    plan = privacy.plan(
        "SELECT note, count(*) AS n FROM visits GROUP BY note", POLICY, rho=0.5, options=ONE_GROUP
    )

    def shown(runs: int) -> list[float]:
        names = pa.array([f"n{place}" for place in range(runs)])
        nothing = {field.name: pa.nulls(runs, field.type) for field in tables([])["visits"].schema}
        visits = pa.table({**nothing, "person": names, "note": names})
        files = laboratory.files("keys", {"visits": visits})
        seen = set(laboratory.answer(plan, files).table.column("note").to_pylist())
        return [float(name in seen) for name in names.to_pylist()]

    return Attack(
        "keys of one unit each, as answered",
        Claim.at_most(DELTA),
        shown,
        lambda runs: [0.0] * runs,
        share=25.0,
    )


LAWS: dict[str, Callable[[Laboratory], Attack]] = {
    "low bits": low_bits,
    "noise scale": noise_scale,
    "order of rows": order_of_rows,
    "asked again with more rho": refined,
    "a count as it is answered": answered_count,
    "a sum as it is answered": answered_sum,
    "keys of one unit each, as answered": answered_keys,
}
